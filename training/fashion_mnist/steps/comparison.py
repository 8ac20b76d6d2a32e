"""Compare a candidate with the champion of the registry."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from fashion_mnist import data, evaluation
from fashion_mnist.evaluation import Evaluation, Gate, Verdict
from model_registry import Champion, Registry


def compare_with_champion(
    model_registry: Registry | None,
    champion: Champion | None,
    candidate: Evaluation,
    images: data.Dataset,
    gate: Gate,
    quantized: Evaluation | None = None,
) -> tuple[Evaluation | None, Verdict]:
    """Apply the gate to a candidate, against the champion if there is one.

    Args:
        model_registry: registry of the champion, None without one.
        champion: the champion, None without one.
        candidate: predictions of the candidate for the test images.
        images: data set with the test images.
        gate: the requirements.
        quantized: predictions of the int8-quantized candidate, None to skip that rule.

    Returns:
        predictions of the champion for the test images, None without one, and the verdict on the
        candidate.
    """
    if model_registry is None or champion is None:
        return None, evaluation.apply_gate(
            candidate, None, images.test_labels, gate, quantized=quantized
        )
    baseline = _evaluate_version(model_registry, champion.version, images)
    unseen = _unseen(model_registry, champion, images)
    verdict = evaluation.apply_gate(
        candidate, baseline, images.test_labels, gate, quantized=quantized, unseen=unseen
    )
    if verdict.status == "accepted":
        verdict = _reject_rolled_back(model_registry, candidate, images, verdict)
    return baseline, verdict


def _unseen(
    model_registry: Registry, champion: Champion, images: data.Dataset
) -> np.ndarray | None:
    """Return which test images the champion was not trained on, bool (n,).

    None if its manifest has no digests of its training images.
    """
    name = champion.manifest.train_digests
    return ~data.are_among(images.test_images, model_registry.get_blob(name)) if name else None


def _reject_rolled_back(
    model_registry: Registry, candidate: Evaluation, images: data.Dataset, verdict: Verdict
) -> Verdict:
    """Return the verdict, or a rejection if an operator rolled back from an equal model."""
    for version in sorted(model_registry.rolled_back()):
        if evaluation.are_alike(candidate, _evaluate_version(model_registry, version, images)):
            reason = (
                f"the model predicts all {len(images.test_labels)} test images as version {version} "
                f"does, from which an operator rolled back; promote version {version} by hand, or train "
                "with other settings or data"
            )
            return dataclasses.replace(verdict, status="rejected", reasons=[reason])
    return verdict


def _evaluate_version(model_registry: Registry, version: int, images: data.Dataset) -> Evaluation:
    """Return a version's predictions for the test images."""
    with tempfile.TemporaryDirectory() as folder:
        model_registry.fetch(version, Path(folder))
        return evaluation.evaluate(Path(folder), images.test_images, images.test_labels)
