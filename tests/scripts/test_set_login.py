"""scripts/set_login.py gives Juju a login and shows the password nowhere."""

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
    process = kubeflow.run("set_login.py", USER, text=PASSWORD + "\n")
    assert process.returncode == 0, process.stderr
    (call,) = kubeflow.calls
    assert call["words"][:3] == ["juju", "config", "dex-auth"]
    values = {name: value for name, (_, _, value) in call["files"].items()}
    assert values == {"static-username": USER, "static-password": PASSWORD}
    assert len(call["words"]) == 3 + len(values)
    for path, mode, _ in call["files"].values():
        assert mode == 0o600
        # Juju's snap reads only non-hidden folders of the home directory.
        assert path.startswith(f"{kubeflow.home}/set-login-")
    assert not list(kubeflow.home.iterdir())


def test_password_is_in_no_command_or_output(kubeflow):
    process = kubeflow.run("set_login.py", USER, "--public-url", URL, text=PASSWORD + "\n")
    assert PASSWORD not in process.stdout + process.stderr
    assert PASSWORD not in str([call["words"] for call in kubeflow.calls])


@pytest.mark.parametrize("gatekeeper", [True, False])
def test_public_url_is_set_where_the_option_exists(kubeflow, gatekeeper):
    if gatekeeper:
        kubeflow.answers["juju config oidc-gatekeeper --format json"] = options("public-url")
    process = kubeflow.run("set_login.py", USER, "--public-url", URL, text=PASSWORD)
    assert process.returncode == 0, process.stderr
    calls = [call for call in kubeflow.calls if "files" in call]
    urls = {call["words"][2]: call["files"]["public-url"][2] for call in calls}
    apps = ["dex-auth", "oidc-gatekeeper"] if gatekeeper else ["dex-auth"]
    assert urls == dict.fromkeys(apps, URL)


def test_other_model_is_named_in_each_command(kubeflow):
    process = kubeflow.run("set_login.py", USER, "--model", "kf", text=PASSWORD)
    assert process.returncode == 0, process.stderr
    assert [call["words"][:4] for call in kubeflow.calls] == [["juju", "config", "--model", "kf"]]


@pytest.mark.parametrize("text", ["", "\n"])
def test_nothing_is_set_without_a_password(kubeflow, text):
    process = kubeflow.run("set_login.py", USER, text=text)
    assert process.returncode == 1
    assert "the password is empty" in process.stderr
    assert not kubeflow.calls


@pytest.mark.parametrize(
    ("commands", "message"), [([], "sudo snap install juju"), (["juju"], "no such application")]
)
def test_juju_error_is_reported_and_leaves_nothing(kubeflow, commands, message):
    kubeflow.commands = commands
    kubeflow.answers = {"juju config": {"rc": 1, "err": "ERROR no such application"}}
    process = kubeflow.run("set_login.py", USER, text=PASSWORD)
    assert process.returncode == 1
    assert message in process.stderr
    assert PASSWORD not in process.stderr
    assert not list(kubeflow.home.iterdir())


@pytest.mark.parametrize("repeated", [PASSWORD, "another"])
def test_terminal_prompts_twice_without_echo(kubeflow, repeated):
    # GIVEN a terminal for getpass
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, SCRIPT, USER],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=kubeflow.environment(),
        start_new_session=True,
    )
    os.close(slave)
    # WHEN the password is typed at each prompt
    output = b""
    for question, typed in (b"Password: ", PASSWORD), (b"Repeat password: ", repeated):
        while question not in output:
            output += os.read(master, 1024)
        os.write(master, f"{typed}\n".encode())
    code = process.wait(timeout=30)
    output += os.read(master, 1024)
    os.close(master)
    # THEN it is set if both are equal, and not shown
    assert PASSWORD.encode() not in output
    assert code == (0 if repeated == PASSWORD else 1)
    assert len(kubeflow.calls) == (1 if repeated == PASSWORD else 0)
