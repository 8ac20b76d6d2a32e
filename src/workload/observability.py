"""Relation data for the Canonical Observability Stack: scrape jobs, alert rules, dashboards, logs.

The formats are those of the charm libraries prometheus_scrape v0, grafana_dashboard v0 and
loki_push_api v1, from the charms prometheus-k8s, grafana-k8s and loki-k8s.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import lzma
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import ops
import yaml

HERE = Path(__file__).parents[1]
RULES = HERE / "prometheus_alert_rules"
DASHBOARDS = HERE / "grafana_dashboards"
# Placeholder for label matchers that select this application's metrics, as in other charms' rules.
TOPOLOGY = "%%juju_topology%%"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """Identity of this application in Prometheus, Grafana and Loki."""

    model: str
    model_uuid: str
    application: str
    charm: str

    @classmethod
    def from_model(cls, model: ops.Model, charm: str) -> Topology:
        """Return the topology of the unit's own application."""
        return cls(model=model.name, model_uuid=model.uuid, application=model.app.name, charm=charm)

    @property
    def labels(self) -> dict[str, str]:
        """Labels that the application's metrics, rules and logs share."""
        return {
            "juju_model": self.model,
            "juju_model_uuid": self.model_uuid,
            "juju_application": self.application,
            "juju_charm": self.charm,
        }


def scrape(topology: Topology, port: int) -> dict[str, str]:
    """Return the leader's data for the relation metrics-endpoint."""
    metadata = {
        "model": topology.model,
        "model_uuid": topology.model_uuid,
        "application": topology.application,
        "charm_name": topology.charm,
    }
    jobs = [{"metrics_path": "/metrics", "static_configs": [{"targets": [f"*:{port}"]}]}]
    return {
        "scrape_metadata": json.dumps(metadata),
        "scrape_jobs": json.dumps(jobs),
        "alert_rules": json.dumps(alert_rules(topology)),
    }


def scrape_unit(unit: str, binding: ops.Binding | None) -> dict[str, str]:
    """Return a unit's data for the relation metrics-endpoint.

    Args:
        unit: Name of the unit.
        binding: Binding of the relation; without an address, the host name is used.
    """
    # The binding exists before the pod has an address.
    address = binding.network.bind_address if binding else None
    return {
        "prometheus_scrape_unit_name": unit,
        "prometheus_scrape_unit_address": str(address or socket.getfqdn()),
        "prometheus_scrape_unit_path": "",
    }


def alert_rules(topology: Topology) -> dict[str, object]:
    """Return the rules in prometheus_alert_rules/, restricted to this application's metrics."""
    labels = topology.labels
    matchers = ", ".join(
        f'{name}="{labels[name]}"' for name in ("juju_model", "juju_model_uuid", "juju_application")
    )
    name = f"{topology.model}_{topology.model_uuid[:8]}_{topology.application}"
    groups: list[dict[str, object]] = []
    for path in sorted(RULES.glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8").replace(TOPOLOGY, matchers))
        for group in document["groups"]:
            rules = [
                {**rule, "labels": {**rule.get("labels", {}), **labels}} for rule in group["rules"]
            ]
            groups.append({"name": f"{name}_{group['name']}_alerts", "rules": rules})
    return {"groups": groups}


def dashboards(topology: Topology) -> dict[str, str]:
    """Return the leader's data for the relation grafana-dashboard."""
    templates: dict[str, Mapping[str, object]] = {}
    for path in sorted(DASHBOARDS.glob("*.json")):
        content = base64.b64encode(lzma.compress(path.read_bytes())).decode()
        templates[f"file:{path.stem}"] = {
            "charm": topology.charm,
            "content": content,
            "juju_topology": {
                "model": topology.model,
                "model_uuid": topology.model_uuid,
                "application": topology.application,
                "unit": f"{topology.application}/0",
            },
            "inject_dropdowns": True,
            "dashboard_alt_uid": hashlib.sha256(
                f"{topology.charm}{path.stem}".encode()
            ).hexdigest()[:8],
        }
    # The consumer needs a value that changes with the content; a random one would change at each event.
    digest = hashlib.sha256(json.dumps(templates, sort_keys=True).encode()).hexdigest()
    return {"dashboards": json.dumps({"templates": templates, "uuid": digest[:32]})}


def loki_endpoints(
    relations: Iterable[ops.Relation], juju_version: ops.JujuVersion
) -> dict[str, str]:
    """Return the addresses of Loki's push API by unit.

    Args:
        relations: Relations of the endpoint logging.
        juju_version: Version of the controller; before 3.4, Pebble rejects log targets.
    """
    if juju_version < "3.4":
        return {}
    endpoints: dict[str, str] = {}
    for relation in relations:
        for unit in relation.units:
            # Skip units that have published no address, or an invalid one.
            with contextlib.suppress(KeyError, TypeError, ValueError):
                endpoints[unit.name] = str(json.loads(relation.data[unit]["endpoint"])["url"])
    return endpoints
