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
import ipaddress
import json
import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import cast

import ops
import yaml

from kfp_ops.texts import printable

SUPPORTED_VERSIONS = "- v1\n"
# Without names in other scripts (xn--) and those that end in a number, which clients take for one of
# IP's many forms and stop at.
_LABEL = r"(?!-|xn--)[a-z0-9_\-]{1,63}(?<!-)"
_DNS_NAME = re.compile(
    rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?!(\d+|0x[0-9a-f]*)\.?\Z){_LABEL}\.?",
    re.ASCII | re.IGNORECASE,
)
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?")
_KEY = re.compile(r"[!-~]+")
# What YAML's constructors raise for a scalar that is not of its type, besides YAMLError.
_NOT_YAML = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    ValueError,
)


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
        return f"http://{_in_url(self.service_name)}:{self.service_port}"

    @property
    def namespace(self) -> str:
        """The namespace of the service, as in ml-pipeline.kubeflow.svc; empty where it is not told."""
        if _is_address(self.service_name):
            return ""
        return self.service_name.partition(".")[2].partition(".")[0]


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
        return f"{'https' if self.secure else 'http'}://{_in_url(self.host)}:{self.port}"

    @property
    def host(self) -> str:
        """The service's name with its namespace, or its IP address."""
        return _qualified(self.service, self.namespace)


def _qualified(service: str, namespace: str) -> str:
    return f"{service}.{namespace}" if namespace else service


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_host(host: str) -> bool:
    """Whether it is a DNS name or an IP address."""
    # A zone, as in fe80::1%eth0, has no place in a URL.
    return "%" not in host if _is_address(host) else bool(_DNS_NAME.fullmatch(host))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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
            write(relation.data[self._charm.app], {"_supported_versions": SUPPORTED_VERSIONS})

    @property
    def _relation(self) -> ops.Relation | None:
        return next(iter(self._charm.model.relations[self.relation_name]), None)

    def _data(self, relation: ops.Relation | None) -> Mapping[str, object] | None:
        """What the remote application published; None as long as it has not.

        Raises:
            RelationDataError: it is no YAML object.
        """
        document = _read_databag(relation or self._relation, "data")
        if not document:
            return None
        try:
            data = yaml.safe_load(document)
        except _NOT_YAML as error:
            raise self._data_error("not YAML") from error
        if not isinstance(data, dict):
            raise self._data_error("not a YAML object")
        return cast("dict[str, object]", data)

    def _data_error(self, reason: str) -> RelationDataError:
        return RelationDataError(f"relation {self.relation_name}: its data is wrong: {reason}")

    def _host(self, data: Mapping[str, object], key: str) -> str:
        """A DNS name or an IP address, in the namespace that is given with it."""
        host = self._text(data, key)
        if not _is_host(_qualified(host, self._namespace(data))):
            raise self._data_error(f"{key} is neither a DNS name nor an IP address")
        return host

    def _namespace(self, data: Mapping[str, object]) -> str:
        value = data.get("namespace") or ""
        if value and not (isinstance(value, str) and _NAMESPACE.fullmatch(value)):
            raise self._data_error("namespace is not one of Kubernetes")
        return str(value)

    def _key(self, data: Mapping[str, object], key: str) -> str:
        value = self._text(data, key)
        if not _KEY.fullmatch(value):
            # It is a secret: what it is instead is not told.
            raise self._data_error(
                f"{key} has other characters than printable ASCII without spaces"
            )
        return value

    def _text(self, data: Mapping[str, object], key: str) -> str:
        value = data.get(key)
        if not isinstance(value, str) or not value:
            raise self._data_error(f"{key} is missing or not a text")
        return value

    def _port(self, data: Mapping[str, object], key: str) -> int:
        try:
            port = int(str(data.get(key)))
        except ValueError:
            port = 0
        if not 0 < port < 65536:
            raise self._data_error(f"{key} is missing or not a port number")
        return port


@dataclasses.dataclass(frozen=True, kw_only=True)
class DashboardLink:
    """An entry in Kubeflow's dashboard.

    Attributes:
        text: what is read there.
        link: relative to the dashboard for the locations menu and quick.
        icon: one of https://www.kubeflow.org/docs/components/central-dash/customizing-menu/
        location: menu, external, quick or documentation.
        desc: more about it, for the location documentation.
    """

    text: str
    link: str
    type: str = "item"
    icon: str = "icons:link"
    location: str = "menu"
    desc: str = ""

    @staticmethod
    def published(links: Sequence[DashboardLink]) -> dict[str, str]:
        """What the leader writes to a relation kubeflow_dashboard_links."""
        return {"dashboard_links": json.dumps([dataclasses.asdict(link) for link in links])}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model that serves: what a relation of the interface trained_model tells.

    Attributes:
        name: of the model.
        version: its number in the registry; a higher one need not be a better one.
        uri: of its folder in object storage, s3://BUCKET/PATH.
        format: of what is in the folder, such as tensorflow-saved-model.
        accuracy: on the test set, 0 to 1.
        run_id: the run in Kubeflow Pipelines that made it.
        signature: inputs and outputs by name, each with dtype and shape; -1 is any length.
    """

    name: str
    version: int
    uri: str
    format: str
    accuracy: float
    run_id: str = ""
    signature: Mapping[str, object] = dataclasses.field(default_factory=dict[str, object])

    @property
    def published(self) -> dict[str, str]:
        """What the leader of the provider writes to the relation."""
        return {"model": json.dumps(dataclasses.asdict(self), sort_keys=True)}


class TrainedModelRequirer:
    """The requiring side of the interface trained_model.

    Args:
        charm: whose relation it is.
        relation_name: its name in charmcraft.yaml.
    """

    def __init__(self, charm: ops.CharmBase, relation_name: str = "trained-model"):
        self._charm = charm
        self.relation_name = relation_name

    def get(self) -> TrainedModel | None:
        """The model that serves; None as long as there is none.

        Raises:
            RelationDataError: the remote application wrote something else.
        """
        relation = next(iter(self._charm.model.relations[self.relation_name]), None)
        document = _read_databag(relation, "model")
        if not document:
            return None
        try:
            data = json.loads(document)
            # JSON can hold halves of characters, which can be written nowhere.
            json.dumps(data, ensure_ascii=False).encode()
            return TrainedModel(
                name=str(data["name"]),
                version=int(data["version"]),
                uri=str(data["uri"]),
                format=str(data["format"]),
                accuracy=float(data["accuracy"]),
                run_id=str(data.get("run_id", "")),
                signature=data.get("signature") or {},
            )
        except (
            AttributeError,
            KeyError,
            OverflowError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise RelationDataError(
                f"relation {self.relation_name}: its data is wrong: {printable(repr(error), 200)}"
            ) from error


def _read_databag(relation: ops.Relation | None, key: str) -> str | None:
    """What the remote application wrote; of a relation that breaks it may be unknown who that was."""
    app = relation.app if relation else None
    return relation.data[app].get(key) if relation and app else None


def write(bag: MutableMapping[str, str], data: Mapping[str, str]) -> None:
    """Write to a databag what is not in it yet, so that nobody is woken without need."""
    for key, value in data.items():
        if bag.get(key, "") != value:
            bag[key] = value


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
            service_name=self._host(data, "service-name"),
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
        service, port = self._host(data, "service"), self._port(data, "port")
        if not (data.get("access-key") and data.get("secret-key")):
            # Some applications publish their address before they have keys.
            return None
        return ObjectStorage(
            service=service,
            port=port,
            access_key=self._key(data, "access-key"),
            secret_key=self._key(data, "secret-key"),
            secure=data.get("secure") is True,
            namespace=self._namespace(data),
        )
