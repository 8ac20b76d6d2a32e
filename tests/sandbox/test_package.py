"""The sandbox as a package for the tests of other charms."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = """
import json
import sys
from urllib.request import urlopen

import pytest


@pytest.fixture
def kfp_sandbox_options():
    return {"execute": False}


def test_server_answers(kfp_sandbox, kfp_sandbox_databags):
    assert "site-packages" in sys.modules["sandbox"].__file__
    with urlopen(f"{kfp_sandbox.api_url}/apis/v2beta1/runs") as response:
        assert json.load(response) == {}
    assert kfp_sandbox_databags.keys() == {"kfp-api", "object-storage"}
"""


def test_package_has_the_licence():
    assert (ROOT / "sandbox" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_databags_match_the_relations(kfp_sandbox, kfp_sandbox_databags):
    for relation, url in (("kfp-api", kfp_sandbox.api_url), ("object-storage", kfp_sandbox.s3_url)):
        assert url.rpartition(":")[2] in kfp_sandbox_databags[relation]["data"]


@pytest.mark.slow
def test_installed_plugin_gives_a_running_server(tmp_path):
    # Not in the checkout, in which setuptools would build.
    source = tmp_path / "source" / "sandbox"
    source.parent.mkdir()
    subprocess.run(["cp", "-r", ROOT / "sandbox", source], check=True)
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    install = ["-m", "pip", "install", "--quiet", source, "pytest"]
    subprocess.run([venv / "bin" / "python", *install], check=True)
    test = tmp_path / "project" / "test_charm.py"
    test.parent.mkdir()
    test.write_text(TEST)
    completed = subprocess.run(
        [venv / "bin" / "python", "-m", "pytest", "-q", test],
        cwd=test.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout
