"""Entries in Kubeflow's dashboard (interface kubeflow_dashboard_links)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence


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
        """Return what the leader writes to a relation kubeflow_dashboard_links."""
        return {"dashboard_links": json.dumps([dataclasses.asdict(link) for link in links])}
