"""The requiring side of Serialized Data Interface (SDI), which charms of Charmed Kubeflow use.

The remote application writes `_supported_versions` and `data` (YAML) into its databag, and expects
`_supported_versions` in ours. Without it, kfp-api becomes Waiting and serves no other relation,
so the leader must publish it.

Source: https://github.com/canonical/serialized-data-interface and the schemas in the metadata of the
charms kfp-api and minio.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import cast

import ops
import yaml

from kfp_ops._databag import RelationDataError, read_databag, update_databag

SUPPORTED_VERSIONS = "- v1\n"
# Exclude punycode names (xn--), and names that end in a number, which clients parse as an IP address.
_LABEL = r"(?!-|xn--)[a-z0-9_\-]{1,63}(?<!-)"
_DNS_NAME = re.compile(
    rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?!(\d+|0x[0-9a-f]*)\.?\Z){_LABEL}\.?",
    re.ASCII | re.IGNORECASE,
)
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?")
_KEY = re.compile(r"[!-~]+")
# YAML's constructors raise these, besides YAMLError, for an invalid scalar.
_NOT_YAML = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    ValueError,
)


class SdiRequirer:
    """The requiring side of a relation that uses the Serialized Data Interface.

    Args:
        charm: Charm that has the relation.
        relation_name: Name of the relation in charmcraft.yaml.
    """

    def __init__(self, charm: ops.CharmBase, relation_name: str):
        self._charm = charm
        self.relation_name = relation_name

    @property
    def is_related(self) -> bool:
        """Whether the relation exists."""
        return bool(self._relation)

    def publish(self) -> None:
        """Publish the supported versions of the interface; only the leader may."""
        for relation in self._charm.model.relations[self.relation_name]:
            update_databag(
                relation.data[self._charm.app], {"_supported_versions": SUPPORTED_VERSIONS}
            )

    @property
    def _relation(self) -> ops.Relation | None:
        return next(iter(self._charm.model.relations[self.relation_name]), None)

    def _data(self, relation: ops.Relation | None) -> Mapping[str, object] | None:
        """Return what the remote application published, or None if it has not yet.

        Raises:
            RelationDataError: The data is not a YAML object.
        """
        document = read_databag(relation or self._relation, "data")
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
        return RelationDataError(f"relation {self.relation_name}: invalid data: {reason}")

    def _host(self, data: Mapping[str, object], key: str) -> str:
        """Return a DNS name or an IP address, in the namespace that is published with it."""
        host = self._text(data, key)
        if not is_host(qualified_host(host, self._namespace(data))):
            raise self._data_error(f"{key} is neither a DNS name nor an IP address")
        return host

    def _namespace(self, data: Mapping[str, object]) -> str:
        value = data.get("namespace") or ""
        if value and not (isinstance(value, str) and _NAMESPACE.fullmatch(value)):
            raise self._data_error("namespace is not a name that Kubernetes allows")
        return str(value)

    def _key(self, data: Mapping[str, object], key: str) -> str:
        value = self._text(data, key)
        if not _KEY.fullmatch(value):
            # Do not show the value, which is a secret.
            raise self._data_error(f"{key} must be printable ASCII without spaces")
        return value

    def _text(self, data: Mapping[str, object], key: str) -> str:
        value = data.get(key)
        if not isinstance(value, str) or not value:
            raise self._data_error(f"{key} is missing or not a string")
        return value

    def _port(self, data: Mapping[str, object], key: str) -> int:
        try:
            port = int(str(data.get(key)))
        except ValueError:
            port = 0
        if not 0 < port < 65536:
            raise self._data_error(f"{key} is missing or not a port number")
        return port


def qualified_host(service: str, namespace: str) -> str:
    return f"{service}.{namespace}" if namespace else service


def url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_host(host: str) -> bool:
    """Return whether the text is a DNS name or an IP address."""
    # A zone, as in fe80::1%eth0, is not allowed in a URL.
    return "%" not in host if is_address(host) else bool(_DNS_NAME.fullmatch(host))


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
