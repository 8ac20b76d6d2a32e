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
    """How a registry is written, as its record says."""

    method: Literal["conditional", "kubernetes"]
    namespace: str = ""
    """Of the ConfigMap, for `kubernetes`."""
    config_map: str = ""
    """Its name."""
    id: str = ""
    """The registry's, by which the ConfigMap of one that was at the same address before is told."""


class Writes:
    """The writes of one process to a registry.

    Args:
        store: the registry's.
        location: what errors call the registry.
        connect: returns the cluster's ConfigMaps, or None where there is no cluster. It is called only
            where the second method is needed.
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
        """Return how this registry is written: one call where it is recorded.

        Where it is not, try the server, choose, and record it.

        Raises:
            UnsafeStoreError: the server ignores conditions and there is no cluster, or the record
                makes no sense.
            BaseError, OSError: the server cannot be reached or refuses.
        """
        if self._method is None:
            self._method = self._recorded() or self._choose()
        return self._method

    def check(self) -> None:
        """Make sure, once, that this process may write here and that the server is as the record says.

        Raises:
            UnsafeStoreError: as `method`, or the server ignores conditions against its record.
            BaseError, OSError: the server cannot be reached or refuses.
        """
        if self._is_checked:
            return
        if self.method().method == "kubernetes":
            self._open_claims().check()
        elif not honours_conditions(self._store, PROBE):
            raise UnsafeStoreError(
                f"object storage ignores If-None-Match against its {RECORD}",
                _ADVICE,
                location=self._location,
            )
        self._is_checked = True

    def create(self, path: str, content: bytes) -> bool:
        """Put an object if it does not exist; False where it does.

        A put whose answer was lost is repeated and meets itself, so a caller that gets False compares
        what is there with its own.

        Raises:
            UnsafeStoreError: as `check`.
            BaseError, OSError: the server cannot be reached or refuses.
        """
        self.check()
        if self.method().method == "kubernetes":
            return self._open_claims().create(path, content)
        return self._create_conditionally(path, content)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, one after another; those that are gone already are no error.

        By the second method a claim on one of them is canceled first. A writer that is completing
        that claim at this moment may still put the object after it was deleted here. So delete only
        objects that nobody has begun to put for long, or that are deleted again when they are found.
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
                "look again",
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
        # Who chooses at the same time uses the same ConfigMap: its name follows from the address.
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
            f"{RECORD} names no method that this release knows",
            "upgrade, or restore it",
            location=self._location,
        )

    def _open_claims(self) -> Claims:
        if self._claims is None:
            config_maps = self._connect()
            if config_maps is None:
                raise UnsafeStoreError(
                    f"object storage is written through Kubernetes, as {RECORD} says, and there is no "
                    "cluster here",
                    "write it where the pipelines' runs are executed",
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
