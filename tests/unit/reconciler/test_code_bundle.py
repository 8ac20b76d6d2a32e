"""The code bundle that the steps of a run fetch."""

import dataclasses
import hashlib
from pathlib import Path

import obstore
import ops
import pytest

from kfp_ops import PipelineSpec
from reconciler import code_bundle


@pytest.fixture
def bundle(sandbox):
    """Return the registry's bundle, or None."""
    store = sandbox.objects("models/fashion-mnist")

    def read():
        try:
            return bytes(obstore.get(store, code_bundle.path()).bytes())
        except FileNotFoundError:
            return None

    read.store = store
    return read


def test_bundle_is_uploaded_before_the_first_run_which_names_it(ctx, state, runs, bundle):
    assert bundle() is None
    ctx.run(ctx.on.config_changed(), state)
    # THEN the run's arguments locate a bundle with the pipeline's digest
    (run,) = runs()
    address = run["runtime_config"]["parameters"]["code"]
    assert address == f"s3://mlpipeline/models/fashion-mnist/{code_bundle.path()}"
    assert hashlib.sha256(bundle()).hexdigest() == code_bundle.digest()
    assert "code_sha256" not in run["runtime_config"]["parameters"]
    spec = PipelineSpec.load(Path(code_bundle.__file__).parents[1] / "pipelines" / "train.yaml")
    assert spec.parameters["code_sha256"].default == code_bundle.digest()


def test_run_is_not_submitted_if_its_code_cannot_be_uploaded(ctx, state, object_storage, runs):
    # GIVEN a bucket that does not exist
    state = dataclasses.replace(state, config={**state.config, "registry-bucket": "missing"})
    out = ctx.run(ctx.on.config_changed(), state)
    # THEN no run is submitted, and the status shows the remedy
    assert runs() == []
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "returned NoSuchBucket" in out.unit_status.message
    assert "create the bucket" in out.unit_status.message


def test_bundle_is_not_checked_while_nothing_is_submitted(ctx, state, bundle):
    ctx.run(ctx.on.config_changed(), state)
    obstore.delete(bundle.store, code_bundle.path())
    ctx.run(ctx.on.update_status(), state)
    assert bundle() is None
    # WHEN the next run is submitted THEN the bundle is restored
    ctx.run(ctx.on.action("train"), state)
    assert bundle()


@pytest.mark.parametrize("option", ["schedule", "monitor-schedule"])
def test_missing_bundle_is_restored_for_scheduled_runs(ctx, state, bundle, schedules, option):
    config = {option: "0 3 * * 0", "monitor-data": "s3://b/production", "train-on-change": False}
    state = dataclasses.replace(state, config={**state.config, **config})
    ctx.run(ctx.on.config_changed(), state)
    (schedule,) = schedules()
    assert schedule["runtime_config"]["parameters"]["code"].endswith(code_bundle.path())
    obstore.delete(bundle.store, code_bundle.path())
    ctx.run(ctx.on.update_status(), state)
    assert bundle()


def test_follower_uploads_nothing(ctx, state, bundle):
    ctx.run(ctx.on.config_changed(), dataclasses.replace(state, leader=False))
    assert bundle() is None
