"""Several workers as TensorFlow sees them: TF_CONFIG, the distribution strategy and its variables."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from typing import Any


class WorkersError(RuntimeError):
    """Workers that did not start together, or that lost one of them."""


@dataclasses.dataclass(frozen=True)
class Worker:
    """This process among the workers. A single process is worker 0 of 1."""

    index: int = 0
    """0 for the first."""

    count: int = 1
    """Number of workers."""

    @classmethod
    def from_environment(cls) -> Worker:
        """Read TF_CONFIG (https://www.tensorflow.org/guide/distributed_training#TF_CONFIG).

        Raises:
            ValueError: It has other tasks than workers.
        """
        tf_config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        cluster, task = tf_config.get("cluster", {}), tf_config.get("task", {})
        if not cluster:
            return cls()
        if set(cluster) != {"worker"} or task.get("type") != "worker":
            raise ValueError(
                f"TF_CONFIG has tasks {', '.join(sorted(cluster))}; only workers are supported"
            )
        return cls(int(task["index"]), len(cluster["worker"]))

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the result."""
        return self.index == 0


# Seconds that a worker waits for gradients of the others.
TIMEOUT = 600


@contextlib.contextmanager
def all_workers(worker: Worker) -> Iterator[Any]:
    """Provide the distribution strategy, and turn the loss of a worker into an error.

    Raises:
        WorkersError: Another worker was lost.
    """
    import tensorflow as tf

    if worker.count == 1:
        yield tf.distribute.get_strategy()
        return
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.RING,
        timeout_seconds=TIMEOUT,
    )
    try:
        yield tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except tf.errors.OpError as error:
        reason = error.message.rpartition("Collective ops is aborted by: ")[2].splitlines()[0]
        raise WorkersError(
            f"worker {worker.index} of {worker.count} lost the others ({reason[:200]}); find out why "
            "one of them ended, and train again"
        ) from error


def per_worker_variables(worker: Worker) -> Callable[..., Any]:
    """Return a variable creator: each worker has its own moving statistics and seeds until a read."""
    import tensorflow as tf

    def create(create_next: Callable[..., Any], **options: Any) -> Any:
        is_unaggregated = options.get("aggregation") is tf.VariableAggregation.NONE
        if worker.count > 1 and not options["trainable"] and is_unaggregated:
            options["synchronization"] = tf.VariableSynchronization.ON_READ
            # Seeds are integers, which have no mean.
            floating = tf.as_dtype(options["dtype"]).is_floating
            kinds = tf.VariableAggregation
            options["aggregation"] = kinds.MEAN if floating else kinds.ONLY_FIRST_REPLICA
        return create_next(**options)

    return create
