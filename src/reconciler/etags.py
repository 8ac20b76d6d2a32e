"""Read ETags of the data files that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterable

from errors import SourceError
from kfp_ops import ObjectStorage
from model_store import open_store

# A hook should not wait: the next event tries again.
_TIMEOUT_SECONDS = 5


def read_etags(address: str, files: Iterable[str], storage: ObjectStorage) -> dict[str, str]:
    """Return each file's ETag (RFC 9110) or else its Last-Modified, by name; one request per file.

    Omit files for which the server sends neither. The step `ingest` records the same values when it
    reads the files (docs/reference/registry.md).

    Args:
        address: s3://BUCKET/PREFIX in the related object storage, or http(s)://.
        files: Names of the files under the address.
        storage: Related object storage.

    Raises:
        SourceError: A file does not exist, or its server cannot be reached.
    """
    read = _object_etags if address.startswith("s3://") else _http_etags
    return {file: etag for file, etag in read(address, files, storage).items() if etag}


def _object_etags(address: str, files: Iterable[str], storage: ObjectStorage) -> dict[str, str]:
    import obstore
    from obstore.exceptions import BaseError

    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    try:
        store = open_store(storage, bucket, prefix.strip("/"))
        return {file: obstore.head(store, file)["e_tag"] or "" for file in files}
    except (BaseError, OSError, ValueError) as error:
        raise _source_error(address, error) from error


def _http_etags(address: str, files: Iterable[str], _: ObjectStorage) -> dict[str, str]:
    import httpx

    file_etags: dict[str, str] = {}
    try:
        # Like the step, accept no compression: compressed responses have other ETags.
        with httpx.Client(
            timeout=_TIMEOUT_SECONDS, follow_redirects=True, headers={"accept-encoding": "identity"}
        ) as client:
            for file in files:
                response = client.head(f"{address}/{file}").raise_for_status()
                file_etags[file] = response.headers.get("etag") or response.headers.get(
                    "last-modified", ""
                )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _source_error(address, error) from error
    return file_etags


def _source_error(address: str, error: Exception) -> SourceError:
    first_line = (str(error).strip().splitlines() or [repr(error)])[0]
    return SourceError(f"cannot check data-path {address}: {first_line[:150]}")
