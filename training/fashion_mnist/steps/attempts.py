"""Fail for good: a step that Kubeflow Pipelines retries does not repeat an error that time cannot mend.

Kubeflow Pipelines retries a step whatever its error was. That is right for a pod that was lost or a
server that was away, and wasteful for a training that diverged. So a step writes a permanent error to
the registry, and its next attempt ends with the same error at once.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Generator

import obstore

from fashion_mnist.errors import PermanentError
from fashion_mnist.storage import open_store, subaddress
from model_registry import layout

# Retries follow within a minute. A person who retries a run later has changed something.
VALID = datetime.timedelta(minutes=5)
_STORAGE = (OSError, obstore.exceptions.BaseError)


class RepeatedError(PermanentError):
    """An earlier attempt of this step ended in a permanent error."""


@contextlib.contextmanager
def fail_once(step: str, *, run_id: str, registry: str, s3_endpoint: str) -> Generator[None]:
    """Run a step's body unless an earlier attempt of it ended in a permanent error.

    A `PermanentError` and a `ValueError` are permanent.

    Args:
        step: the step's name.
        run_id: the run's id.
        registry: s3://bucket/prefix or a directory, where `runs/RUN/STEP-error.json` is kept; empty
            keeps nothing.
        s3_endpoint: URL of the S3 server.

    Raises:
        RepeatedError: an attempt ended so less than `VALID` ago.
    """
    if not registry:
        yield
        return
    store = open_store(subaddress(registry, layout.run(run_id)), s3_endpoint)
    path = layout.step_error(step)
    with contextlib.suppress(FileNotFoundError):
        earlier = json.loads(bytes(obstore.get(store, path).bytes()))
        age = _now() - datetime.datetime.fromisoformat(earlier["at"])
        if abs(age) < VALID:
            message = earlier["error"]
            raise RepeatedError(f"{message} (not retried: an earlier attempt failed with it)")
    try:
        yield
    except (PermanentError, ValueError) as error:
        # By the clock of the steps' nodes, not of the S3 server.
        record = {"step": step, "error": str(error)[:4000], "at": _now().isoformat()}
        with contextlib.suppress(*_STORAGE):
            obstore.put(store, path, json.dumps(record).encode())
        raise


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
