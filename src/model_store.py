"""Open related object storage with a hook's settings: short timeouts, and no proxies."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable

import certifi
from obstore.store import ObjectStore

import model_registry
from kfp_ops import ObjectStorage
from model_registry import ConfigMaps, Registry, S3Options


@functools.cache
def open_store(storage: ObjectStorage, bucket: str, prefix: str) -> ObjectStore:
    """Return the object store under a prefix in a bucket; requests fail within seconds."""
    options = S3Options(
        endpoint=storage.url,
        access_key=storage.access_key,
        secret_key=storage.secret_key,
        region="us-east-1",
        certificates=certifi.contents(),
        timeout=datetime.timedelta(seconds=10),
        # A hook should not wait: the next event tries again.
        retries=1,
        patience=datetime.timedelta(seconds=5),
        # The environment has the Juju model's proxies; a related application is not behind them.
        proxied=False,
    )
    return model_registry.open_store(f"s3://{bucket}/{prefix}", options)


def open_registry(
    storage: ObjectStorage,
    *,
    bucket: str,
    prefix: str,
    connect: Callable[[], ConfigMaps | None] = lambda: None,
) -> Registry:
    """Return the model registry under a prefix in a bucket.

    Args:
        storage: S3 server.
        bucket: Name of the bucket.
        prefix: Prefix of the registry's objects.
        connect: Returns the cluster's ConfigMaps, or None if there is no cluster. Called only if the
            S3 server has no conditional writes.
    """
    store = open_store(storage, bucket, prefix)
    return Registry(store, location=f"{storage.url}/{bucket}", connect=connect)
