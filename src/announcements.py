"""What the leader writes to the relations that this application provides for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import models
import observability
import pushgateway
from kfp_ops import DashboardLink
from observability import Topology
from situation import Situation


def announcements(topology: Topology, situation: Situation) -> dict[str, Mapping[str, str]]:
    """The data for each endpoint; what is not known leaves what was written before.

    Args:
        topology: which application this is.
        situation: what was seen.
    """
    run, champion = situation.latest, situation.champion
    where = f"/pipeline/#/experiments/details/{run.experiment_id}" if run else "/pipeline/#/runs"
    link = DashboardLink(text=f"Trainer {topology.application}", link=where, icon="icons:timeline")
    told: dict[str, Mapping[str, str]] = {
        "metrics-endpoint": observability.scrape(topology, pushgateway.PORT),
        "grafana-dashboard": observability.dashboards(topology),
        "dashboard-links": DashboardLink.published([link]),
    }
    if champion and situation.config:
        told["trained-model"] = models.published(situation.config, champion).published
    return told
