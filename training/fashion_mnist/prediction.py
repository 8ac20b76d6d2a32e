"""What a model says of one image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fashion_mnist import CLASS_NAMES


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's answer to one image; prints as the chapter does.

    Attributes:
        label: 0 to 9.
        confidence: the probability of that label, 0 to 1.
        actual: the image's true label; None where it is not known.
    """

    label: int
    confidence: float
    actual: int | None = None

    def __str__(self) -> str:
        actual = "unknown" if self.actual is None else CLASS_NAMES[self.actual]
        return (
            f"Prediction: {CLASS_NAMES[self.label]} | Confidence: {self.confidence:.4f} | "
            f"Actual: {actual}"
        )


def predict(directory: Path, image: np.ndarray, actual: int | None = None) -> Prediction:
    """Ask an exported SavedModel about one raw image, uint8 (28, 28).

    Raises:
        ValueError: the image has another form.
        OSError: there is no SavedModel in the directory.
    """
    import tensorflow as tf

    if image.shape != (28, 28) or image.dtype != np.uint8:
        raise ValueError(
            f"the image is {image.dtype} {image.shape}; give raw pixels, uint8 (28, 28)"
        )
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    probabilities = serve(images=tf.constant(image[None]))["probabilities"].numpy()[0]
    label = int(probabilities.argmax())
    return Prediction(label, float(probabilities[label]), actual)
