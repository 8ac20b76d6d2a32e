"""A training's state in object storage or on a volume, from which another attempt goes on.

A step that Kubeflow Pipelines tries again is a new pod, which has nothing of the first one's file
system. One object holds the newest state: its sha256, then an npz archive. S3 servers and directories
put an object whole or not at all, and the sum finds what was damaged later. What cannot be read or
written costs time, never the training.
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

# A training of seconds writes none, and a longer one loses at most this and an epoch.
EVERY = 15.0
# Runs that died for good leave an object each. No attempt comes later than this.
RETENTION = datetime.timedelta(days=7)
_SUM = hashlib.sha256().digest_size
_STORAGE = (OSError, obstore.exceptions.BaseError)


@dataclasses.dataclass(frozen=True)
class State:
    """A training after some of its epochs.

    Attributes:
        training: a fingerprint of everything that decides what it comes to.
        values: of the network's and the optimizer's variables, in their order.
        history: of each epoch so far, as JSON has it.
    """

    training: str
    values: Sequence[np.ndarray]
    history: Sequence[dict[str, Any]]


class Checkpoints:
    """The newest state of a run's training, kept as `checkpoints/RUN/state`.

    Args:
        address: s3://bucket/prefix or a directory.
        run_id: the run's.
        endpoint: of the S3 server.
        every: seconds from one state that is kept to the next, and before the first.
        log: given a line where a state cannot be read or written.
    """

    def __init__(
        self,
        address: str,
        run_id: str,
        *,
        endpoint: str = "",
        every: float = EVERY,
        log: Callable[[str], None] = print,
    ):
        self._store = open_store(address, endpoint)
        self._path = layout.checkpoint(run_id)
        self._every = every
        self._log = log
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to keep a state."""
        return time.monotonic() - self._last >= self._every

    def save(self, state: State) -> None:
        """Keep a state in place of the one before."""
        body = io.BytesIO()
        metadata = json.dumps({"training": state.training, "history": list(state.history)})
        np.savez(body, *state.values, said=np.array(metadata))
        content = body.getvalue()
        began, pause = time.monotonic(), 0.0
        try:
            obstore.put(self._store, self._path, hashlib.sha256(content).digest() + content)
        except _STORAGE as error:
            self._log(f"no checkpoint is kept, another attempt begins anew: {_first_line(error)}")
            # Storage that is gone for good costs a tenth of the time.
            pause = 9 * (time.monotonic() - began)
        self._last = time.monotonic() + pause

    def load(self) -> State | None:
        """The newest state; None where there is none that can be read."""
        try:
            content = bytes(obstore.get(self._store, self._path).bytes())
            if hashlib.sha256(content[_SUM:]).digest() != content[:_SUM]:
                raise ValueError("its sha256 is another, it was truncated or damaged")
            with np.load(io.BytesIO(content[_SUM:])) as arrays:
                metadata = json.loads(str(arrays["said"]))
                values = [arrays[f"arr_{i}"] for i in range(len(arrays.files) - 1)]
            return State(metadata["training"], values, metadata["history"])
        except FileNotFoundError:
            return None
        except (*_STORAGE, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            self._log(f"the checkpoint cannot be used, training begins anew: {_first_line(error)}")
            return None

    def clear(self) -> None:
        """Remove the state, and what runs left that died more than a week ago."""
        oldest = datetime.datetime.now(datetime.timezone.utc) - RETENTION
        try:
            for folder in (layout.CHECKPOINTS, layout.WORK):
                for page in obstore.list(self._store, folder):
                    for entry in page:
                        if entry["path"] == self._path or entry["last_modified"] < oldest:
                            obstore.delete(self._store, entry["path"])
        except _STORAGE as error:
            self._log(f"a checkpoint is left behind: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
