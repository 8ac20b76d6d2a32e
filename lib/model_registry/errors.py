"""Errors of the package; importing them does not import obstore.

Their tree::

RegistryError                       object storage cannot be reached; a later attempt may succeed
├── RegistryRefusedError            object storage denies the request until `remedy` is applied
│   └── UnsafeStoreError            concurrent writes are not safe in this store
│       └── RegistryElsewhereError  the registry is written through another namespace
├── RegistryContentError            an object is missing, altered or malformed
├── ChampionMovedError              another writer moved the champion first
└── NoSuchModelError                there is no such version, or none to roll back to
"""

from __future__ import annotations


class RegistryError(Exception):
    """The registry cannot be reached, or a request to it failed."""


class RegistryRefusedError(RegistryError):
    """Object storage denies the request, and will until an operator changes something.

    Args:
        reason: Description of the error.
        remedy: What the operator should change.
        location: Address of the registry, if the reason does not name it.
        code: S3's error code, such as NoSuchBucket.
    """

    def __init__(self, reason: str, remedy: str = "", *, location: str = "", code: str = ""):
        message = f"{reason}: {remedy}" if remedy else reason
        super().__init__(f"{message} ({location})" if location else message)
        self.reason = reason
        self.remedy = remedy
        self.code = code


class UnsafeStoreError(RegistryRefusedError):
    """Concurrent writes to this registry are not safe."""


class RegistryElsewhereError(UnsafeStoreError):
    """The registry is written through another namespace than the one in which runs execute."""


class RegistryContentError(RegistryError):
    """An object of the registry is missing, was altered, or is malformed."""


class ChampionMovedError(RegistryError):
    """Another writer moved the champion first; compare with the new champion."""


class NoSuchModelError(RegistryError):
    """There is no such version, it is being removed, or there is none to roll back to."""
