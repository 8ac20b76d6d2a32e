"""How large a workflow becomes, held against those that a real Argo kept."""

import gzip
import json
import os
from pathlib import Path

import pytest
import yaml

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
    dags = {name.removeprefix("components-"): value for name, value in values.items() if "dag" in value}
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
def test_projection_is_within_a_tenth_of_what_argo_kept(path):
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
