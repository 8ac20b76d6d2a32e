"""The workload: a Prometheus Pushgateway that holds what the charm last saw, to be scraped.

A charm runs for moments only, so it cannot be scraped itself. Charm and workload share the pod's
network: the charm pushes over loopback, and nothing outside the pod needs to.
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
    """Return the Pebble layer: the program, its health check, and where its log goes.

    Args:
        loki: addresses of Loki's push API by the name of a target; those that went are "".
        labels: of the lines of the log.
    """
    wanted: ops.pebble.LayerDict = {
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
        # A target cannot be taken out of a plan, only switched off.
        wanted["log-targets"] = {
            name: {
                "override": "replace",
                "type": "loki",
                "location": address or "(removed)",
                "services": ["all"] if address else ["-all"],
                "labels": dict(labels),
            }
            for name, address in loki.items()
        }
    return wanted


def reconcile(
    container: ops.Container, endpoints: Mapping[str, str], labels: Mapping[str, str]
) -> None:
    """See to it that the program runs, as soon as its container does.

    Args:
        container: the workload's.
        endpoints: addresses of Loki's push API by the name of a target.
        labels: of the lines of the log.
    """
    try:
        targets = container.get_plan().log_targets
        container.add_layer(
            CONTAINER, layer({**dict.fromkeys(targets, ""), **endpoints}, labels), combine=True
        )
        container.replan()
    except (ops.pebble.ConnectionError, ops.pebble.ChangeError):
        pass  # it has an event of its own when it comes up, and `failure` starts it again
    except ops.pebble.Error as error:
        logger.warning("no pushgateway yet: %s", error)


def failure(container: ops.Container) -> str:
    """Why the program does not run although its container is up; empty where all is well.

    One that does not run is started: nobody else does after a start that failed, until Juju changes
    something.

    Args:
        container: the workload's. As long as it is not up, or has no plan, its event is still to come.
    """
    try:
        service = container.get_services(CONTAINER).get(CONTAINER)
        if service and not service.is_running():
            container.replan()
    except ops.pebble.ConnectionError:
        return ""
    except ops.pebble.Error as error:
        # With the program's last words, of which a status has room for the first.
        logger.warning("the pushgateway does not run: %s", error)
        return single_line(str(error), 300)
    return ""


def push(job: str, metrics: bytes | None, *, is_whole: bool = True) -> None:
    """Replace what the gateway holds of a job; None takes it away.

    Metrics are no reason to fail: what goes wrong is logged, and the next event pushes again.

    Args:
        job: the value of the label `job`.
        metrics: in Prometheus' text format.
        is_whole: False leaves series of other names with their last values, since what could not be
            seen is not gone.
    """
    import httpx

    # https://github.com/prometheus/pushgateway#put-method: PUT replaces all of a job, POST the names
    # that are in it.
    method = "DELETE" if metrics is None else "PUT" if is_whole else "POST"
    try:
        httpx.request(
            method,
            f"{URL}/metrics/job/{job}",
            content=metrics,
            timeout=5,
            trust_env=False,
        ).raise_for_status()
    except httpx.HTTPError as error:
        logger.warning("metrics were not pushed: %s", error)
