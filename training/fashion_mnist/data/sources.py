"""Read the four files from a directory, over HTTP or from S3."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fashion_mnist.data import idx
from fashion_mnist.data.errors import DataError

OFFICIAL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = {
    "train-images": "train-images-idx3-ubyte.gz",
    "train-labels": "train-labels-idx1-ubyte.gz",
    "t10k-images": "t10k-images-idx3-ubyte.gz",
    "t10k-labels": "t10k-labels-idx1-ubyte.gz",
}
# Seconds between attempts at a download that got no response, or a server error.
_DOWNLOAD_PAUSES = (1, 4)


def default_source() -> str:
    """Return Debian's package if it is installed, else the official address."""
    return str(DEBIAN) if DEBIAN.is_dir() else OFFICIAL


def find(directory: str, file: str) -> Path:
    """Return the path of a file, gzipped or not, in a directory.

    Raises:
        DataError: The file does not exist.
    """
    for path in (Path(directory) / file, Path(directory) / file.removesuffix(".gz")):
        if path.is_file():
            return path
    raise DataError(
        f"{directory}/{file} does not exist; install Debian's dataset-fashion-mnist, or give a "
        "directory, an address or s3://BUCKET/PREFIX with the four files"
    )


def read_content(source: str, file: str, s3_endpoint: str, cache: Path | None) -> tuple[bytes, str]:
    """Return a file's content and its ETag.

    Args:
        source: directory, http(s):// address or s3://bucket/prefix.
        file: one of FILES.
        s3_endpoint: http://host:port of the S3 server.
        cache: directory with downloads from the official address.

    Returns:
        bytes, and the ETag or Last-Modified of its server, empty without a server.

    Raises:
        DataError: The file cannot be read.
    """
    url = f"{source}/{file}"
    if source.startswith("s3://"):
        return _read_s3(source, file, s3_endpoint)
    if source.startswith(("http://", "https://")):
        # Files from other addresses have the same names, so they are not cached.
        cached = cache / file if cache is not None and source == OFFICIAL else None
        if cached is not None and cached.is_file():
            return _read(cached), ""
        return _download(url)
    return _read(find(source, file)), ""


def _download(url: str) -> tuple[bytes, str]:
    # Import lazily: these two take half of the time of a prediction.
    import http.client
    import urllib.error
    import urllib.request

    for pause in (*_DOWNLOAD_PAUSES, None):
        try:
            with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 - http(s) only
                content = response.read(idx.MAX_BYTES + 1)
                etag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        except (OSError, http.client.HTTPException) as error:  # noqa: PERF203 - three rounds
            is_refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if pause is None or is_refused:
                raise DataError(
                    f"{url} cannot be downloaded ({error}); give another source, or install "
                    "Debian's dataset-fashion-mnist"
                ) from error
            time.sleep(pause)
        else:
            idx.check_size(len(content), url)
            return content, etag
    raise AssertionError("unreachable")


def _read_s3(source: str, file: str, endpoint: str) -> tuple[bytes, str]:
    import obstore

    from fashion_mnist.storage import open_store

    try:
        response = obstore.get(open_store(source, endpoint), file)
        idx.check_size(response.meta["size"], f"{source}/{file}")
        return bytes(response.bytes()), response.meta["e_tag"] or ""
    except (FileNotFoundError, obstore.exceptions.BaseError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(
            f"{source}/{file} cannot be read ({first_line[:200]}); upload it there"
        ) from error


def _read(path: Path) -> bytes:
    idx.check_size(path.stat().st_size, str(path))
    return path.read_bytes()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it appears complete or not at all, such as in a cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
