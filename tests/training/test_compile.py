"""The committed pipeline: the same bytes, within what servers 2.5 to 2.15 take."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from training import compile as compiling

COMMITTED = Path(__file__).parents[2] / "src" / "pipelines"
SPEC, PLATFORM = yaml.safe_load_all((COMMITTED / "train.yaml").read_text())
MONITOR, _ = yaml.safe_load_all((COMMITTED / "monitor.yaml").read_text())


@pytest.mark.parametrize("name", sorted(compiling.COMPILED))
def test_compiling_again_gives_the_committed_bytes(name):
    assert compiling.compiled(compiling.COMPILED[name]) == (COMMITTED / name).read_text()


def test_it_is_the_published_format():
    spec = json_format.ParseDict(SPEC, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "fashion-mnist-trainer"
    assert set(spec.root.dag.tasks) == {"ingest", "train", "evaluate", "condition-1", "predict"}


def test_monitoring_is_one_step():
    spec = json_format.ParseDict(MONITOR, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "fashion-mnist-monitor"
    assert set(spec.root.dag.tasks) == {"monitor"}


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (MONITOR, "monitor"),
        *((SPEC, name) for name in ("train", "evaluate", "ingest", "predict", "publish")),
    ],
)
def test_each_step_is_limited_pinned_and_not_cached(spec, name):
    container = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    assert {"resourceCpuLimit", "resourceMemoryLimit"} <= container["resources"].keys()
    assert "--require-hashes" in container["command"][2]
    assert "obstore==" in container["command"][2]
    assert "AWS_SECRET" not in str(container)
