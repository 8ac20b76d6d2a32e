"""What TensorFlow needs to train on many workers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from typing import Any


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


# Seconds that a worker waits for the others' gradients.
WAIT = 600


@contextlib.contextmanager
def all_workers(worker: Worker) -> Iterator[Any]:
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


def per_worker_variables(worker: Worker) -> Callable[..., Any]:
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
