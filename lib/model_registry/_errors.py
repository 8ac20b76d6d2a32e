"""The package's error."""

from __future__ import annotations


class UnsafeStoreError(Exception):
    """No method keeps two writers of this registry apart; the message ends in what to do."""
