"""The committed pipeline: the same bytes, within what servers 2.5 to 2.15 take."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from training import compile as compiling
from training import pipelines

COMMITTED = Path(__file__).parents[2] / "src" / "pipelines"
SPEC, PLATFORM = yaml.safe_load_all((COMMITTED / "train.yaml").read_text())
IN_WORKSPACE, ITS_PLATFORM = yaml.safe_load_all((COMMITTED / "train-workspace.yaml").read_text())
INSIDE = IN_WORKSPACE["components"]["comp-exit-handler-1"]["dag"]["tasks"]
MONITOR, _ = yaml.safe_load_all((COMMITTED / "monitor.yaml").read_text())


@pytest.mark.parametrize("name", sorted(compiling.COMPILED))
def test_compiling_again_gives_the_committed_bytes(name):
    assert compiling.compiled(compiling.COMPILED[name]) == (COMMITTED / name).read_text()


def test_it_is_the_published_format():
    spec = json_format.ParseDict(SPEC, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "fashion-mnist-trainer"
    assert set(spec.root.dag.tasks) == {"ingest", "train", "evaluate", "condition-1", "predict"}


def test_a_workspace_is_made_first_and_goes_at_the_end_however_that_was():
    # GIVEN the variant with a volume: all steps are in an exit handler, but the one that removes it
    tasks = IN_WORKSPACE["root"]["dag"]["tasks"]
    assert set(tasks) == {"exit-handler-1", "deletepvc"}
    assert tasks["deletepvc"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert tasks["deletepvc"]["dependentTasks"] == ["exit-handler-1"]
    # THEN the volume is made with a class by name, in the mode that every storage has
    asked = INSIDE["createpvc"]["inputs"]["parameters"]
    assert asked["access_modes"]["runtimeValue"]["constant"] == ["ReadWriteOnce"]
    assert asked["size"]["componentInputParameter"] == "pipelinechannel--workspace_size"
    assert (
        asked["storage_class_name"]["componentInputParameter"] == "pipelinechannel--storage_class"
    )
    # AND it has the run's id for a name wherever it is named
    run_id = {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
    assert asked["pvc_name"] == tasks["deletepvc"]["inputs"]["parameters"]["pvc_name"] == run_id
    assert not any(tasks[name].get("cachingOptions") for name in ("deletepvc",))
    assert not INSIDE["createpvc"]["cachingOptions"]


def test_steps_that_mount_the_workspace_come_one_after_another():
    executors = ITS_PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounting = {
        name.removeprefix("exec-") for name, each in executors.items() if "pvcMount" in each
    }
    assert mounting == {"ingest", "train", "predict"}
    before = {name: set(INSIDE[name]["dependentTasks"]) & mounting for name in mounting}
    assert before == {"ingest": set(), "train": {"ingest"}, "predict": {"ingest", "train"}}
    assert all("createpvc" in INSIDE[name]["dependentTasks"] for name in mounting)
    given = {name: INSIDE[name]["inputs"]["parameters"]["workspace"] for name in mounting}
    assert {each["runtimeValue"]["constant"] for each in given.values()} == {pipelines.WORKSPACE}
    assert {
        mount["mountPath"] for name in mounting for mount in executors[f"exec-{name}"]["pvcMount"]
    } == {pipelines.WORKSPACE}


def test_both_pipelines_have_the_same_steps_and_parameters():
    executors = IN_WORKSPACE["deploymentSpec"]["executors"]
    both = set(SPEC["deploymentSpec"]["executors"])
    assert set(executors) == both | {"exec-createpvc", "exec-deletepvc"}
    for name in both:
        assert executors[name] == SPEC["deploymentSpec"]["executors"][name]
    inputs = IN_WORKSPACE["root"]["inputDefinitions"]["parameters"]
    own = {name: inputs.pop(name) for name in ("workspace_size", "storage_class")}
    assert own == {name: {"parameterType": "STRING"} for name in own}
    assert inputs == SPEC["root"]["inputDefinitions"]["parameters"]


def test_a_killed_training_is_tried_again():
    tasks = SPEC["root"]["dag"]["tasks"]
    assert tasks["train"]["retryPolicy"]["maxRetryCount"] == 3
    given = tasks["train"]["inputs"]["parameters"]
    assert given["run_id"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
    executors = PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    (secret,) = executors["exec-train"]["secretAsEnv"]
    assert secret["secretName"] == pipelines.SECRET


def test_a_publish_that_was_cut_off_is_tried_again():
    tasks = SPEC["components"]["comp-condition-1"]["dag"]["tasks"]
    assert tasks["publish"]["retryPolicy"]["maxRetryCount"] == 3


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
