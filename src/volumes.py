"""The volume that steps of a run share: which StorageClass provides it.

Kubeflow Pipelines makes the claim itself and needs a class by name: without one it takes "standard",
and an empty one means to Kubernetes that nothing is provisioned. So the cluster's default is looked up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from config import TrainerConfig
from connection import Connection
from errors import OptionError
from kube import connect, errors

# https://kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass
_IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def with_storage_class(connection: Connection) -> TrainerConfig:
    """The options, with the cluster's default in place of a storage class that is not named.

    Raises:
        OptionError: the cluster has no default.
        KubernetesError: Kubernetes did not tell.
    """
    config = connection.config
    if not config.workspace_size or config.storage_class:
        return config
    from lightkube.resources.storage_v1 import StorageClass

    kube = connect(connection.app, connection.model)
    with errors("the cluster's storage classes"):
        classes: list[Any] = list(kube.list(StorageClass))  # pyright: ignore[reportUnknownMemberType]
    defaults = [
        storage_class
        for storage_class in classes
        if _is_default(storage_class.metadata.annotations or {})
    ]
    if not defaults:
        raise OptionError("storage_class", "", "named, since this cluster has no default one")
    # Of several defaults Kubernetes takes the newest too.
    newest = max(
        defaults,
        key=lambda storage_class: (
            storage_class.metadata.creationTimestamp,
            storage_class.metadata.name,
        ),
    )
    return dataclasses.replace(config, storage_class=newest.metadata.name)


def _is_default(annotations: Mapping[str, str]) -> bool:
    return annotations.get(_IS_DEFAULT) == "true"
