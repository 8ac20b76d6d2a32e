"""Check a machine for bundle.yaml, and print a command for each missing thing.

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
    """A requirement of the bundle.

    Attributes:
        description: in a few words, with what was found.
        passed: whether it is there.
        remedy: the command, or the advice, that puts it right.
    """

    description: str
    passed: bool
    remedy: str = ""


class NoAnswerError(Exception):
    """A command is missing, failed or timed out; the message says which and why."""


def ask(*command: str) -> str:
    """Run a command and return its output.

    Raises:
        NoAnswerError: it cannot be run, fails, or does not end within a minute.
    """
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswerError(f"{' '.join(command)}: {error}") from error
    if completed.returncode:
        lines = (completed.stderr or completed.stdout).strip().splitlines()
        raise NoAnswerError(f"{' '.join(command)}: {lines[-1] if lines else 'failed'}")
    return completed.stdout


def ask_json(*command: str) -> dict[str, Any]:
    """Run a command and return its output, parsed as JSON.

    Raises:
        NoAnswerError: as `ask`, or it prints something else.
    """
    try:
        return json.loads(ask(*command))
    except json.JSONDecodeError as error:
        raise NoAnswerError(f"{' '.join(command)}: no JSON") from error


def version(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version such as 3.6.9-ubuntu-amd64.

    Raises:
        NoAnswerError: there are none.
    """
    try:
        major, minor = text.strip().lstrip("v").split(".")[:2]
        return int(major), int("".join(filter(str.isdigit, minor)))
    except ValueError as error:
        raise NoAnswerError(f"{text.strip()!r} is no version") from error


def hardware(cores: int, memory: int, disk: int) -> Iterator[Check]:
    """Check cores, memory and free disk space."""
    available = os.cpu_count() or 0
    yield Check(
        description=f"{available} of {cores} cores",
        passed=available >= cores,
        remedy="take a larger machine",
    )
    # A machine sold with 32 GiB shows a little less.
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    yield Check(
        description=f"{size:.0f} of {memory} GiB of memory",
        passed=size >= 0.95 * memory,
        remedy="take a larger machine",
    )
    mount = next(path for path in (Path("/var/snap"), Path("/")) if path.exists())
    free = shutil.disk_usage(mount).free / GIB
    yield Check(
        description=f"{free:.0f} of {disk} GiB free in {mount}",
        passed=free >= disk,
        remedy=f"free space on the disk of {mount}, or take a larger one",
    )


def kernel() -> Iterator[Check]:
    """Check the limits of watched files."""
    for name, minimum in INOTIFY.items():
        current = int(ask("sysctl", "-n", name))
        yield Check(
            description=f"{name} is {current} (at least {minimum})",
            passed=current >= minimum,
            remedy=f"sudo sysctl {name}={minimum}",
        )


def microk8s() -> Iterator[Check]:
    """Check MicroK8s, its version and its addons."""
    if not shutil.which("microk8s"):
        remedy = "sudo snap install microk8s --channel=1.32-strict/stable"
        yield Check(description="microk8s", passed=False, remedy=remedy)
        return
    status = ask("microk8s", "status", "--format", "short")
    running = "microk8s is running" in status
    yield Check(description="microk8s is running", passed=running, remedy="sudo microk8s start")
    if not running:
        return
    response = ask_json("microk8s", "kubectl", "version", "--output", "json")
    installed = response["serverVersion"]["gitVersion"]
    yield Check(
        description=f"Kubernetes {installed} (1.{KUBERNETES[1]} or later)",
        passed=version(installed) >= KUBERNETES,
        remedy="sudo snap refresh microk8s --channel=1.32-strict/stable",
    )
    enabled = {
        line.split(":")[0].rpartition("/")[2]
        for line in status.splitlines()
        if line.endswith(": enabled")
    }
    for addon, remedy in ENABLE.items():
        yield Check(description=f"addon {addon}", passed=addon in enabled, remedy=remedy)
    yield Check(
        description="addon istio is off (the bundle has its own)",
        passed="istio" not in enabled,
        remedy="sudo microk8s disable istio",
    )
    if "metallb" in enabled:
        yield addresses()
    if "hostpath-storage" in enabled:
        yield storage()


def addresses() -> Check:
    """Check that MetalLB has addresses, one of which the bundle's gateway needs."""
    arguments = "get", "ipaddresspools.metallb.io", "--all-namespaces", "--output", "json"
    pools = ask_json("microk8s", "kubectl", *arguments)["items"]
    ranges = [address for pool in pools for address in pool["spec"].get("addresses", [])]
    return Check(
        description=f"addresses for the gateway: {', '.join(ranges) or 'none'}",
        passed=bool(ranges),
        remedy=f"sudo microk8s disable metallb && {ENABLE['metallb']}",
    )


def storage() -> Check:
    """Check that there is a default StorageClass."""
    classes = ask_json("microk8s", "kubectl", "get", "storageclasses", "--output", "json")["items"]
    mark = "storageclass.kubernetes.io/is-default-class"
    good = any(
        storage_class["metadata"].get("annotations", {}).get(mark) == "true"
        for storage_class in classes
    )
    return Check(
        description="a default StorageClass",
        passed=good,
        remedy=f"microk8s kubectl annotate storageclass microk8s-hostpath {mark}=true --overwrite",
    )


def juju() -> Iterator[Check]:
    """Check Juju's client, a controller and the model."""
    want = ".".join(map(str, JUJU))
    if not shutil.which("juju"):
        remedy = f"sudo snap install juju --channel={want}/stable"
        yield Check(description="juju", passed=False, remedy=remedy)
        return
    client = ask("juju", "version").strip()
    yield Check(
        description=f"juju {client} ({want} or later)",
        passed=version(client) >= JUJU,
        remedy=f"sudo snap refresh juju --channel={want}/stable",
    )
    controllers = ask_json("juju", "controllers", "--format", "json")
    name = controllers.get("current-controller")
    yield Check(
        description=f"controller {name or ''}".strip(),
        passed=bool(name),
        remedy="mkdir -p ~/.local/share && microk8s config | juju add-k8s my-k8s --client "
        "&& juju bootstrap my-k8s uk8sx",
    )
    if not name:
        return
    agent = controllers["controllers"][name].get("agent-version", "0.0")
    yield Check(
        description=f"the controller's version {agent} ({want} or later)",
        passed=version(agent) >= JUJU,
        remedy="juju upgrade-controller",
    )
    models = ask_json("juju", "models", "--format", "json")
    names = {model["name"].rpartition("/")[2] for model in models["models"]}
    yield Check(
        description=f"model {MODEL}", passed=MODEL in names, remedy=f"juju add-model {MODEL}"
    )
    if MODEL in names:
        current = (models.get("current-model") or "").rpartition("/")[2]
        yield Check(
            description=f"the current model is {MODEL}",
            passed=current == MODEL,
            remedy=f"juju switch {MODEL}",
        )


def charm() -> Iterator[Check]:
    """Check the packed charm, which the bundle deploys."""
    yield Check(description=CHARM.name, passed=CHARM.exists(), remedy="make pack")


def carry_out(group: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Run a group of checks; one whose command fails counts as missing."""
    try:
        yield from group()
    except NoAnswerError as error:
        yield Check(description=str(error), passed=False, remedy="make this command work")


def main() -> int:
    """Print the checks; return 1 if anything is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=4, help="minimum number of cores")
    parser.add_argument("--memory", type=int, default=32, help="minimum memory, in GiB")
    parser.add_argument("--disk", type=int, default=100, help="minimum free disk space, in GiB")
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
            print(f"{'ok     ' if check.passed else 'MISSING'}  {check.description}")
            if not check.passed:
                missing += 1
                print(f"         -> {check.remedy}")
    print(f"{missing} missing" if missing else "ready: juju deploy ./bundle.yaml --trust")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
