"""Every compiled pipeline has the published format and uses no unsupported feature.

The servers are 2.5 (Charmed Kubeflow 1.10) to 2.15 (1.11). What each takes was read from their
sources and tried: `NOT_EVERYWHERE` has what one of them rejects, drops or ignores.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

COMPILED = sorted((Path(__file__).parents[2] / "src" / "pipelines").glob("*.yaml"))
PLAIN = COMPILED[0].with_name("tune.yaml")
# Settings of a step's pod that 2.5 and 2.15 both apply.
EVERYWHERE = {
    "activeDeadlineSeconds",
    "configMapAsEnv",
    "emptyDirMounts",
    "imagePullPolicy",
    "imagePullSecret",
    "podMetadata",
    "pvcMount",
    "secretAsEnv",
    "secretAsVolume",
    "tolerations",
}
NOT_EVERYWHERE = {
    "sub_path of a volume": "2.5 drops it, with 2.15 the run cannot be created",
    "PipelineTaskFinalStatus": "2.5 cannot create the run",
    "pipeline configuration": "servers before 2.15 (workspace) or 2.17 (ttl) drop all platform settings",
}


# Unsupported features that the pipelines use, and their effect.
ACCEPTED = {
    "retry in a loop": "2.5 ignores it: there trial is not retried",
    "retry in an ExitHandler": "2.5 ignores it: there a step in a workspace that fails is not tried again",
}


def unsupported_features(spec: dict, platform: dict) -> Iterator[str]:
    """Yield the features of a pipeline that not every server supports."""
    kubernetes = platform.get("platforms", {}).get("kubernetes", {})
    if kubernetes.get("pipelineConfig"):
        yield "pipeline configuration"
    for executor in kubernetes.get("deploymentSpec", {}).get("executors", {}).values():
        yield from executor.keys() - EVERYWHERE
        if any("subPath" in mount for mount in executor.get("pvcMount", [])):
            yield "sub_path of a volume"
    for name, component in spec["components"].items():
        for inputs in component.get("inputDefinitions", {}).get("parameters", {}).values():
            if inputs["parameterType"] == "TASK_FINAL_STATUS":
                yield "PipelineTaskFinalStatus"
        # Nested in the root are the bodies of loops and exit handlers.
        for task in component.get("dag", {}).get("tasks", {}).values():
            if "retryPolicy" in task:
                location = "an ExitHandler" if name.startswith("comp-exit-handler") else "a loop"
                yield f"retry in {location}"


@pytest.fixture(params=COMPILED, ids=lambda path: path.name)
def pipeline(request):
    spec, *rest = yaml.safe_load_all(request.param.read_text())
    return spec, (rest[0] if rest else {})


def test_pipelines_are_found():
    assert COMPILED


def test_pipeline_has_the_published_format(pipeline):
    spec, platform = pipeline
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.schema_version == "2.1.0"
    # Nothing is lost on the way, so every field is a known one in its place.
    assert set(parsed.components) == set(spec["components"])
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, executor in executors.items():
        assert name in spec["deploymentSpec"]["executors"]
        json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_every_task_names_a_component_and_every_component_an_executor(pipeline):
    spec, _ = pipeline
    dags = [spec["root"], *spec["components"].values()]
    for dag in dags:
        for task in dag.get("dag", {}).get("tasks", {}).values():
            assert task["componentRef"]["name"] in spec["components"]
    for component in spec["components"].values():
        label = component.get("executorLabel")
        assert label is None or label in spec["deploymentSpec"]["executors"]


def test_pipelines_use_only_features_of_every_server(pipeline):
    assert set(unsupported_features(*pipeline)) <= set(ACCEPTED)


def _sub_path(spec, executor, platform):
    executor["pvcMount"] = [{"mountPath": "/data", "constant": "c", "subPath": "a"}]


def _final_status(spec, executor, platform):
    definition = {"parameterType": "TASK_FINAL_STATUS"}
    spec["components"]["comp-train"]["inputDefinitions"]["parameters"]["status"] = definition


def _retry(spec, executor, platform):
    body = spec["components"].pop("comp-for-loop-1")
    spec["components"]["comp-exit-handler-1"] = body


def _workspace(spec, executor, platform):
    platform["platforms"]["kubernetes"]["pipelineConfig"] = {"workspace": {"size": "1Gi"}}


def _security_context(spec, executor, platform):
    executor["securityContext"] = {"runAsUser": 1}


@pytest.mark.parametrize(
    ("change", "features"),
    [
        (_sub_path, "sub_path of a volume"),
        (_final_status, "PipelineTaskFinalStatus"),
        (_retry, "retry in an ExitHandler"),
        (_workspace, "pipeline configuration"),
        (_security_context, "securityContext"),
    ],
)
def test_unsupported_feature_is_detected(change, features):
    # GIVEN the real pipeline with one more feature
    spec, platform = copy.deepcopy(list(yaml.safe_load_all(PLAIN.read_text())))
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    unsupported = set(unsupported_features(spec, platform))
    assert unsupported == {"retry in a loop"}
    change(spec, executors["exec-train"], platform)
    # THEN the check reports it
    assert set(unsupported_features(spec, platform)) - unsupported == {features}
    assert features in NOT_EVERYWHERE or features in ACCEPTED or features not in EVERYWHERE
