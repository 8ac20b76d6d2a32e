"""The gate: absolute thresholds, and the change against the champion."""

import math
import time

import numpy as np
import pytest

from fashion_mnist.evaluation import Gate, apply_gate, binomial_cdf, evaluate_probabilities, mcnemar

LABELS = (np.arange(1000) % 10).astype(np.uint8)


def evaluation_with(wrong_images):
    """Return an evaluation of 1000 images with these wrong predictions."""
    predictions = LABELS.copy()
    predictions[list(wrong_images)] = (predictions[list(wrong_images)] + 1) % 10
    return evaluate_probabilities(np.eye(10, dtype=np.float32)[predictions], LABELS)


def test_evaluation_counts():
    evaluation = evaluation_with(range(0, 1000, 10))  # every image of class 0
    assert evaluation.accuracy == pytest.approx(0.9)
    assert evaluation.recall["T-shirt/top"] == 0
    assert evaluation.recall["Trouser"] == 1
    assert evaluation.confusion[0, 1] == 100
    assert evaluation.confusion.sum() == 1000
    assert evaluation.confusion.shape == (10, 10)
    # A class that is ruled out counts as one in ten millions.
    assert evaluation.loss == pytest.approx(-0.1 * math.log(1e-7))


def test_class_without_images_has_no_recall_and_is_not_gated():
    labels = LABELS[LABELS != 3]
    evaluation = evaluate_probabilities(np.eye(10, dtype=np.float32)[labels], labels)
    assert "Dress" not in evaluation.recall
    assert len(evaluation.recall) == 9
    gate = Gate(min_accuracy=1, min_recall=1, confidence=0, max_recall_drop=0)
    assert apply_gate(evaluation, evaluation, labels, gate).status == "accepted"


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (5, 0, 1 / 32), (0, 5, 1.0), (1, 1, 0.75), (3, 1, 5 / 16)],
)
def test_mcnemar_is_the_binomial_tail(better, worse, p):
    assert mcnemar(better, worse) == pytest.approx(p)


@pytest.mark.parametrize("changed", [1, 2, 9, 60])
def test_mcnemar_is_exact_for_each_count(changed):
    for better in range(changed + 1):
        tail = sum(math.comb(changed, k) for k in range(better, changed + 1))
        assert mcnemar(better, changed - better) == tail / 2**changed


def test_mcnemar_of_all_test_images_is_fast():
    started = time.process_time()
    # Far beyond what a float can hold before the division.
    assert mcnemar(5000, 4900) == pytest.approx(0.16, abs=0.01)
    assert time.process_time() - started < 1


def test_first_model_needs_only_the_threshold():
    assert (
        apply_gate(evaluation_with(range(100)), None, LABELS, Gate(min_accuracy=0.9)).status
        == "accepted"
    )
    verdict = apply_gate(evaluation_with(range(101)), None, LABELS, Gate(min_accuracy=0.9))
    assert verdict.status == "rejected"
    assert verdict.reasons == ["accuracy 0.8990 < required 0.9000"]
    assert (verdict.unchanged, verdict.left_out) == (False, 0)


def test_clearly_better_model_is_accepted():
    verdict = apply_gate(
        evaluation_with(range(100)), evaluation_with(range(150)), LABELS, Gate(min_accuracy=0.5)
    )
    assert verdict.status == "accepted"


@pytest.mark.parametrize("candidate", [range(99), range(1, 101), range(200)])
def test_worse_and_insignificantly_better_models_are_rejected(candidate):
    verdict = apply_gate(
        evaluation_with(candidate), evaluation_with(range(100)), LABELS, Gate(min_accuracy=0.5)
    )
    assert verdict.status == "rejected"
    assert not verdict.unchanged
    assert "newly right" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("confidence", "status"), [(0.95, "rejected"), (0.01, "rejected"), (0, "accepted")]
)
def test_reproduced_champion_is_reported(confidence, status):
    gate = Gate(min_accuracy=0.5, min_recall=0, confidence=confidence)
    verdict = apply_gate(evaluation_with(range(100)), evaluation_with(range(100)), LABELS, gate)
    assert (verdict.status, verdict.unchanged) == (status, True)
    assert "all 1000 test images exactly as the champion does" in verdict.reasons[-1]
    assert "newly right" not in " ".join(verdict.reasons)


def test_reproduced_champion_lists_other_failed_rules():
    # GIVEN a threshold that was raised since the champion was promoted
    verdict = apply_gate(
        evaluation_with(range(100)), evaluation_with(range(100)), LABELS, Gate(min_accuracy=0.95)
    )
    assert verdict.unchanged
    assert [reason.split()[0] for reason in verdict.reasons] == ["accuracy", "the"]


def test_equally_accurate_less_confident_model_is_rejected():
    champion = evaluation_with(range(100))
    softer = 0.9 * champion.probabilities + 0.01
    verdict = apply_gate(
        evaluate_probabilities(softer, LABELS), champion, LABELS, Gate(min_accuracy=0.5)
    )
    assert (verdict.status, verdict.unchanged) == ("rejected", False)


def unseen(count):
    """Return a mask: the champion was not trained on the first `count` images."""
    return np.arange(len(LABELS)) < count


def test_champions_training_images_are_not_compared():
    # GIVEN a champion that is right on all of its training images, and worse on the others
    champion, candidate = (
        evaluation_with(range(200)),
        evaluation_with([*range(100), *range(600, 800)]),
    )
    gate = Gate(min_accuracy=0.5)
    assert apply_gate(candidate, champion, LABELS, gate).status == "rejected"
    # WHEN those are excluded THEN the candidate is better, in the figures too
    verdict = apply_gate(candidate, champion, LABELS, gate, unseen=unseen(600))
    assert (verdict.status, verdict.left_out) == ("accepted", 400)
    text = " ".join(verdict.reasons)
    assert "100 images newly right and 0 newly wrong against the champion (accuracy 0.6667)" in text
    assert text.endswith("trained on 400 of 1000 test images, which are not compared")


@pytest.mark.parametrize(
    ("remaining", "is_few"), [(1000, False), (500, False), (499, True), (10, True)]
)
def test_fewer_than_half_of_the_images_is_reported(remaining, is_few):
    verdict = apply_gate(
        evaluation_with([]), evaluation_with(range(9)), LABELS, Gate(), unseen=unseen(remaining)
    )
    assert verdict.left_out == 1000 - remaining
    text = " ".join(verdict.reasons)
    assert ("fewer than half remain: keep test images" in text) == is_few
    assert ("not compared" in text) == (remaining < 1000)


def test_class_without_remaining_images_is_not_compared():
    champion, candidate = evaluation_with(range(0, 1000, 10)), evaluation_with(range(5, 1000, 10))
    other_classes = LABELS != 5  # the candidate never predicts this class
    gate = Gate(min_accuracy=0.5, min_recall=0)
    verdict = apply_gate(candidate, champion, LABELS, gate, unseen=other_classes)
    assert verdict.status == "accepted"


def test_no_model_is_better_without_images():
    verdict = apply_gate(
        evaluation_with([]), evaluation_with(range(500)), LABELS, Gate(), unseen=unseen(0)
    )
    assert (verdict.status, verdict.left_out) == ("rejected", 1000)
    assert (
        "trained on all 1000 test images, so they cannot show which model is better"
        in verdict.reasons[0]
    )


def test_one_ruined_class_is_rejected():
    champion = evaluation_with([n for n in range(1000) if n % 10 and n % 3 == 0])
    candidate = evaluation_with([n for n in range(1000) if n % 10 == 0 and n < 500])
    verdict = apply_gate(candidate, champion, LABELS, Gate(min_accuracy=0.5))
    assert verdict.status == "rejected"
    assert "recall of T-shirt/top changes by -0.5000" in " ".join(verdict.reasons)


def test_minimum_recall_applies_if_set():
    verdict = apply_gate(
        evaluation_with(range(0, 1000, 20)), None, LABELS, Gate(min_accuracy=0, min_recall=0.6)
    )
    assert verdict.status == "rejected"
    assert "T-shirt/top" in verdict.reasons[0]


def test_accepted_model_has_reasons():
    gate = Gate(min_accuracy=0.5, min_recall=0.25, confidence=0.75, max_recall_drop=0.125)
    verdict = apply_gate(
        evaluation_with([*range(50, 100), 109]), evaluation_with(range(50, 109)), LABELS, gate
    )
    assert verdict.status == "accepted"
    assert verdict.reasons == [
        "accuracy 0.9490 >= required 0.5000",
        "lowest recall (Ankle boot) 0.9400 >= required 0.2500",
        "9 images newly right and 1 newly wrong against the champion (accuracy 0.9410): "
        "p = 0.0107 <= required 0.25",
        "recall of Ankle boot changes by -0.0100 against the champion >= allowed -0.1250",
    ]


@pytest.mark.parametrize(
    ("gate", "candidate", "champion"),
    [
        (Gate(min_accuracy=0.75, min_recall=0), range(250), None),
        (Gate(min_accuracy=0, min_recall=0.75), range(0, 250, 10), None),
        # One more right, none wrong: p is 0.5
        (Gate(min_accuracy=0, confidence=0.5, max_recall_drop=1), range(10), range(11)),
        # Half of the first class lost
        (
            Gate(min_accuracy=0, min_recall=0, confidence=0, max_recall_drop=0.5),
            range(0, 500, 10),
            [],
        ),
    ],
    ids=["accuracy", "recall", "confidence", "drop"],
)
def test_metrics_at_their_limits_are_accepted(gate, candidate, champion):
    other = None if champion is None else evaluation_with(champion)
    assert apply_gate(evaluation_with(candidate), other, LABELS, gate).status == "accepted"


@pytest.mark.parametrize(
    ("small", "status"),
    [
        # All nine that changed are newly wrong: 0.009, and allowed are 0.003 and 2 * 3 / 1000.
        (range(109), "accepted"),
        (range(110), "rejected"),
        # 100 changed, which explains 0.020: 22 net may be lost, and 24 not.
        (range(39, 161), "accepted"),
        (range(38, 162), "rejected"),
        (range(200), "rejected"),
        ([], "accepted"),
    ],
)
def test_int8_model_may_lose_little_accuracy(small, status):
    gate = Gate(min_accuracy=0, min_recall=0, max_int8_loss=0.003)
    verdict = apply_gate(
        evaluation_with(range(100)), None, LABELS, gate, quantized=evaluation_with(small)
    )
    assert verdict.status == status


def test_int8_accuracy_loss_is_reported():
    gate = Gate(min_accuracy=0, min_recall=0, max_int8_loss=0.0)
    verdict = apply_gate(
        evaluation_with([]), None, LABELS, gate, quantized=evaluation_with(range(4))
    )
    assert verdict.status == "accepted"
    assert verdict.reasons[-1] == (
        "int8 quantization loses accuracy 0.0040 <= allowed 0.0000 + 0.0040 by chance"
    )
    verdict = apply_gate(
        evaluation_with([]), None, LABELS, gate, quantized=evaluation_with(range(5))
    )
    assert verdict.reasons == [
        "int8 quantization loses accuracy 0.0050 > allowed 0.0000 + 0.0045 by chance"
    ]


@pytest.mark.parametrize(("right", "count", "share"), [(0, 1, 0.9), (3, 7, 0.5), (880, 1000, 0.9)])
def test_binomial_tail_is_exact(right, count, share):
    exact = sum(
        math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(right + 1)
    )
    assert binomial_cdf(right, count, share) == pytest.approx(exact, rel=1e-9)


def test_binomial_tail_of_many_trials_does_not_overflow():
    assert binomial_cdf(100_000, 100_000, 0.9) == pytest.approx(1)
    assert binomial_cdf(0, 100_000, 0.9) == 0
