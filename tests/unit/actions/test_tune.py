"""The action tune: one run of the tuning pipeline per call."""

import dataclasses
import json
from pathlib import Path

import httpx
import ops.testing
import pytest
import yaml

from kfp_ops import PipelineSpec
from reconciler import search_space
from reconciler.requests import TuneParams

ROOT = Path(__file__).parents[3]
SPEC = PipelineSpec.load(ROOT / "src" / "pipelines" / "tune.yaml")
EPOCHS = {"name": "epochs", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "4"}}


def space(*parameters, **change):
    return json.dumps([{**EPOCHS, **change}, *parameters])


def feasible(**values):
    return space(feasibleSpace=values)


def test_tune_submits_one_run_of_the_tuning_pipeline_with_the_options(
    ctx, configured, runs, sandbox
):
    state = configured(epochs=3, workers=2, train_on_change=False)
    ctx.run(ctx.on.action("tune", params={"trials": 3, "seed": 7, "note": "by hand"}), state)
    (run,) = runs()
    assert ctx.action_results["run-id"] == run["run_id"]
    assert run["display_name"].startswith("tune-11111111-")
    assert run["description"] == "by hand"
    parameters = run["runtime_config"]["parameters"]
    assert parameters["trials"] == 3
    assert parameters["parallelism"] == 2
    assert parameters["space"] == search_space.DEFAULT
    assert (parameters["seed"], parameters["epochs"], parameters["workers"]) == (7, 3, 2)
    response = httpx.get(
        f"{sandbox.api_url}/apis/v2beta1/pipelines/names/fashion-mnist-tuner", trust_env=False
    )
    assert run["pipeline_version_reference"]["pipeline_id"] == response.json()["pipeline_id"]


def test_arguments_match_the_tuning_pipelines_parameters(ctx, configured, runs):
    ctx.run(ctx.on.action("tune"), configured(train_on_change=False))
    parameters = runs()[0]["runtime_config"]["parameters"]
    SPEC.check(parameters)


def test_tune_keeps_the_configuration_run_and_schedule(ctx, configured, runs, sandbox):
    state = configured(schedule="@daily")
    ctx.run(ctx.on.config_changed(), state)
    schedules = [row["id"] for row in sandbox.store.select("recurring_runs")]
    ctx.run(ctx.on.action("tune"), state)
    ctx.run(ctx.on.update_status(), state)
    assert sorted(run["display_name"][:5] for run in runs()) == ["confi", "tune-"]
    assert [row["id"] for row in sandbox.store.select("recurring_runs")] == schedules


@pytest.mark.parametrize("moment", ["before", "after"])
def test_lost_response_leaves_exactly_one_run(ctx, configured, runs, proxy, moment):
    # GIVEN a server whose answer to the submission is lost, once
    lost = []

    def lose_response(when, _, method, path):
        if (when, method, path) == (moment, "POST", "/apis/v2beta1/runs") and not lost:
            lost.append(path)
            return "cut"
        return None

    proxy.fault = lose_response
    state = configured(train_on_change=False)
    # WHEN it is asked for
    if moment == "after":
        ctx.run(ctx.on.action("tune"), state)
    else:
        with pytest.raises(ops.testing.ActionFailed, match="cannot reach"):
            ctx.run(ctx.on.action("tune"), state)
    # THEN there is one run where the server had heard of it, and none where not; none comes later
    ctx.run(ctx.on.update_status(), state)
    assert lost
    assert len(runs()) == (1 if moment == "after" else 0)


def test_tune_fails_with_the_api_error(ctx, configured, runs, proxy):
    proxy.fault = lambda when, _, method, path: 500 if "upload_version" in path else None
    with pytest.raises(ops.testing.ActionFailed, match="made to fail"):
        ctx.run(ctx.on.action("tune"), configured(train_on_change=False))
    assert runs() == []


def test_tune_on_a_follower_names_the_leader_command(ctx, state, runs):
    with pytest.raises(ops.testing.ActionFailed, match="juju run trainer/leader tune"):
        ctx.run(ctx.on.action("tune"), dataclasses.replace(state, leader=False))
    assert runs() == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"trials": 0}, "trials must be between 1 and 100, not '0'"),
        ({"trials": 101}, "trials must be"),
        ({"parallelism": 0}, "parallelism must be between 1 and 16"),
        ({"parallelism": 17}, "parallelism must be"),
        ({"seed": -1}, "seed must be"),
        ({"note": "x" * 1001}, "note must be"),
        ({"timeout": 0}, "timeout must be"),
        ({"space": "["}, "space must be a list of parameters in Katib's format"),
        ({"space": "[]"}, "not a list of parameters"),
        ({"space": "{}"}, "not a list of parameters"),
        ({"space": "[1]"}, "a parameter needs name, parameterType and feasibleSpace"),
        ({"space": space(more=1)}, "a parameter needs name"),
        ({"space": space(name="layers")}, "recipe, epochs, batch_size, learning_rate can be tuned"),
        ({"space": space(EPOCHS)}, "once each"),
        (
            {"space": space(parameterType="double")},
            "parameterType of epochs must be int or discrete",
        ),
        ({"space": feasible(min="4", max="1")}, "min below max"),
        ({"space": feasible(min="1")}, "feasibleSpace of epochs"),
        ({"space": feasible(min="a", max="b")}, "feasibleSpace of epochs"),
        ({"space": feasible(min="1", max="2", step="1")}, "feasibleSpace of epochs"),
        ({"space": feasible(min="0", max="2", distribution="logUniform")}, "above 0"),
        ({"space": feasible(min="1", max="2", distribution="normal")}, "feasibleSpace"),
        ({"space": space(parameterType="discrete", feasibleSpace={"list": []})}, "needs a list"),
        ({"space": space(feasibleSpace="1-4")}, "feasibleSpace of epochs"),
        ({"space": feasible(min="1", max=float("inf"))}, "feasibleSpace of epochs"),
        ({"space": "[" * 100_000}, "nested too deeply"),
        ({"space": feasible(min="1", max="5000")}, "epochs must be between 0 and 1000"),
    ],
)
def test_bad_parameter_fails_the_action_and_submits_nothing(ctx, state, params, message, runs):
    with pytest.raises(ops.testing.ActionFailed, match=message):
        ctx.run(ctx.on.action("tune", params=params), state)
    assert runs() == []


def test_tuning_runs_are_listed_described_and_cancelled(ctx, configured, run_action, sandbox, runs):
    state = configured(train_on_change=False)
    run_action("tune", state=state)
    (run,) = runs()
    # GIVEN a run in whose loop one share is done and another goes on
    sandbox.set_run_state(run["run_id"], "RUNNING", {"suggest": "SUCCEEDED", "trial": "RUNNING"})
    assert "tune-11111111" in run_action("list-runs", state=state)["runs"]
    results = run_action("get-run", state=state)
    assert results["run-id"] == run["run_id"]
    assert "suggest SUCCEEDED, trial RUNNING" in results["steps"]
    out = ctx.run(ctx.on.update_status(), state)
    assert f"of {len(SPEC.steps)} steps done" in out.unit_status.message
    assert run_action("cancel-run", state=state)["state"] in ("CANCELING", "CANCELED")


def test_tune_succeeds_if_the_schedule_fails_afterwards(ctx, configured, proxy, runs):
    # GIVEN a server that accepts runs but no schedules
    state = configured(train_on_change=False, schedule="@daily")
    proxy.fault = lambda moment, _, method, path: (
        500 if (moment, method) == ("before", "POST") and "recurringruns" in path else None
    )
    ctx.run(ctx.on.action("tune"), state)
    (run,) = runs()
    assert ctx.action_results["run-id"] == run["run_id"]


def test_action_parameters_match_the_dataclass():
    declared = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())["actions"]["tune"]["params"]
    fields = {field.name: field.default for field in dataclasses.fields(TuneParams)}
    assert {name: parameter.get("default") for name, parameter in declared.items()} == {
        **fields,
        "note": None,
    }
