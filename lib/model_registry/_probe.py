"""Test whether an S3 server supports conditional puts."""

from __future__ import annotations

import datetime
import re

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, S3Store

_ROUNDS = 3
# Bad Request, Method Not Allowed, Not Implemented: responses to an unknown header.
_REJECTED = re.compile(r"status code: (?:400|405|501)\b")


def honours_conditions(store: ObjectStore, path: str) -> bool:
    """Return whether the server refuses to put an object that exists; one call, or two the first time.

    Args:
        store: Store of the registry.
        path: Path of the object for the test, which is empty and never deleted.

    Raises:
        BaseError, OSError: The server cannot be reached or rejects all puts.
    """
    impatient = _without_retries(store)
    for attempt in range(1, _ROUNDS + 1):
        try:
            for _ in range(2):
                obstore.put(impatient, path, b"{}", mode="create")
        except AlreadyExistsError:  # noqa: PERF203 - at most three rounds
            return True
        except BaseError as error:
            is_rejected = _REJECTED.search(str(error)) is not None
            if not is_rejected and attempt == _ROUNDS:
                raise
            # Put without the condition and with the store's retries, in case the server was away.
            obstore.put(store, path, b"{}")
            if is_rejected:
                return False
        else:
            return False
    raise AssertionError("unreachable")


def _without_retries(store: ObjectStore) -> ObjectStore:
    """Return the same store without retries: obstore retries a put for minutes after a 501."""
    if not isinstance(store, S3Store):
        return store
    return S3Store(
        prefix=store.prefix,
        config=store.config,
        client_options=store.client_options,
        retry_config={"max_retries": 0, "retry_timeout": datetime.timedelta(seconds=1)},
        credential_provider=store.credential_provider,
    )
