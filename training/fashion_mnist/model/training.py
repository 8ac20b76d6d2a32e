"""Train a recipe on a data set.

The whole uint8 data set is one tensor, and the loop over an epoch's steps runs inside one tf.function:
on two cores this saves more than half of the time of `model.fit`. The recipe `notebook`, which has the
network and settings of the original notebook, trains with the same loop.

If the environment variable TF_CONFIG names workers, as Kubeflow's Training Operator sets it, each worker
runs the same code on its shard of every batch, and tf.distribute.MultiWorkerMirroredStrategy adds up
their gradients. Each worker normalizes its shard by the shard's own statistics; the moving statistics,
which serve, are the mean over all workers.
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

from fashion_mnist.model.checkpoints import Checkpoints, State
from fashion_mnist.model.network import build, dtype_policy
from fashion_mnist.model.recipes import Recipe
from fashion_mnist.model.strategy import Worker, all_workers, per_worker_variables


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The metrics of an epoch."""

    loss: float
    """Mean cross-entropy over the training images, while training."""

    accuracy: float
    """Share of training images that were right while training, 0 to 1."""

    seconds: float
    """Duration."""

    val_accuracy: float | None = None
    """Accuracy on the validation data, 0 to 1. None without validation data."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model and its history."""

    model: Any
    """Keras model from raw images, uint8 (n, 28, 28), to logits, float32 (n, 10)."""

    history: list[Epoch]

    seconds: float
    """Duration of the fit, including epochs of an interrupted attempt that it resumed."""


def train(
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int = 42,
    log: Callable[[str], None] = print,
    checkpoints: Checkpoints | None = None,
    validation_data: tuple[np.ndarray, np.ndarray] | None = None,
) -> Trained:
    """Train the network of a recipe.

    The same seed, data, kind of processor, and numbers of threads and workers give the same weights.

    Args:
        images: uint8 (n, 28, 28).
        labels: uint8 (n,), 0 to 9.
        recipe: see `recipes`.
        seed: seed of weights, order and augmentation.
        log: receives one line per epoch.
        checkpoints: where to save states; an interrupted training resumes from the latest, with the same
            result. Only for one worker.
        validation_data: images, uint8 (m, 28, 28), and labels, uint8 (m,), to measure accuracy on after
            each epoch.

    Raises:
        ValueError: There are fewer images than one batch, fewer images per batch than workers, or
            checkpoints with several workers.
        WorkersError: Another worker was lost.
    """
    import keras
    import tensorflow as tf

    worker = Worker.from_environment()
    check(images, recipe, worker.count)
    if checkpoints is not None and worker.count > 1:
        raise ValueError("several workers cannot use checkpoints; train with one")
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    with all_workers(worker) as strategy:
        return _train(
            strategy, worker, images, labels, recipe, seed, log, checkpoints, validation_data
        )


def check(images: np.ndarray, recipe: Recipe, workers: int) -> None:
    """Check that the images fill a batch, and that a batch can be split over the workers.

    Args:
        images: uint8 (n, 28, 28).
        recipe: recipe with the batch size.
        workers: number of workers.

    Raises:
        ValueError: They do not, or it cannot.
    """
    if len(images) < recipe.batch_size:
        raise ValueError(
            f"{len(images)} images are fewer than one batch of {recipe.batch_size}; "
            "use a smaller batch_size"
        )
    if recipe.batch_size < workers:
        raise ValueError(
            f"a batch of {recipe.batch_size} cannot be split over {workers} workers; use fewer, or "
            "a larger batch_size"
        )


def _train(
    strategy: Any,
    worker: Worker,
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    seed: int,
    log: Callable[[str], None],
    checkpoints: Checkpoints | None,
    validation_data: tuple[np.ndarray, np.ndarray] | None,
) -> Trained:
    import keras
    import tensorflow as tf

    steps = len(images) // recipe.batch_size
    rate = _one_cycle(recipe, steps) if recipe.one_cycle else recipe.learning_rate
    with strategy.scope(), tf.variable_creator_scope(per_worker_variables(worker)):
        model = build(recipe, seed, trains=True)
        optimizer = keras.optimizers.Adam(rate, beta_2=0.99 if recipe.one_cycle else 0.999)
        optimizer.build(model.trainable_variables)
    inference_model = build(recipe, seed)
    run_epoch = _epoch_function(strategy, worker, model, optimizer, recipe, images, labels)

    variables = [*model.variables, *optimizer.variables]
    # Hash the data only for checkpoints: it takes a tenth of a second.
    identity = functools.cache(lambda: _fingerprint(images, labels, recipe, seed))
    history: list[Epoch] = []
    checkpoint = checkpoints.load() if checkpoints is not None else None
    if checkpoint is not None and checkpoint.training == identity():
        for variable, value in zip(variables, checkpoint.values, strict=True):
            variable.assign(value)
        history = [Epoch(**epoch) for epoch in checkpoint.history]
        log(f"resuming after epoch {len(history)} of {recipe.epochs} from a checkpoint")
    elif checkpoint is not None:
        log(
            "the checkpoint belongs to a training with another recipe, seed, data or TensorFlow version"
        )
    earlier_seconds = sum(epoch.seconds for epoch in history)
    started = time.perf_counter()
    for number in range(len(history), recipe.epochs):
        epoch_started = time.perf_counter()
        # Derive order and augmentation from seed and epoch only, so that a resumed training repeats
        # them.
        order = np.random.default_rng([seed, number]).permutation(len(images))
        order = order[: steps * recipe.batch_size].reshape(steps, recipe.batch_size)
        shard = order[:, worker.index :: worker.count]
        epoch_seed = [seed, number * worker.count + worker.index]
        loss, accuracy = run_epoch(tf.constant(shard, tf.int32), tf.constant(epoch_seed))
        seconds = time.perf_counter() - epoch_started
        val_accuracy = None
        if validation_data is not None:
            inference_model.set_weights(model.get_weights())
            logits = inference_model.predict(validation_data[0], batch_size=1000, verbose=0)
            val_accuracy = float((logits.argmax(axis=1) == validation_data[1]).mean())
        epoch = Epoch(float(loss), float(accuracy), seconds, val_accuracy)
        history.append(epoch)
        log(_line(number + 1, recipe.epochs, epoch))
        if checkpoints is not None and checkpoints.is_due:
            values = [np.asarray(variable.numpy()) for variable in variables]
            checkpoints.save(State(identity(), values, [dataclasses.asdict(e) for e in history]))
    inference_model.set_weights(model.get_weights())
    return Trained(inference_model, history, earlier_seconds + time.perf_counter() - started)


def _line(number: int, total: int, epoch: Epoch) -> str:
    width = 20
    filled = math.ceil(width * number / total)
    bar = "=" * (filled - 1) + (">" if number < total else "=") + "." * (width - filled)
    validation = "" if epoch.val_accuracy is None else f" val_accuracy {epoch.val_accuracy:.4f}"
    return (
        f"Epoch {number}/{total} [{bar}] loss {epoch.loss:.4f} accuracy {epoch.accuracy:.4f}"
        f"{validation} {epoch.seconds:.1f} s"
    )


def _one_cycle(recipe: Recipe, steps: int) -> Any:
    import keras
    import tensorflow as tf

    total = max(1, steps * recipe.epochs)
    warm = max(1.0, 0.2 * total)

    class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            position = tf.cast(step, tf.float32)
            falling = 0.5 * (1 + tf.cos(math.pi * (position - warm) / max(1.0, total - warm)))
            return recipe.learning_rate * tf.where(position < warm, (position + 1) / warm, falling)

        def get_config(self) -> dict[str, Any]:
            return {}

    return OneCycle()


def _epoch_function(
    strategy: Any,
    worker: Worker,
    model: Any,
    optimizer: Any,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
) -> Any:
    """Return a compiled function that trains one epoch.

    It takes the indices of this worker's images, int32 (steps, images per step), and [seed, epoch], and
    returns loss and accuracy over the images of all workers.
    """
    import tensorflow as tf

    all_images = tf.constant(images)
    all_labels = tf.constant(labels.astype(np.int32))
    smoothing = recipe.label_smoothing

    @tf.autograph.experimental.do_not_convert
    def train_step(batch: Any, step_seed: Any) -> tuple[Any, Any]:
        x, y = tf.gather(all_images, batch), tf.gather(all_labels, batch)
        if recipe.augment:
            x = _augment(x, step_seed)
        targets = tf.one_hot(y, 10, 1 - smoothing + smoothing / 10, smoothing / 10)
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
            if worker.count > 1:
                # Weight by the whole batch: the optimizer adds up the workers' gradients.
                loss *= tf.cast(tf.size(batch), tf.float32) / recipe.batch_size
        variables = model.trainable_variables
        optimizer.apply_gradients(list(zip(tape.gradient(loss, variables), variables, strict=True)))
        hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), y)
        return loss, tf.reduce_sum(tf.cast(hits, tf.float32))

    @tf.function
    def run(order: Any, seed: Any) -> tuple[Any, Any]:
        losses, correct = tf.constant(0.0), tf.constant(0.0)
        for step in tf.range(tf.shape(order)[0]):
            batch = tf.gather(order, step)
            step_seed = tf.stack([seed[0] + step, seed[1]])
            loss, hits = strategy.run(train_step, args=(batch, step_seed))
            losses += loss
            correct += hits
        steps = tf.cast(tf.shape(order)[0], tf.float32)
        if worker.count > 1:
            losses, correct = (
                strategy.reduce("SUM", total, axis=None) for total in (losses, correct)
            )
        return losses / steps, correct / (steps * recipe.batch_size)

    return run


def _augment(images: Any, seed: Any) -> Any:
    """Mirror half of the images, and shift all by up to one pixel; uint8 (n, 28, 28)."""
    import tensorflow as tf

    count: Any = tf.shape(images)[0]
    mirrored = tf.random.stateless_uniform([count], seed) < 0.5
    images = tf.where(mirrored[:, None, None], tf.reverse(images, [2]), images)
    shift = tf.random.stateless_uniform([2], seed + 1, 0, 3, tf.int32)
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1]])
    return tf.slice(padded, [0, shift[0], shift[1]], [count, 28, 28])


def _fingerprint(images: np.ndarray, labels: np.ndarray, recipe: Recipe, seed: int) -> str:
    """Return a digest of everything that determines the result, except the number of threads."""
    import keras
    import tensorflow as tf

    settings = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "dtype": dtype_policy(recipe),
    }
    versions = [tf.__version__, keras.__version__, np.__version__]
    digest = hashlib.sha256(json.dumps([settings, versions], sort_keys=True).encode())
    for array in (images, labels):
        digest.update(
            f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
        )
    return digest.hexdigest()
