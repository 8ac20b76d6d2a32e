"""Read and delete objects in a store."""

from __future__ import annotations

import obstore
from obstore.store import ObjectStore


def exists(store: ObjectStore, path: str) -> bool:
    """Return whether an object exists."""
    try:
        obstore.head(store, path)
    except FileNotFoundError:
        return False
    return True


def read(store: ObjectStore, path: str) -> bytes | None:
    """Return an object's content, or None if it does not exist."""
    try:
        return bytes(obstore.get(store, path).bytes())
    except FileNotFoundError:
        return None


def delete(store: ObjectStore, path: str) -> None:
    """Delete an object if it exists."""
    try:
        obstore.delete(store, path)
    except FileNotFoundError:
        return
