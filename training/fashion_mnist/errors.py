"""Errors that end a step for good."""


class PermanentError(RuntimeError):
    """An error that every other attempt with the same inputs would end in."""
