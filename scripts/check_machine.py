"""Say what a machine lacks for bundle.yaml, and the command that puts each thing right.

It changes nothing, and needs Python only. The exit status is 0 when nothing is missing, else 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHARM = ROOT / "fashion-mnist-trainer_amd64.charm"
MODEL = "kubeflow"
JUJU = (3, 6)
# Charmed Kubeflow 1.11 supports no earlier one.
KUBERNETES = (1, 29)
ADDRESSES = "10.64.140.43-10.64.140.49"
ENABLE = {
    "dns": "sudo microk8s enable dns",
    "hostpath-storage": "sudo microk8s enable hostpath-storage",
    "rbac": "sudo microk8s enable rbac",
    "metallb": f"sudo microk8s enable metallb:{ADDRESSES}",
}
# Notebooks and pipelines open many files.
INOTIFY = {"fs.inotify.max_user_instances": 1280, "fs.inotify.max_user_watches": 655360}
GIB = 2**30
SECONDS = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Something that the bundle needs.

    Attributes:
        what: in a few words, with what was found.
        good: whether it is there.
        remedy: the command, or the advice, that puts it right.
    """

    what: str
    good: bool
    remedy: str = ""


class NoAnswerError(Exception):
    """A command is not there, failed or took too long; says which and why."""


def ask(*command: str) -> str:
    """What a command prints.

    Raises:
        NoAnswerError: it cannot be run, fails, or does not end within a minute.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswerError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NoAnswerError(f"{' '.join(command)}: {said[-1] if said else 'failed'}")
    return done.stdout


def ask_json(*command: str) -> dict[str, Any]:
    """What a command prints as JSON.

    Raises:
        NoAnswerError: as `ask`, or it prints something else.
    """
    try:
        return json.loads(ask(*command))
    except json.JSONDecodeError as error:
        raise NoAnswerError(f"{' '.join(command)}: no JSON") from error


def version(text: str) -> tuple[int, int]:
    """The first two numbers of a version such as 3.6.9-ubuntu-amd64.

    Raises:
        NoAnswerError: there are none.
    """
    try:
        major, minor = text.strip().lstrip("v").split(".")[:2]
        return int(major), int("".join(filter(str.isdigit, minor)))
    except ValueError as error:
        raise NoAnswerError(f"{text.strip()!r} is no version") from error


def hardware(cores: int, memory: int, disk: int) -> Iterator[Check]:
    """Cores, and GiB of memory and of free disk."""
    here = os.cpu_count() or 0
    yield Check(what=f"{here} of {cores} cores", good=here >= cores, remedy="take a larger machine")
    # A machine sold with 32 GiB shows a little less.
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    yield Check(
        what=f"{size:.0f} of {memory} GiB of memory",
        good=size >= 0.95 * memory,
        remedy="take a larger machine",
    )
    place = next(path for path in (Path("/var/snap"), Path("/")) if path.exists())
    free = shutil.disk_usage(place).free / GIB
    yield Check(
        what=f"{free:.0f} of {disk} GiB free in {place}",
        good=free >= disk,
        remedy=f"free space on the disk of {place}, or take a larger one",
    )


def kernel() -> Iterator[Check]:
    """How many files may be watched."""
    for name, least in INOTIFY.items():
        there = int(ask("sysctl", "-n", name))
        yield Check(
            what=f"{name} is {there} (at least {least})",
            good=there >= least,
            remedy=f"sudo sysctl {name}={least}",
        )


def microk8s() -> Iterator[Check]:
    """MicroK8s, its version, and its addons."""
    if not shutil.which("microk8s"):
        remedy = "sudo snap install microk8s --channel=1.32-strict/stable"
        yield Check(what="microk8s", good=False, remedy=remedy)
        return
    status = ask("microk8s", "status", "--format", "short")
    running = "microk8s is running" in status
    yield Check(what="microk8s is running", good=running, remedy="sudo microk8s start")
    if not running:
        return
    answer = ask_json("microk8s", "kubectl", "version", "--output", "json")
    there = answer["serverVersion"]["gitVersion"]
    yield Check(
        what=f"Kubernetes {there} (1.{KUBERNETES[1]} or later)",
        good=version(there) >= KUBERNETES,
        remedy="sudo snap refresh microk8s --channel=1.32-strict/stable",
    )
    on = {
        line.split(":")[0].rpartition("/")[2]
        for line in status.splitlines()
        if line.endswith(": enabled")
    }
    for addon, remedy in ENABLE.items():
        yield Check(what=f"addon {addon}", good=addon in on, remedy=remedy)
    yield Check(
        what="addon istio is off (the bundle has its own)",
        good="istio" not in on,
        remedy="sudo microk8s disable istio",
    )
    if "metallb" in on:
        yield addresses()
    if "hostpath-storage" in on:
        yield storage()


def addresses() -> Check:
    """Whether MetalLB has addresses, one of which the bundle's gateway gets."""
    words = "get", "ipaddresspools.metallb.io", "--all-namespaces", "--output", "json"
    pools = ask_json("microk8s", "kubectl", *words)["items"]
    ranges = [each for pool in pools for each in pool["spec"].get("addresses", [])]
    return Check(
        what=f"addresses for the gateway: {', '.join(ranges) or 'none'}",
        good=bool(ranges),
        remedy=f"sudo microk8s disable metallb && {ENABLE['metallb']}",
    )


def storage() -> Check:
    """Whether a volume that names no class gets one."""
    classes = ask_json("microk8s", "kubectl", "get", "storageclasses", "--output", "json")["items"]
    mark = "storageclass.kubernetes.io/is-default-class"
    good = any(each["metadata"].get("annotations", {}).get(mark) == "true" for each in classes)
    return Check(
        what="a default StorageClass",
        good=good,
        remedy=f"microk8s kubectl annotate storageclass microk8s-hostpath {mark}=true --overwrite",
    )


def juju() -> Iterator[Check]:
    """Juju's client, a controller, and the model."""
    want = ".".join(map(str, JUJU))
    if not shutil.which("juju"):
        remedy = f"sudo snap install juju --channel={want}/stable"
        yield Check(what="juju", good=False, remedy=remedy)
        return
    client = ask("juju", "version").strip()
    yield Check(
        what=f"juju {client} ({want} or later)",
        good=version(client) >= JUJU,
        remedy=f"sudo snap refresh juju --channel={want}/stable",
    )
    answer = ask_json("juju", "controllers", "--format", "json")
    name = answer.get("current-controller")
    yield Check(
        what=f"controller {name or ''}".strip(),
        good=bool(name),
        remedy="mkdir -p ~/.local/share && microk8s config | juju add-k8s my-k8s --client "
        "&& juju bootstrap my-k8s uk8sx",
    )
    if not name:
        return
    agent = answer["controllers"][name].get("agent-version", "0.0")
    yield Check(
        what=f"the controller's version {agent} ({want} or later)",
        good=version(agent) >= JUJU,
        remedy="juju upgrade-controller",
    )
    models = ask_json("juju", "models", "--format", "json")
    names = {each["name"].rpartition("/")[2] for each in models["models"]}
    yield Check(what=f"model {MODEL}", good=MODEL in names, remedy=f"juju add-model {MODEL}")
    if MODEL in names:
        current = (models.get("current-model") or "").rpartition("/")[2]
        yield Check(
            what=f"the current model is {MODEL}",
            good=current == MODEL,
            remedy=f"juju switch {MODEL}",
        )


def charm() -> Iterator[Check]:
    """The packed charm, which the bundle deploys from here."""
    yield Check(what=CHARM.name, good=CHARM.exists(), remedy="make pack")


def carry_out(group: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A group's checks; one that gets no answer is missing too."""
    try:
        yield from group()
    except NoAnswerError as error:
        yield Check(what=str(error), good=False, remedy="see that this command works")


def main() -> int:
    """Print the checks; 1 when something is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=4, help="at least")
    parser.add_argument("--memory", type=int, default=32, help="GiB, at least")
    parser.add_argument("--disk", type=int, default=100, help="GiB free, at least")
    options = parser.parse_args()
    missing = 0
    for group in (
        lambda: hardware(options.cores, options.memory, options.disk),
        kernel,
        microk8s,
        juju,
        charm,
    ):
        for check in carry_out(group):
            print(f"{'ok     ' if check.good else 'MISSING'}  {check.what}")
            if not check.good:
                missing += 1
                print(f"         -> {check.remedy}")
    print(f"{missing} missing" if missing else "ready: juju deploy ./bundle.yaml --trust")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
