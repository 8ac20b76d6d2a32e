"""Build the network of a recipe."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fashion_mnist.model.recipes import Recipe


@functools.cache
def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the hardware supports bfloat16; emulated, it takes ten times as long as float32.

    GPUs support it from compute capability 8.0, x86 processors with AVX-512 BF16 or AMX, ARM processors
    with BF16.

    Args:
        cpuinfo: Linux's description of the processor; if it does not exist, there is no support.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set[str]()
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def dtype_policy(recipe: Recipe) -> str:
    """Return the Keras dtype policy for training a recipe on this machine."""
    return "mixed_bfloat16" if recipe.mixed_precision and has_bfloat16() else "float32"


def build(recipe: Recipe, seed: int, *, trains: bool = False) -> Any:
    """Return the untrained network of a recipe: uint8 (n, 28, 28) to logits, float32 (n, 10).

    It scales pixels to 0..1 itself, so that training, export and prediction share one transform.

    Args:
        recipe: see `recipes`.
        seed: seed of the initial weights.
        trains: True for training: with TensorFlow's fused batch normalization, which is a quarter
            faster, and in bfloat16 where that is faster. The weights are the same, but only the model
            for prediction can be saved, and predicts the same on every machine.

    Raises:
        ValueError: The recipe has an unknown layer.
    """
    import keras

    layers = list(_layers(recipe, seed, trains=trains))
    inputs = keras.Input((28, 28), dtype="uint8", name="images")

    def logits(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    outputs = logits(inputs)
    if recipe.mirrored and not trains:
        mirror = logits(keras.ops.flip(inputs, axis=2))
        outputs = keras.layers.Average(dtype="float32")([outputs, mirror])
    return keras.Model(inputs, outputs, name="fashion_mnist")


def _layers(recipe: Recipe, seed: int, *, trains: bool) -> Iterator[Any]:
    """Yield the layers of a recipe's network in order; see `build`."""
    import keras

    normalization = _fused_normalization() if trains else keras.layers.BatchNormalization
    policy = dtype_policy(recipe) if trains else "float32"
    seeds = iter(range(seed, seed + 1000))

    def initial(scheme: str) -> Any:
        if scheme == "notebook":
            return keras.initializers.GlorotUniform(seed=next(seeds))
        return keras.initializers.VarianceScaling(
            1 / 3, mode="fan_in", distribution="uniform", seed=next(seeds)
        )

    yield keras.layers.Rescaling(1 / 255, dtype=policy, name="scale")
    if recipe.layers[0] != "flatten":
        yield keras.layers.Reshape((28, 28, 1), dtype=policy)
    for layer in recipe.layers:
        kind, _, number = layer.partition(" ")
        size = int(number or 0)
        if kind == "flatten":
            yield keras.layers.Flatten(dtype=policy)
        elif kind == "pool":
            yield keras.layers.MaxPooling2D(dtype=policy)
        elif kind == "dropout":
            yield keras.layers.Dropout(size / 100, seed=next(seeds), dtype=policy)
        elif kind == "dense":
            yield keras.layers.Dense(
                size, activation="relu", kernel_initializer=initial("notebook"), dtype=policy
            )
        elif kind == "bn-dense":
            yield keras.layers.Dense(
                size, use_bias=False, kernel_initializer=initial(""), dtype=policy
            )
            yield keras.layers.BatchNormalization(momentum=0.9, dtype=policy)
            yield keras.layers.ReLU(dtype=policy)
        elif kind in ("stem", "conv"):
            yield keras.layers.Conv2D(
                size,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer=initial(""),
                dtype=policy,
            )
            if kind == "stem":
                yield keras.layers.MaxPooling2D(dtype=policy)
            yield normalization(momentum=0.9, dtype=policy)
            yield keras.layers.ReLU(dtype=policy)
        else:
            raise ValueError(f"unknown layer {layer!r} of recipe {recipe.name!r}")
    scheme = "notebook" if recipe.name == "notebook" else ""
    yield keras.layers.Dense(10, kernel_initializer=initial(scheme), dtype="float32", name="logits")


def _fused_normalization() -> Any:
    """Return Keras' batch normalization as a class that trains with one fused TensorFlow operation."""
    import keras
    import tensorflow as tf

    class FusedNormalization(keras.layers.BatchNormalization):
        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            if not training:
                return super().call(inputs, training=training, mask=mask)
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=tf.cast(self.gamma, tf.float32),
                offset=tf.cast(self.beta, tf.float32),
                mean=tf.constant([]),
                variance=tf.constant([]),
                epsilon=self.epsilon,
                is_training=True,
            )
            # These are None only before the layer is built.
            updates: Any = ((self.moving_mean, mean), (self.moving_variance, variance))
            for moving, now in updates:
                moving.assign(moving * self.momentum + now * (1 - self.momentum))
            return outputs

    return FusedNormalization
