"""Digests of images, by which equal ones are found."""

from __future__ import annotations

import hashlib

import numpy as np

# Bytes of a digest that is kept.
_PACKED = 8


def digests(images: np.ndarray, size: int = 16) -> list[bytes]:
    """BLAKE2b of each image of uint8 (n, 28, 28), by which equal ones are found.

    Args:
        images: uint8 (n, 28, 28).
        size: of a digest in bytes. Two of a million different images share one of 8 bytes once in forty
            million times.
    """
    return [hashlib.blake2b(image.tobytes(), digest_size=size).digest() for image in images]


def pack_digests(images: np.ndarray) -> bytes:
    """By which `are_among` knows images again: the digests of 8 bytes each, distinct and sorted."""
    return b"".join(sorted(set(digests(images, _PACKED))))


def are_among(images: np.ndarray, packed: bytes) -> np.ndarray:
    """Which images (n, 28, 28) are among those that `pack_digests` was given: bool (n,)."""
    # As numbers, since numpy drops zeros at the end of bytes.
    own = np.frombuffer(b"".join(digests(images, _PACKED)), ">u8")
    return np.isin(own, np.frombuffer(packed, ">u8"))
