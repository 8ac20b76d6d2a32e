"""Digests of images, to find images that are equal."""

from __future__ import annotations

import hashlib

import numpy as np

# Bytes of each digest that a registry stores.
_PACKED = 8


def digests(images: np.ndarray, size: int = 16) -> list[bytes]:
    """Return the BLAKE2b digest of each image.

    Args:
        images: uint8 (n, 28, 28).
        size: bytes per digest. Among a million different images, the probability that two share a digest
            of 8 bytes is one in forty million.
    """
    return [hashlib.blake2b(image.tobytes(), digest_size=size).digest() for image in images]


def pack_digests(images: np.ndarray) -> bytes:
    """Return the distinct digests of images, 8 bytes each, sorted, for `are_among`."""
    return b"".join(sorted(set(digests(images, _PACKED))))


def are_among(images: np.ndarray, packed: bytes) -> np.ndarray:
    """Return which images were among those given to `pack_digests`.

    Args:
        images: uint8 (n, 28, 28).
        packed: the digests.

    Returns:
        bool (n,).
    """
    # Compare numbers: numpy drops trailing zeros of byte strings.
    own = np.frombuffer(b"".join(digests(images, _PACKED)), ">u8")
    return np.isin(own, np.frombuffer(packed, ">u8"))
