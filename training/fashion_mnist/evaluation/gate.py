"""The gate: whether a model may serve."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from fashion_mnist.evaluation.metrics import Evaluation, are_alike, evaluate_probabilities


@dataclasses.dataclass(frozen=True)
class Gate:
    """What a model must be to serve.

    Attributes:
        min_accuracy: least accuracy, 0 to 1.
        min_recall: least recall of every class, 0 to 1.
        confidence: how sure it must be that the model is better than the champion, 0 to 1; 0 takes
            any.
        max_recall_drop: how much recall a class may lose against the champion, 0 to 1.
        max_int8_loss: how much accuracy the model in eight-bit integers may lose against the model
            itself, 0 to 1; what chance explains at two standard deviations is added.
    """

    min_accuracy: float = 0.85
    min_recall: float = 0.5
    confidence: float = 0.95
    max_recall_drop: float = 0.05
    max_int8_loss: float = 0.01


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a model may serve, and why.

    Attributes:
        status: "accepted" or "rejected".
        reasons: a sentence with figures for each rule that was looked at.
        unchanged: whether the model is the champion, trained once more.
        left_out: on how many test images the champion was trained, which are left out where both models
            are compared.
    """

    status: str
    reasons: list[str]
    unchanged: bool = False
    left_out: int = 0


def apply_gate(
    candidate: Evaluation,
    champion: Evaluation | None,
    labels: np.ndarray,
    gate: Gate,
    *,
    quantized: Evaluation | None = None,
    unseen: np.ndarray | None = None,
) -> Verdict:
    """The gate: absolute thresholds, then the change against the model that serves.

    All models have answered the same images. The candidate must be better by more than chance
    explains (McNemar's test, exact, one-sided), and its worst class must not fall far, on images that
    the champion was not trained on. A candidate that is the champion again is rejected as such.

    Args:
        candidate: its answers.
        champion: the serving model's; None leaves the absolute thresholds.
        labels: uint8 (n,).
        gate: the thresholds.
        quantized: the answers of the candidate in eight-bit integers; None leaves that rule out.
        unseen: bool (n,), which images the champion was not trained on; None takes all for such.
    """
    rules = _absolute_rules(candidate, labels, gate, quantized)
    unchanged, left_out, notes = False, 0, list[str]()
    if champion is not None:
        unchanged = are_alike(candidate, champion)
        if unchanged:
            rules.append(_unchanged_rule(labels, gate))
        else:
            unseen = np.ones(len(labels), bool) if unseen is None else unseen
            left_out = int((~unseen).sum())
            notes = _notes(left_out, len(labels))
            rules += _champion_rules(candidate, champion, labels, gate, unseen)
    failed = [sentence for holds, sentence in rules if not holds]
    passed = [sentence for holds, sentence in rules if holds]
    status, reasons = ("rejected", failed) if failed else ("accepted", passed)
    return Verdict(status, reasons + notes, unchanged, left_out)


# Whether a rule of the gate holds, and a sentence with figures.
_Rule = tuple[bool, str]


def _absolute_rules(
    candidate: Evaluation, labels: np.ndarray, gate: Gate, small: Evaluation | None
) -> list[_Rule]:
    """What a model must be by itself."""
    worst, lowest = min(candidate.recall.items(), key=lambda item: item[1])
    is_accurate, is_sensitive = candidate.accuracy >= gate.min_accuracy, lowest >= gate.min_recall
    rules = [
        (
            is_accurate,
            f"accuracy {candidate.accuracy:.4f} {'>=' if is_accurate else '<'} required "
            f"{gate.min_accuracy:.4f}",
        ),
        (
            is_sensitive,
            f"lowest recall {lowest:.4f} ({worst}) {'>=' if is_sensitive else '<'} required "
            f"{gate.min_recall:.4f}",
        ),
    ]
    if small is not None:
        better, worse = _changed(small, candidate, labels)
        # Each changed answer is as likely better as worse where nothing is lost.
        chance = 2 * math.sqrt(better + worse) / len(labels)
        loss = (worse - better) / len(labels)
        is_kept = loss <= gate.max_int8_loss + chance
        sentence = (
            f"accuracy lost in int8 {loss:.4f} {'<=' if is_kept else '>'} allowed "
            f"{gate.max_int8_loss:.4f} + {chance:.4f} for chance"
        )
        rules.append((is_kept, sentence))
    return rules


def _unchanged_rule(labels: np.ndarray, gate: Gate) -> _Rule:
    """What is said of the champion made again; p is 1 where nothing has changed."""
    return (
        gate.confidence <= 0,
        f"it answers all {len(labels)} test images exactly as the champion does, since the same "
        "data and settings make the same model; train on new data or with other settings",
    )


def _champion_rules(
    candidate: Evaluation,
    champion: Evaluation,
    labels: np.ndarray,
    gate: Gate,
    unseen: np.ndarray,
) -> list[_Rule]:
    """What a model must be against the champion, on images that neither was trained on."""
    if not unseen.any():
        sentence = (
            f"the champion was trained on all {len(labels)} test images, so nothing tells which model "
            "is better; test by images that were never trained on"
        )
        return [(gate.confidence <= 0, sentence)]
    labels = labels[unseen]
    now, before = (
        evaluate_probabilities(said.probabilities[unseen], labels) for said in (candidate, champion)
    )
    better, worse = _changed(now, before, labels)
    p = mcnemar(better, worse)
    drops = {name: before.recall[name] - value for name, value in now.recall.items()}
    most = max(drops, key=lambda name: drops[name])
    is_better, is_kept = p <= 1 - gate.confidence, drops[most] <= gate.max_recall_drop
    return [
        (
            is_better,
            f"{better} images newly right and {worse} newly wrong against the champion "
            f"({before.accuracy:.4f}): p = {p:.3g} {'<=' if is_better else '>'} required "
            f"{1 - gate.confidence:.3g}",
        ),
        (
            is_kept,
            f"recall of {most} changes by {-drops[most]:+.4f} against the champion "
            f"{'>=' if is_kept else '<'} allowed {-gate.max_recall_drop:+.4f}",
        ),
    ]


def _notes(left_out: int, count: int) -> list[str]:
    """What a comparison is worth from which images are left out; nothing where none are."""
    if not left_out:
        return []
    note = f"the champion was trained on {left_out} of {count} test images, which are not compared"
    if left_out > count / 2:
        note += (
            "; fewer than half are left: keep test images that are never trained on, or promote by "
            "hand the model that you trust"
        )
    return [note]


def _changed(current: Evaluation, other: Evaluation, labels: np.ndarray) -> tuple[int, int]:
    """How many images one gets right and the other does not, and the other way round."""
    right, was_right = current.predictions == labels, other.predictions == labels
    return int((right & ~was_right).sum()), int((~right & was_right).sum())


def mcnemar(better: int, worse: int) -> float:
    """How likely chance alone makes at least `better` of the changed answers right (one-sided).

    McNemar (1947), exact: the binomial distribution with one half.
    """
    changed = better + worse
    # Each coefficient from the one before it: computed anew, thousands of them take seconds.
    term = tail = 1
    for k in range(changed, better, -1):
        term = term * k // (changed - k + 1)
        tail += term
    return tail / 2**changed if changed else 1.0


def binomial_cdf(right: int, count: int, share: float) -> float:
    """How likely chance alone makes at most `right` of `count` answers right, of which `share` are.

    The binomial distribution's lower tail, exact but for rounding.

    Args:
        right: 0 to `count`.
        count: of answers.
        share: 0 to 1, both excluded.
    """
    k = np.arange(right + 1)
    # Coefficients as logarithms, each from the one before it: those of thousands are no floats.
    coefficients = np.cumsum(np.log((count - k[:-1]) / k[1:]))
    terms = np.concatenate([[0.0], coefficients]) + k * math.log(share)
    return float(np.exp(terms + (count - k) * math.log1p(-share)).sum())
