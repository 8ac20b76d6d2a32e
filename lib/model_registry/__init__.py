"""A model registry in object storage: versions, their manifests, and the champion that serves.

It lies under one address, and its objects are never overwritten (`model_registry.layout` has their
paths, `model_registry.schema` their contents)::

    registry = Registry(open_store("s3://bucket/models", S3Options(endpoint=url)), location=url)
    version = registry.publish(run_id, folder, manifest)
    registry.promote_if_better(version, is_better, "accuracy 0.92")
    champion = registry.champion()
    registry.fetch(champion.version, Path("model"))

"Put this object only if it does not exist" decides every race: who reserves a version's number, and
who moves the champion next. `Writes` offers that in two ways::

    writes = Writes(store, connect=connect)
    if not writes.create("champion/00000003.json", content):
        ...  # it exists: somebody else's, or this caller's own from a put whose answer was lost

1. By a conditional put (`If-None-Match: *`), which Amazon S3 and recent MinIO honour.
2. Where the server ignores or refuses the condition, through one ConfigMap of Kubernetes, whose
   `resourceVersion` makes its replacement a compare-and-swap.

The method is chosen once, by trying, and recorded in the registry's `writes.json`, so that all
writers use the same.

The second method: the registry's ConfigMap holds at most one *claim*, a path with its content, which
is being put. To create PATH a writer

1. reads the ConfigMap, and completes the claim that it finds: puts its object if that does not exist;
2. looks whether PATH exists; if it does, the answer is no;
3. replaces the ConfigMap that it read by one that claims PATH with its content; if the ConfigMap
   changed meanwhile, it starts again;
4. puts the object, and takes the claim out of the ConfigMap.

No PATH is claimed twice with different contents: a second claim would have to replace a ConfigMap
that was read after the first claim had left it, which happens only after the first object was put,
and step 2 finds that. A writer that dies after step 3 leaves a claim that the next writer completes;
before it, nothing. All writers of a claim put the same content, so it does not matter how many do, or
how late. If the answer to a replacement is lost, the ConfigMap says whether it was made when it is
read again. Content that is too large for a ConfigMap lies in `pending/` meanwhile.

What limits it:

- `Writes.delete` cancels the claim on what it deletes, so that no later writer completes it; one
  that is completing it at that moment still may (see there).
- If somebody deletes the ConfigMap, the next writer creates it again, and only a put that was going on
  at that moment may be lost or come twice.
- Two writers in two namespaces that choose the method of one new registry in the same second may
  choose a ConfigMap each: nothing but the S3 server is between them.
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

# Imported when they are asked for: obstore takes longer than many a hook does.
_MODULES = {
    "_config_map": "ConfigMap ConfigMaps config_map_name",
    "_writes": "Method Writes",
    "registry": "Registry",
    "schema": (
        "Champion ChampionMove FileEntry Manifest MonitoringReport Prediction TestImage Version"
    ),
    "store": "S3Options open_store",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    attribute = getattr(importlib.import_module(f"model_registry.{_HOMES[name]}"), name)
    globals()[name] = attribute
    return attribute


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


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
