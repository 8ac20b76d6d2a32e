"""Open object storage in a step: credentials from the environment, and retries for minutes."""

from __future__ import annotations

import datetime

import certifi
from obstore.store import ObjectStore

import model_registry
from fashion_mnist.kubernetes import ConfigMaps
from model_registry import Registry, S3Options

# Long enough for a server to restart. obstore's own ten attempts end within seconds.
PATIENCE = datetime.timedelta(minutes=5)


def open_store(address: str, endpoint: str = "") -> ObjectStore:
    """Return the store at s3://bucket/prefix, or at a directory, which is created.

    Credentials come only from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Requests that get no
    response, or a 5xx, are retried for up to `PATIENCE`.

    Args:
        address: s3://bucket/prefix or a directory.
        endpoint: http(s)://host:port of the S3 server, empty for Amazon S3.

    Raises:
        ValueError: The address is neither.
    """
    options = S3Options(endpoint=endpoint, certificates=certifi.contents(), patience=PATIENCE)
    return model_registry.open_store(address, options)


def open_registry(address: str, endpoint: str = "") -> Registry:
    """Return the model registry at an address; see `open_store`."""
    location = f"{address} at {endpoint}" if endpoint else address
    store = open_store(address, endpoint)
    return Registry(store, location=location, connect=ConfigMaps.find)


def subaddress(address: str, folder: str) -> str:
    """Return the address of a folder of the registry's layout."""
    return f"{address.rstrip('/')}/{folder}"
