"""Create and delete objects by the method that the registry's record names."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterable
from typing import Literal, cast

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore

from model_registry import _objects
from model_registry._claims import Claims
from model_registry._config_map import ConfigMaps, config_map_name
from model_registry._probe import honours_conditions
from model_registry.errors import UnsafeStoreError
from model_registry.layout import PROBE, RECORD

_SCHEMA_VERSION = 1
_ADVICE = "use MinIO RELEASE.2024-05-07 or later, or Amazon S3"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """How a registry is written, according to its record."""

    method: Literal["conditional", "kubernetes"]
    namespace: str = ""
    """Namespace of the ConfigMap, for `kubernetes`."""
    config_map: str = ""
    """Name of the ConfigMap, for `kubernetes`."""
    id: str = ""
    """ID of the registry, which distinguishes it from an earlier one at the same address."""


class Writes:
    """The writes of one process to a registry.

    Args:
        store: Store of the registry.
        location: Name of the registry in errors.
        connect: Returns the cluster's ConfigMaps, or None if there is no cluster. Called only if the
            second method is needed.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        location: str = "",
        connect: Callable[[], ConfigMaps | None] = lambda: None,
    ):
        self._store = store
        self._location = location
        self._connect = connect
        self._method: Method | None = None
        self._claims: Claims | None = None
        self._is_checked = False

    def method(self) -> Method:
        """Return how this registry is written; read the record in one call.

        If there is no record, test the server, choose a method and record it.

        Raises:
            UnsafeStoreError: The server ignores conditions and there is no cluster, or the record is
                invalid.
            BaseError, OSError: The server cannot be reached or denies access.
        """
        if self._method is None:
            self._method = self._recorded() or self._choose()
        return self._method

    def check(self) -> None:
        """Check, once, that this process may write and that the recorded method works.

        Raises:
            UnsafeStoreError: As `method`, or the server ignores conditions contrary to the record.
            BaseError, OSError: The server cannot be reached or denies access.
        """
        if self._is_checked:
            return
        if self.method().method == "kubernetes":
            self._open_claims().check()
        elif not honours_conditions(self._store, PROBE):
            raise UnsafeStoreError(
                f"object storage ignores If-None-Match, contrary to {RECORD}",
                _ADVICE,
                location=self._location,
            )
        self._is_checked = True

    def create(self, path: str, content: bytes) -> bool:
        """Put an object if it does not exist; return whether this call did.

        A put whose response was lost is retried and finds its own object, so after False, compare the
        existing object with the content.

        Raises:
            UnsafeStoreError: As `check`.
            BaseError, OSError: The server cannot be reached or denies access.
        """
        self.check()
        if self.method().method == "kubernetes":
            return self._open_claims().create(path, content)
        return self._create_conditionally(path, content)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete those of the objects that exist, one after another.

        With the second method, first cancel a claim on one of them. A writer that is completing that
        claim may still put the object after it was deleted. So delete only objects that have not been
        put for a long time, or that are deleted again when found.
        """
        listed = list(paths)
        if listed and self.method().method == "kubernetes":
            self._open_claims().cancel(frozenset(listed))
        for path in listed:
            _objects.delete(self._store, path)

    # The method ---------------------------------------------------------------------------------

    def _choose(self) -> Method:
        if honours_conditions(self._store, PROBE):
            self._is_checked = True
            self._create_conditionally(RECORD, _record(Method(method="conditional")))
        else:
            self._begin_claims()
        chosen = self._recorded()
        if chosen is None:
            raise UnsafeStoreError(
                f"object storage lost {RECORD} after it was put",
                "try again",
                location=self._location,
            )
        return chosen

    def _begin_claims(self) -> None:
        config_maps = self._connect()
        if config_maps is None:
            raise UnsafeStoreError(
                "object storage ignores If-None-Match, and there is no Kubernetes",
                _ADVICE,
                location=self._location,
            )
        # Writers that choose at the same time use the same ConfigMap, named after the address.
        method = Method(
            method="kubernetes",
            namespace=config_maps.namespace,
            config_map=config_map_name(self._store),
            id=uuid.uuid4().hex,
        )
        claims = self._new_claims(method, config_maps)
        while not _objects.exists(self._store, RECORD):
            claims.begin(RECORD, _record(method))

    def _recorded(self) -> Method | None:
        content = _objects.read(self._store, RECORD)
        if content is None:
            return None
        try:
            fields = cast("dict[str, object]", json.loads(content))
            version, method = fields.get("schema_version"), fields.get("method")
            texts = [fields.get(name, "") for name in ("namespace", "config_map", "id")]
        except (AttributeError, ValueError, RecursionError):
            version = method = None
            texts = [""]
        is_known = version == _SCHEMA_VERSION and all(isinstance(text, str) for text in texts)
        if is_known and method == "conditional":
            return Method(method="conditional")
        if is_known and method == "kubernetes" and all(texts):
            namespace, config_map, registry_id = map(str, texts)
            return Method(
                method="kubernetes", namespace=namespace, config_map=config_map, id=registry_id
            )
        raise UnsafeStoreError(
            f"{RECORD} names no method that this release supports",
            "upgrade, or restore the file",
            location=self._location,
        )

    def _open_claims(self) -> Claims:
        if self._claims is None:
            config_maps = self._connect()
            if config_maps is None:
                raise UnsafeStoreError(
                    f"{RECORD} requires writing through Kubernetes, but there is no cluster here",
                    "write from the cluster in which the pipelines' runs execute",
                    location=self._location,
                )
            self._claims = self._new_claims(self.method(), config_maps)
        return self._claims

    def _new_claims(self, method: Method, config_maps: ConfigMaps) -> Claims:
        return Claims(
            self._store,
            config_maps,
            namespace=method.namespace,
            name=method.config_map,
            registry_id=method.id,
            address=self._location,
        )

    def _create_conditionally(self, path: str, content: bytes) -> bool:
        try:
            obstore.put(self._store, path, content, mode="create")
        except AlreadyExistsError:
            return False
        return True


def _record(method: Method) -> bytes:
    fields = {name: text for name, text in dataclasses.asdict(method).items() if text}
    return json.dumps({"schema_version": _SCHEMA_VERSION, **fields}, indent=1).encode()
