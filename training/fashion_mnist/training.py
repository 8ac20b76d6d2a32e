"""Train a recipe on a data set.

The whole uint8 set is one tensor and the loop over an epoch's steps runs inside one tf.function: on
two cores this saves more than half of what `model.fit` takes. `notebook` is trained with the same
loop; its network and settings are the chapter's.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fashion_mnist.checkpoints import Checkpoints, State
from fashion_mnist.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        loss: mean cross-entropy over the training images, while training.
        accuracy: share of training images that were right, 0 to 1.
        seconds: how long it took.
        val_accuracy: on images that were held out; None where none were.
    """

    loss: float
    accuracy: float
    seconds: float
    val_accuracy: float | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model (a Keras model from raw uint8 images (n, 28, 28) to logits) and its history.

    `seconds` are those of the fit, with the epochs of an attempt that was cut off.
    """

    model: Any
    history: list[Epoch]
    seconds: float


def build(recipe: Recipe, seed: int, *, fused: bool = False) -> Any:
    """The recipe's network, untrained: uint8 (n, 28, 28) in, float32 logits (n, 10) out.

    Pixels are scaled to 0..1 inside, so training, export and prediction share one transform.

    Args:
        recipe: see `recipes`.
        seed: of the initial weights.
        fused: normalise convolutions' batches by TensorFlow's fused operation, which trains a quarter
            faster and has the same weights; such a model cannot be kept as a file.
    """
    import keras

    normalization = _fused_normalization() if fused else keras.layers.BatchNormalization

    policy = "mixed_bfloat16" if recipe.mixed_precision else "float32"
    seeds = iter(range(seed, seed + 1000))

    def initial(scheme: str) -> Any:
        if scheme == "notebook":
            return keras.initializers.GlorotUniform(seed=next(seeds))
        return keras.initializers.VarianceScaling(
            1 / 3, mode="fan_in", distribution="uniform", seed=next(seeds)
        )

    def convolution(size: int) -> Any:
        return keras.layers.Conv2D(
            size, 3, padding="same", use_bias=False, kernel_initializer=initial(""), dtype=policy
        )

    inputs = keras.Input((28, 28), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255, dtype=policy, name="scale")(inputs)
    if recipe.layers[0] != "flatten":
        x = keras.layers.Reshape((28, 28, 1), dtype=policy)(x)
    for word in recipe.layers:
        kind, _, number = word.partition(" ")
        size = int(number or 0)
        if kind == "flatten":
            x = keras.layers.Flatten(dtype=policy)(x)
        elif kind == "pool":
            x = keras.layers.MaxPooling2D(dtype=policy)(x)
        elif kind == "dropout":
            x = keras.layers.Dropout(size / 100, seed=next(seeds), dtype=policy)(x)
        elif kind == "dense":
            x = keras.layers.Dense(
                size, activation="relu", kernel_initializer=initial("notebook"), dtype=policy
            )(x)
        elif kind in ("stem", "conv", "bn-dense"):
            if kind == "bn-dense":
                x = keras.layers.Dense(
                    size, use_bias=False, kernel_initializer=initial(""), dtype=policy
                )(x)
            else:
                x = convolution(size)(x)
            if kind == "stem":
                x = keras.layers.MaxPooling2D(dtype=policy)(x)
            kind_of_layer = normalization if len(x.shape) == 4 else keras.layers.BatchNormalization
            x = kind_of_layer(momentum=0.9, dtype=policy)(x)
            x = keras.layers.ReLU(dtype=policy)(x)
        else:
            raise ValueError(f"layer {word!r} of recipe {recipe.name!r} is not known")
    scheme = "notebook" if recipe.name == "notebook" else ""
    logits = keras.layers.Dense(
        10, kernel_initializer=initial(scheme), dtype="float32", name="logits"
    )(x)
    return keras.Model(inputs, logits, name="fashion_mnist")


def _fused_normalization() -> Any:
    """Keras' batch normalisation, which while training is one operation of TensorFlow's."""
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
            for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + now * (1 - self.momentum))
            return outputs

    return FusedNormalization


def train(
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int = 42,
    log: Callable[[str], None] = print,
    checkpoints: Checkpoints | None = None,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
) -> Trained:
    """Train a recipe's network.

    The same seed, data and number of threads give the same weights.

    Args:
        images: uint8 (n, 28, 28).
        labels: uint8 (n,), 0 to 9.
        recipe: see `recipes`.
        seed: of weights, order and augmentation.
        log: given one line an epoch.
        checkpoints: where the state after an epoch is kept when it is time; the same training that
            was cut off goes on from there, to the same result.
        held_out: images and labels to measure accuracy on after each epoch.

    Raises:
        ValueError: fewer images than one batch.
    """
    import keras
    import tensorflow as tf

    if len(images) < recipe.batch_size:
        raise ValueError(
            f"{len(images)} images are fewer than one batch of {recipe.batch_size}; "
            "use a smaller batch_size"
        )
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    model = build(recipe, seed, fused=True)
    steps = len(images) // recipe.batch_size
    rate = _one_cycle(recipe, steps) if recipe.one_cycle else recipe.learning_rate
    optimizer = keras.optimizers.Adam(rate, beta_2=0.99 if recipe.one_cycle else 0.999)
    optimizer.build(model.trainable_variables)
    run_epoch = _epoch_function(model, optimizer, recipe, images, labels)

    variables = [*model.variables, *optimizer.variables]
    # To hash the data takes a tenth of a second, which a training without checkpoints does not need.
    identity = functools.cache(lambda: _fingerprint(images, labels, recipe, seed))
    history: list[Epoch] = []
    kept = checkpoints.load() if checkpoints is not None else None
    if kept is not None and kept.training == identity():
        for variable, value in zip(variables, kept.values, strict=True):
            variable.assign(value)
        history = [Epoch(**epoch) for epoch in kept.history]
        log(f"going on after epoch {len(history)} of {recipe.epochs}, from a checkpoint")
    elif kept is not None:
        log(
            "the checkpoint is of another training, which differs in recipe, seed, data or TensorFlow"
        )
    before = sum(epoch.seconds for epoch in history)
    started = time.perf_counter()
    for number in range(len(history), recipe.epochs):
        began = time.perf_counter()
        # Order and augmentation depend on seed and epoch alone, so that a resumed training repeats.
        order = np.random.default_rng([seed, number]).permutation(len(images))
        order = order[: steps * recipe.batch_size].reshape(steps, recipe.batch_size)
        loss, accuracy = run_epoch(tf.constant(order, tf.int32), tf.constant([seed, number]))
        seconds = time.perf_counter() - began
        val_accuracy = None
        if held_out is not None:
            logits = model.predict(held_out[0], batch_size=1000, verbose=0)
            val_accuracy = float((logits.argmax(axis=1) == held_out[1]).mean())
        epoch = Epoch(float(loss), float(accuracy), seconds, val_accuracy)
        history.append(epoch)
        log(_line(number + 1, recipe.epochs, epoch))
        if checkpoints is not None and checkpoints.is_due:
            values = [np.asarray(variable.numpy()) for variable in variables]
            checkpoints.save(State(identity(), values, [dataclasses.asdict(e) for e in history]))
    plain = build(recipe, seed)
    plain.set_weights(model.get_weights())
    return Trained(plain, history, before + time.perf_counter() - started)


def _line(number: int, of: int, epoch: Epoch) -> str:
    width = 20
    done = math.ceil(width * number / of)
    bar = "=" * (done - 1) + (">" if number < of else "=") + "." * (width - done)
    held_out = "" if epoch.val_accuracy is None else f" val_accuracy {epoch.val_accuracy:.4f}"
    return (
        f"Epoch {number}/{of} [{bar}] loss {epoch.loss:.4f} accuracy {epoch.accuracy:.4f}"
        f"{held_out} {epoch.seconds:.1f} s"
    )


def _one_cycle(recipe: Recipe, steps: int) -> Any:
    import keras
    import tensorflow as tf

    total = max(1, steps * recipe.epochs)
    warm = max(1.0, 0.2 * total)

    class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            at = tf.cast(step, tf.float32)
            falling = 0.5 * (1 + tf.cos(math.pi * (at - warm) / max(1.0, total - warm)))
            return recipe.learning_rate * tf.where(at < warm, (at + 1) / warm, falling)

        def get_config(self) -> dict[str, Any]:
            return {}

    return OneCycle()


def _epoch_function(
    model: Any, optimizer: Any, recipe: Recipe, images: np.ndarray, labels: np.ndarray
) -> Any:
    """One epoch as a compiled function of (order of images, [seed, epoch])."""
    import tensorflow as tf

    all_images = tf.constant(images)
    all_labels = tf.constant(labels.astype(np.int32))
    smoothing = recipe.label_smoothing

    @tf.function
    def run(order: Any, seed: Any) -> tuple[Any, Any]:
        losses, right = tf.constant(0.0), tf.constant(0.0)
        for step in tf.range(tf.shape(order)[0]):
            batch = tf.gather(order, step)
            x, y = tf.gather(all_images, batch), tf.gather(all_labels, batch)
            if recipe.augment:
                x = _augment(x, tf.stack([seed[0] + step, seed[1]]))
            wanted = tf.one_hot(y, 10, 1 - smoothing + smoothing / 10, smoothing / 10)
            with tf.GradientTape() as tape:
                logits = model(x, training=True)
                loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, logits))
            variables = model.trainable_variables
            optimizer.apply_gradients(
                list(zip(tape.gradient(loss, variables), variables, strict=True))
            )
            losses += loss
            hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), y)
            right += tf.reduce_sum(tf.cast(hits, tf.float32))
        total = tf.cast(tf.size(order), tf.float32)
        return losses / tf.cast(tf.shape(order)[0], tf.float32), right / total

    return run


def _augment(images: Any, seed: Any) -> Any:
    """Mirror half of the images, and shift each by up to one pixel; uint8 (n, 28, 28)."""
    import tensorflow as tf

    count = tf.shape(images)[0]
    mirrored = tf.random.stateless_uniform([count], seed) < 0.5
    images = tf.where(mirrored[:, None, None], tf.reverse(images, [2]), images)
    shift = tf.random.stateless_uniform([2], seed + 1, 0, 3, tf.int32)
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1]])
    return tf.slice(padded, [0, shift[0], shift[1]], [count, 28, 28])


def _fingerprint(images: np.ndarray, labels: np.ndarray, recipe: Recipe, seed: int) -> str:
    """Stands for everything that decides what a training comes to, but the number of threads."""
    import keras
    import tensorflow as tf

    said = {"recipe": dataclasses.asdict(recipe), "seed": seed}
    versions = [tf.__version__, keras.__version__, np.__version__]
    whole = hashlib.sha256(json.dumps([said, versions], sort_keys=True).encode())
    for array in (images, labels):
        whole.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()
