"""Decide whether a model may serve: thresholds, and statistical tests against the champion."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from fashion_mnist.evaluation.metrics import Evaluation, are_alike, evaluate_probabilities


@dataclasses.dataclass(frozen=True)
class Gate:
    """Requirements that a model must meet to serve."""

    min_accuracy: float = 0.85
    """Minimum accuracy, 0 to 1."""

    min_recall: float = 0.5
    """Minimum recall of every class, 0 to 1."""

    confidence: float = 0.95
    """Confidence that the model is better than the champion, 0 to 1. 0 accepts any model."""

    max_recall_drop: float = 0.05
    """Maximum drop of a class's recall against the champion, 0 to 1."""

    max_int8_loss: float = 0.01
    """Maximum loss of accuracy by int8 quantization, 0 to 1. Two standard deviations of chance are
    added."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a model may serve, and why."""

    status: str
    """"accepted" or "rejected"."""

    reasons: list[str]
    """A sentence with figures for each rule that failed or, if accepted, for each rule."""

    unchanged: bool = False
    """Whether the model equals the champion, trained again."""

    left_out: int = 0
    """Number of test images that the champion was trained on, which the comparison leaves out."""


def apply_gate(
    candidate: Evaluation,
    champion: Evaluation | None,
    labels: np.ndarray,
    gate: Gate,
    *,
    quantized: Evaluation | None = None,
    unseen: np.ndarray | None = None,
) -> Verdict:
    """Apply absolute thresholds to a candidate, then compare it with the champion.

    Against the champion, the candidate must be better by more than chance explains (McNemar's test,
    exact, one-sided), and the recall of no class may drop far, both on images that the champion was
    not trained on. A candidate that equals the champion is rejected as such.

    Args:
        candidate: predictions of the candidate.
        champion: predictions of the champion for the same images, None without a champion.
        labels: uint8 (n,).
        gate: the requirements.
        quantized: predictions of the int8-quantized candidate, None to skip that rule.
        unseen: bool (n,), images that the champion was not trained on, None for all.
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


# Whether a rule holds, and a sentence with figures.
_Rule = tuple[bool, str]


def _minimum_rule(name: str, value: float, minimum: float) -> _Rule:
    holds = value >= minimum
    return holds, f"{name} {value:.4f} {'>=' if holds else '<'} required {minimum:.4f}"


def _absolute_rules(
    candidate: Evaluation, labels: np.ndarray, gate: Gate, quantized: Evaluation | None
) -> list[_Rule]:
    """Return the rules that need no champion."""
    worst_class, lowest = min(candidate.recall.items(), key=lambda item: item[1])
    rules = [
        _minimum_rule("accuracy", candidate.accuracy, gate.min_accuracy),
        _minimum_rule(f"lowest recall ({worst_class})", lowest, gate.min_recall),
    ]
    if quantized is not None:
        better, worse = _count_changes(quantized, candidate, labels)
        loss = (worse - better) / len(labels)
        # Without a loss, a changed prediction is as likely better as worse.
        chance = 2 * math.sqrt(better + worse) / len(labels)
        holds = loss <= gate.max_int8_loss + chance
        sentence = (
            f"int8 quantization loses accuracy {loss:.4f} {'<=' if holds else '>'} allowed "
            f"{gate.max_int8_loss:.4f} + {chance:.4f} by chance"
        )
        rules.append((holds, sentence))
    return rules


def _unchanged_rule(labels: np.ndarray, gate: Gate) -> _Rule:
    """Return the rule for a candidate that equals the champion: p is 1 without any change."""
    return (
        gate.confidence <= 0,
        f"the model predicts all {len(labels)} test images exactly as the champion does: the same data "
        "and settings make the same model; train on new data or with other settings",
    )


def _champion_rules(
    candidate: Evaluation,
    champion: Evaluation,
    labels: np.ndarray,
    gate: Gate,
    unseen: np.ndarray,
) -> list[_Rule]:
    """Return the rules against the champion, on images that the champion was not trained on."""
    if not unseen.any():
        sentence = (
            f"the champion was trained on all {len(labels)} test images, so they cannot show which "
            "model is better; use test images that were never trained on"
        )
        return [(gate.confidence <= 0, sentence)]
    labels = labels[unseen]
    current, previous = (
        evaluate_probabilities(evaluation.probabilities[unseen], labels)
        for evaluation in (candidate, champion)
    )
    better, worse = _count_changes(current, previous, labels)
    p, limit = mcnemar(better, worse), 1 - gate.confidence
    drops = {name: previous.recall[name] - value for name, value in current.recall.items()}
    most = max(drops, key=lambda name: drops[name])
    is_better, is_drop_allowed = p <= limit, drops[most] <= gate.max_recall_drop
    return [
        (
            is_better,
            f"{better} images newly right and {worse} newly wrong against the champion (accuracy "
            f"{previous.accuracy:.4f}): p = {p:.3g} {'<=' if is_better else '>'} required {limit:.3g}",
        ),
        (
            is_drop_allowed,
            f"recall of {most} changes by {-drops[most]:+.4f} against the champion "
            f"{'>=' if is_drop_allowed else '<'} allowed {-gate.max_recall_drop:+.4f}",
        ),
    ]


def _notes(left_out: int, count: int) -> list[str]:
    """Return what to know about a comparison that leaves images out; nothing if it does not."""
    if not left_out:
        return []
    note = f"the champion was trained on {left_out} of {count} test images, which are not compared"
    if left_out > count / 2:
        note += (
            "; fewer than half remain: keep test images that are never trained on, or promote the model "
            "that you trust by hand"
        )
    return [note]


def _count_changes(current: Evaluation, other: Evaluation, labels: np.ndarray) -> tuple[int, int]:
    """Return how many images only the current model gets right, and how many only the other."""
    right, was_right = current.predictions == labels, other.predictions == labels
    return int((right & ~was_right).sum()), int((~right & was_right).sum())


def mcnemar(better: int, worse: int) -> float:
    """Return the p-value of McNemar's test (1947), exact and one-sided.

    It is the probability that chance alone makes at least `better` of the changed predictions right: a
    tail of the binomial distribution with p = 0.5.

    Args:
        better: predictions that became right.
        worse: predictions that became wrong.
    """
    changed = better + worse
    # Derive each coefficient from the one before: computing thousands anew takes seconds.
    term = tail = 1
    for k in range(changed, better, -1):
        term = term * k // (changed - k + 1)
        tail += term
    return tail / 2**changed if changed else 1.0


def binomial_cdf(successes: int, trials: int, probability: float) -> float:
    """Return the probability of at most this many successes, exact except for rounding.

    Args:
        successes: 0 to `trials`.
        trials: number of trials.
        probability: probability of a success, 0 to 1, both excluded.
    """
    k = np.arange(successes + 1)
    # Use logarithms of coefficients, each from the one before: those of thousands exceed floats.
    coefficients = np.cumsum(np.log((trials - k[:-1]) / k[1:]))
    terms = np.concatenate([[0.0], coefficients]) + k * math.log(probability)
    return float(np.exp(terms + (trials - k) * math.log1p(-probability)).sum())
