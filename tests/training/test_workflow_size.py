"""The compiled pipelines stay far below the limits of Argo and Linux."""

from pathlib import Path

import pytest
import yaml

from sandbox.workflow_size import project

PIPELINES = sorted((Path(__file__).parents[2] / "src" / "pipelines").glob("*.yaml"))
KIB = 1024
# Argo fails a workflow of 1024 KiB. A quarter of it leaves room for reports, longer names and larger steps.
COMPRESSED = 256 * KIB
# Pipelines without loops are kept as they are, which people can read, and etcd's 1.5 MB are far.
WHOLE = 700 * KIB
READABLE = {"train.yaml", "train-workspace.yaml", "monitor.yaml"}
# Linux takes 128 KiB in one argument or environment variable.
ARGUMENT = 32 * KIB
# The most trials of a tuning that go on at once.
TRIALS = 16


def containers(path):
    executors = next(yaml.safe_load_all(path.read_text()))["deploymentSpec"]["executors"]
    return {
        name: executor["container"]
        for name, executor in executors.items()
        if "container" in executor
    }


def test_every_pipeline_is_checked():
    assert {path.name for path in PIPELINES} >= READABLE | {"tune.yaml"}


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_workflow_fits_argo_many_times(path):
    projection = project(path.read_text(), iterations=TRIALS)
    assert projection.compressed <= COMPRESSED
    if path.name in READABLE:
        assert projection.whole <= WHOLE


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_arguments_and_variables_fit_linux_many_times(path):
    too_long = [
        (step, len(text.encode()))
        for step, container in containers(path).items()
        for text in (
            *container.get("command", []),
            *container.get("args", []),
            *(
                f"{variable['name']}={variable.get('value', '')}"
                for variable in container.get("env", [])
            ),
        )
        if len(text.encode()) > ARGUMENT
    ]
    assert too_long == []
