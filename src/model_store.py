"""Open related object storage as a hook does: within seconds, and past the model's proxies."""

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
    """Return the objects under a path in a bucket; a server that is away is reported within seconds."""
    options = S3Options(
        endpoint=storage.url,
        access_key=storage.access_key,
        secret_key=storage.secret_key,
        region="us-east-1",
        certificates=certifi.contents(),
        timeout=datetime.timedelta(seconds=10),
        # A hook does not wait: the next event asks again.
        retries=1,
        patience=datetime.timedelta(seconds=5),
        # The model's proxy settings are in the environment; what is related is not behind a proxy.
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
    """Return the model registry under a path in a bucket.

    Args:
        storage: the S3 server.
        bucket: the bucket's name.
        prefix: the path in the bucket under which the registry lies.
        connect: returns the cluster's ConfigMaps, or None where there is no cluster; called only where
            the S3 server has no conditional writes.
    """
    store = open_store(storage, bucket, prefix)
    return Registry(store, location=f"{storage.url}/{bucket}", connect=connect)
