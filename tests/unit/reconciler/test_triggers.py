"""Triggers start one run per reason and signal, and wait for the cooldown."""

import dataclasses
import datetime

import httpx
import ops
import ops.testing
import pytest

from config import TrainerConfig
from fashion_mnist import data
from model_registry import Champion, Manifest, MonitoringReport
from reconciler import reconcile
from reconciler.triggers import Signals, due

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
S3 = "s3://mlpipeline/data"
FILES = sorted(data.FILES.values())
ETAGS = dict.fromkeys(FILES, '"old"')


def champion(version=3, days=10, **result):
    fields = {"run_id": "r", "accuracy": 0.9, "accepted": True, "created_at": NOW - days * DAY}
    return Champion(version=version, manifest=Manifest(**{**fields, **result}))


def report(version=3, run_id="m1", **drift):
    return MonitoringReport(run_id=run_id, version=version, images=1000, drift=drift)


INACCURATE = dataclasses.replace(report(pixels=0.01), accuracy=0.6, is_inaccurate=True)


def reasons(config, **signals):
    signals = Signals(**{"champion": champion(source=S3, etags=ETAGS), **signals})
    return [trigger.reason for trigger in due(TrainerConfig(**config), signals, NOW)]


@pytest.mark.parametrize(
    ("config", "signals", "expected"),
    [
        ({"retrain_after": 10}, {}, ["age"]),
        ({"retrain_after": 11}, {}, []),
        ({}, {"champion": champion(days=1000)}, []),
        ({"retrain_after": 1}, {"champion": None}, []),
        ({"retrain_after": 1}, {"champion": champion(created_at=None)}, []),
        ({"retrain_on_drift": True}, {"report": report(pixels=0.2)}, ["drift"]),
        ({"retrain_on_drift": True}, {"report": report(pixels=0.1, predictions=0.05)}, []),
        ({"retrain_on_drift": True, "max_drift": 0.3}, {"report": report(pixels=0.2)}, []),
        ({"retrain_on_drift": True}, {"report": report(version=2, pixels=0.2)}, []),
        ({"retrain_on_drift": True}, {"report": None}, []),
        ({"retrain_on_drift": True}, {"report": INACCURATE}, ["drift"]),
        ({"retrain_on_drift": False}, {"report": INACCURATE}, []),
        ({"retrain_on_drift": False}, {"report": report(pixels=9)}, []),
        (
            {"retrain_on_data": True, "data_path": S3},
            {"etags": {**ETAGS, FILES[2]: '"new"'}},
            ["new data"],
        ),
        ({"retrain_on_data": True, "data_path": S3}, {"etags": ETAGS}, []),
        ({"retrain_on_data": True, "data_path": S3}, {"etags": {}}, []),
        ({"retrain_on_data": False, "data_path": S3}, {"etags": {FILES[0]: '"new"'}}, []),
        # Another address is another configuration.
        ({"retrain_on_data": True, "data_path": S3 + "2"}, {"etags": {FILES[0]: '"new"'}}, []),
    ],
)
def test_each_trigger_has_its_reason(config, signals, expected):
    assert reasons(config, **signals) == expected


def test_reasons_are_ordered_and_described():
    config = TrainerConfig(
        retrain_on_data=True, retrain_on_drift=True, retrain_after=3, data_path=S3
    )
    signals = Signals(
        champion=champion(source=S3, etags=ETAGS),
        etags={**ETAGS, FILES[0]: '"new"'},
        report=report(pixels=0.25, predictions=0.5, other=0.01),
    )
    triggers = due(config, signals, NOW)
    assert [trigger.reason for trigger in triggers] == ["new data", "drift", "age"]
    assert FILES[0] in triggers[0].description
    assert "pixels 0.250, predictions 0.500 (version 3)" in triggers[1].description
    assert "older than 9 days" in triggers[2].description
    assert len({trigger.name for trigger in triggers}) == 3
    # An hour later the same runs are desired.
    assert due(config, signals, NOW + DAY / 24) == triggers


def names(config, **signals):
    return {trigger.name for trigger in due(TrainerConfig(**config), Signals(**signals), NOW)}


@pytest.mark.parametrize(
    ("config", "signals_", "other"),
    [
        (
            {"retrain_after": 4},
            {"champion": champion(days=4)},
            {"champion": champion(days=8)},
        ),
        ({"retrain_after": 4}, {"champion": champion()}, {"champion": champion(version=4)}),
        (
            {"retrain_on_drift": True},
            {"champion": champion(), "report": report(pixels=1)},
            {"champion": champion(), "report": report(run_id="m2", pixels=1)},
        ),
        (
            {"retrain_on_data": True, "data_path": S3},
            {"champion": champion(source=S3, etags=ETAGS), "etags": {FILES[0]: "2"}},
            {"champion": champion(source=S3, etags=ETAGS), "etags": {FILES[0]: "3"}},
        ),
    ],
)
def test_other_signals_make_another_run(config, signals_, other):
    assert len(names(config, **signals_) | names(config, **other)) == 2


@pytest.fixture
def clock(monkeypatch, sandbox):
    """The charm's clock, which a test sets."""

    class Clock:
        now = datetime.datetime.now(datetime.timezone.utc)

    monkeypatch.setattr(reconcile, "utc_now", lambda: Clock.now)
    return Clock


def retrain_runs(runs):
    return [run for run in runs() if run["display_name"].startswith("retrain-")]


@pytest.fixture
def day_old_model(configured, registry):
    """The state of a trainer that replaces its day-old model daily."""
    created_at = (datetime.datetime.now(datetime.timezone.utc) - DAY).isoformat(timespec="seconds")
    registry("run-1", accuracy=0.9, version=1, created_at=created_at.replace("+00:00", "Z"))
    return configured(retrain_after=1, train_on_change=False)


def test_triggered_run_names_its_reason(ctx, day_old_model, runs):
    ctx.run(ctx.on.update_status(), day_old_model)
    ctx.run(ctx.on.update_status(), day_old_model)
    (run,) = retrain_runs(runs)
    assert run["runtime_config"]["parameters"]["reason"] == "age"
    assert run["description"].startswith("age: the champion is older than 1 days")


def test_every_kind_of_run_names_its_reason(ctx, configured, runs, sandbox):
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily"))
    ctx.run(ctx.on.action("train"), configured(schedule="@daily"))
    reasons_by_kind = {
        run["display_name"].split("-")[0]: run["runtime_config"]["parameters"]["reason"]
        for run in runs()
    }
    assert reasons_by_kind == {"config": "configuration", "train": "action"}
    url = f"{sandbox.api_url}/apis/v2beta1/recurringruns"
    (schedule,) = httpx.get(url, trust_env=False).json()["recurringRuns"]
    assert schedule["runtime_config"]["parameters"]["reason"] == "schedule"


@pytest.mark.parametrize("ends", ["FAILED", "SUCCEEDED", None])
def test_next_run_waits_for_the_cooldown(ctx, day_old_model, runs, sandbox, clock, ends):
    # GIVEN an ended run that was triggered by age
    ctx.run(ctx.on.update_status(), day_old_model)
    (first,) = retrain_runs(runs)
    if ends:
        sandbox.set_run_state(first["run_id"], ends)
    # WHEN the model is due again, and events follow before and after the cooldown
    state = dataclasses.replace(
        day_old_model, config={**day_old_model.config, "retrain-cooldown": 48}
    )
    clock.now += 1.5 * DAY
    ctx.run(ctx.on.update_status(), state)
    assert len(retrain_runs(runs)) == 1
    clock.now += 0.6 * DAY
    ctx.run(ctx.on.update_status(), state)
    # THEN there is one more, and no third
    ctx.run(ctx.on.update_status(), state)
    assert len(retrain_runs(runs)) == 2


def test_simultaneous_triggers_start_one_run_at_a_time(
    ctx, configured, registry, bucket, runs, clock
):
    # GIVEN an old model with changed data
    old = {"source": S3, "etags": ETAGS}
    registry("run-1", accuracy=0.9, version=1, data=old)
    state = configured(retrain_after=30, retrain_on_data=True, data_path=S3, train_on_change=False)
    # WHEN events follow within the cooldown and after it
    ctx.run(ctx.on.update_status(), state)
    ctx.run(ctx.on.update_status(), state)
    first = [run["runtime_config"]["parameters"]["reason"] for run in retrain_runs(runs)]
    clock.now += 1.1 * DAY
    ctx.run(ctx.on.update_status(), state)
    # THEN each reason has its run, one after the other
    run_reasons = [run["runtime_config"]["parameters"]["reason"] for run in retrain_runs(runs)]
    assert (first, sorted(run_reasons)) == (["new data"], ["age", "new data"])


def test_changed_data_starts_one_run_per_change(
    ctx, configured, registry, bucket, runs, clock, sandbox
):
    # GIVEN a model that was trained on the current data
    read = data.load(S3, s3_endpoint=sandbox.s3_url)
    registry("run-1", accuracy=0.9, version=1, data={"source": S3, "etags": dict(read.etags)})
    state = configured(retrain_on_data=True, data_path=S3, train_on_change=False)
    ctx.run(ctx.on.update_status(), state)
    assert retrain_runs(runs) == []
    # WHEN the files change, THEN a run starts, and days later no other
    bucket(1)
    for _ in range(3):
        ctx.run(ctx.on.update_status(), state)
        clock.now += DAY
    assert len(retrain_runs(runs)) == 1
    # WHEN they change again
    bucket(2)
    ctx.run(ctx.on.update_status(), state)
    assert len(retrain_runs(runs)) == 2


def test_unreachable_data_shows_in_the_status_and_training_continues(
    ctx, configured, registry, runs
):
    registry("run-1", accuracy=0.9, version=1, data={"source": S3, "etags": ETAGS})
    out = ctx.run(ctx.on.update_status(), configured(retrain_on_data=True, data_path=S3))
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert f"cannot check data-path {S3}" in out.unit_status.message
    assert [run["display_name"][:7] for run in runs()] == ["config-"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("fault", ["cut", 503])
def test_fault_at_any_request_leaves_one_triggered_run(
    ctx, day_old_model, proxy, runs, number, fault
):
    # GIVEN a server whose n-th response is lost, WHEN two leaders in turn handle events
    proxy.fault = lambda m, n, *_: fault if (m, n) == ("after", number) else None
    for leader in (True, False, True, True):
        ctx.run(ctx.on.update_status(), dataclasses.replace(day_old_model, leader=leader))
    # THEN there is one run
    assert len(retrain_runs(runs)) == 1


def test_follower_starts_no_runs(ctx, day_old_model, runs):
    ctx.run(ctx.on.update_status(), dataclasses.replace(day_old_model, leader=False))
    assert runs() == []


def test_request_count_does_not_grow_with_triggered_runs(ctx, day_old_model, runs, proxy, clock):
    def calls():
        before = len(proxy.requests)
        ctx.run(ctx.on.update_status(), day_old_model)
        return len(proxy.requests) - before

    calls()
    settled = calls()
    for _ in range(25):
        clock.now += DAY
        calls()
    # By this clock the last run has timed out, and is terminated.
    calls()
    assert calls() == settled
