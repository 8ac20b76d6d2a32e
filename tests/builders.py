"""Functions that build contexts, states, relations and manifests for tests."""

import dataclasses
from pathlib import Path

import ops.testing
import yaml

# Read once: otherwise each Context reads it again.
CHARMCRAFT = yaml.safe_load((Path(__file__).parents[1] / "charmcraft.yaml").read_text())
# Most tests do not involve the workload, so its container is not ready.
PUSHGATEWAY = ops.testing.Container("pushgateway", can_connect=False)


def trainer(**options):
    """Return a context that sends events to the charm, with the metadata in charmcraft.yaml."""
    from charm import FashionMnistTrainerCharm

    return ops.testing.Context(
        FashionMnistTrainerCharm, meta=CHARMCRAFT, app_name="trainer", **options
    )


def sdi(endpoint, remote, data):
    """Return a relation whose remote application published data by the Serialized Data Interface."""
    return ops.testing.Relation(
        endpoint,
        remote_app_name=remote,
        remote_app_data={"_supported_versions": "- v1\n", "data": yaml.safe_dump(data)},
    )


def unrelated_state(**fields):
    """Return a state without relations and configuration, but for the given fields."""
    return ops.testing.State(containers={PUSHGATEWAY}, **fields)


def with_pushgateway(state, **fields):
    """Return a state in which the Pushgateway's container is ready."""
    container = ops.testing.Container("pushgateway", can_connect=True, **fields)
    return dataclasses.replace(state, containers={container})


def pushgateway_of(state):
    """Return the Pushgateway's container."""
    return state.get_container("pushgateway")


def manifest(run_id="run-1", **fields):
    """Return a minimal manifest of a run."""
    return {
        "schema_version": 1,
        "run_id": run_id,
        "metrics": {"test": {"accuracy": 0.9}},
        "verdict": {"status": "accepted", "reasons": []},
        **fields,
    }


def container_statuses(**state):
    """Return the status of a pod's only container, in this state."""
    return [
        {
            "name": "main",
            "image": "i",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
    ]


def terminated(code, reason=None, **fields):
    """Return the status of a pod's only container, which exited with this code."""
    return container_statuses(terminated={"exitCode": code, "reason": reason, **fields})


def image_pull_error():
    """Return the status of a pod whose image cannot be pulled."""
    waiting = {"reason": "ErrImagePull", "message": "no such tag"}
    return {"phase": "Pending", "containerStatuses": container_statuses(waiting=waiting)}
