"""The example's charm on the sandbox: another model, the same library."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import httpx
import ops
import ops.testing
import pytest
import yaml

from sandbox import Sandbox

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def charm():
    spec = importlib.util.spec_from_file_location("digits_charm", EXAMPLE / "src" / "charm.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["digits_charm"] = module
    spec.loader.exec_module(module)
    return module.DigitsCharm


@pytest.fixture
def ctx(charm):
    return ops.testing.Context(charm, app_name="digits", charm_root=EXAMPLE)


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path) as sandbox:
        yield sandbox


@pytest.fixture
def state(sandbox):
    port = sandbox.api_url.rpartition(":")[2]
    data = yaml.safe_dump({"service-name": "127.0.0.1", "service-port": port})
    relation = ops.testing.Relation(
        "kfp-api", remote_app_data={"_supported_versions": "- v1\n", "data": data}
    )
    return ops.testing.State(leader=True, relations={relation})


def test_it_is_short():
    assert len((EXAMPLE / "src" / "charm.py").read_text().splitlines()) < 90


def test_the_compiled_pipeline_is_that_of_its_source(tmp_path):
    committed = yaml.safe_load((EXAMPLE / "src" / "pipelines" / "digits.yaml").read_text())
    program = (
        f"import sys; sys.path.insert(0, {str(EXAMPLE)!r}); import pipeline; "
        f"pipeline.compiler.Compiler().compile(pipeline.digits, {str(tmp_path / 'made.yaml')!r})"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
    assert yaml.safe_load((tmp_path / "made.yaml").read_text()) == committed


@pytest.mark.slow
def test_a_configuration_is_one_run_that_trains(ctx, state, sandbox):
    # WHEN the same configuration comes more than once
    for event in (ctx.on.config_changed(), ctx.on.update_status(), ctx.on.leader_elected()):
        out = ctx.run(event, state)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    # THEN there is one run, and it trains on scikit-learn's digits
    url = f"{sandbox.api_url}/apis/v2beta1/runs"
    end = time.monotonic() + 300
    while True:
        (run,) = httpx.get(url, trust_env=False).json()["runs"]
        if run["state"] in ("SUCCEEDED", "FAILED"):
            break
        assert time.monotonic() < end, run
        time.sleep(0.5)
    assert run["state"] == "SUCCEEDED"
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status == ops.ActiveStatus(f"run {run['display_name']} SUCCEEDED")


@pytest.mark.parametrize("regularization", [0.0, -1.0])
def test_a_bad_option_is_told_with_the_way_on(ctx, state, regularization):
    out = ctx.run(
        ctx.on.config_changed(),
        ops.testing.State(
            leader=True, relations=state.relations, config={"regularization": regularization}
        ),
    )
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "juju config digits regularization=1.0" in out.unit_status.message


def test_without_its_relation_it_says_so(ctx):
    out = ctx.run(ctx.on.config_changed(), ops.testing.State(leader=True))
    assert out.unit_status == ops.BlockedStatus("integrate with kfp-api, or wait for its data")


def test_a_server_that_is_away_is_waited_for(ctx, state, sandbox):
    sandbox.stop()
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.WaitingStatus)
