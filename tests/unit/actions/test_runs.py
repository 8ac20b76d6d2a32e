"""Actions on runs: list-runs, get-run, cancel-run."""

import dataclasses
import json
import math

import httpx
import ops
import ops.testing
import pytest


def test_list_runs_lists_newest_first_up_to_the_limit(ctx, state, run_action, runs):
    # GIVEN nothing, then a run of the configuration and three that are asked for
    assert run_action("list-runs")["count"] == "0"
    ctx.run(ctx.on.config_changed(), state)
    for _ in range(3):
        run_action("train")
    # WHEN they are listed
    full, limited = run_action("list-runs"), run_action("list-runs", limit=2)
    # THEN each has a line with its name, state and id
    assert full["count"] == "4"
    lines = full["runs"].splitlines()
    for run in runs():
        (line,) = [line for line in lines if run["run_id"] in line]
        assert line.split()[:2] == [run["display_name"], "PENDING"]
    assert limited["count"] == "2"
    assert len(limited["runs"].splitlines()) == 2


def test_get_run_returns_steps_parameters_and_results(
    ctx, state, run_action, sandbox, registry, runs
):
    # GIVEN a run that succeeded, with a model that was accepted
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    sandbox.set_run_state(run["run_id"], "SUCCEEDED", {"train": "SUCCEEDED"})
    recall = {"T-shirt/top": 0.85125, "Bag": 0.99}
    metrics = {"test": {"accuracy": 0.9213, "loss": 0.25}, "recall": recall}
    registry(run["run_id"], accuracy=0.9213, version=1, metrics=metrics)
    # WHEN the newest run is asked for, and the same by its id
    results = run_action("get-run")
    assert run_action("get-run", run_id=run["run_id"]) == results
    # THEN all is there
    assert results["run-name"] == run["display_name"]
    assert results["state"] == "SUCCEEDED"
    assert "train SUCCEEDED" in results["steps"]
    assert json.loads(results["parameters"])["recipe"] == "fast"
    assert (results["accuracy"], results["loss"]) == ("0.9213", "0.2500")
    assert results["recall"] == "Bag 0.9900, T-shirt/top 0.8512"
    assert results["verdict"] == "accepted"
    assert results["created-at"].startswith("20")
    assert run["run_id"] in results["run-url"]


def test_get_run_omits_results_of_a_running_run(ctx, state, run_action):
    ctx.run(ctx.on.config_changed(), state)
    assert not {"accuracy", "loss", "recall", "verdict", "finished-at"} & set(run_action("get-run"))


def test_cancelled_run_is_terminated_and_not_submitted_again(ctx, state, run_action, sandbox, runs):
    # GIVEN a run of the configuration
    ctx.run(ctx.on.config_changed(), state)
    # WHEN it is cancelled
    results = run_action("cancel-run")
    # THEN the server stops it, and the next events leave it at that
    assert results["state"] == "CANCELING"
    for reported in ("CANCELING", "FAILED"):
        sandbox.set_run_state(results["run-id"], reported)
    out = ctx.run(ctx.on.update_status(), state)
    assert [run["run_id"] for run in runs()] == [results["run-id"]]
    # AND what the operator asked for is no failure, though the server calls it one
    assert out.unit_status == ops.ActiveStatus(
        f"run {results['run-name']} CANCELED; train again: juju run trainer/leader train"
    )
    # AND a second time there is nothing to cancel
    with pytest.raises(
        ops.testing.ActionFailed, match="has already ended: CANCELED; see: juju run"
    ):
        run_action("cancel-run")


def test_follower_cannot_cancel_a_run(ctx, state, run_action):
    ctx.run(ctx.on.config_changed(), state)
    with pytest.raises(ops.testing.ActionFailed, match="juju run trainer/leader cancel-run"):
        run_action("cancel-run", state=dataclasses.replace(state, leader=False))
    assert run_action("get-run")["state"] == "PENDING"


@pytest.mark.parametrize("action", ["get-run", "cancel-run"])
def test_unknown_or_foreign_run_is_rejected(ctx, state, run_action, sandbox, action):
    # GIVEN no run at all
    with pytest.raises(ops.testing.ActionFailed, match="no run yet"):
        run_action(action)
    # GIVEN a run of another application
    ctx.run(ctx.on.config_changed(), state)
    own_run = httpx.get(f"{sandbox.api_url}/apis/v2beta1/runs", trust_env=False).json()["runs"][0]
    default = httpx.post(
        f"{sandbox.api_url}/apis/v2beta1/experiments",
        json={"display_name": "of another"},
        trust_env=False,
    ).json()
    foreign_run = httpx.post(
        f"{sandbox.api_url}/apis/v2beta1/runs",
        json={
            "display_name": "theirs",
            "experiment_id": default["experiment_id"],
            "pipeline_version_reference": own_run["pipeline_version_reference"],
        },
        trust_env=False,
    ).json()
    with pytest.raises(ops.testing.ActionFailed, match="does not belong to this trainer"):
        run_action(action, run_id=foreign_run["run_id"])
    with pytest.raises(ops.testing.ActionFailed, match="no run 1234; see: juju run"):
        run_action(action, run_id="1234")


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("list-runs", {"limit": 0}),
        ("list-runs", {"limit": 101}),
        ("get-run", {"run_id": "../pipelines"}),
        ("get-run", {"run_id": "a/b"}),
        ("cancel-run", {"run_id": 65 * "a"}),
    ],
)
def test_run_action_rejects_bad_parameters(run_action, proxy, action, params):
    (name,) = params
    with pytest.raises(ops.testing.ActionFailed, match=f"{name.replace('_', '-')} must be"):
        run_action(action, **params)
    assert not proxy.requests


@pytest.mark.parametrize("action", ["list-runs", "get-run", "cancel-run"])
def test_run_action_fails_with_the_cause(ctx, state, run_action, proxy, action):
    proxy.fault = lambda *_: 503
    with pytest.raises(ops.testing.ActionFailed, match="Kubeflow Pipelines: "):
        run_action(action)
    with pytest.raises(ops.testing.ActionFailed, match="no relation kfp-api"):
        run_action(action, state=dataclasses.replace(state, relations=[]))


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_get_run_rejects_a_report_with_non_finite_numbers(
    ctx, state, run_action, runs, registry, number
):
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    report = {"schema_version": 1, "run_id": "m", "version": 1, "images": number, "drift": {}}
    registry.put(f"monitoring/{run['run_id']}/report.json", report)
    with pytest.raises(ops.testing.ActionFailed, match="malformed report"):
        run_action("get-run")
