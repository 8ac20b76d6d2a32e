"""A model registry in object storage: versions, their manifests, and the champion that serves.

All objects are under one address and are never overwritten (`model_registry.layout` defines their
paths, `model_registry.schema` their contents)::

    registry = Registry(open_store("s3://bucket/models", S3Options(endpoint=url)), location=url)
    version = registry.publish(run_id, folder, manifest)
    registry.promote_if_better(version, is_better, "accuracy 0.92")
    champion = registry.champion()
    registry.fetch(champion.version, Path("model"))

"Put this object only if it does not exist" decides every race: which run reserves a version number, and
which writer moves the champion next. `Writes` implements it with one of two methods::

    writes = Writes(store, connect=connect)
    if not writes.create("champion/00000003.json", content):
        ...  # it exists: another writer's, or the caller's own from a put whose response was lost

1. A conditional put (`If-None-Match: *`), which Amazon S3 and recent MinIO support.
2. If the server ignores or rejects the condition: a Kubernetes ConfigMap, whose `resourceVersion` makes
   its replacement a compare-and-swap.

The first writer tests the server, chooses the method and records it in the registry's `writes.json`, so
that all writers use the same method.

With the second method, the registry's ConfigMap holds at most one *claim*: the path and content of an
object that is being put. To create PATH, a writer

1. reads the ConfigMap and completes the claim in it, if any, by putting its object if it does not exist;
2. returns False if PATH exists;
3. replaces the ConfigMap with one that claims PATH with its content; if the ConfigMap has changed since
   step 1, it starts again;
4. puts the object and removes the claim from the ConfigMap.

No PATH is claimed twice with different contents: a second claim would have to replace a ConfigMap that
was read after the first claim was removed, which happens only after the first object was put, and step 2
finds that object. If a writer dies after step 3, the next writer completes its claim; if it dies
earlier, nothing is left. All writers that complete a claim put the same content, so it does not matter
how many do, or how late. If the response to a replacement is lost, reading the ConfigMap again shows
whether it succeeded. Content that is too large for a ConfigMap is stored under `pending/` meanwhile.

Limits:

- `Writes.delete` cancels the claim on an object that it deletes, so that no later writer completes it; a
  writer that is already completing it still may.
- If the ConfigMap is deleted, the next writer creates it again; only a put in progress at that moment
may
  be lost or done twice.
- If two writers in two namespaces choose the method of a new registry in the same second, each may
choose
  its own ConfigMap: only the S3 server could coordinate them.
"""

import importlib
from typing import TYPE_CHECKING

from model_registry.errors import (
    ChampionMovedError,
    NoSuchModelError,
    RegistryContentError,
    RegistryElsewhereError,
    RegistryError,
    RegistryRefusedError,
    UnsafeStoreError,
)

if TYPE_CHECKING:
    from model_registry._config_map import ConfigMap, ConfigMaps, config_map_name
    from model_registry._writes import Method, Writes
    from model_registry.registry import Registry
    from model_registry.schema import (
        Champion,
        ChampionMove,
        FileEntry,
        Manifest,
        MonitoringReport,
        Prediction,
        TestImage,
        Version,
    )
    from model_registry.store import S3Options, open_store

# Import these lazily: importing obstore takes longer than many hooks run.
_MODULES = {
    "_config_map": "ConfigMap ConfigMaps config_map_name",
    "_writes": "Method Writes",
    "registry": "Registry",
    "schema": (
        "Champion ChampionMove FileEntry Manifest MonitoringReport Prediction TestImage Version"
    ),
    "store": "S3Options open_store",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    attribute = getattr(importlib.import_module(f"model_registry.{_MODULE_OF[name]}"), name)
    globals()[name] = attribute
    return attribute


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})


__version__ = "0.1.0"
__all__ = [
    "Champion",
    "ChampionMove",
    "ChampionMovedError",
    "ConfigMap",
    "ConfigMaps",
    "FileEntry",
    "Manifest",
    "Method",
    "MonitoringReport",
    "NoSuchModelError",
    "Prediction",
    "Registry",
    "RegistryContentError",
    "RegistryElsewhereError",
    "RegistryError",
    "RegistryRefusedError",
    "S3Options",
    "TestImage",
    "UnsafeStoreError",
    "Version",
    "Writes",
    "config_map_name",
    "open_store",
]
