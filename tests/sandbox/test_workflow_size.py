"""Projected sizes of workflows, compared with those that a real Argo stored."""

import gzip
import json
import os
from pathlib import Path

import pytest
import yaml
from kfp import compiler, dsl

from sandbox.workflow_size import LIMIT, Projection, project

ROOT = Path(__file__).parents[2]
RECORD = Path(
    os.environ.get("KFP_TRANSCRIPTS", ROOT.parent / "shared" / "kfp-transcripts" / "2.15.0")
)
WORKFLOWS = sorted((RECORD / "workflows").glob("*.json.gz"))


def dump(value):
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def pipeline_of(workflow):
    """Return the compiled pipeline that a workflow was made from, out of its arguments."""
    values = {
        parameter["name"]: json.loads(parameter["value"])
        for parameter in workflow["spec"]["arguments"]["parameters"]
    }
    dags = {
        name.removeprefix("components-"): value for name, value in values.items() if "dag" in value
    }
    root = dags.pop("root")
    for node in workflow["status"]["nodes"].values():
        if node["type"] == "Skipped":
            dags[node["templateName"]]["dag"]["tasks"] = {}
    executors, settings = {}, {}
    for name, component in values.items():
        if name.startswith("components-") and "executorLabel" in component:
            label = component["executorLabel"]
            step = label.replace("exec-", "comp-", 1)
            dags[step] = component
            executors[label] = {"container": values[name.replace("components", "implementations")]}
            settings[label] = values.get(f"kubernetes-{step}", {})
    spec = {
        "pipelineInfo": {"name": "p"},
        "schemaVersion": "2.1.0",
        "root": root,
        "components": dags,
        "deploymentSpec": {"executors": executors},
    }
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": settings}}}}
    return yaml.safe_dump_all([spec, platform])


@pytest.mark.skipif(not WORKFLOWS, reason="no workflows; KFP_TRANSCRIPTS says where they are")
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name.split(".")[0])
def test_projection_is_within_a_tenth_of_argos_size(path):
    # GIVEN a workflow as a real Argo left it, with two iterations where it has a loop
    workflow = json.loads(gzip.decompress(path.read_bytes()))
    projection = project(pipeline_of(workflow))
    nodes = workflow["status"].pop("nodes")
    packed = len(gzip.compress(dump(nodes).encode(), 9)) * 4 // 3
    rest = len(dump(workflow).encode())
    # THEN the projection is as large, whole and compressed
    arguments = len(dump({"arguments": workflow["spec"]["arguments"]}).encode())
    assert projection.specification == pytest.approx(arguments, rel=0.1)
    assert projection.whole == pytest.approx(rest + len(dump(nodes).encode()), rel=0.1)
    assert projection.compressed == pytest.approx(rest + packed, rel=0.1)


# Loops, retries and what fits ---------------------------------------------------------------------


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def numbers() -> list:
    return [1]


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def work(number: int):
    print(number)


@dsl.pipeline(name="static")
def static():
    with dsl.ParallelFor([1, 2, 3]) as number:
        work(number=number)


@dsl.pipeline(name="given")
def given(values: list = [1, 2]):  # noqa: B006 - the pipeline's default
    with dsl.ParallelFor(values) as number:
        work(number=number)


@dsl.pipeline(name="made")
def made():
    with dsl.ParallelFor(numbers().output) as number:
        work(number=number)


@dsl.pipeline(name="nested")
def nested():
    values = numbers().output
    with dsl.ParallelFor([1, 2, 3]), dsl.ParallelFor(values) as number:
        work(number=number)


@dsl.pipeline(name="plain")
def plain():
    work(number=1)


@dsl.pipeline(name="retried")
def retried():
    work(number=1).set_retry(3)


@dsl.pipeline(name="imported")
def imported():
    dsl.importer(artifact_uri="s3://a/b", artifact_class=dsl.Artifact)


@pytest.fixture
def compiled(tmp_path):
    def compiled(pipeline, padding=0):
        path = tmp_path / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        spec = next(yaml.safe_load_all(path.read_text()))
        for executor in spec["deploymentSpec"]["executors"].values():
            if "container" in executor:
                executor["container"]["command"].append("p" * padding)
        return json.dumps(spec)

    return compiled


def copies(compiled, pipeline, **arguments):
    """Return how often a pipeline's containers are in its workflow's nodes and specification."""
    large, small = (project(compiled(pipeline, size), **arguments) for size in (20_000, 10_000))
    return (large.whole - small.whole) / 10_000


def test_step_is_stored_five_times_and_six_with_retries(compiled):
    assert copies(compiled, plain) == pytest.approx(5, abs=0.01)
    assert copies(compiled, retried) == pytest.approx(6, abs=0.01)


@pytest.mark.parametrize(
    ("pipeline", "arguments", "iterations"),
    [
        (static, {}, 3),
        (static, {"iterations": 16, "executions": {"work": 9}}, 3),
        (given, {}, 2),
        (given, {"parameters": {"values": [1, 2, 3, 4]}}, 4),
    ],
)
def test_loop_over_a_known_list_counts_its_items(compiled, pipeline, arguments, iterations):
    assert copies(compiled, pipeline, **arguments) == pytest.approx(1 + 4 * iterations, abs=0.01)


@pytest.mark.parametrize(
    ("pipeline", "arguments", "iterations"),
    [
        (made, {}, 2),
        (made, {"iterations": 16}, 16),
        (made, {"iterations": 1, "executions": {"work": 5}}, 5),
        (made, {"iterations": 3, "executions": {"work": 2, "numbers": 7}}, 3),
        (nested, {"iterations": 2}, 6),
    ],
)
def test_loop_over_an_unknown_list_counts_the_given_items(
    compiled, pipeline, arguments, iterations
):
    # The step that makes the list is there five times.
    copied = copies(compiled, pipeline, **arguments)
    assert copied == pytest.approx(5 + 1 + 4 * iterations, abs=0.01)


def test_importer_is_one_node(compiled):
    assert project(compiled(imported)).whole < project(compiled(plain)).whole


def test_invalid_pipeline_is_rejected():
    with pytest.raises(ValueError, match="unknown template format"):
        project("a: 1")


def test_argo_keeps_the_whole_object_where_it_fits():
    fits = Projection(specification=1, whole=LIMIT, compressed=10)
    assert (fits.stored, fits.fits) == (LIMIT, True)
    shrinks = Projection(specification=1, whole=LIMIT + 1, compressed=LIMIT)
    assert (shrinks.stored, shrinks.fits) == (LIMIT, True)
    fails = Projection(specification=1, whole=LIMIT + 2, compressed=LIMIT + 1)
    assert (fails.stored, fails.fits) == (LIMIT + 1, False)
