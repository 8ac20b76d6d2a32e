"""The committed pipeline: the same bytes, within what servers 2.5 to 2.15 take."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from training import compile as compiling
from training import pipelines

COMMITTED = Path(__file__).parents[2] / "src" / "pipelines" / "train.yaml"
SPEC, PLATFORM = yaml.safe_load_all(COMMITTED.read_text())


def test_compiling_again_gives_the_committed_bytes():
    assert compiling.compiled(pipelines.train_pipeline) == COMMITTED.read_text()


def test_it_is_the_published_format():
    spec = json_format.ParseDict(SPEC, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "fashion-mnist-trainer"
    assert set(spec.root.dag.tasks) == {"ingest", "train", "evaluate", "condition-1", "predict"}


@pytest.mark.parametrize("name", ["train", "evaluate", "ingest", "predict", "publish"])
def test_each_step_is_limited_pinned_and_not_cached(name):
    container = SPEC["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    assert {"resourceCpuLimit", "resourceMemoryLimit"} <= container["resources"].keys()
    assert "--require-hashes" in container["command"][2]
    assert "obstore==" in container["command"][2]
    assert "AWS_SECRET" not in str(container)
