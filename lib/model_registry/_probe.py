"""Whether an S3 server honours the condition of a put."""

from __future__ import annotations

import datetime
import re

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore, S3Store

_ROUNDS = 3
# Bad Request, Method Not Allowed, Not Implemented: servers' answers to a header they do not know.
_REFUSED = re.compile(r"status code: (?:400|405|501)\b")


def honours_conditions(store: ObjectStore, path: str) -> bool:
    """Try whether the server refuses to put an object that exists; one call, at first two.

    Args:
        store: the registry's.
        path: the object to try it with, which is empty and is never deleted.

    Raises:
        BaseError, OSError: the server cannot be reached or does not take any put.
    """
    impatient = _without_retries(store)
    for attempt in range(1, _ROUNDS + 1):
        try:
            for _ in range(2):
                obstore.put(impatient, path, b"{}", mode="create")
        except AlreadyExistsError:  # noqa: PERF203 - at most three rounds
            return True
        except BaseError as error:
            is_refused = _REFUSED.search(str(error)) is not None
            if not is_refused and attempt == _ROUNDS:
                raise
            # With the store's patience: it refuses the condition, or the server was away.
            obstore.put(store, path, b"{}")
            if is_refused:
                return False
        else:
            return False
    raise AssertionError("unreachable")


def _without_retries(store: ObjectStore) -> ObjectStore:
    """Return the same store without retries, since obstore repeats a put for minutes after a 501."""
    if not isinstance(store, S3Store):
        return store
    return S3Store(
        prefix=store.prefix,
        config=store.config,
        client_options=store.client_options,
        retry_config={"max_retries": 0, "retry_timeout": datetime.timedelta(seconds=1)},
        credential_provider=store.credential_provider,
    )
