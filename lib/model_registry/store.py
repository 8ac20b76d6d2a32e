"""Open object storage, and read, create and delete a registry's objects in it.

`open_store` is the only place where a store is opened. `RegistryStore` converts all errors of object
storage to errors of this package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import re
import urllib.parse
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from model_registry import _objects
from model_registry._config_map import ConfigMaps
from model_registry._writes import Method, Writes
from model_registry.errors import RegistryContentError, RegistryError, RegistryRefusedError
from model_registry.schema import describe

if TYPE_CHECKING:
    from obstore.store import ClientConfig

# Errors that retries do not resolve:
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")
_OTHER_CREDENTIALS = "use other credentials"
_REMEDIES = {
    "NoSuchBucket": "create the bucket",
    "AccessDenied": "grant the credentials read and write access",
    "InvalidAccessKeyId": _OTHER_CREDENTIALS,
    "SignatureDoesNotMatch": _OTHER_CREDENTIALS,
}
# obstore raises ValueError if an ID from outside cannot be part of a path.
_INVALID_PATH = {"read": (ValueError,)}
# An address that no server uses.
_NO_PROXY = "http://127.0.0.1:9"


@dataclasses.dataclass(frozen=True, kw_only=True)
class S3Options:
    """Address and credentials of an S3 server, timeouts and retries."""

    endpoint: str = ""
    """http(s)://host:port; empty for Amazon's."""
    access_key: str = dataclasses.field(default="", repr=False)
    """Access key; if empty, AWS_ACCESS_KEY_ID."""
    secret_key: str = dataclasses.field(default="", repr=False)
    """Secret key; if empty, AWS_SECRET_ACCESS_KEY."""
    region: str = ""
    """Region; if empty, AWS_REGION."""
    certificates: bytes | str = b""
    """Certificate authorities, PEM; if empty, the system's. obstore fails if there are none, even for
    http://."""
    timeout: datetime.timedelta | None = None
    """Timeout of a request; None for obstore's default."""
    retries: int = 1000
    """Maximum retries if the server does not respond, or returns 5xx."""
    patience: datetime.timedelta = datetime.timedelta(minutes=5)
    """Maximum time of retries."""
    proxied: bool = True
    """Whether to use the environment's proxies."""


def open_store(address: str, options: S3Options | None = None) -> ObjectStore:
    """Return the store at s3://bucket/prefix, or at a directory, which is created.

    Args:
        address: s3://bucket/prefix or a directory.
        options: Options for S3.

    Raises:
        ValueError: The address is neither.
    """
    if address.startswith("s3://"):
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        return _open_s3(bucket, prefix.strip("/"), options or S3Options())
    if "://" in address or not address:
        raise ValueError(f"{address!r} is not s3://BUCKET/PREFIX or a directory")
    return LocalStore(Path(address).resolve(), mkdir=True, automatic_cleanup=True)


def _open_s3(bucket: str, prefix: str, options: S3Options) -> S3Store:
    client: ClientConfig = {"allow_http": options.endpoint.startswith("http://")}
    if options.certificates:
        client["root_certificate"] = options.certificates
    if options.timeout is not None:
        client["timeout"] = options.timeout
    if not options.proxied:
        # obstore's only way to bypass proxies is to set one and exclude this host.
        client["proxy_url"] = _NO_PROXY
        client["proxy_excludes"] = urllib.parse.urlsplit(options.endpoint).hostname or ""
    config = {
        "endpoint": options.endpoint,
        "access_key_id": options.access_key,
        "secret_access_key": options.secret_key,
        "region": options.region,
    }
    return S3Store(
        bucket,
        prefix=prefix or None,
        virtual_hosted_style_request=not options.endpoint,
        client_options=client,
        retry_config={"max_retries": options.retries, "retry_timeout": options.patience},
        **cast("Any", {name: value for name, value in config.items() if value}),
    )


class RegistryStore:
    """The objects of a registry.

    Args:
        objects: obstore store, for example from `open_store`.
        location: Name of the registry in errors.
        connect: Returns the cluster's ConfigMaps, or None if there is no cluster. Called only if the
            S3 server has no conditional writes.
    """

    def __init__(
        self,
        objects: ObjectStore,
        *,
        location: str = "",
        connect: Callable[[], ConfigMaps | None] = lambda: None,
    ):
        self._objects = objects
        self._writes = Writes(objects, location=location, connect=connect)
        self.location = location

    # Reading ------------------------------------------------------------------------------------

    def read(self, path: str) -> bytes | None:
        """Return an object's content, or None if it does not exist."""
        with self._errors("read"):
            return _objects.read(self._objects, path)

    def read_range(self, path: str, start: int, length: int) -> bytes | None:
        """Return a part of an object, or None if the object does not exist."""
        with self._errors("read"):
            try:
                return bytes(obstore.get_range(self._objects, path, start=start, length=length))
            except FileNotFoundError:
                return None

    def read_json(self, path: str) -> dict[str, Any] | None:
        """Return a JSON object, or None if it does not exist.

        Raises:
            RegistryContentError: It is not a JSON object.
        """
        content = self.read(path)
        if content is None:
            return None
        try:
            document: object = json.loads(content)
        except (RecursionError, ValueError):
            document = None
        if not isinstance(document, dict):
            raise RegistryContentError(f"{path} is not a JSON object, in {self.location}")
        return cast("dict[str, Any]", document)

    def exists(self, path: str) -> bool:
        """Return whether an object exists."""
        with self._errors("read"):
            return _objects.exists(self._objects, path)

    def numbers(self, folder: str) -> list[int]:
        """Return the numbers of the objects FOLDER/00000001.json and so on, ascending."""
        stems = [PurePosixPath(entry["path"]).stem for entry in self._entries(folder)]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def folders(self) -> list[int]:
        """Return the numbers of versions that have any object, ascending."""
        with self._errors("read"):
            listed: object = obstore.list_with_delimiter(self._objects)  # pyright: ignore[reportUnknownMemberType]
            names = cast("Mapping[str, Sequence[str]]", listed)["common_prefixes"]
        return sorted(int(name.strip("/")) for name in names if name.strip("/").isdecimal())

    def paths(self, folder: str) -> dict[str, datetime.datetime]:
        """Return the paths of the objects in a folder, and when each was put."""
        return {entry["path"]: entry["last_modified"] for entry in self._entries(folder)}

    def put_at(self, path: str) -> datetime.datetime | None:
        """Return when an object was put, or None if it does not exist."""
        with self._errors("read"):
            try:
                return obstore.head(self._objects, path)["last_modified"]
            except FileNotFoundError:
                return None

    def _entries(self, folder: str) -> list[Mapping[str, Any]]:
        with self._errors("read"):
            listed: object = obstore.list(self._objects, folder)  # pyright: ignore[reportUnknownMemberType]
            pages = cast("Iterable[Sequence[Mapping[str, Any]]]", listed)
            return [entry for page in pages for entry in page]

    # Writing ------------------------------------------------------------------------------------

    def method(self) -> Method:
        """Return how the registry is written; see `Writes.method`."""
        with self._errors("written"):
            return self._writes.method()

    def check(self) -> None:
        """Check that this process may write, and that concurrent writes are safe; see `Writes.check`."""
        with self._errors("written"):
            self._writes.check()

    def create(self, path: str, content: bytes) -> bool:
        """Put an object if it does not exist; return whether this call did."""
        with self._errors("written"):
            return self._writes.create(path, content)

    def create_json(self, path: str, document: Mapping[str, Any]) -> bool:
        """Put a JSON object if it does not exist; return whether this call did."""
        return self.create(path, json.dumps(document, indent=1, sort_keys=True).encode())

    def put_addressed(self, path: str, content: Callable[[], bytes]) -> None:
        """Put an object whose name contains its digest, if it does not exist.

        Args:
            path: Path of the object.
            content: Returns the content; called if the object does not exist.
        """
        if not self.exists(path):
            # No condition is needed: all writers put the same content.
            with self._errors("written"):
                obstore.put(self._objects, path, content())

    def delete(self, paths: Iterable[str]) -> None:
        """Delete those of the objects that exist, one after another."""
        with self._errors("written"):
            self._writes.delete(paths)

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Generator[None]:
        """Convert obstore's errors to errors of this package.

        Raises:
            RegistryRefusedError: The server denies the request until an operator changes something.
            RegistryError: The server cannot be reached, or the request failed.
        """
        try:
            yield
        except (BaseError, OSError, *_INVALID_PATH.get(verb, ())) as error:
            # obstore has no exception for a denied list request; S3's error code is in the text.
            code = _S3_CODE.search(str(error))
            if code and code[1] in _REMEDIES:
                raise RegistryRefusedError(
                    f"object storage returned {code[1]}: {self.location}",
                    _REMEDIES[code[1]],
                    code=code[1],
                ) from error
            # obstore's messages are long; the first line says what happened.
            raise RegistryError(
                f"object storage {self.location} cannot be {verb}: {describe(error)}"
            ) from error
