"""Train a recipe on a data set.

The whole uint8 set is one tensor and the loop over an epoch's steps runs inside one tf.function: on
two cores this saves more than half of what `model.fit` takes. `notebook` is trained with the same
loop; its network and settings are the chapter's.

Where the environment variable TF_CONFIG names workers, as Kubeflow's Training Operator writes it, each
of them runs the same code on its share of every batch, and tf.distribute.MultiWorkerMirroredStrategy
adds their gradients up. Each worker normalises its share by that share's own statistics; the moving
ones, which serve, are the mean of all workers'.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
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


class WorkersError(RuntimeError):
    """The workers did not come together, or one of them was lost on the way."""


@dataclasses.dataclass(frozen=True)
class Worker:
    """Which of the workers this process is; one alone is number 0 of 1."""

    index: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls) -> Worker:
        """What TF_CONFIG says: https://www.tensorflow.org/guide/distributed_training#TF_CONFIG.

        Raises:
            ValueError: it names other tasks than workers.
        """
        tf_config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        cluster, task = tf_config.get("cluster", {}), tf_config.get("task", {})
        if not cluster:
            return cls()
        if set(cluster) != {"worker"} or task.get("type") != "worker":
            raise ValueError(
                f"TF_CONFIG names {', '.join(sorted(cluster))}; this trains with workers only"
            )
        return cls(int(task["index"]), len(cluster["worker"]))

    @property
    def is_chief(self) -> bool:
        """Whether this is the worker that writes."""
        return self.index == 0


@functools.cache
def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine computes in bfloat16 by itself; emulated, it takes ten times float32's time.

    GPUs do from compute capability 8.0, x86 processors with AVX-512 BF16 or AMX, ARM's with BF16.

    Args:
        cpuinfo: what Linux tells of the processor; without it there is none.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set[str]()
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def dtype_policy(recipe: Recipe) -> str:
    """Keras' name of what the recipe computes in while it trains on this machine."""
    return "mixed_bfloat16" if recipe.mixed_precision and has_bfloat16() else "float32"


def build(recipe: Recipe, seed: int, *, trains: bool = False) -> Any:
    """The recipe's network, untrained: uint8 (n, 28, 28) in, float32 logits (n, 10) out.

    Pixels are scaled to 0..1 inside, so training, export and prediction share one transform.

    Args:
        recipe: see `recipes`.
        seed: of the initial weights.
        trains: for training: normalise convolutions' batches by TensorFlow's fused operation, a quarter
            faster, and compute in bfloat16 where that is faster. The weights are the same, but only
            the other model can be kept as a file, and predicts alike on every machine.

    Raises:
        ValueError: a layer of the recipe is not known.
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
    """What a recipe's network does to images, in its order; see `build`."""
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
            raise ValueError(f"layer {layer!r} of recipe {recipe.name!r} is not known")
    scheme = "notebook" if recipe.name == "notebook" else ""
    yield keras.layers.Dense(10, kernel_initializer=initial(scheme), dtype="float32", name="logits")


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
            # They are None only before the layer is built.
            updates: Any = ((self.moving_mean, mean), (self.moving_variance, variance))
            for moving, now in updates:
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

    The same seed, data, kind of processor and number of threads and of workers give the same weights.

    Args:
        images: uint8 (n, 28, 28).
        labels: uint8 (n,), 0 to 9.
        recipe: see `recipes`.
        seed: of weights, order and augmentation.
        log: given one line an epoch.
        checkpoints: where the state after an epoch is kept when it is time; the same training that
            was cut off goes on from there, to the same result. One worker alone keeps it.
        held_out: images and labels to measure accuracy on after each epoch.

    Raises:
        ValueError: fewer images than one batch, fewer images in a batch than workers, or checkpoints
            of many workers.
        WorkersError: another worker was lost.
    """
    import keras
    import tensorflow as tf

    worker = Worker.from_environment()
    check(images, recipe, worker.count)
    if checkpoints is not None and worker.count > 1:
        raise ValueError("many workers keep no checkpoints; train with one")
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    with _all_workers(worker) as strategy:
        return _train(strategy, worker, images, labels, recipe, seed, log, checkpoints, held_out)


def check(images: np.ndarray, recipe: Recipe, workers: int) -> None:
    """See to it that the images fill a batch, and that it can be split.

    Raises:
        ValueError: they do not, or it cannot.
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


# Seconds that a worker waits for the others' gradients.
WAIT = 600


@contextlib.contextmanager
def _all_workers(worker: Worker) -> Iterator[Any]:
    """The strategy by which the workers train, and an error in words when one of them is lost."""
    import tensorflow as tf

    if worker.count == 1:
        yield tf.distribute.get_strategy()
        return
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.RING,
        timeout_seconds=WAIT,
    )
    try:
        yield tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except tf.errors.OpError as error:
        reason = error.message.rpartition("Collective ops is aborted by: ")[2].splitlines()[0]
        raise WorkersError(
            f"worker {worker.index} of {worker.count} lost the others ({reason[:200]}); see why one of "
            "them ended, and train again"
        ) from error


def _train(
    strategy: Any,
    worker: Worker,
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    seed: int,
    log: Callable[[str], None],
    checkpoints: Checkpoints | None,
    held_out: tuple[np.ndarray, np.ndarray] | None,
) -> Trained:
    import keras
    import tensorflow as tf

    steps = len(images) // recipe.batch_size
    rate = _one_cycle(recipe, steps) if recipe.one_cycle else recipe.learning_rate
    with strategy.scope(), tf.variable_creator_scope(_per_worker_variables(worker)):
        model = build(recipe, seed, trains=True)
        optimizer = keras.optimizers.Adam(rate, beta_2=0.99 if recipe.one_cycle else 0.999)
        optimizer.build(model.trainable_variables)
    inference_model = build(recipe, seed)
    run_epoch = _epoch_function(strategy, worker, model, optimizer, recipe, images, labels)

    variables = [*model.variables, *optimizer.variables]
    # To hash the data takes a tenth of a second, which a training without checkpoints does not need.
    identity = functools.cache(lambda: _fingerprint(images, labels, recipe, seed))
    history: list[Epoch] = []
    checkpoint = checkpoints.load() if checkpoints is not None else None
    if checkpoint is not None and checkpoint.training == identity():
        for variable, value in zip(variables, checkpoint.values, strict=True):
            variable.assign(value)
        history = [Epoch(**epoch) for epoch in checkpoint.history]
        log(f"going on after epoch {len(history)} of {recipe.epochs}, from a checkpoint")
    elif checkpoint is not None:
        log(
            "the checkpoint is of another training, which differs in recipe, seed, data or TensorFlow"
        )
    earlier_seconds = sum(epoch.seconds for epoch in history)
    started = time.perf_counter()
    for number in range(len(history), recipe.epochs):
        began = time.perf_counter()
        # Order and augmentation depend on seed and epoch alone, so that a resumed training repeats.
        order = np.random.default_rng([seed, number]).permutation(len(images))
        order = order[: steps * recipe.batch_size].reshape(steps, recipe.batch_size)
        share = order[:, worker.index :: worker.count]
        epoch_seed = [seed, number * worker.count + worker.index]
        loss, accuracy = run_epoch(tf.constant(share, tf.int32), tf.constant(epoch_seed))
        seconds = time.perf_counter() - began
        val_accuracy = None
        if held_out is not None:
            inference_model.set_weights(model.get_weights())
            logits = inference_model.predict(held_out[0], batch_size=1000, verbose=0)
            val_accuracy = float((logits.argmax(axis=1) == held_out[1]).mean())
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
    held_out = "" if epoch.val_accuracy is None else f" val_accuracy {epoch.val_accuracy:.4f}"
    return (
        f"Epoch {number}/{total} [{bar}] loss {epoch.loss:.4f} accuracy {epoch.accuracy:.4f}"
        f"{held_out} {epoch.seconds:.1f} s"
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


def _per_worker_variables(worker: Worker) -> Callable[..., Any]:
    """Makes what is not trained, moving statistics and seeds, each worker's own until it is read."""
    import tensorflow as tf

    def create(create_next: Callable[..., Any], **options: Any) -> Any:
        is_unaggregated = options.get("aggregation") is tf.VariableAggregation.NONE
        if worker.count > 1 and not options["trainable"] and is_unaggregated:
            options["synchronization"] = tf.VariableSynchronization.ON_READ
            # Seeds are whole numbers, of which there is no mean.
            floating = tf.as_dtype(options["dtype"]).is_floating
            kinds = tf.VariableAggregation
            options["aggregation"] = kinds.MEAN if floating else kinds.ONLY_FIRST_REPLICA
        return create_next(**options)

    return create


def _epoch_function(
    strategy: Any,
    worker: Worker,
    model: Any,
    optimizer: Any,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
) -> Any:
    """One epoch as a compiled function of (order of this worker's images, [seed, epoch]).

    It returns the mean loss and the share of images that were right, of all workers.
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
                # Of the whole batch's mean: the optimizer adds up what the workers have.
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
    """Mirror half of the images, and shift each by up to one pixel; uint8 (n, 28, 28)."""
    import tensorflow as tf

    count: Any = tf.shape(images)[0]
    mirrored = tf.random.stateless_uniform([count], seed) < 0.5
    images = tf.where(mirrored[:, None, None], tf.reverse(images, [2]), images)
    shift = tf.random.stateless_uniform([2], seed + 1, 0, 3, tf.int32)
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1]])
    return tf.slice(padded, [0, shift[0], shift[1]], [count, 28, 28])


def _fingerprint(images: np.ndarray, labels: np.ndarray, recipe: Recipe, seed: int) -> str:
    """Stands for everything that decides what a training comes to, but the number of threads."""
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
