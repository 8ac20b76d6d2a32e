"""The relation with Charmed Kubeflow's `kfp-api` (interface k8s-service)."""

from __future__ import annotations

import dataclasses

import ops

from kfp_ops._sdi import SdiRequirer, is_address, url_host


@dataclasses.dataclass(frozen=True, kw_only=True)
class KfpApi:
    """Address of Kubeflow Pipelines' API."""

    service_name: str
    service_port: int

    @property
    def url(self) -> str:
        """Base URL of the REST API."""
        return f"http://{url_host(self.service_name)}:{self.service_port}"

    @property
    def namespace(self) -> str:
        """Namespace of the service, as in ml-pipeline.kubeflow.svc; empty if unknown."""
        if is_address(self.service_name):
            return ""
        return self.service_name.partition(".")[2].partition(".")[0]


class KfpApiRequirer(SdiRequirer):
    """The relation with kfp-api (interface k8s-service)."""

    def __init__(self, charm: ops.CharmBase, relation_name: str = "kfp-api"):
        super().__init__(charm, relation_name)

    def get(self, relation: ops.Relation | None = None) -> KfpApi | None:
        """Return the API's address, or None if kfp-api has not published it yet.

        Args:
            relation: Relation to read; by default the only one. Pass a broken relation from its event.

        Raises:
            RelationDataError: kfp-api published data that the interface does not allow.
        """
        data = self._data(relation)
        if data is None:
            return None
        return KfpApi(
            service_name=self._host(data, "service-name"),
            service_port=self._port(data, "service-port"),
        )
