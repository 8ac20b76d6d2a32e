"""What `CommandLine` types under each Juju."""

import importlib.util
import json
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
def test_its_words_are_those_of_the_juju_at_hand(version, relate, run, status):
    said = []

    def juju(*words):
        said.append(words)
        task = {"status": status, "results": {"run-id": "r"}, "message": "no"}
        return {"version": f"{version}-ubuntu-amd64\n", run: json.dumps({"trainer/0": task})}.get(
            words[0], ""
        )

    there = deployment.CommandLine(juju, "kubeflow", ["kubectl"])
    there.integrate("trainer:kfp-api", "kfp-api:kfp-api")
    if status == "completed":
        assert there.run_action("trainer/0", "train", wait=True) == {"run-id": "r"}
    else:
        with pytest.raises(deployment.ActionFailedError, match="no"):
            there.run_action("trainer/0", "train", wait=True)
    assert said[1:] == [
        (relate, "trainer:kfp-api", "kfp-api:kfp-api"),
        (run, "trainer/0", "train", "wait=true", "--wait=90m", "--format=json"),
    ]
