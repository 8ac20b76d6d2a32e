"""Predict the class of one image, and check that an exported model can serve."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.errors import PermanentError
from fashion_mnist.model import export, lite

RUNTIMES = ("litert", "tensorflow")


class ServingError(PermanentError):
    """An exported model that does not load or does not predict."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's prediction for one image. Its text is the line that the original notebook prints."""

    label: int
    """0 to 9."""

    confidence: float
    """Probability of the label, 0 to 1."""

    actual: int | None = None
    """True label of the image. None if unknown."""

    def __str__(self) -> str:
        actual = "unknown" if self.actual is None else CLASS_NAMES[self.actual]
        return (
            f"Prediction: {CLASS_NAMES[self.label]} | Confidence: {self.confidence:.4f} | "
            f"Actual: {actual}"
        )


def predict(
    directory: Path, image: np.ndarray, actual: int | None = None, *, runtime: str = ""
) -> Prediction:
    """Predict the class of one raw image with an exported model.

    Args:
        directory: directory with the SavedModel and the LiteRT model, see `export.export`.
        image: uint8 (28, 28).
        actual: true label, if known.
        runtime: "litert" for the int8-quantized model, which takes a thirtieth of the time in all, or
            "tensorflow" for the SavedModel. Empty for the first if LiteRT is installed.

    Raises:
        ValueError: The image has another form, or the runtime does not exist.
        OSError: The directory has no such model.
    """
    if image.shape != (28, 28) or image.dtype != np.uint8:
        raise ValueError(
            f"the image is {image.dtype} {image.shape}; use raw pixels, uint8 (28, 28)"
        )
    if runtime not in ("", *RUNTIMES):
        raise ValueError(f"unknown runtime {runtime!r}; use one of: {', '.join(RUNTIMES)}")
    path = directory / lite.FILE
    if runtime == "litert" or (not runtime and lite.is_installed() and path.is_file()):
        probabilities = lite.LiteModel(path).probabilities(image[None])[0]
    else:
        probabilities = _predict_with_saved_model(directory, image)
    label = int(probabilities.argmax())
    return Prediction(label, float(probabilities[label]), actual)


def _predict_with_saved_model(directory: Path, image: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    serve = export.load(directory)
    return serve(images=tf.constant(image[None]))["probabilities"].numpy()[0]


def check(directory: Path, images: np.ndarray) -> None:
    """Check that an exported SavedModel loads and predicts the way a server calls it.

    It must have the signature `serving_default`, accept one image and several, and return probabilities
    of ten classes for each, independent of the other images in the batch.

    Args:
        directory: directory with the SavedModel.
        images: uint8 (n, 28, 28); the first eight are used.

    Raises:
        ServingError: It does not. The message says how.
    """
    import tensorflow as tf

    sample = images[:8]
    try:
        serve = export.load(directory)
        batch = serve(images=tf.constant(sample))["probabilities"].numpy()
        single = serve(images=tf.constant(sample[:1]))["probabilities"].numpy()
    except (OSError, KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        first_line = (str(error).strip().splitlines() or [""])[0][:300]
        raise ServingError(
            f"the exported model cannot serve: {type(error).__name__}: {first_line}; export it again"
        ) from error
    if batch.shape != (len(sample), 10) or not np.isfinite(batch).all():
        raise ServingError(
            f"the exported model returns {batch.shape} for {len(sample)} images, or values that are not "
            "finite; train again"
        )
    if np.abs(batch.sum(axis=1) - 1).max() > 1e-3 or batch.min() < 0:
        raise ServingError(
            "the exported model does not return probabilities; export it with its softmax"
        )
    # The order of float32 sums depends on the batch size.
    if np.abs(batch[0] - single[0]).max() > 1e-3:
        raise ServingError(
            "the exported model predicts differently for an image alone and in a batch; export it again"
        )
