"""scripts/set_login.py gives Juju a login, and the password to nobody else."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "set_login.py"

USER, PASSWORD, URL = "user@example.com", 'p4"ss: wörd', "http://10.64.140.43.nip.io"


def options(*names):
    return {"out": json.dumps({"application": "a", "settings": {name: {} for name in names}})}


@pytest.fixture
def kubeflow(machine):
    machine.commands = ["juju"]
    machine.answers = {
        "juju config dex-auth --format json": options("static-username", "public-url"),
        "juju config oidc-gatekeeper --format json": options("port"),
    }
    return machine


def test_login_is_set_from_a_private_temporary_file(kubeflow):
    done = kubeflow.run("set_login.py", USER, text=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    (asked,) = kubeflow.calls
    assert asked["words"][:3] == ["juju", "config", "dex-auth"]
    values = {name: value for name, (_, _, value) in asked["files"].items()}
    assert values == {"static-username": USER, "static-password": PASSWORD}
    assert len(asked["words"]) == 3 + len(values)
    for path, mode, _ in asked["files"].values():
        assert mode == 0o600
        # Juju's snap reads nothing elsewhere, and no hidden folder.
        assert path.startswith(f"{kubeflow.home}/set-login-")
    assert not list(kubeflow.home.iterdir())


def test_password_is_in_no_command_or_output(kubeflow):
    done = kubeflow.run("set_login.py", USER, "--public-url", URL, text=PASSWORD + "\n")
    assert PASSWORD not in done.stdout + done.stderr
    assert PASSWORD not in str([each["words"] for each in kubeflow.calls])


@pytest.mark.parametrize("gatekeeper", [True, False])
def test_public_url_is_set_where_the_option_exists(kubeflow, gatekeeper):
    if gatekeeper:
        kubeflow.answers["juju config oidc-gatekeeper --format json"] = options("public-url")
    done = kubeflow.run("set_login.py", USER, "--public-url", URL, text=PASSWORD)
    assert done.returncode == 0, done.stderr
    calls = [each for each in kubeflow.calls if "files" in each]
    urls = {each["words"][2]: each["files"]["public-url"][2] for each in calls}
    apps = ["dex-auth", "oidc-gatekeeper"] if gatekeeper else ["dex-auth"]
    assert urls == dict.fromkeys(apps, URL)


def test_other_model_is_named_in_each_command(kubeflow):
    done = kubeflow.run("set_login.py", USER, "--model", "kf", text=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert [each["words"][:4] for each in kubeflow.calls] == [["juju", "config", "--model", "kf"]]


@pytest.mark.parametrize("given", ["", "\n"])
def test_nothing_is_set_without_a_password(kubeflow, given):
    done = kubeflow.run("set_login.py", USER, text=given)
    assert done.returncode == 1
    assert "the password is empty" in done.stderr
    assert not kubeflow.calls


@pytest.mark.parametrize(
    ("commands", "told"), [([], "sudo snap install juju"), (["juju"], "no such application")]
)
def test_juju_error_is_reported_and_leaves_nothing(kubeflow, commands, told):
    kubeflow.commands = commands
    kubeflow.answers = {"juju config": {"rc": 1, "err": "ERROR no such application"}}
    done = kubeflow.run("set_login.py", USER, text=PASSWORD)
    assert done.returncode == 1
    assert told in done.stderr
    assert PASSWORD not in done.stderr
    assert not list(kubeflow.home.iterdir())


@pytest.mark.parametrize("again", [PASSWORD, "another"])
def test_terminal_prompts_twice_without_echo(kubeflow, again):
    # GIVEN a terminal of its own, on which getpass asks
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, SCRIPT, USER],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=kubeflow.environment(),
        start_new_session=True,
    )
    os.close(theirs)
    # WHEN the password is typed at each question
    shown = b""
    for question, typed in (b"Password: ", PASSWORD), (b"The same again: ", again):
        while question not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, f"{typed}\n".encode())
    code = process.wait(timeout=30)
    shown += os.read(ours, 1024)
    os.close(ours)
    # THEN it is set if both were the same, and seen nowhere
    assert PASSWORD.encode() not in shown
    assert code == (0 if again == PASSWORD else 1)
    assert len(kubeflow.calls) == (1 if again == PASSWORD else 0)
