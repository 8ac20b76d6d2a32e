"""Measure how good a model is, overall and by class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.model import export

# Largest difference of one model's probabilities between machines.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A model's predictions for labelled images, and their metrics."""

    accuracy: float
    """Share of images that are right, 0 to 1."""

    loss: float
    """Mean cross-entropy."""

    recall: dict[str, float]
    """By class name, the share of the class's images that are right, 0 to 1. Without classes that have
    no images."""

    confusion: np.ndarray
    """int (10, 10); rows are labels, columns are predictions."""

    predictions: np.ndarray
    """uint8 (n,)."""

    probabilities: np.ndarray
    """float32 (n, 10)."""


def evaluate(directory: Path, images: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Evaluate an exported SavedModel.

    Args:
        directory: directory with the SavedModel.
        images: uint8 (n, 28, 28), raw.
        labels: uint8 (n,), 0 to 9.

    Raises:
        OSError: The directory has no SavedModel.
    """
    return evaluate_probabilities(probabilities(directory, images), labels)


def probabilities(directory: Path, images: np.ndarray) -> np.ndarray:
    """Return the probabilities that an exported SavedModel predicts.

    Args:
        directory: directory with the SavedModel.
        images: uint8 (n, 28, 28), raw.

    Returns:
        float32 (n, 10).

    Raises:
        OSError: The directory has no SavedModel.
    """
    import tensorflow as tf

    serve = export.load(directory)
    parts = [
        serve(images=tf.constant(images[start : start + 1000]))["probabilities"].numpy()
        for start in range(0, len(images), 1000)
    ]
    return np.concatenate(parts)


def evaluate_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Evaluate probabilities.

    Args:
        probabilities: float (n, 10).
        labels: uint8 (n,), 0 to 9.
    """
    predictions = probabilities.argmax(axis=1).astype(np.uint8)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels, predictions), 1)
    label_probabilities = probabilities[np.arange(len(labels)), labels]
    counts = confusion.sum(axis=1)
    return Evaluation(
        accuracy=float((predictions == labels).mean()),
        loss=float(-np.log(np.clip(label_probabilities, 1e-7, 1)).mean()),
        recall={
            name: float(confusion[i, i] / counts[i])
            for i, name in enumerate(CLASS_NAMES)
            if counts[i]
        },
        confusion=confusion,
        predictions=predictions,
        probabilities=probabilities,
    )


def are_alike(current: Evaluation, other: Evaluation) -> bool:
    """Return whether the predictions of two models for the same images are those of one model.

    Training is deterministic: the same data, settings and seed make the same model. Different models may
    predict the same classes where that is easy, but with other probabilities.
    """
    return bool(
        np.array_equal(current.predictions, other.predictions)
        # The order of float32 sums may differ.
        and np.abs(current.probabilities - other.probabilities).max() < _TOLERANCE
    )


def prediction_columns(evaluation: Evaluation, labels: np.ndarray) -> dict[str, object]:
    """Return a model's predictions as JSON.

    Args:
        evaluation: the predictions.
        labels: uint8 (n,), 0 to 9.

    Returns:
        `classes`, the names; and one value per image in each of `label` and `predicted` (0 to 9) and
        `confidence` (0 to 1, four digits).
    """
    confidence = evaluation.probabilities.max(axis=1)
    return {
        "classes": list(CLASS_NAMES),
        "label": labels.tolist(),
        "predicted": evaluation.predictions.tolist(),
        "confidence": [round(float(value), 4) for value in confidence],
    }
