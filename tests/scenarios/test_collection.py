"""The integration environment collects the scenarios, and its jubilant runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHARMS = ROOT / "tests" / "integration" / "charms"
# `tox -e integration` makes it.
PYTHON = ROOT / ".tox" / "integration" / "bin" / "python"
WORDS = ["-m", "pytest", "-p", "no:cacheprovider", "-c", "tests/integration/pytest.ini"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no environment: tox -e integration"),
]


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The file of a model, with its programs first on the path."""
    for name in ("juju", "kubectl"):
        program = tmp_path / name
        # A path with a space cannot follow #!, so the shell starts Python.
        program.write_text(f"#!/bin/sh\n'''exec' '{sys.executable}' \"$0\" \"$@\"\n' '''\n")
        with program.open("a") as file:
            file.write((Path(__file__).parent / "juju_4.py").read_text())
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("MODEL", str(tmp_path / "model.json"))
    return tmp_path / "model.json"


def run(*words):
    command = [PYTHON, *WORDS, "tests/integration", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("driver", ["pytest-operator", "jubilant"])
def test_scenarios_are_collected(driver):
    process = run("--collect-only", "-q", "--driver", driver)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "test_trainer.py::test_train_action_submits_a_run" in process.stdout
    assert "7 tests collected" in process.stdout


def test_pytest_operator_has_the_used_interface():
    # GIVEN what the scenarios take from it: a loop for the module, and a client that tells its code
    program = (
        "import inspect, typing, pytest_operator.plugin as plugin\n"
        "assert inspect.iscoroutinefunction(plugin.OpsTest.juju)\n"
        "inspect.signature(plugin.OpsTest.juju).bind(None, 'status', '--format=json')\n"
        "told = typing.get_type_hints(plugin.OpsTest.run)['return']\n"
        "assert told == typing.Tuple[typing.Optional[int], str, str]\n"
        "assert isinstance(plugin.OpsTest.model_name, property)\n"
    )
    process = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    fixtures = run("--fixtures", "-v").stdout
    assert "event_loop [module scope]" in fixtures
    assert "ops_test [module scope]" in fixtures


def test_jubilant_runs_the_scenarios(model, tmp_path):
    # GIVEN charms, the S3 server's keys, and a slow Juju
    charm = tmp_path / "trainer.charm"
    charm.touch()
    for app in "kfp-api", "object-storage":
        (tmp_path / f"{app}-stand-in_amd64.charm").touch()
    keys = tmp_path / "keys.json"
    keys.write_text('["access", "s3cr3t"]')
    # WHEN they run
    services = "--kfp-service=sandbox.test", "--s3-service=sandbox.test", f"--s3-keys={keys}"
    process = run(f"--charm-path={charm}", f"--stand-ins={tmp_path}", "--poll=0.1", *services)
    # THEN all pass, the keys are in no command, and the model is destroyed
    assert process.returncode == 0, process.stdout + process.stderr
    assert "7 passed" in process.stdout
    stored = json.loads(model.read_text())
    assert "s3cr3t" not in str(stored["asked"])
    assert stored["models"] == []
    storage = stored["applications"]["object-storage"]
    assert storage["config"]["secret-key"] == "s3cr3t"
    assert stored["applications"]["kfp-api"]["config"]["service-name"] == "sandbox.test"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bundle", "--charm-path=README.md"], "--juju-model kubeflow"),
        (["--charm-path=none.charm"], "make pack"),
        (["--charm-path=README.md"], "--kfp-service is missing"),
    ],
)
def test_missing_prerequisite_names_the_remedy(model, words, message):
    process = run(*words)
    assert process.returncode
    assert message in process.stdout + process.stderr
    assert not model.exists()
