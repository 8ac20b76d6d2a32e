"""Hold a candidate against the champion."""

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
    """Return the champion's answers to the test images, and the verdict on the candidate's."""
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
        verdict = _unless_rolled_back(model_registry, candidate, images, verdict)
    return baseline, verdict


def _unseen(
    model_registry: Registry, champion: Champion, images: data.Dataset
) -> np.ndarray | None:
    """Return which test images the champion was not trained on, bool (n,).

    None where its manifest names no digests of its training images.
    """
    name = champion.manifest.train_digests
    return ~data.are_among(images.test_images, model_registry.get_blob(name)) if name else None


def _unless_rolled_back(
    model_registry: Registry, candidate: Evaluation, images: data.Dataset, verdict: Verdict
) -> Verdict:
    """The verdict, unless an operator rolled back from this very model under another number."""
    for version in sorted(model_registry.rolled_back()):
        if evaluation.are_alike(candidate, _evaluate_version(model_registry, version, images)):
            reason = (
                f"it answers all {len(images.test_labels)} test images as version {version} does, from "
                f"which an operator rolled back; promote version {version} by hand, or train with other "
                "settings or data"
            )
            return dataclasses.replace(verdict, status="rejected", reasons=[reason])
    return verdict


def _evaluate_version(model_registry: Registry, version: int, images: data.Dataset) -> Evaluation:
    """A version's answers to the same test images."""
    with tempfile.TemporaryDirectory() as folder:
        model_registry.fetch(version, Path(folder))
        return evaluation.evaluate(Path(folder), images.test_images, images.test_labels)
