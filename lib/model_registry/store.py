"""Open object storage, and read, create and delete a registry's objects in it.

`open_store` is the one place where a store is opened. `RegistryStore` turns every failure of object
storage into an error of this package.
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

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html: what time alone does not mend.
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")
_OTHER_KEYS = "use other keys"
_REMEDIES = {
    "NoSuchBucket": "create the bucket",
    "AccessDenied": "let the keys read and write there",
    "InvalidAccessKeyId": _OTHER_KEYS,
    "SignatureDoesNotMatch": _OTHER_KEYS,
}
# obstore raises it where an id from elsewhere is no part of a path.
_NO_PATH = {"read": (ValueError,)}
# Nobody listens there.
_NO_PROXY = "http://127.0.0.1:9"


@dataclasses.dataclass(frozen=True, kw_only=True)
class S3Options:
    """How to reach an S3 server, and for how long to try."""

    endpoint: str = ""
    """http(s)://host:port; empty is Amazon's."""
    access_key: str = dataclasses.field(default="", repr=False)
    """Empty reads AWS_ACCESS_KEY_ID."""
    secret_key: str = dataclasses.field(default="", repr=False)
    """Empty reads AWS_SECRET_ACCESS_KEY."""
    region: str = ""
    """Empty reads AWS_REGION."""
    certificates: bytes | str = b""
    """Certificate authorities, PEM; empty uses the system's. obstore fails where there are none, even
    for http://."""
    timeout: datetime.timedelta | None = None
    """Of a request; None is obstore's."""
    retries: int = 1000
    """After a server that does not answer, or answers with 5xx."""
    patience: datetime.timedelta = datetime.timedelta(minutes=5)
    """For how long to retry."""
    proxied: bool = True
    """Whether the environment's proxies are used."""


def open_store(address: str, options: S3Options | None = None) -> ObjectStore:
    """Return the store at s3://bucket/prefix, or at a directory, which is created.

    Args:
        address: s3://bucket/prefix or a directory.
        options: of the S3 server.

    Raises:
        ValueError: the address is neither.
    """
    if address.startswith("s3://"):
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        return _open_s3(bucket, prefix.strip("/"), options or S3Options())
    if "://" in address or not address:
        raise ValueError(f"{address!r} is no storage; use s3://BUCKET/PREFIX or a directory")
    return LocalStore(Path(address).resolve(), mkdir=True, automatic_cleanup=True)


def _open_s3(bucket: str, prefix: str, options: S3Options) -> S3Store:
    client: ClientConfig = {"allow_http": options.endpoint.startswith("http://")}
    if options.certificates:
        client["root_certificate"] = options.certificates
    if options.timeout is not None:
        client["timeout"] = options.timeout
    if not options.proxied:
        # obstore has no other way to say so than a proxy for all hosts but this one.
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
        objects: an obstore store; `open_store` returns one.
        location: what errors call the registry.
        connect: returns the cluster's ConfigMaps, or None where there is no cluster; called only where
            the S3 server has no conditional writes.
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
        """Return an object's content, or None where it does not exist."""
        with self._errors("read"):
            return _objects.read(self._objects, path)

    def read_range(self, path: str, start: int, length: int) -> bytes | None:
        """Return a part of an object, or None where the object does not exist."""
        with self._errors("read"):
            try:
                return bytes(obstore.get_range(self._objects, path, start=start, length=length))
            except FileNotFoundError:
                return None

    def read_json(self, path: str) -> dict[str, Any] | None:
        """Return a JSON object, or None where it does not exist.

        Raises:
            RegistryContentError: it is none.
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
        """Return whether there is an object."""
        with self._errors("read"):
            return _objects.exists(self._objects, path)

    def numbers(self, folder: str) -> list[int]:
        """Return the numbers of the objects FOLDER/00000001.json and so on, ascending."""
        stems = [PurePosixPath(entry["path"]).stem for entry in self._entries(folder)]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def folders(self) -> list[int]:
        """Return the numbers of the versions of which there is anything, ascending."""
        with self._errors("read"):
            listed: object = obstore.list_with_delimiter(self._objects)  # pyright: ignore[reportUnknownMemberType]
            names = cast("Mapping[str, Sequence[str]]", listed)["common_prefixes"]
        return sorted(int(name.strip("/")) for name in names if name.strip("/").isdecimal())

    def paths(self, folder: str) -> dict[str, datetime.datetime]:
        """Return the objects in a folder, and when each was put."""
        return {entry["path"]: entry["last_modified"] for entry in self._entries(folder)}

    def put_at(self, path: str) -> datetime.datetime | None:
        """Return when an object was put, or None where it does not exist."""
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
        """Make sure that this process may write, and that writers are kept apart; see `Writes.check`."""
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
        """Put an object whose name carries its digest, unless it exists.

        Args:
            path: its path.
            content: called where the object is missing.
        """
        if not self.exists(path):
            # No condition is needed: whoever puts it puts the same.
            with self._errors("written"):
                obstore.put(self._objects, path, content())

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, one after another; those that are gone already are no error."""
        with self._errors("written"):
            self._writes.delete(paths)

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Generator[None]:
        """Turn what obstore raises into errors of this package.

        Raises:
            RegistryRefusedError: the server refuses until somebody changes something.
            RegistryError: the server cannot be reached, or does not do what is asked.
        """
        try:
            yield
        except (BaseError, OSError, *_NO_PATH.get(verb, ())) as error:
            # A list that is refused looks like any other error; S3's own code is in the text.
            code = _S3_CODE.search(str(error))
            if code and code[1] in _REMEDIES:
                raise RegistryRefusedError(
                    f"object storage answers {code[1]}: {self.location}",
                    _REMEDIES[code[1]],
                    code=code[1],
                ) from error
            # obstore's messages go on for a page; the first line says what happened.
            raise RegistryError(
                f"object storage {self.location} cannot be {verb}: {describe(error)}"
            ) from error
