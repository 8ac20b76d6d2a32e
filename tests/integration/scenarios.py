"""What is true of the trainer in any model; each is asked of a `Deployment`, in this order."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

APP = "trainer"
RESOURCES = {"pushgateway-image": "docker.io/prom/pushgateway:v1.11.1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kit:
    """What is deployed: charms by path, and the options of the stand-ins by application.

    Attributes:
        bundle: is deployed whole instead, when it is there.
    """

    trainer: Path
    stand_ins: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    bundle: Path | None = None


def runs(there):
    """The ids of the trainer's runs."""
    said = there.run_action(leader(there), "list-runs", limit=100)
    return {line.split()[-1] for line in said.get("runs", "").splitlines()}


def leader(there):
    (name,) = [unit.name for unit in there.units(APP) if unit.leader]
    return name


def settled(there, units=1):
    """Whether so many units are active and idle, one leads, and the newest run has SUCCEEDED."""
    found = there.units(APP)
    return (
        len(found) == units
        and all(unit.status == "active" and unit.idle for unit in found)
        and sum(unit.leader for unit in found) == 1
        and there.run_action(leader(there), "get-run")["state"] == "SUCCEEDED"
    )


def is_deployed(there, kit):
    if kit.bundle:
        there.deploy_bundle(kit.bundle)
    else:
        for app, charm in kit.stand_ins.items():
            there.deploy(charm, app, config=kit.options[app])
        there.deploy(kit.trainer, APP, config={"profile": ""}, resources=RESOURCES, trust=True)
        for app in kit.stand_ins:
            there.integrate(f"{APP}:{app}", f"{app}:{app}")
    there.wait(lambda: settled(there), 90 if kit.bundle else 30)


def trains_when_asked(there):
    before = runs(there)
    said = there.run_action(leader(there), "train", wait=True, epochs=1)
    assert said["state"] == "SUCCEEDED"
    assert runs(there) - before == {said["run-id"]}


def a_change_is_one_run(there):
    before = runs(there)
    there.configure(APP, seed=43)
    there.wait(lambda: len(runs(there) - before) >= 1, 10)
    there.wait(lambda: settled(there), 30)
    assert len(runs(there) - before) == 1


def one_of_two_leads(there):
    before = runs(there)
    there.scale(APP, 2)
    there.wait(lambda: settled(there, 2), 15)
    assert runs(there) == before


def the_leaders_pod_may_die(there):
    before = runs(there)
    killed = leader(there)
    pod = there.pod(killed)
    there.kill(killed)
    # The status is the old one until Juju sees that the pod has gone.
    there.wait(lambda: there.pod(killed) not in ("", pod) and settled(there, 2), 15)
    assert runs(there) == before


def a_refresh_trains_nothing(there, kit):
    before, revision = runs(there), there.revision(APP)
    there.refresh(APP, kit.trainer, RESOURCES)
    there.wait(lambda: there.revision(APP) != revision and settled(there, 2), 15)
    assert runs(there) == before


def is_removed(there):
    there.remove(APP)
    there.wait(lambda: not there.units(APP), 15)
