"""Entries in Kubeflow's dashboard (interface kubeflow_dashboard_links)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class DashboardLink:
    """An entry in Kubeflow's dashboard."""

    text: str
    """Text of the entry."""

    link: str
    """URL; relative to the dashboard for the locations menu and quick."""

    type: str = "item"
    icon: str = "icons:link"
    """Icon from https://www.kubeflow.org/docs/components/central-dash/customizing-menu/."""

    location: str = "menu"
    """One of menu, external, quick and documentation."""

    desc: str = ""
    """Description, for the location documentation."""

    @staticmethod
    def published(links: Sequence[DashboardLink]) -> dict[str, str]:
        """Return the leader's data for a relation kubeflow_dashboard_links."""
        return {"dashboard_links": json.dumps([dataclasses.asdict(link) for link in links])}
