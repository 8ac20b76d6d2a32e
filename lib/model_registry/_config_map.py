"""What the second method needs of Kubernetes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigMap:
    """A ConfigMap, as it was read or as it shall be."""

    namespace: str
    name: str
    data: Mapping[str, str]
    resource_version: str = ""
    """Kubernetes' name for this state of the object; empty for one that does not exist yet."""


class ConfigMaps(Protocol):
    """The ConfigMaps of a cluster, with the caller's rights.

    An adapter may repeat any of these calls when it gets no answer: one that finds its own effect
    returns None, and `Writes` looks again.
    """

    @property
    def namespace(self) -> str:
        """The namespace in which the pipelines' runs are executed."""
        ...

    def get(self, namespace: str, name: str) -> ConfigMap | None:
        """Return a ConfigMap, or None where it does not exist."""
        ...

    def create(self, config_map: ConfigMap) -> ConfigMap | None:
        """Create a ConfigMap and return it as it is stored, or None where one exists."""
        ...

    def replace(self, config_map: ConfigMap) -> ConfigMap | None:
        """Replace a ConfigMap and return it as it is stored.

        None where it is gone, or in another state than the one that `resource_version` names.
        """
        ...


def config_map_name(store: object) -> str:
    """Return the name of a registry's ConfigMap, which follows from its address.

    Args:
        store: the obstore store of the registry.
    """
    config: Mapping[str, str] = getattr(store, "config", {})
    parts = config.get("endpoint", ""), config.get("bucket", ""), getattr(store, "prefix", "") or ""
    address = "\n".join(str(part).strip("/") for part in parts)
    return f"model-registry-{hashlib.sha256(address.encode()).hexdigest()[:16]}"
