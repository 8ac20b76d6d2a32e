"""Do not repeat an attempt that cannot succeed, although Kubeflow Pipelines retries every error.

A retry helps against a lost pod or a server that was down, but not against a training that diverged.
So a step records a permanent error in the registry, and its next attempt ends with the same error at
once.
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

# Automatic retries follow within a minute. After a later retry, a person has changed something.
RETRY_WINDOW = datetime.timedelta(minutes=5)
_STORAGE_ERRORS = (OSError, obstore.exceptions.BaseError)


class RepeatedError(PermanentError):
    """The permanent error of an earlier attempt."""


@contextlib.contextmanager
def fail_once(step: str, *, run_id: str, registry: str, s3_endpoint: str) -> Generator[None]:
    """Run the body of a step unless an earlier attempt ended in a permanent error.

    `PermanentError` and `ValueError` are permanent.

    Args:
        step: name of the step.
        run_id: id of the run.
        registry: s3://bucket/prefix or a directory, for `runs/RUN/STEP-error.json`. Empty to record
            nothing.
        s3_endpoint: http(s)://host:port of the S3 server.

    Raises:
        RepeatedError: An attempt ended in a permanent error within `RETRY_WINDOW`.
    """
    if not registry:
        yield
        return
    store = open_store(subaddress(registry, layout.run(run_id)), s3_endpoint)
    path = layout.step_error(step)
    with contextlib.suppress(FileNotFoundError):
        earlier = json.loads(bytes(obstore.get(store, path).bytes()))
        age = _now() - datetime.datetime.fromisoformat(earlier["at"])
        if abs(age) < RETRY_WINDOW:
            message = earlier["error"]
            raise RepeatedError(
                f"{message} (not retried: an earlier attempt failed with this error)"
            )
    try:
        yield
    except (PermanentError, ValueError) as error:
        # Use the clock of the nodes, not of the S3 server, for both times.
        record = {"step": step, "error": str(error)[:4000], "at": _now().isoformat()}
        with contextlib.suppress(*_STORAGE_ERRORS):
            obstore.put(store, path, json.dumps(record).encode())
        raise


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
