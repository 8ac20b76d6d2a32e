"""The state of a training in object storage or on a volume, from which another attempt resumes.

A step that Kubeflow Pipelines retries is a new pod without the files of the first. One object holds the
latest state: its sha256, then an npz archive. S3 servers and directories store an object completely or
not at all, and the digest reveals later damage. A failed read or write costs time, but never the
training.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import obstore

from fashion_mnist.storage import open_store
from model_registry import layout

# Seconds between states. A training of seconds writes none; a longer one loses at most this and an
# epoch.
INTERVAL = 15.0
# Runs that died for good leave an object each. No attempt resumes after this time.
RETENTION = datetime.timedelta(days=7)
_DIGEST_SIZE = hashlib.sha256().digest_size
_STORAGE_ERRORS = (OSError, obstore.exceptions.BaseError)


@dataclasses.dataclass(frozen=True)
class State:
    """A training after some of its epochs."""

    training: str
    """Fingerprint of everything that determines the result."""

    values: Sequence[np.ndarray]
    """Values of the network's and the optimizer's variables, in order."""

    history: Sequence[dict[str, Any]]
    """Finished epochs, as JSON."""


class Checkpoints:
    """The latest state of a run's training, stored as `checkpoints/RUN/state`.

    Args:
        address: s3://bucket/prefix or a directory.
        run_id: id of the run.
        endpoint: http(s)://host:port of the S3 server.
        interval: seconds before the first state and between states.
        log: receives a line when a state cannot be read or written.
    """

    def __init__(
        self,
        address: str,
        run_id: str,
        *,
        endpoint: str = "",
        interval: float = INTERVAL,
        log: Callable[[str], None] = print,
    ):
        self._store = open_store(address, endpoint)
        self._path = layout.checkpoint(run_id)
        self._interval = interval
        self._log = log
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to save a state."""
        return time.monotonic() - self._last >= self._interval

    def save(self, state: State) -> None:
        """Save a state, replacing the previous one."""
        body = io.BytesIO()
        metadata = json.dumps({"training": state.training, "history": list(state.history)})
        np.savez(body, *state.values, metadata=np.array(metadata))
        content = body.getvalue()
        started, pause = time.monotonic(), 0.0
        try:
            obstore.put(self._store, self._path, hashlib.sha256(content).digest() + content)
        except _STORAGE_ERRORS as error:
            self._log(
                "the checkpoint was not saved, another attempt would start from the beginning: "
                f"{_first_line(error)}"
            )
            # Limit the cost of storage that is down for good to a tenth of the time.
            pause = 9 * (time.monotonic() - started)
        self._last = time.monotonic() + pause

    def load(self) -> State | None:
        """Return the latest state, or None if none can be read."""
        try:
            content = bytes(obstore.get(self._store, self._path).bytes())
            if hashlib.sha256(content[_DIGEST_SIZE:]).digest() != content[:_DIGEST_SIZE]:
                raise ValueError("its sha256 differs, it was truncated or damaged")
            with np.load(io.BytesIO(content[_DIGEST_SIZE:])) as arrays:
                metadata = json.loads(str(arrays["metadata"]))
                values = [arrays[f"arr_{i}"] for i in range(len(arrays.files) - 1)]
            return State(metadata["training"], values, metadata["history"])
        except FileNotFoundError:
            return None
        except (*_STORAGE_ERRORS, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            self._log(
                "the checkpoint cannot be used, training starts from the beginning: "
                f"{_first_line(error)}"
            )
            return None

    def clear(self) -> None:
        """Delete the state, and leftovers of runs that died more than a week ago."""
        oldest = datetime.datetime.now(datetime.timezone.utc) - RETENTION
        try:
            for folder in (layout.CHECKPOINTS, layout.WORK):
                for page in obstore.list(self._store, folder):
                    for entry in page:
                        if entry["path"] == self._path or entry["last_modified"] < oldest:
                            obstore.delete(self._store, entry["path"])
        except _STORAGE_ERRORS as error:
            self._log(f"a checkpoint was not deleted: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
