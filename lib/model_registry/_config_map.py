"""Interface to Kubernetes' ConfigMaps that the second method needs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigMap:
    """A ConfigMap, as read or to be written."""

    namespace: str
    name: str
    data: Mapping[str, str]
    resource_version: str = ""
    """Kubernetes' version of the object; empty if it does not exist yet."""


class ConfigMaps(Protocol):
    """The ConfigMaps of a cluster, with the caller's permissions.

    An adapter may retry any of these calls after a lost response: a retry that finds its own effect
    returns None, and `Writes` reads the ConfigMap again.
    """

    @property
    def namespace(self) -> str:
        """Namespace in which the pipelines' runs execute."""
        ...

    def get(self, namespace: str, name: str) -> ConfigMap | None:
        """Return a ConfigMap, or None if it does not exist."""
        ...

    def create(self, config_map: ConfigMap) -> ConfigMap | None:
        """Create a ConfigMap and return it as stored, or None if it exists."""
        ...

    def replace(self, config_map: ConfigMap) -> ConfigMap | None:
        """Replace a ConfigMap and return it as stored.

        Return None if it was deleted, or if `resource_version` is not the current one.
        """
        ...


def config_map_name(store: object) -> str:
    """Return the name of a registry's ConfigMap, derived from the registry's address.

    Args:
        store: obstore store of the registry.
    """
    config: Mapping[str, str] = getattr(store, "config", {})
    parts = config.get("endpoint", ""), config.get("bucket", ""), getattr(store, "prefix", "") or ""
    address = "\n".join(str(part).strip("/") for part in parts)
    return f"model-registry-{hashlib.sha256(address.encode()).hexdigest()[:16]}"
