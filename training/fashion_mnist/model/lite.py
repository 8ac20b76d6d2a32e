"""The int8-quantized model for LiteRT: a tenth of the size, and it predicts without TensorFlow.

The converter makes weights int8 and takes the range of each layer's values from sample images, see
https://ai.google.dev/edge/litert/models/post_training_integer_quant.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

FILE = "fashion_mnist.tflite"


def convert(model: Any, images: np.ndarray) -> bytes:
    """Quantize a model to int8.

    Args:
        model: Keras model from raw images to logits, see `network.build`.
        images: uint8 (n, 28, 28), training images that set the ranges of values; a few hundred suffice.

    Returns:
        content of a .tflite file: takes one raw image, uint8 (1, 28, 28), and returns probabilities,
        float32 (1, 10).
    """
    import tensorflow as tf

    float32_model = _to_float32(model)
    # Pass weights as constants: the converter loses the variables of a Keras model.
    trained = [tf.constant(variable.numpy()) for variable in float32_model.trainable_variables]
    frozen = [tf.constant(variable.numpy()) for variable in float32_model.non_trainable_variables]

    def serve(image: Any) -> dict[str, Any]:
        logits, _ = float32_model.stateless_call(trained, frozen, image, training=False)
        return {"probabilities": tf.nn.softmax(logits)}

    form = tf.TensorSpec([1, 28, 28], tf.float32, name="images")
    graph: Any = tf.function(serve, input_signature=[form])

    def samples() -> Any:
        # Set the range of the input to 0..255, so that raw pixels are the quantized input.
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


def _to_float32(model: Any) -> Any:
    """Return the model with float32 images and layers, which the converter can quantize."""
    import keras

    def clone(layer: Any) -> Any:
        # Operations that are not layers, such as a flip, keep the dtype of their input.
        dtype = {"dtype": "float32"} if isinstance(layer, keras.Layer) else {}
        return type(layer).from_config({**layer.get_config(), **dtype})

    inputs = keras.Input((28, 28), dtype="float32", name="images")
    copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


class LiteModel:
    """A .tflite file, loaded to predict.

    Args:
        path: path of the file.

    Raises:
        OSError: The file does not exist.
        ValueError: The file is not a LiteRT model.
    """

    def __init__(self, path: Path):
        self._interpreter = _interpreter_class()(model_content=path.read_bytes(), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities, float32 (n, 10), of raw images, uint8 (n, 28, 28)."""
        probabilities = np.empty((len(images), 10), np.float32)
        for index, image in enumerate(images):
            self._interpreter.set_tensor(self._input, image[None])
            self._interpreter.invoke()
            probabilities[index] = self._interpreter.get_tensor(self._output["index"])[0]
        return probabilities


def is_installed() -> bool:
    """Return whether LiteRT's own runtime is installed, which loads much faster than TensorFlow."""
    return importlib.util.find_spec("ai_edge_litert") is not None


def _interpreter_class() -> Any:
    """Return the interpreter of LiteRT if it is installed, else of TensorFlow."""
    if is_installed():
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    import tensorflow as tf

    return tf.lite.Interpreter
