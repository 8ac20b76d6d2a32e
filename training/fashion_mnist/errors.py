"""Errors that end a step for good."""

from __future__ import annotations


class PermanentError(RuntimeError):
    """Another attempt with the same inputs ends in the same error."""
