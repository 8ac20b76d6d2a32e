"""Commands that `CommandLine` runs under each Juju."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "integration" / "deployment.py"
spec = importlib.util.spec_from_file_location("command_line", PATH)
sys.modules[spec.name] = deployment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(deployment)


@pytest.mark.parametrize(
    ("version", "relate", "run"),
    [
        ("2.9.53", "relate", "run-action"),
        ("3.6.14", "integrate", "run"),
        ("4.0.15", "integrate", "run"),
    ],
)
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_commands_match_the_juju_version(version, relate, run, status):
    commands = []

    def juju(*words, minutes):
        assert 0 < minutes < 100
        commands.append(words)
        task = {"status": status, "results": {"run-id": "r"}, "message": "no"}
        if words[0] == "run" and status == "failed":
            # The client does the same from Juju 3 on.
            out = json.dumps({"trainer/0": task})
            raise subprocess.CalledProcessError(1, "juju", out, "ERROR the following task failed")
        return {"version": f"{version}-ubuntu-amd64\n", run: json.dumps({"trainer/0": task})}.get(
            words[0], ""
        )

    deployed = deployment.CommandLine(juju, "kubeflow", kubectl=["kubectl"])
    deployed.integrate("trainer:kfp-api", "kfp-api:kfp-api")
    if status == "completed":
        assert deployed.run_action("trainer/0", "train", wait=True) == {"run-id": "r"}
    else:
        with pytest.raises(deployment.ActionFailedError, match="no"):
            deployed.run_action("trainer/0", "train", wait=True)
    assert commands[1:] == [
        (relate, "trainer:kfp-api", "kfp-api:kfp-api"),
        (run, "trainer/0", "train", "wait=true", "--wait=90m", "--format=json"),
    ]


def test_client_error_is_not_a_failed_action():
    def juju(*words, minutes):
        assert 0 < minutes < 100
        if words[0] == "version":
            return "4.0.15"
        raise subprocess.CalledProcessError(1, "juju", "", "ERROR no such unit")

    deployed = deployment.CommandLine(juju, "kubeflow", kubectl=["kubectl"])
    with pytest.raises(subprocess.CalledProcessError):
        deployed.run_action("trainer/0", "train")


@pytest.mark.parametrize(
    ("unit", "idle"),
    [
        ({"juju-status": {"current": "idle"}}, True),
        ({"juju-status": {"current": "executing"}}, False),
        ({"juju-status": {"current": "idle"}, "upgrading-from": "local:trainer-0"}, False),
    ],
)
def test_unit_is_idle_with_its_applications_charm(unit, idle):
    unit = {"workload-status": {"current": "active"}, "leader": True, **unit}
    status = {"applications": {"trainer": {"charm-rev": 3, "units": {"trainer/0": unit}}}}

    def juju(*words, minutes):
        assert 0 < minutes < 100
        return "4.0.15" if words[0] == "version" else json.dumps(status)

    deployed = deployment.CommandLine(juju, "kubeflow", kubectl=["kubectl"])
    (unit_,) = deployed.units("trainer")
    assert unit_.idle == idle
    assert deployed.revision("trainer") == 3
    assert deployed.units("minio") == []
