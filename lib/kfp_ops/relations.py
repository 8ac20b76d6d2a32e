"""The relations of a charm with Charmed Kubeflow's `kfp-api` and with object storage.

Both speak the Serialized Data Interface: the remote application writes `_supported_versions` and
`data` (YAML) into its databag, and expects `_supported_versions` in ours. Without ours, kfp-api
goes Waiting and answers none of its other relations either, so the leader must publish it.

The classes only read and write; the charm observes the events and asks when it wants to know.
Source: https://github.com/canonical/serialized-data-interface and the schemas in the metadata of
the charms kfp-api and minio.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import cast

import ops
import yaml

SUPPORTED_VERSIONS = "- v1\n"


class RelationDataError(ValueError):
    """The remote application wrote something that its interface does not allow."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KfpApi:
    """Where Kubeflow Pipelines answers."""

    service_name: str
    service_port: int

    @property
    def url(self) -> str:
        """The address of the REST API."""
        return f"http://{self.service_name}:{self.service_port}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectStorage:
    """An S3 server and the keys to it; the keys never appear in the object's repr."""

    service: str
    port: int
    access_key: str = dataclasses.field(repr=False)
    secret_key: str = dataclasses.field(repr=False)
    secure: bool = False
    namespace: str = ""

    @property
    def url(self) -> str:
        """The endpoint's address, usable from every namespace."""
        host = f"{self.service}.{self.namespace}" if self.namespace else self.service
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


class SdiRequirer:
    """The requiring side of a relation that speaks the Serialized Data Interface.

    Args:
        charm: whose relation it is.
        relation_name: its name in charmcraft.yaml.
    """

    def __init__(self, charm: ops.CharmBase, relation_name: str):
        self._charm = charm
        self.relation_name = relation_name

    @property
    def is_related(self) -> bool:
        """Whether there is such a relation."""
        return bool(self._relation)

    def publish(self) -> None:
        """Say which versions of the interface we understand. Only the leader may."""
        for relation in self._charm.model.relations[self.relation_name]:
            bag = relation.data[self._charm.app]
            if bag.get("_supported_versions") != SUPPORTED_VERSIONS:
                bag["_supported_versions"] = SUPPORTED_VERSIONS

    @property
    def _relation(self) -> ops.Relation | None:
        return next(iter(self._charm.model.relations[self.relation_name]), None)

    def _data(self, relation: ops.Relation | None) -> Mapping[str, object] | None:
        """What the remote application published; None as long as it has not.

        Raises:
            RelationDataError: it is no YAML object.
        """
        relation = relation or self._relation
        said = relation.data[relation.app].get("data") if relation else None
        if not said:
            return None
        try:
            data = yaml.safe_load(said)
        except yaml.YAMLError as error:
            raise self._wrong("not YAML") from error
        if not isinstance(data, dict):
            raise self._wrong("not a YAML object")
        return cast("dict[str, object]", data)

    def _wrong(self, why: str) -> RelationDataError:
        return RelationDataError(f"relation {self.relation_name}: its data is wrong: {why}")

    def _text(self, data: Mapping[str, object], key: str) -> str:
        value = data.get(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(f"{key} is missing or not a text")
        return value

    def _port(self, data: Mapping[str, object], key: str) -> int:
        try:
            port = int(str(data.get(key)))
        except ValueError:
            port = 0
        if not 0 < port < 65536:
            raise self._wrong(f"{key} is missing or not a port number")
        return port


class KfpApiRequirer(SdiRequirer):
    """The relation with kfp-api (interface k8s-service)."""

    def __init__(self, charm: ops.CharmBase, relation_name: str = "kfp-api"):
        super().__init__(charm, relation_name)

    def get(self, relation: ops.Relation | None = None) -> KfpApi | None:
        """Where the API answers; None as long as kfp-api has not said so.

        Args:
            relation: to read; without it the one there is. When it is broken the event alone has it.

        Raises:
            RelationDataError: it said something else than the interface allows.
        """
        data = self._data(relation)
        if data is None:
            return None
        return KfpApi(
            service_name=self._text(data, "service-name"),
            service_port=self._port(data, "service-port"),
        )


class ObjectStorageRequirer(SdiRequirer):
    """The relation with an S3 server such as minio (interface object-storage)."""

    def __init__(self, charm: ops.CharmBase, relation_name: str = "object-storage"):
        super().__init__(charm, relation_name)

    def get(self, relation: ops.Relation | None = None) -> ObjectStorage | None:
        """The server and the keys; None as long as the remote has not published them.

        Args:
            relation: to read; without it the one there is. When it is broken the event alone has it.

        Raises:
            RelationDataError: it published something else than the interface allows.
        """
        data = self._data(relation)
        if data is None:
            return None
        namespace = data.get("namespace")
        return ObjectStorage(
            service=self._text(data, "service"),
            port=self._port(data, "port"),
            access_key=self._text(data, "access-key"),
            secret_key=self._text(data, "secret-key"),
            secure=data.get("secure") is True,
            namespace=namespace if isinstance(namespace, str) else "",
        )
