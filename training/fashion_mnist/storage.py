"""Opening object storage: an S3 server or a directory, with one interface (obstore's)."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import certifi
from obstore.store import LocalStore, S3Store

# A server that is started anew is back by then. obstore's own ten attempts are over in seconds.
PATIENCE = datetime.timedelta(minutes=5)
_ATTEMPTS = 1000


def open_store(address: str, endpoint: str = "") -> Any:
    """The store at s3://bucket/prefix, or at a directory, which is made.

    Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and from nowhere else. A server that
    does not answer, or answers with 5xx, is asked again for as long as `PATIENCE`.

    Args:
        address: s3://bucket/prefix or a directory.
        endpoint: http(s)://host:port of the S3 server; empty is Amazon's.

    Raises:
        ValueError: the address is neither.
    """
    if address.startswith("s3://"):
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        options: dict[str, Any] = {"prefix": prefix.strip("/")} if prefix.strip("/") else {}
        options["retry_config"] = {"max_retries": _ATTEMPTS, "retry_timeout": PATIENCE}
        # obstore fails on a system without CA certificates, even for http://.
        options["client_options"] = {
            "root_certificate": certifi.contents(),
            "allow_http": endpoint.startswith("http://"),
        }
        if endpoint:
            options["endpoint"] = endpoint
        return S3Store(bucket, virtual_hosted_style_request=not endpoint, **options)
    if "://" in address or not address:
        raise ValueError(f"{address!r} is no storage; use s3://BUCKET/PREFIX or a directory")
    return LocalStore(Path(address).resolve(), mkdir=True, automatic_cleanup=True)
