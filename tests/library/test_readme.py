"""The README's quick start works as it stands, and is the docstring's first example."""

import re
import textwrap
from pathlib import Path

import ops
import ops.testing
import pytest

import kfp_ops
from sandbox import User

README = Path(kfp_ops.__file__).with_name("README.md").read_text()
QUICK_START = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
PIPELINE = """
pipelineInfo: {name: train}
root:
  dag: {tasks: {train: {taskInfo: {name: train}, componentRef: {name: comp-train}}}}
  inputDefinitions: {parameters: {epochs: {parameterType: NUMBER_INTEGER}}}
components: {comp-train: {executorLabel: exec-train}}
deploymentSpec: {executors: {exec-train: {container: {image: python, command: ["true"]}}}}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
"""


@pytest.fixture
def kfp_sandbox_options():
    user = User(
        name="system:serviceaccount:kubeflow:my-app",
        token="token for pipelines.kubeflow.org",
        roles={"my-team": "edit"},
    )
    return {"execute": False, "users": [user]}


@pytest.fixture
def ctx(tmp_path, monkeypatch):
    (tmp_path / "src" / "pipelines").mkdir(parents=True)
    (tmp_path / "src" / "pipelines" / "train.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    module = {}
    exec(QUICK_START, module)
    requires = {"kfp-api": {"interface": "k8s-service"}}
    return ops.testing.Context(
        module["MyCharm"], meta={"name": "my-app", "requires": requires}, app_name="my-app"
    )


def state(relation, **options):
    model = ops.testing.Model(name="kubeflow")
    return ops.testing.State(leader=True, relations={relation}, model=model, **options)


def test_docstring_begins_with_the_quick_start():
    assert textwrap.indent(QUICK_START.rstrip(), "    ") in kfp_ops.__doc__


def test_quick_start_submits_one_run_in_its_profile(
    ctx,
    kfp_sandbox,
    kfp_sandbox_databags,
    kubernetes,
):
    api = ops.testing.Relation("kfp-api", remote_app_data=kfp_sandbox_databags["kfp-api"])
    for event in (ctx.on.relation_changed(api), ctx.on.update_status()):
        out = ctx.run(event, state(api))
        assert isinstance(out.unit_status, ops.ActiveStatus), out.unit_status
        assert "PENDING" in out.unit_status.message
    assert [run["namespace"] for run in kfp_sandbox.store.select("runs")] == ["my-team"]


def test_quick_start_publishes_its_version_first(ctx):
    api = ops.testing.Relation("kfp-api")
    out = ctx.run(ctx.on.relation_created(api), state(api))
    (relation,) = out.relations
    assert relation.local_app_data == {"_supported_versions": "- v1\n"}
    assert isinstance(out.unit_status, ops.BlockedStatus)


def test_every_error_is_in_the_table():
    table = README.partition("## Errors")[2]
    errors = [name for name in kfp_ops.__all__ if name.endswith("Error")]
    assert [name for name in errors if f"`{name}`" not in table] == ["ApiError"]
