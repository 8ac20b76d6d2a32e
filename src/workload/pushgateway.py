"""The workload: a Prometheus Pushgateway that holds the charm's latest metrics.

Prometheus cannot scrape a charm, which runs only during events. Charm and workload share the pod's
network, so the charm pushes over loopback.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import ops

from kfp_ops.text import single_line

logger = logging.getLogger(__name__)

CONTAINER = "pushgateway"
PORT = 9091
URL = f"http://127.0.0.1:{PORT}"


def layer(loki: Mapping[str, str], labels: Mapping[str, str]) -> ops.pebble.LayerDict:
    """Return the Pebble layer: the service, its health check and its log targets.

    Args:
        loki: Addresses of Loki's push API by target name; empty for removed targets.
        labels: Labels of the log lines.
    """
    pebble_layer: ops.pebble.LayerDict = {
        "summary": "Prometheus Pushgateway",
        "services": {
            CONTAINER: {
                "override": "replace",
                "summary": "holds the trainer's metrics",
                "command": f"/bin/pushgateway --web.listen-address=:{PORT}",
                "startup": "enabled",
                "on-check-failure": {"ready": "restart"},
            }
        },
        "checks": {
            "ready": {"override": "replace", "level": "ready", "http": {"url": f"{URL}/-/ready"}}
        },
    }
    if loki:
        # Pebble cannot remove a target from a plan, only disable it.
        pebble_layer["log-targets"] = {
            name: {
                "override": "replace",
                "type": "loki",
                "location": address or "(removed)",
                "services": ["all"] if address else ["-all"],
                "labels": dict(labels),
            }
            for name, address in loki.items()
        }
    return pebble_layer


def reconcile(
    container: ops.Container, endpoints: Mapping[str, str], labels: Mapping[str, str]
) -> None:
    """Start or update the service if its container is up.

    Args:
        container: The workload's container.
        endpoints: Addresses of Loki's push API by target name.
        labels: Labels of the log lines.
    """
    try:
        targets = container.get_plan().log_targets
        container.add_layer(
            CONTAINER, layer({**dict.fromkeys(targets, ""), **endpoints}, labels), combine=True
        )
        container.replan()
    except (ops.pebble.ConnectionError, ops.pebble.ChangeError):
        pass  # pebble-ready follows when the container is up, and `failure` restarts the service
    except ops.pebble.Error as error:
        logger.warning("cannot configure Pushgateway: %s", error)


def failure(container: ops.Container) -> str:
    """Restart the service if it is down; return why that failed, or an empty string.

    After a failed start, nothing else restarts it until the next change in Juju. A container that is not
    up yet is no failure.

    Args:
        container: The workload's container.
    """
    try:
        service = container.get_services(CONTAINER).get(CONTAINER)
        if service and not service.is_running():
            container.replan()
    except ops.pebble.ConnectionError:
        return ""
    except ops.pebble.Error as error:
        # The error includes the service's last output, which the status truncates.
        logger.warning("Pushgateway is not running: %s", error)
        return single_line(str(error), 300)
    return ""


def push(job: str, metrics: bytes | None, *, is_complete: bool = True) -> None:
    """Replace the metrics of a job in the gateway.

    Failures are only logged: the next event pushes again.

    Args:
        job: Value of the label `job`.
        metrics: Metrics in Prometheus' text format; None deletes the job's metrics.
        is_complete: If False, metrics with other names keep their last values.
    """
    import httpx

    # PUT replaces all metrics of a job, POST only those with the same names:
    # https://github.com/prometheus/pushgateway#put-method
    method = "DELETE" if metrics is None else "PUT" if is_complete else "POST"
    try:
        httpx.request(
            method,
            f"{URL}/metrics/job/{job}",
            content=metrics,
            timeout=5,
            trust_env=False,
        ).raise_for_status()
    except httpx.HTTPError as error:
        logger.warning("cannot push metrics: %s", error)
