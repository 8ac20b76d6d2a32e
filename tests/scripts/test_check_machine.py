"""scripts/check_machine.py names each missing prerequisite, and changes nothing."""

import itertools
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = "--cores", "1", "--memory", "0", "--disk", "0"
ADDONS = ["dns", "hostpath-storage", "rbac", "metallb"]
POOLS = "microk8s kubectl get ipaddresspools.metallb.io --all-namespaces --output json"
CLASSES = "microk8s kubectl get storageclasses --output json"
DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


def status(*enabled):
    lines = [f"core/{name}: enabled" for name in enabled]
    return {"out": "\n".join(["microk8s is running", "addons:", *lines, "core/gpu: disabled\n"])}


def output(value):
    return {"out": json.dumps(value)}


def models(*names, current="kubeflow"):
    return output(
        {"models": [{"name": f"admin/{name}"} for name in names], "current-model": current}
    )


def controllers(version):
    return output(
        {"controllers": {"uk8s": {"agent-version": version}}, "current-controller": "uk8s"}
    )


@pytest.fixture
def complete_machine(machine):
    """A complete machine, with or without the packed charm."""
    machine.commands = ["microk8s", "juju", "sysctl"]
    machine.answers = {
        "sysctl -n": {"out": "655360\n"},
        "microk8s status": status(*ADDONS),
        "microk8s kubectl version --output json": output(
            {"serverVersion": {"gitVersion": "v1.32.9"}}
        ),
        POOLS: output({"items": [{"spec": {"addresses": ["10.64.140.43-10.64.140.49"]}}]}),
        CLASSES: output({"items": [{"metadata": {"annotations": DEFAULT}}]}),
        "juju version": {"out": "3.6.14-ubuntu-amd64\n"},
        "juju controllers": controllers("3.6.12"),
        "juju models": models("controller", "kubeflow"),
    }
    return machine


def missing(process):
    """Return the remedy of each missing item, except for the charm, which is this checkout's."""
    lines = process.stdout.splitlines()
    return {
        line.removeprefix("MISSING").strip(): then.strip().removeprefix("-> ")
        for line, then in itertools.pairwise(lines)
        if line.startswith("MISSING") and "trainer_amd64.charm" not in line
    }


def test_complete_machine_lacks_nothing(complete_machine):
    process = complete_machine.run("check_machine.py", *SMALL)
    packed = (ROOT / "fashion-mnist-trainer_amd64.charm").exists()
    assert missing(process) == {}, process.stdout + process.stderr
    assert process.returncode == (0 if packed else 1)
    assert "ready: juju deploy" in process.stdout if packed else "-> make pack" in process.stdout


@pytest.mark.parametrize(
    ("responses", "item", "remedy"),
    [
        ({"sysctl -n": {"out": "128\n"}}, "max_user_instances is 128", "sudo sysctl fs.inotify.max_user_instances=1280"),
        ({"sysctl -n": {"out": "128\n"}}, "max_user_watches is 128", "sudo sysctl fs.inotify.max_user_watches=655360"),
        *[
            (
                {"microk8s status": status(*(set(ADDONS) - {addon}))},
                f"addon {addon}",
                f"sudo microk8s enable {addon}",
            )
            for addon in ADDONS
        ],
        ({"microk8s status": status(*ADDONS, "istio")}, "addon istio is off", "sudo microk8s disable istio"),
        ({"microk8s status": {"out": "microk8s is not running.\n"}}, "microk8s is running", "sudo microk8s start"),
        ({"microk8s kubectl version --output json": output({"serverVersion": {"gitVersion": "v1.28.1"}})}, "Kubernetes v1.28.1", "sudo snap refresh microk8s"),
        ({POOLS: output({"items": []})}, "addresses for the gateway: none", "sudo microk8s enable metallb:10."),
        ({CLASSES: output({"items": [{"metadata": {}}]})}, "a default StorageClass", "microk8s-hostpath"),
        ({"juju version": {"out": "2.9.53-ubuntu-amd64\n"}}, "juju 2.9.53", "sudo snap refresh juju --channel=3.6/stable"),
        ({"juju controllers": output({"controllers": None})}, "controller", "juju bootstrap"),
        ({"juju controllers": controllers("3.4.6")}, "the controller's version 3.4.6", "juju upgrade-controller"),
        ({"juju models": models("other")}, "model kubeflow", "juju add-model kubeflow"),
        ({"juju models": models("other", "kubeflow", current="other")}, "the current model is kubeflow", "juju switch kubeflow"),
    ],
)  # fmt: skip
def test_missing_prerequisite_names_the_remedy(complete_machine, responses, item, remedy):
    complete_machine.answers |= responses
    process = complete_machine.run("check_machine.py", *SMALL)
    assert process.returncode == 1
    (name,) = [line for line in missing(process) if item in line]
    assert remedy in missing(process)[name]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("microk8s", "sudo snap install microk8s"), ("juju", "sudo snap install juju")],
)
def test_missing_program_is_reported_alone(complete_machine, name, remedy):
    complete_machine.commands.remove(name)
    process = complete_machine.run("check_machine.py", *SMALL)
    assert list(missing(process)) == [name]
    assert remedy in missing(process)[name]


@pytest.mark.parametrize(
    ("words", "response"),
    [
        ("microk8s status", {"rc": 1, "err": "Insufficient permissions to access MicroK8s.\n"}),
        ("juju models", {"rc": 1, "err": "ERROR cannot connect\n"}),
        ("juju controllers", {"out": "not JSON"}),
        ("juju version", {"out": "strange"}),
    ],
)
def test_failed_command_is_reported_with_its_arguments(complete_machine, words, response):
    complete_machine.answers[words] = response
    process = complete_machine.run("check_machine.py", *SMALL)
    assert process.returncode == 1
    expected = "strange" if words == "juju version" else words
    assert [line for line in missing(process) if expected in line]
    assert response.get("err", "").strip() in process.stdout
    assert not process.stderr


def test_small_machine_reports_its_resources(complete_machine):
    process = complete_machine.run(
        "check_machine.py", "--cores", "999", "--memory", "99999", "--disk", "999999"
    )
    assert [line.split(" ", 2)[2] for line in missing(process)] == [
        "999 cores",
        "99999 GiB of memory",
        next(what.split(" ", 2)[2] for what in missing(process) if "999999 GiB free" in what),
    ]


def test_script_only_reads(complete_machine):
    complete_machine.run("check_machine.py", *SMALL)
    calls = [call["words"] for call in complete_machine.calls]
    verbs = {
        " ".join(words[:2]) if words[1] != "kubectl" else " ".join(words[:3]) for words in calls
    }
    assert verbs == {
        "sysctl -n",
        "microk8s status",
        "microk8s kubectl version",
        "microk8s kubectl get",
        "juju version",
        "juju controllers",
        "juju models",
    }
