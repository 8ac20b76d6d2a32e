"""Scenarios that hold in any model, each of which takes a `Deployment`, in this order."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

APP = "trainer"
RESOURCES = {"pushgateway-image": "docker.io/prom/pushgateway:v1.11.1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kit:
    """What to deploy: charms by path, and the options of the stand-ins by application.

    Attributes:
        bundle: is deployed whole instead, when it is there.
    """

    trainer: Path
    stand_ins: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    bundle: Path | None = None


def runs(deployed):
    """Return the ids of the trainer's runs."""
    results = deployed.run_action(leader(deployed), "list-runs", limit=100)
    return {line.split()[-1] for line in results.get("runs", "").splitlines()}


def leader(deployed):
    (name,) = [unit.name for unit in deployed.units(APP) if unit.leader]
    return name


def settled(deployed, units=1):
    """Return whether all units are active and idle, one leads, and the newest run has SUCCEEDED."""
    trainer_units = deployed.units(APP)
    return (
        len(trainer_units) == units
        and all(unit.status == "active" and unit.idle for unit in trainer_units)
        and sum(unit.leader for unit in trainer_units) == 1
        and deployed.run_action(leader(deployed), "get-run")["state"] == "SUCCEEDED"
    )


def deployment_becomes_active(deployed, kit):
    if kit.bundle:
        deployed.deploy_bundle(kit.bundle)
    else:
        for app, charm in kit.stand_ins.items():
            deployed.deploy(charm, app, config=kit.options[app])
        deployed.deploy(kit.trainer, APP, config={"profile": ""}, resources=RESOURCES, trust=True)
        for app in kit.stand_ins:
            deployed.integrate(f"{APP}:{app}", f"{app}:{app}")
    deployed.wait(lambda: settled(deployed), 90 if kit.bundle else 30)


def train_action_submits_a_run(deployed):
    before = runs(deployed)
    results = deployed.run_action(leader(deployed), "train", wait=True, epochs=1)
    assert results["state"] == "SUCCEEDED"
    assert runs(deployed) - before == {results["run-id"]}


def changed_option_submits_one_run(deployed):
    before = runs(deployed)
    deployed.configure(APP, seed=43)
    deployed.wait(lambda: len(runs(deployed) - before) >= 1, 10)
    deployed.wait(lambda: settled(deployed), 30)
    assert len(runs(deployed) - before) == 1


def one_of_two_units_is_leader(deployed):
    before = runs(deployed)
    deployed.scale(APP, 2)
    deployed.wait(lambda: settled(deployed, 2), 15)
    assert runs(deployed) == before


def leader_pod_is_replaced(deployed):
    before = runs(deployed)
    killed = leader(deployed)
    pod = deployed.pod(killed)
    deployed.kill(killed)
    # The status is the old one until Juju sees that the pod has gone.
    deployed.wait(lambda: deployed.pod(killed) not in ("", pod) and settled(deployed, 2), 15)
    assert runs(deployed) == before


def refresh_submits_no_run(deployed, kit):
    before, revision = runs(deployed), deployed.revision(APP)
    deployed.refresh(APP, kit.trainer, RESOURCES)
    deployed.wait(lambda: deployed.revision(APP) != revision and settled(deployed, 2), 15)
    assert runs(deployed) == before


def application_is_removed(deployed):
    deployed.remove(APP)
    deployed.wait(lambda: not deployed.units(APP), 15)
