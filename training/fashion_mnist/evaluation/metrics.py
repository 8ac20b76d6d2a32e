"""How good a model is: overall, by class, and against another on the same images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.model import export

# The most by which one model's probabilities differ from one machine to another.
_SAME = 1e-3


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A model's answers to labelled images.

    Attributes:
        accuracy: share that is right, 0 to 1.
        loss: mean cross-entropy.
        recall: for each class by name, the share of its images that are found; a class without images
            is not in it.
        confusion: int (10, 10); row is the label, column the prediction.
        predictions: uint8 (n,).
        probabilities: float32 (n, 10).
    """

    accuracy: float
    loss: float
    recall: dict[str, float]
    confusion: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray


def evaluate(directory: Path, images: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Judge an exported SavedModel by what it serves: raw uint8 images (n, 28, 28) and labels (n,).

    Raises:
        OSError: there is no SavedModel in the directory.
    """
    return evaluate_probabilities(probabilities(directory, images), labels)


def probabilities(directory: Path, images: np.ndarray) -> np.ndarray:
    """What an exported SavedModel answers to raw uint8 images (n, 28, 28): float32 (n, 10).

    Raises:
        OSError: there is no SavedModel in the directory.
    """
    import tensorflow as tf

    serve = export.load(directory)
    parts = [
        serve(images=tf.constant(images[start : start + 1000]))["probabilities"].numpy()
        for start in range(0, len(images), 1000)
    ]
    return np.concatenate(parts)


def evaluate_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
    """What probabilities (n, 10) are worth against labels (n,)."""
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
    """Whether two models answered the same images as one and the same model does.

    Training is deterministic: the same data, settings and seed make the same model again. Different
    models may choose the same classes where those are easy, but are not equally sure of them.
    """
    return bool(
        np.array_equal(current.predictions, other.predictions)
        # Float32's sums may be taken in another order.
        and np.abs(current.probabilities - other.probabilities).max() < _SAME
    )


def prediction_columns(evaluation: Evaluation, labels: np.ndarray) -> dict[str, object]:
    """A model's answers as JSON has them.

    `classes` are names; `label` and `predicted` (0 to 9) and `confidence` (0 to 1, four places) have a
    value for each image.
    """
    confidence = evaluation.probabilities.max(axis=1)
    return {
        "classes": list(CLASS_NAMES),
        "label": labels.tolist(),
        "predicted": evaluation.predictions.tolist(),
        "confidence": [round(float(share), 4) for share in confidence],
    }
