"""The code bundle: the Python package that the pipelines' steps execute.

`python -m training.compile` writes it next to the pipelines, whose parameter `code_sha256` defaults to
its digest. The charm uploads it to the registry, where the digest names it.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from model_registry import layout

_PATH = Path(__file__).parents[1] / "pipelines" / "code.tar"


def content() -> bytes:
    """Return the bundle, a tar file."""
    return _PATH.read_bytes()


@functools.cache
def digest() -> str:
    """Return the bundle's SHA-256 in hexadecimal."""
    return hashlib.sha256(content()).hexdigest()


def path() -> str:
    """Return the bundle's path in the registry."""
    return layout.code(digest())
