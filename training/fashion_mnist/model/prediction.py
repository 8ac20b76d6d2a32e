"""What a model says of one image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.errors import PermanentError
from fashion_mnist.model import export, lite

RUNTIMES = ("litert", "tensorflow")


class ServingError(PermanentError):
    """An exported model does not load, or does not predict."""


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


def predict(
    directory: Path, image: np.ndarray, actual: int | None = None, *, runtime: str = ""
) -> Prediction:
    """Ask an exported model about one raw image, uint8 (28, 28).

    Args:
        directory: with the SavedModel and the LiteRT model, see `export.export`.
        image: uint8 (28, 28).
        actual: its label, where it is known.
        runtime: "litert" asks the model in eight-bit integers, which takes a thirtieth of the time
            in all, "tensorflow" the SavedModel; empty takes the first where LiteRT is installed.

    Raises:
        ValueError: the image has another form, or there is no such runtime.
        OSError: there is no such model in the directory.
    """
    if image.shape != (28, 28) or image.dtype != np.uint8:
        raise ValueError(
            f"the image is {image.dtype} {image.shape}; give raw pixels, uint8 (28, 28)"
        )
    if runtime not in ("", *RUNTIMES):
        raise ValueError(f"runtime {runtime!r} is not known; use one of: {', '.join(RUNTIMES)}")
    path = directory / lite.FILE
    if runtime == "litert" or (not runtime and lite.is_installed() and path.is_file()):
        probabilities = lite.LiteModel(path).probabilities(image[None])[0]
    else:
        probabilities = _ask_saved_model(directory, image)
    label = int(probabilities.argmax())
    return Prediction(label, float(probabilities[label]), actual)


def _ask_saved_model(directory: Path, image: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    serve = export.load(directory)
    return serve(images=tf.constant(image[None]))["probabilities"].numpy()[0]


def check(directory: Path, images: np.ndarray) -> None:
    """See that an exported SavedModel loads and predicts as a server would ask it.

    It must have the signature `serving_default`, take one image and many, and give each image
    probabilities of ten classes, whatever is in the same batch.

    Args:
        directory: with the SavedModel.
        images: uint8 (n, 28, 28); the first few are asked about.

    Raises:
        ServingError: it does not; the message says how.
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
            f"the exported model gives {batch.shape} for {len(sample)} images, or values that are no "
            "numbers; train again"
        )
    if np.abs(batch.sum(axis=1) - 1).max() > 1e-3 or batch.min() < 0:
        raise ServingError("the exported model gives no probabilities; export it with its softmax")
    # The order of float32's sums differs with the size of the batch.
    if np.abs(batch[0] - single[0]).max() > 1e-3:
        raise ServingError("the exported model gives an image alone another answer than in a batch")
