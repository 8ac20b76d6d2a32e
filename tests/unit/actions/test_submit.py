"""The action train: one run per call, its results, waiting for its end."""

import dataclasses
import functools

import ops
import ops.testing
import pytest

import kfp_ops
from tests.builders import unrelated_state


def test_train_submits_one_run_per_call_with_its_parameters(ctx, state, runs):
    # GIVEN a settled trainer
    ctx.run(ctx.on.config_changed(), state)
    # WHEN train is asked for twice, in the same words
    names = []
    for _ in range(2):
        ctx.run(ctx.on.action("train", params={"epochs": 2, "note": "by hand"}), state)
        names.append(ctx.action_results["run-name"])
    # THEN each wish has a run of its own
    requested = [run for run in runs() if run["display_name"].startswith("train-")]
    assert sorted(names) == sorted(run["display_name"] for run in requested)
    assert len(set(names)) == 2
    for run in requested:
        assert run["runtime_config"]["parameters"]["epochs"] == 2
        assert run["description"] == "by hand"
    assert len(runs()) == 3


def test_train_returns_run_id_name_and_url(ctx, configured, runs, proxy):
    ctx.run(ctx.on.action("train"), configured(train_on_change=False))
    (run,) = runs()
    assert ctx.action_results == {
        "run-id": run["run_id"],
        "run-name": run["display_name"],
        "run-url": f"http://127.0.0.1:{proxy.port}/apis/v2beta1/runs/{run['run_id']}",
    }


def test_run_url_uses_the_dashboard_url_option(ctx, configured):
    ctx.run(ctx.on.action("train"), configured(dashboard_url="http://kubeflow.example.com/"))
    assert ctx.action_results["run-url"] == (
        "http://kubeflow.example.com/_/pipeline/#/runs/details/" + ctx.action_results["run-id"]
    )


def test_names_of_requested_runs_differ_between_juju_models(ctx, state, runs):
    other = dataclasses.replace(
        state,
        model=ops.testing.Model(name="kubeflow", uuid="99999999-2222-4333-8444-555555555555"),
    )
    for juju_state in (state, other):
        ctx.run(ctx.on.action("train"), juju_state)
    prefixes = {run["display_name"][:14] for run in runs() if run["display_name"][0] == "t"}
    assert prefixes == {"train-11111111", "train-99999999"}


@pytest.mark.parametrize(
    ("params", "option"),
    [
        ({"epochs": -1}, "epochs"),
        ({"recipe": "magic"}, "recipe"),
        ({"learning-rate": 2.0}, "learning-rate"),
        ({"batch-size": 100000}, "batch-size"),
        ({"seed": -5}, "seed"),
        ({"min-accuracy": 1.5}, "min-accuracy"),
        ({"image-number": 10000}, "image-number"),
        ({"data-path": "nowhere"}, "data-path"),
        ({"note": "x" * 1001}, "note"),
    ],
)
def test_bad_parameter_fails_the_action_and_submits_nothing(ctx, state, params, option, runs):
    with pytest.raises(ops.testing.ActionFailed, match=f"{option} must be"):
        ctx.run(ctx.on.action("train", params=params), state)
    assert runs() == []


def test_train_on_a_follower_names_the_leader_command(ctx, state, runs):
    follower = dataclasses.replace(state, leader=False)
    with pytest.raises(ops.testing.ActionFailed, match="juju run trainer/leader train"):
        ctx.run(ctx.on.action("train"), follower)
    assert runs() == []


def test_train_without_a_relation_names_it(ctx):
    with pytest.raises(ops.testing.ActionFailed, match="no relation kfp-api"):
        ctx.run(ctx.on.action("train"), unrelated_state(leader=True))


def test_train_with_a_bad_option_names_it(ctx, configured, runs):
    with pytest.raises(ops.testing.ActionFailed, match="seed must be"):
        ctx.run(ctx.on.action("train"), configured(seed=-1))
    assert runs() == []


def test_train_fails_if_the_server_is_unreachable(ctx, state, sandbox):
    sandbox.stop()
    with pytest.raises(ops.testing.ActionFailed, match="Kubeflow Pipelines"):
        ctx.run(ctx.on.action("train"), state)


@pytest.fixture
def run_lifecycle(sandbox, runs, proxy, monkeypatch):
    """Give the newest run the next of these states each time the charm reads it."""
    monkeypatch.setattr("kfp_ops._follow.POLL_SECONDS", 0.01)

    def live(*states):
        remaining = list(states)

        def look(moment, _number, method, path):
            if moment == "before" and method == "GET" and "/runs/" in path and remaining:
                state = remaining.pop(0)
                if isinstance(state, int):
                    return state
                tasks = {"ingest": "SUCCEEDED"} if state != "PENDING" else {}
                sandbox.set_run_state(runs()[0]["run_id"], state, tasks)
            return None

        proxy.fault = look

    return live


def test_train_with_wait_follows_the_run_until_it_ends(
    ctx, configured, run_action, run_lifecycle, registry
):
    # GIVEN a server that cannot be reached for a moment while the run goes on
    run_lifecycle("PENDING", "RUNNING", 503, "RUNNING", "SUCCEEDED")
    results = run_action("train", state=configured(train_on_change=False), wait=True)
    # THEN the action returns what get-run does, and its log tells each change once
    assert results["state"] == "SUCCEEDED"
    assert results["run-name"].startswith("train-")
    messages = [line.split(" ", 2)[2] for line in ctx.action_logs]
    assert messages[0] == "PENDING"
    assert messages[1] == "RUNNING (1 of 3 steps done)"
    assert "503" in messages[2]
    assert messages[3] == messages[1]
    assert messages[-1].startswith("SUCCEEDED")
    assert len(messages) == 5


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("ERROR connection is shut down", SystemExit),
        ("ERROR permission denied", ops.testing.errors.UncaughtCharmError),
    ],
)
def test_stopped_agent_ends_the_action_with_an_explanation(
    ctx, configured, run_action, run_lifecycle, monkeypatch, runs, error, raised
):
    # GIVEN a run that goes on when the leader's pod is deleted
    run_lifecycle("PENDING", "RUNNING")

    def fail(*_):
        raise ops.ModelError(error)

    monkeypatch.setattr(ops.ActionEvent, "log", fail)
    with pytest.raises(raised) as stopped:
        run_action("train", state=configured(train_on_change=False), wait=True)
    # THEN the run is there, and the words are those of the agent's end alone
    assert len(runs()) == 1
    assert ("agent stopped" in str(stopped.value)) == (raised is SystemExit)


def test_train_with_wait_fails_if_the_run_fails(ctx, configured, run_action, run_lifecycle):
    run_lifecycle("RUNNING", "FAILED")
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("train", state=configured(train_on_change=False), wait=True)
    assert "ended FAILED; see: juju run trainer/leader get-run" in failed.value.message
    assert ctx.action_results["state"] == "FAILED"


def test_train_with_wait_fails_after_the_timeout(
    ctx, configured, run_action, run_lifecycle, monkeypatch
):
    # GIVEN a clock that goes on by 45 seconds each time it is looked at
    now = iter(range(0, 10000, 45))
    follow = functools.partial(kfp_ops.follow, clock=lambda: next(now))
    monkeypatch.setattr(kfp_ops, "follow", follow)
    run_lifecycle("RUNNING")
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("train", state=configured(train_on_change=False), wait=True, timeout=1)
    assert "the wait timed out; run train-" in failed.value.message
    assert ctx.action_results["state"] == "RUNNING"


@pytest.mark.parametrize("timeout", [0, 1441])
def test_train_rejects_a_timeout_out_of_range(run_action, runs, timeout):
    with pytest.raises(ops.testing.ActionFailed, match="timeout must be between 1 and 1440"):
        run_action("train", wait=True, timeout=timeout)
    assert runs() == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(1, 9))
def test_request_with_a_lost_response_is_not_submitted_twice(ctx, configured, proxy, runs, number):
    quiet = configured(train_on_change=False)
    proxy.fault = lambda m, n, *_: "cut" if (m, n) == ("after", number) else None
    try:
        ctx.run(ctx.on.action("train"), quiet)
    except ops.testing.ActionFailed as failed:
        assert "check, then run the action again" in failed.message
    assert len(runs()) <= 1
    ctx.run(ctx.on.update_status(), quiet)
    assert len(runs()) <= 1
