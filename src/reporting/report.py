"""Report to monitoring, Kubeflow's dashboard and charms that use the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ops

from kfp_ops import update_databag
from reconciler.snapshot import Snapshot
from reporting import metrics, relation_data, status
from reporting.relation_data import RelationData
from workload import observability, pushgateway
from workload.observability import Topology


def configure_workload(model: ops.Model, charm_name: str) -> None:
    """Run the Pushgateway and publish its scrape job; needed only after Juju's changes.

    Args:
        model: Juju model of the unit.
        charm_name: Name in charmcraft.yaml.
    """
    topology = Topology.from_model(model, charm_name)
    loki = observability.loki_endpoints(model.relations["logging"], model.juju_version)
    pushgateway.reconcile(model.unit.get_container(pushgateway.CONTAINER), loki, topology.labels)
    for relation in model.relations["metrics-endpoint"]:
        data = observability.scrape_unit(model.unit.name, model.get_binding(relation))
        update_databag(relation.data[model.unit], data)
    _publish(model, relation_data.observability_data(topology))


def report(model: ops.Model, snapshot: Snapshot, charm_name: str, charm_dir: Path) -> None:
    """Push metrics, write to relations and set the workload version.

    Args:
        model: Juju model of the unit.
        snapshot: What exists.
        charm_name: Name in charmcraft.yaml.
        charm_dir: Folder of the charm.
    """
    is_leader = model.unit.is_leader()
    if model.unit.get_container(pushgateway.CONTAINER).can_connect():
        text = metrics.exposition(snapshot) if is_leader else None
        pushgateway.push(model.app.name, text, is_complete=not snapshot.problem)
    topology = Topology.from_model(model, charm_name)
    _publish(model, relation_data.snapshot_data(topology, snapshot))
    if is_leader and not snapshot.problem:
        model.unit.set_workload_version(status.workload_version(snapshot, charm_dir))


def _publish(model: ops.Model, data: Mapping[str, RelationData]) -> None:
    """Write to the relations that exist, if this unit is the leader."""
    if model.unit.is_leader():
        for endpoint, relation_data_of in data.items():
            for relation in model.relations[endpoint]:
                update_databag(relation.data[model.app], relation_data_of())
