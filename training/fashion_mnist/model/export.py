"""Export a trained model in the formats that serve."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist import SERVING
from fashion_mnist.errors import PermanentError
from fashion_mnist.model import lite

# Images that set the ranges of the LiteRT model.
_SAMPLES = 500


class DivergedError(PermanentError):
    """A training whose loss or weights are not finite."""


def check(model: Any, losses: Sequence[float]) -> None:
    """Check that a training did not diverge.

    Args:
        model: Keras model, see `network.build`.
        losses: loss of each epoch.

    Raises:
        DivergedError: A loss or a weight is infinite or NaN.
    """
    diverged = [number for number, loss in enumerate(losses, 1) if not math.isfinite(loss)]
    if diverged:
        raise DivergedError(
            f"training diverged: the loss of epoch {diverged[0]} of {len(losses)} is "
            f"{losses[diverged[0] - 1]}; use a lower learning_rate"
        )
    if not all(np.isfinite(weights).all() for weights in model.get_weights()):
        raise DivergedError(
            "training diverged in its last step: weights are not finite; use a lower learning_rate"
        )


def environment() -> dict[str, str | int]:
    """Return what determines the weights besides recipe, data and seed: versions and threads."""
    import keras
    import tensorflow as tf

    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        # 0 means one thread per processor.
        "threads": threads or len(os.sched_getaffinity(0)),
    }


def export(model: Any, directory: Path, model_file: str, images: np.ndarray) -> None:
    """Write a SavedModel into the folder `serving`, and the Keras and LiteRT models beside it.

    The SavedModel's `serving_default` takes `images`, raw uint8 (n, 28, 28), and returns
    `probabilities`, float32 (n, 10); it includes all preprocessing.

    Args:
        model: from raw images to logits, see `network.build`.
        directory: created if it does not exist.
        model_file: file name of the Keras model.
        images: uint8 (n, 28, 28), training images; the first 500 set the ranges of the LiteRT model.
    """
    import tensorflow as tf

    directory.mkdir(parents=True, exist_ok=True)

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="images")])
    def serve(images: Any) -> dict[str, Any]:
        return {"probabilities": tf.nn.softmax(model(images, training=False))}

    module: Any = tf.Module()
    module.model = model
    tf.saved_model.save(module, str(directory / SERVING), signatures={"serving_default": serve})
    model.save(directory / model_file)
    (directory / lite.FILE).write_bytes(lite.convert(model, images[:_SAMPLES]))


def load(directory: Path) -> Any:
    """Return the signature `serving_default` of an exported model, or of a fetched version.

    Args:
        directory: where `export` or `Registry.fetch` wrote it.

    Raises:
        OSError: The directory has no SavedModel, or it does not load.
        KeyError: The SavedModel has no such signature.
    """
    import tensorflow as tf

    found = next(directory.rglob("saved_model.pb"), None)
    if found is None:
        raise OSError(f"{directory} has no saved_model.pb; export a model into it")
    return tf.saved_model.load(str(found.parent)).signatures["serving_default"]
