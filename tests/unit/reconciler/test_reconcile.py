"""Reconciling: one run for each configuration, whatever fails in between."""

import datetime
import time

import httpx
import ops
import ops.testing
import pytest


def events(ctx, relation):
    return {
        "config-changed": ctx.on.config_changed(),
        "update-status": ctx.on.update_status(),
        "leader-elected": ctx.on.leader_elected(),
        "upgrade-charm": ctx.on.upgrade_charm(),
        "relation-created": ctx.on.relation_created(relation),
        "relation-changed": ctx.on.relation_changed(relation),
    }


EVENT_NAMES = [
    "config-changed",
    "update-status",
    "leader-elected",
    "upgrade-charm",
    "relation-created",
    "relation-changed",
]


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_every_event_reconciles(ctx, state, kfp_api, event, runs):
    out = ctx.run(events(ctx, kfp_api)[event], state)
    (run,) = runs()
    assert run["display_name"].startswith("config-")
    assert out.unit_status == ops.ActiveStatus(f"run {run['display_name']} PENDING")


def test_same_configuration_submits_no_second_run(ctx, state, kfp_api, runs):
    for name in EVENT_NAMES * 2:
        ctx.run(events(ctx, kfp_api)[name], state)
    assert len(runs()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 20},
        {"recipe": "notebook"},
        {"batch_size": 64},
        {"learning_rate": 0.01},
        {"seed": 7},
        {"min_accuracy": 0.5},
        {"data_path": "s3://data/fashion"},
        {"image_number": 12},
        {"model_file": "other.keras"},
        {"training_image": "registry.local/tensorflow:2"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_option_submits_exactly_one_run(ctx, state, configured, change, runs):
    # GIVEN the default configuration's run
    ctx.run(ctx.on.config_changed(), state)
    # WHEN an option changes, and two events follow
    changed = configured(**change)
    ctx.run(ctx.on.config_changed(), changed)
    ctx.run(ctx.on.config_changed(), changed)
    # THEN there is one more run, and it has the value
    newest, first = sorted(runs(), key=lambda run: run["created_at"], reverse=True)
    assert {newest["display_name"], first["display_name"]} == {r["display_name"] for r in runs()}
    assert newest["display_name"] != first["display_name"]
    (name, value), *_ = change.items()
    if name != "training_image":
        values = [run["runtime_config"]["parameters"][name] for run in (newest, first)]
        assert value in values
        assert values[0] != values[1]


def test_restored_configuration_reuses_its_run(ctx, state, configured, sandbox, runs):
    ctx.run(ctx.on.config_changed(), state)
    (first,) = runs()
    sandbox.set_run_state(first["run_id"], "SUCCEEDED")
    # The server's times are whole seconds: of two runs of one second either may be the newer.
    created = datetime.datetime.fromisoformat(first["created_at"].replace("Z", "+00:00"))
    while datetime.datetime.now(datetime.timezone.utc) < created + datetime.timedelta(seconds=1):
        time.sleep(0.05)
    out = ctx.run(ctx.on.config_changed(), configured(epochs=3))
    assert "before" not in out.unit_status.message
    out = ctx.run(ctx.on.config_changed(), state)
    assert len(runs()) == 2
    # AND the status shows why no run starts
    name = runs()[-1]["display_name"]
    assert f"run {name} trained this configuration" in out.unit_status.message


def test_latest_configuration_replaces_its_runs_but_not_requested_ones(
    ctx, state, configured, runs
):
    # GIVEN a configuration run and a requested one
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.action("train"), state)
    # WHEN the configuration changes, and back, and another event follows
    ctx.run(ctx.on.config_changed(), configured(epochs=3))
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.update_status(), state)
    # THEN one configuration run is active, with its values, and the requested one continues
    active = [run for run in runs() if run["state"] == "PENDING"]
    epochs = {
        run["display_name"].split("-")[0]: run["runtime_config"]["parameters"]["epochs"]
        for run in active
    }
    assert epochs == {"config": 0, "train": 0}
    assert len(active) == 2
    assert len(runs()) == 4


def test_replaced_run_may_end_before_its_termination(ctx, state, configured, proxy, sandbox, runs):
    # GIVEN a run that ends between observation and termination
    ctx.run(ctx.on.config_changed(), state)
    (first,) = runs()

    def end_run(moment, _number, _method, path):
        if moment == "before" and path.endswith(":terminate"):
            sandbox.set_run_state(first["run_id"], "SUCCEEDED")

    proxy.fault = end_run
    # WHEN the configuration changes, THEN the new run is still submitted
    ctx.run(ctx.on.config_changed(), configured(epochs=3))
    assert sorted(run["state"] for run in runs()) == ["PENDING", "SUCCEEDED"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("fault", ["cut", 503])
def test_fault_while_replacing_leaves_one_active_run(
    ctx, state, configured, proxy, runs, moment, number, fault
):
    ctx.run(ctx.on.config_changed(), state)
    start = len(proxy.requests)
    proxy.fault = lambda m, n, *_: fault if (m, n - start) == (moment, number) else None
    for _ in range(3):
        ctx.run(ctx.on.config_changed(), configured(epochs=3, schedule="@daily"))
    assert len(runs()) == 2
    (active,) = [run for run in runs() if run["state"] == "PENDING"]
    assert active["runtime_config"]["parameters"]["epochs"] == 3


def test_nothing_is_submitted_without_train_on_change(ctx, configured, runs):
    out = ctx.run(ctx.on.config_changed(), configured(train_on_change=False))
    assert runs() == []
    assert out.unit_status == ops.ActiveStatus(
        "no run yet; start one: juju run trainer/leader train"
    )


def test_request_count_does_not_grow_with_runs(ctx, state, configured, proxy, runs):
    # GIVEN a settled trainer
    ctx.run(ctx.on.config_changed(), state)
    before = len(proxy.requests)
    ctx.run(ctx.on.update_status(), state)
    calls = proxy.requests[before:]
    # WHEN there are many more runs
    for epochs in range(1, 30):
        ctx.run(ctx.on.config_changed(), configured(epochs=epochs))
    before = len(proxy.requests)
    ctx.run(ctx.on.update_status(), configured(epochs=29))
    # THEN an event asks the same as before: experiment of monitoring, experiment, configuration's runs,
    # schedules, the oldest running ones, newest run
    assert len(proxy.requests[before:]) == len(calls) == 6
    assert {method for method, _ in calls} == {"GET"}


@pytest.mark.slow
def test_request_count_is_constant_with_ten_thousand_runs(ctx, state, sandbox, proxy):
    def update():
        before = len(proxy.requests)
        out = ctx.run(ctx.on.update_status(), state)
        return [line[0] for line in proxy.requests[before:]], out.unit_status

    # GIVEN a trainer whose only run succeeded
    ctx.run(ctx.on.config_changed(), state)
    (row,) = sandbox.store.select("runs")
    sandbox.set_run_state(row["id"], "SUCCEEDED")
    calls, _ = update()
    # WHEN the server holds ten thousand more of the same experiment, all older
    old = {**dict(sandbox.store.get("runs", row["id"])), "created_at": "2025-01-01T00:00:00Z"}
    del old["id"]
    for number in range(10_000):
        sandbox.store.add("runs", **{**old, "name": f"train-{number}"})
    # THEN an event sends as many requests as before, and shows the same status
    later_calls, status = update()
    assert later_calls == calls
    assert len(calls) == 6
    assert row["name"] in status.message


@pytest.mark.parametrize("ago", [datetime.timedelta(hours=7)])
@pytest.mark.parametrize("minutes", [0, 360])
def test_run_is_terminated_after_the_timeout(ctx, configured, sandbox, runs, ago, minutes):
    # GIVEN a running run, and a pending one, of seven hours ago
    state = configured(run_timeout=minutes)
    ctx.run(ctx.on.config_changed(), state)
    (first,) = runs()
    sandbox.set_run_state(first["run_id"], "RUNNING")
    ctx.run(ctx.on.action("train"), state)

    ctx.run(ctx.on.update_status(), state)

    # THEN both are terminated if there is a timeout
    states = {row["display_name"]: row["state"] for row in runs()}
    assert states.pop(first["display_name"]) == ("CANCELING" if minutes else "RUNNING")
    assert list(states.values()) == ["CANCELING" if minutes else "PENDING"]


@pytest.mark.parametrize("ago", [datetime.timedelta(hours=8)])
def test_stuck_run_blocks_the_unit(ctx, state, sandbox, runs, ago):
    # GIVEN a run without a workflow, so that the server never reports its end
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    sandbox.set_run_state(run["run_id"], "RUNNING")
    out = ctx.run(ctx.on.update_status(), state)
    assert f"run {run['display_name']} CANCELING" in out.unit_status.message
    # WHEN it is still running at the next event, THEN the status shows the remedy
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert (
        f"run {run['display_name']} was terminated but is still running" in out.unit_status.message
    )
    assert out.unit_status.message.endswith("start another: juju run trainer/leader train")
    # AND another run resolves it
    ctx.run(ctx.on.action("train"), state)
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.ActiveStatus)


@pytest.mark.parametrize("ago", [datetime.timedelta(hours=7)])
def test_terminated_run_is_reported_at_once_and_not_repeated(ctx, state, sandbox, runs, ago):
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    sandbox.set_run_state(run["run_id"], "RUNNING")
    out = ctx.run(ctx.on.update_status(), state)
    assert f"run {run['display_name']} CANCELING" in out.unit_status.message
    # AND it is not submitted again
    for reported in ("CANCELING", "FAILED"):
        sandbox.set_run_state(run["run_id"], reported)
    out = ctx.run(ctx.on.update_status(), state)
    assert f"run {run['display_name']} CANCELED" in out.unit_status.message
    assert len(runs()) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("fault", ["cut", 503])
def test_fault_at_any_request_leaves_one_run(ctx, state, proxy, runs, moment, number, fault):
    # GIVEN a server whose n-th request is lost, before or after its execution
    proxy.fault = lambda m, n, *_: fault if (m, n) == (moment, number) else None
    # WHEN events follow, the last of them after the fault
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.update_status(), state)
    out = ctx.run(ctx.on.update_status(), state)
    # THEN there is exactly one run, and the status names it
    (run,) = runs()
    assert run["display_name"] in out.unit_status.message


def test_objects_created_by_another_leader_are_reused(ctx, state, configured, proxy, sandbox, runs):
    # GIVEN a pipeline that exists, and a first observation without it
    ctx.run(ctx.on.config_changed(), state)
    hidden = set()

    def hide_once(moment, _number, method, path):
        kind = path.split("?")[0]
        if (
            moment == "before"
            and method == "GET"
            and "/pipelines/names/" in kind
            and kind not in hidden
        ):
            hidden.add(kind)
            return 404
        return None

    proxy.fault = hide_once
    # WHEN another configuration needs it
    ctx.run(ctx.on.config_changed(), configured(epochs=9))
    # THEN the conflict means that it exists: one pipeline, and a run for each request
    pipelines = httpx.get(f"{sandbox.api_url}/apis/v2beta1/pipelines", trust_env=False).json()
    assert hidden
    assert pipelines["total_size"] == 1
    assert len(runs()) == 2
