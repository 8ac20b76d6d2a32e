"""What the leader writes to the relations that this application provides for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import models
import observability
import pushgateway
from kfp_ops import DashboardLink
from observability import Topology
from situation import Situation


def announcements(
    topology: Topology, situation: Situation, endpoints: Iterable[str]
) -> dict[str, Mapping[str, str]]:
    """The data for each endpoint; what is not known leaves what was written before.

    Args:
        topology: which application this is.
        situation: what was seen.
        endpoints: those that are related; to make the data for others would take its time.
    """
    return {
        endpoint: told
        for endpoint in endpoints
        if endpoint in _TOLD and (told := _TOLD[endpoint](topology, situation))
    }


def _links(topology: Topology, situation: Situation) -> Mapping[str, str]:
    run = situation.latest
    where = f"/pipeline/#/experiments/details/{run.experiment_id}" if run else "/pipeline/#/runs"
    link = DashboardLink(text=f"Trainer {topology.application}", link=where, icon="icons:timeline")
    return DashboardLink.published([link])


def _model(_: Topology, situation: Situation) -> Mapping[str, str]:
    if situation.champion is None or situation.config is None:
        return {}
    return models.published(situation.config, situation.champion).published


_TOLD: dict[str, Callable[[Topology, Situation], Mapping[str, str]]] = {
    "metrics-endpoint": lambda topology, _: observability.scrape(topology, pushgateway.PORT),
    "grafana-dashboard": lambda topology, _: observability.dashboards(topology),
    "dashboard-links": _links,
    "trained-model": _model,
}
