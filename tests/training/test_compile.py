"""The committed pipelines: reproducible, and valid for servers 2.5 to 2.15."""

import hashlib
import io
import re
import tarfile
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


def test_bundle_is_the_committed_one_and_reproducible():
    bundle = compiling.bundle()
    assert bundle == (COMMITTED / compiling.BUNDLE).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        members = archive.getmembers()
        names = {member.name for member in members}
        requirements = archive.extractfile("requirements.txt").read().decode()
    # THEN it does not depend on when, where and by whom it was built
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}
    assert {"bootstrap.py", "fashion_mnist/__init__.py", "model_registry/registry.py"} <= names
    # AND each package it requires is pinned and has hashes
    for line in requirements.splitlines():
        assert re.match(r"[a-z]+==[\w.]+( ; python_version .* '3.11')? --hash=sha256:", line)


@pytest.mark.parametrize("name", sorted(compiling.COMPILED))
def test_pipeline_names_the_bundle_by_its_digest(name):
    spec, _ = yaml.safe_load_all((COMMITTED / name).read_text())
    digest = hashlib.sha256((COMMITTED / compiling.BUNDLE).read_bytes()).hexdigest()
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert inputs["code_sha256"]["defaultValue"] == digest
    assert inputs["code"]["defaultValue"] == ""


def test_pipeline_has_the_published_format():
    spec = json_format.ParseDict(SPEC, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "fashion-mnist-trainer"
    assert set(spec.root.dag.tasks) == {"ingest", "train", "evaluate-and-predict"}


def test_workspace_is_created_first_and_always_deleted_last():
    # GIVEN the variant with a volume: all steps but its deletion are in an exit handler
    tasks = IN_WORKSPACE["root"]["dag"]["tasks"]
    assert set(tasks) == {"exit-handler-1", "deletepvc"}
    assert tasks["deletepvc"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert tasks["deletepvc"]["dependentTasks"] == ["exit-handler-1"]
    # THEN the volume has a named class, and the access mode that every storage supports
    parameters = INSIDE["createpvc"]["inputs"]["parameters"]
    assert parameters["access_modes"]["runtimeValue"]["constant"] == ["ReadWriteOnce"]
    assert parameters["size"]["componentInputParameter"] == "pipelinechannel--workspace_size"
    assert (
        parameters["storage_class_name"]["componentInputParameter"]
        == "pipelinechannel--storage_class"
    )
    # AND its name is the run's id everywhere
    run_id = {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
    assert (
        parameters["pvc_name"] == tasks["deletepvc"]["inputs"]["parameters"]["pvc_name"] == run_id
    )
    assert not any(tasks[name].get("cachingOptions") for name in ("deletepvc",))
    assert not INSIDE["createpvc"]["cachingOptions"]


def test_steps_that_mount_the_workspace_run_sequentially():
    executors = ITS_PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounting = {
        name.removeprefix("exec-") for name, executor in executors.items() if "pvcMount" in executor
    }
    assert mounting == {"ingest", "train", "evaluate-and-predict"}
    before = {name: set(INSIDE[name]["dependentTasks"]) & mounting for name in mounting}
    assert before == {
        "ingest": set(),
        "train": {"ingest"},
        "evaluate-and-predict": {"ingest", "train"},
    }
    assert all("createpvc" in INSIDE[name]["dependentTasks"] for name in mounting)
    volumes = {name: INSIDE[name]["inputs"]["parameters"]["workspace"] for name in mounting}
    assert {volume["runtimeValue"]["constant"] for volume in volumes.values()} == {
        pipelines.WORKSPACE
    }
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
    workspace_inputs = {name: inputs.pop(name) for name in ("workspace_size", "storage_class")}
    assert workspace_inputs == {name: {"parameterType": "STRING"} for name in workspace_inputs}
    assert inputs == SPEC["root"]["inputDefinitions"]["parameters"]


def test_killed_training_step_is_retried():
    tasks = SPEC["root"]["dag"]["tasks"]
    assert tasks["train"]["retryPolicy"]["maxRetryCount"] == 3
    parameters = tasks["train"]["inputs"]["parameters"]
    assert parameters["run_id"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
    executors = PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    (secret,) = executors["exec-train"]["secretAsEnv"]
    assert secret["secretName"] == pipelines.SECRET


def test_training_run_has_at_most_8_pods_and_16_nodes():
    # GIVEN what server 2.15 makes of a pipeline (real objects: two nodes for the run, and a driver pod
    # for its root; for each step a driver pod, a DAG and a pod, and a node for its retries)
    tasks = SPEC["root"]["dag"]["tasks"].values()
    assert all("executorLabel" in SPEC["components"][t["componentRef"]["name"]] for t in tasks)
    pods = 1 + 2 * len(tasks)
    nodes = 2 + pods + len(tasks) + sum("retryPolicy" in task for task in tasks)
    assert (pods, nodes) == (7, 14)


def test_monitoring_is_one_step():
    spec = json_format.ParseDict(MONITOR, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "fashion-mnist-monitor"
    assert set(spec.root.dag.tasks) == {"monitor"}


# How often each step is tried again, and after how many minutes it is ended.
STEPS = {
    # Its errors are permanent: data that is missing, keys that are refused, a bad recipe.
    "ingest": (0, 20),
    "train": (3, 120),
    "evaluate-and-predict": (3, 50),
    # So is a space that is wrong.
    "suggest": (0, 10),
    "trial": (3, 240),
    "choose": (3, 10),
    "monitor": (1, 30),
    # Steps that the server executes itself.
    "createpvc": (0, None),
    "deletepvc": (0, None),
}


@pytest.fixture(params=sorted(compiling.COMPILED))
def committed(request):
    return list(yaml.safe_load_all((COMMITTED / request.param).read_text()))


def tasks_of(spec):
    """Every task of every DAG, by the name of its component; bodies of conditions and loops apart."""
    for dag in (spec["root"], *spec["components"].values()):
        for name, task in dag.get("dag", {}).get("tasks", {}).items():
            component = spec["components"][task["componentRef"]["name"]]
            if "executorLabel" in component:
                yield name, component["executorLabel"], task


def test_no_step_is_cached(committed):
    # False is left out of what is compiled; where nothing was said it would be true.
    tasks = list(tasks_of(committed[0]))
    assert tasks
    cached = [name for name, _, task in tasks if task.get("cachingOptions", {}).get("enableCache")]
    assert cached == []


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("train.yaml", "fashion-mnist-trainer"),
        ("train-workspace.yaml", "fashion-mnist-trainer"),
        ("tune.yaml", "fashion-mnist-tuner"),
    ],
)
def test_only_the_step_that_writes_the_manifest_knows_the_version(name, pipeline):
    # A step of which nothing else changed may come from the server's cache, should it be turned on.
    spec, _ = yaml.safe_load_all((COMMITTED / name).read_text())
    parameters = {step: task["inputs"].get("parameters", {}) for step, _, task in tasks_of(spec)}
    assert [step for step in parameters if "pipeline_version" in parameters[step]] == [
        "evaluate-and-predict"
    ]
    assert parameters["evaluate-and-predict"]["pipeline"]["runtimeValue"]["constant"] == pipeline
    assert spec["pipelineInfo"]["name"] == pipeline


def test_each_step_has_the_documented_retries_and_timeout(committed):
    spec, platform = committed
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    actual = {}
    for name, executor, task in tasks_of(spec):
        seconds = executors.get(executor, {}).get("activeDeadlineSeconds")
        retries = task.get("retryPolicy", {}).get("maxRetryCount", 0)
        actual[name] = (retries, seconds and int(seconds) / 60)
    assert actual == {name: STEPS[name] for name in actual}
    assert len(actual) == len(spec["deploymentSpec"]["executors"])


def test_each_step_has_limits_and_starts_with_the_bootstrap(committed):
    spec, _ = committed
    for label, executor in spec["deploymentSpec"]["executors"].items():
        container = executor["container"]
        if "command" not in container:
            assert label in ("exec-createpvc", "exec-deletepvc")
            continue
        assert {"resourceCpuLimit", "resourceMemoryLimit"} <= container["resources"].keys()
        python, option, source, *arguments = container["command"][:6]
        assert (python, option) == ("python3", "-c")
        assert compile(source, label, "exec")
        names = ("code", "code_sha256", "s3_endpoint")
        assert arguments == [f"{{{{$.inputs.parameters['{name}']}}}}" for name in names]
        inputs = spec["components"][label.replace("exec-", "comp-", 1)]["inputDefinitions"]
        assert inputs["parameters"].keys() >= set(names)
        assert "AWS_SECRET_ACCESS_KEY" not in str(container.get("env", ""))
