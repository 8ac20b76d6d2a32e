"""The package's error."""

from __future__ import annotations


class UnsafeStoreError(Exception):
    """No method keeps two writers of this registry apart; the message ends in the remedy.

    Args:
        reason: what is wrong.
        remedy: what to do about it.
    """

    def __init__(self, reason: str, remedy: str):
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason
        self.remedy = remedy
