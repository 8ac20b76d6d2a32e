"""The model in eight-bit integers for LiteRT: a tenth of the size, and no TensorFlow to predict.

https://ai.google.dev/edge/litert/models/post_training_integer_quant describes what the converter
does: weights become int8, and the range of each layer's values is taken from sample images.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

FILE = "fashion_mnist.tflite"


def convert(model: Any, images: np.ndarray) -> bytes:
    """A model in int8, as a .tflite file: one raw uint8 image (1, 28, 28) in, probabilities out.

    Args:
        model: a Keras model from raw images to logits, see `training.build`.
        images: uint8 (n, 28, 28), training images by which the ranges of values are set; a few
            hundred are enough.
    """
    import tensorflow as tf

    float32_model = _in_float32(model)
    # As constants, since the converter loses a Keras model's variables.
    trained = [tf.constant(variable.numpy()) for variable in float32_model.trainable_variables]
    frozen = [tf.constant(variable.numpy()) for variable in float32_model.non_trainable_variables]

    def serve(image: Any) -> dict[str, Any]:
        logits, _ = float32_model.stateless_call(trained, frozen, image, training=False)
        return {"probabilities": tf.nn.softmax(logits)}

    form = tf.TensorSpec([1, 28, 28], tf.float32, name="images")
    graph: Any = tf.function(serve, input_signature=[form])

    def samples() -> Any:
        # So that the input's range is 0 to 255, and raw pixels are the quantised input.
        yield [np.linspace(0, 255, 28 * 28, dtype=np.float32).reshape(1, 28, 28)]
        for image in images:
            yield [image[None].astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [graph.get_concrete_function()], tf.Module()
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    return converter.convert()


def _in_float32(model: Any) -> Any:
    """The same model, from float32 images and in float32, which the converter can quantise."""
    import keras

    def clone(layer: Any) -> Any:
        # An operation that is no layer, such as a flip, takes what comes.
        dtype = {"dtype": "float32"} if isinstance(layer, keras.Layer) else {}
        return type(layer).from_config({**layer.get_config(), **dtype})

    inputs = keras.Input((28, 28), dtype="float32", name="images")
    copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


class LiteModel:
    """A .tflite file, ready to predict.

    Args:
        path: the file.

    Raises:
        OSError: there is no such file.
        ValueError: it is not a LiteRT model.
    """

    def __init__(self, path: Path):
        self._interpreter = _interpreter_class()(model_content=path.read_bytes(), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities float32 (n, 10) of raw images uint8 (n, 28, 28)."""
        probabilities = np.empty((len(images), 10), np.float32)
        for index, image in enumerate(images):
            self._interpreter.set_tensor(self._input, image[None])
            self._interpreter.invoke()
            probabilities[index] = self._interpreter.get_tensor(self._output["index"])[0]
        return probabilities


def is_installed() -> bool:
    """Whether LiteRT's own runtime is here, which loads in no time."""
    return importlib.util.find_spec("ai_edge_litert") is not None


def _interpreter_class() -> Any:
    """LiteRT's own where it is installed, else TensorFlow's."""
    if is_installed():
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    import tensorflow as tf

    return tf.lite.Interpreter
