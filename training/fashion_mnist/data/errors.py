"""What is wrong with data."""

from __future__ import annotations


class DataError(ValueError):
    """The data cannot be had, or is not what it should be.

    Attributes:
        kind: what is wrong with a file that was read: "truncated", "damaged", "size", "format",
            "shape", "counts", "label-range" or "checksum"; empty where it could not be had at all.
        split: "train" or "test"; empty where that is not known.
    """

    def __init__(self, message: str, kind: str = "", split: str = ""):
        super().__init__(message)
        self.kind = kind
        self.split = split
