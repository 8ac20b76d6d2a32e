"""The code bundle: what the pipelines' steps execute, kept once in the registry by its digest.

`python -m training.compile` writes it beside the pipelines, whose parameter `code_sha256` has its digest
as default.
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
    """Return the bundle's sha256 in hexadecimal."""
    return hashlib.sha256(content()).hexdigest()


def path() -> str:
    """Return the bundle's place in the registry."""
    return layout.code(digest())
