"""Data that the leader writes to the relations that this application provides. Pure.

The data is returned by functions without arguments, so that it is computed only if a relation exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kfp_ops import DashboardLink, TrainedModel
from reconciler.snapshot import Snapshot
from workload import observability, pushgateway
from workload.observability import Topology

RelationData = Callable[[], Mapping[str, str]]
# Signature of every version's SavedModel: docs/reference/registry.md.
SIGNATURE = {
    "inputs": {"images": {"dtype": "uint8", "shape": [-1, 28, 28]}},
    "outputs": {"probabilities": {"dtype": "float32", "shape": [-1, 10]}},
}


def observability_data(topology: Topology) -> dict[str, RelationData]:
    """Return the data that changes only with Juju's events, by endpoint."""
    return {
        "metrics-endpoint": lambda: observability.scrape(topology, pushgateway.PORT),
        "grafana-dashboard": lambda: observability.dashboards(topology),
    }


def snapshot_data(topology: Topology, snapshot: Snapshot) -> dict[str, RelationData]:
    """Return the snapshot's data by endpoint; unknown values leave the old data in place."""
    return {
        "dashboard-links": lambda: _links(topology, snapshot),
        "trained-model": lambda: _model(snapshot),
    }


def _links(topology: Topology, snapshot: Snapshot) -> Mapping[str, str]:
    if snapshot.problem:
        # Keep the old link, which leads to the trainer's experiment.
        return {}
    run = snapshot.latest
    path = f"/pipeline/#/experiments/details/{run.experiment_id}" if run else "/pipeline/#/runs"
    link = DashboardLink(text=f"Trainer {topology.application}", link=path, icon="icons:timeline")
    return DashboardLink.published([link])


def _model(snapshot: Snapshot) -> Mapping[str, str]:
    if snapshot.champion is None or snapshot.config is None:
        # Retract the model only if it is certain that none serves.
        return {} if snapshot.problem else {"model": ""}
    config, champion = snapshot.config, snapshot.champion
    model = TrainedModel(
        name=config.registry_prefix.rsplit("/", 1)[-1],
        version=champion.version,
        uri=config.model_uri(champion.version),
        format="tensorflow-saved-model",
        accuracy=champion.manifest.accuracy,
        run_id=champion.manifest.run_id,
        signature=SIGNATURE,
    )
    return model.published
