"""The relation with an S3 server such as minio (interface object-storage)."""

from __future__ import annotations

import dataclasses

import ops

from kfp_ops._sdi import SdiRequirer, qualified_host, url_host


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectStorage:
    """An S3 server and its credentials, which never appear in the object's repr."""

    service: str
    port: int
    access_key: str = dataclasses.field(repr=False)
    secret_key: str = dataclasses.field(repr=False)
    secure: bool = False
    namespace: str = ""

    @property
    def url(self) -> str:
        """URL of the endpoint, valid in every namespace."""
        return f"{'https' if self.secure else 'http'}://{url_host(self.host)}:{self.port}"

    @property
    def host(self) -> str:
        """Name of the service with its namespace, or its IP address."""
        return qualified_host(self.service, self.namespace)


class ObjectStorageRequirer(SdiRequirer):
    """The relation with an S3 server such as minio (interface object-storage)."""

    def __init__(self, charm: ops.CharmBase, relation_name: str = "object-storage"):
        super().__init__(charm, relation_name)

    def get(self, relation: ops.Relation | None = None) -> ObjectStorage | None:
        """Return the server and its credentials, or None if they are not published yet.

        Args:
            relation: Relation to read; by default the only one. Pass a broken relation from its event.

        Raises:
            RelationDataError: The server published data that the interface does not allow.
        """
        data = self._data(relation)
        if data is None:
            return None
        service, port = self._host(data, "service"), self._port(data, "port")
        if not (data.get("access-key") and data.get("secret-key")):
            # Some applications publish their address before their credentials.
            return None
        return ObjectStorage(
            service=service,
            port=port,
            access_key=self._key(data, "access-key"),
            secret_key=self._key(data, "secret-key"),
            secure=data.get("secure") is True,
            namespace=self._namespace(data),
        )
