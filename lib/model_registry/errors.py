"""Errors of the package, which need no obstore.

Their tree::

RegistryError                       object storage does not answer; a later try may succeed
├── RegistryRefusedError            somebody has to change something first: `remedy` says what
│   └── UnsafeStoreError            nothing keeps two writers apart
│       └── RegistryElsewhereError  the registry is written through another namespace
├── RegistryContentError            an object is missing, altered or malformed
├── ChampionMovedError              somebody else moved the champion first
└── NoSuchModelError                there is no such version, or none to go back to
"""

from __future__ import annotations


class RegistryError(Exception):
    """The registry cannot be reached, or does not do what is asked."""


class RegistryRefusedError(RegistryError):
    """Object storage refuses, and goes on refusing until somebody changes something.

    Args:
        reason: what is wrong.
        remedy: what to do about it.
        location: the registry, where the reason does not name it.
        code: S3's error code, such as NoSuchBucket.
    """

    def __init__(self, reason: str, remedy: str = "", *, location: str = "", code: str = ""):
        message = f"{reason}: {remedy}" if remedy else reason
        super().__init__(f"{message} ({location})" if location else message)
        self.reason = reason
        self.remedy = remedy
        self.code = code


class UnsafeStoreError(RegistryRefusedError):
    """No method keeps two writers of this registry apart."""


class RegistryElsewhereError(UnsafeStoreError):
    """The registry is written through another namespace than the one in which runs are executed."""


class RegistryContentError(RegistryError):
    """An object of the registry is missing, was altered, or is malformed."""


class ChampionMovedError(RegistryError):
    """Somebody else moved the champion first; look again, and judge again."""


class NoSuchModelError(RegistryError):
    """There is no such version, it is being removed, or there is none to go back to."""
