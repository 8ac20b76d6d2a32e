"""Create objects one at a time through a ConfigMap; the package's docstring proves the method."""

from __future__ import annotations

import base64
import dataclasses
import json
import uuid
from typing import cast

import obstore
from obstore.store import ObjectStore

from model_registry import _objects
from model_registry._config_map import ConfigMap, ConfigMaps
from model_registry.errors import UnsafeStoreError
from model_registry.layout import PENDING

# A ConfigMap is limited to 1 MiB, and base64 adds a third.
_MAX_INLINE_BYTES = 64 * 1024
# Keys of the ConfigMap's data.
_REGISTRY, _ADDRESS, _CLAIM = "registry", "address", "claim"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Claim:
    """An object that is being put."""

    path: str
    content: bytes = b""
    staged: str = ""
    """Path of an object with the content, if that is too large for a ConfigMap."""


class Claims:
    """The claims on a registry's objects.

    Args:
        store: Store of the registry.
        config_maps: ConfigMaps of the cluster.
        namespace: Namespace of the registry's ConfigMap.
        name: Name of the registry's ConfigMap.
        registry_id: ID of the registry, which distinguishes it from an earlier one at the same address.
        address: Address of the registry, for people who look at the ConfigMap.
    """

    def __init__(
        self,
        store: ObjectStore,
        config_maps: ConfigMaps,
        *,
        namespace: str,
        name: str,
        registry_id: str,
        address: str,
    ):
        self._store = store
        self._config_maps = config_maps
        self._namespace = namespace
        self._name = name
        self._id = registry_id
        self._address = address

    def create(self, path: str, content: bytes) -> bool:
        """Put an object if it does not exist; return whether this call did."""
        claim: _Claim | None = None
        while True:
            config_map = self._read()
            pending = _claim_in(config_map)
            is_complete = pending is not None and self._complete(pending)
            if claim and pending == claim and is_complete:
                # The claim succeeded, but its response was lost.
                self._swap(config_map, None)
                return True
            if _objects.exists(self._store, path):
                if claim:
                    self._unstage(claim)
                return False
            claim = claim if claim and pending != claim else self._stage(path, content)
            claimed = self._swap(config_map, claim)
            if claimed and self._complete(claim):
                # The next writer may have removed the claim already.
                self._swap(claimed, None)
                return True

    def begin(self, path: str, content: bytes) -> None:
        """Put the record of a new registry, unless another writer puts its own.

        Overwrite a ConfigMap of an earlier registry at the same address.
        """
        config_map = self._read(of_any_registry=True)
        if _objects.exists(self._store, path):
            return
        pending = _claim_in(config_map)
        claim = _Claim(path=path, content=content)
        if pending and pending.path == path:
            self._complete(pending)
        else:
            claimed = self._swap(config_map, claim)
            if claimed:
                self._complete(claim)
                self._swap(claimed, None)

    def check(self) -> None:
        """Complete a pending claim, and check that this process may replace the ConfigMap."""
        while True:
            config_map = self._read()
            self._complete_pending(config_map)
            if self._swap(config_map, None):
                return

    def cancel(self, paths: frozenset[str]) -> None:
        """Remove a claim on one of these objects from the ConfigMap."""
        while True:
            config_map = self._read()
            pending = _claim_in(config_map)
            if pending is None or pending.path not in paths or self._swap(config_map, None):
                return

    # One claim ----------------------------------------------------------------------------------

    def _stage(self, path: str, content: bytes) -> _Claim:
        if len(content) <= _MAX_INLINE_BYTES:
            return _Claim(path=path, content=content)
        # Use a unique name: it is deleted after use, so no other writer may depend on it.
        staged = f"{PENDING}/{uuid.uuid4().hex}"
        obstore.put(self._store, staged, content)
        return _Claim(path=path, staged=staged)

    def _unstage(self, claim: _Claim) -> None:
        if claim.staged:
            _objects.delete(self._store, claim.staged)

    def _complete_pending(self, config_map: ConfigMap | None) -> None:
        pending = _claim_in(config_map)
        if pending:
            self._complete(pending)

    def _complete(self, claim: _Claim) -> bool:
        """Put a claimed object if it does not exist; return False if its staged content is gone.

        In that case, another writer completed the claim and the object was deleted since, or the staged
        content was collected as garbage before the claim. No writer will put the object then.
        """
        if not _objects.exists(self._store, claim.path):
            if not claim.staged:
                obstore.put(self._store, claim.path, claim.content)
            else:
                try:
                    obstore.copy(self._store, claim.staged, claim.path)
                except FileNotFoundError:
                    return _objects.exists(self._store, claim.path)
        self._unstage(claim)
        return True

    # The ConfigMap ------------------------------------------------------------------------------

    def _read(self, *, of_any_registry: bool = False) -> ConfigMap | None:
        config_map = self._config_maps.get(self._namespace, self._name)
        registry_id = config_map.data.get(_REGISTRY) if config_map else None
        if registry_id not in (None, self._id) and not of_any_registry:
            raise UnsafeStoreError(
                f"configmap {self._name} in namespace {self._namespace} belongs to another registry "
                "than writes.json says",
                "start a registry under another prefix",
                location=self._address,
            )
        return config_map

    def _swap(self, config_map: ConfigMap | None, claim: _Claim | None) -> ConfigMap | None:
        """Replace the ConfigMap as it was read, with a claim or none; return None if it has changed."""
        changed = ConfigMap(
            namespace=self._namespace,
            name=self._name,
            data={
                _REGISTRY: self._id,
                _ADDRESS: self._address,
                **({_CLAIM: _encode(claim)} if claim else {}),
            },
            resource_version=config_map.resource_version if config_map else "",
        )
        if config_map is None:
            return self._config_maps.create(changed)
        return self._config_maps.replace(changed)


def _encode(claim: _Claim) -> str:
    content = base64.b64encode(claim.content).decode()
    return json.dumps({**dataclasses.asdict(claim), "content": content})


def _claim_in(config_map: ConfigMap | None) -> _Claim | None:
    text = config_map.data.get(_CLAIM) if config_map else None
    if not text:
        return None
    try:
        fields = cast("dict[str, str]", json.loads(text))
        return _Claim(
            path=fields["path"],
            content=base64.b64decode(fields["content"], validate=True),
            staged=fields["staged"],
        )
    except (KeyError, TypeError, ValueError) as error:
        assert config_map is not None  # noqa: S101 - the text came from it
        raise UnsafeStoreError(
            f"configmap {config_map.name} in namespace {config_map.namespace} has no readable claim",
            "restore or delete it while no run is in progress",
        ) from error
