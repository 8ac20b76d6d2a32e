"""The error of data that cannot be read or used."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be read, or that do not have the expected form."""

    kind: str
    """What is wrong with a file that was read: "truncated", "damaged", "size", "format", "shape",
    "dtype", "counts", "label-range" or "checksum". Empty if it could not be read at all."""

    split: str
    """"train" or "test". Empty if unknown."""

    def __init__(self, message: str, kind: str = "", split: str = ""):
        super().__init__(message)
        self.kind = kind
        self.split = split
