"""Monitoring of production: schedule, action, reports and what they start."""

import dataclasses
import datetime
import json
import re
import time

import httpx
import numpy as np
import obstore
import ops
import ops.testing
import pytest

from fashion_mnist import data
from reconciler import reconcile
from sandbox import Sandbox
from tests.builders import PUSHGATEWAY, sdi

DATA = "s3://mlpipeline/production"
EXPERIMENT = "kubeflow--trainer.monitor"


@pytest.fixture
def monitoring_state(configured):
    """Return the state of a trainer that monitors production daily and trains only on request."""

    def config(**overrides):
        options = {"monitor_data": DATA, "monitor_schedule": "@daily", "train_on_change": False}
        return configured(**{**options, **overrides})

    return config


@pytest.fixture
def get_api(sandbox):
    def get(path, **params):
        url = f"{sandbox.api_url}/apis/v2beta1/{path}"
        return httpx.get(url, params=params, trust_env=False).raise_for_status().json()

    return get


@pytest.fixture
def schedules(get_api):
    return lambda: get_api("recurringruns", page_size=100).get("recurringRuns", [])


def report(run_id, *, version=1, drift=None, **fields):
    return {
        "schema_version": 1,
        "run_id": run_id,
        "created_at": "2026-02-01T00:00:00Z",
        "version": version,
        "images": 1000,
        "drift": drift or {"pixels": 0.01, "predictions": 0.02},
        "accuracy": None,
        "recall": {},
        **fields,
    }


@pytest.fixture
def monitored(run_action, monitoring_state, sandbox, registry):
    """Run monitoring with this report, and return the run's id."""

    def look(state="SUCCEEDED", **report_fields):
        run_id = run_action("monitor", monitoring_state())["run-id"]
        if state == "SUCCEEDED":
            registry.put(f"monitoring/{run_id}/report.json", report(run_id, **report_fields))
        sandbox.set_run_state(run_id, state)
        return run_id

    return look


def test_schedule_is_one_recurring_run_in_the_monitoring_experiment(
    ctx, monitoring_state, schedules, get_api
):
    state = monitoring_state(max_drift=0.3, monitor_images=2000)
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.update_status(), state)
    (schedule,) = schedules()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 0 * * *"
    parameters = schedule["runtime_config"]["parameters"]
    assert parameters["monitor_data"] == DATA
    assert parameters["max_drift"] == 0.3
    assert parameters["max_images"] == 2000
    assert parameters["registry"] == "s3://mlpipeline/models/fashion-mnist"
    names = {
        row["experiment_id"]: row["display_name"]
        for row in get_api("experiments", page_size=100)["experiments"]
    }
    assert names[schedule["experiment_id"]] == EXPERIMENT


def test_training_and_monitoring_schedules_coexist(ctx, monitoring_state, schedules):
    ctx.run(ctx.on.config_changed(), monitoring_state(schedule="@weekly"))
    assert len({row["experiment_id"] for row in schedules()}) == len(schedules()) == 2


@pytest.mark.parametrize(
    "change",
    [{"monitor_schedule": "@hourly"}, {"monitor_data": DATA + "2"}, {"monitor_images": 5000}],
)
def test_changed_option_replaces_the_schedule(ctx, monitoring_state, schedules, change):
    ctx.run(ctx.on.config_changed(), monitoring_state())
    (old,) = schedules()
    ctx.run(ctx.on.config_changed(), monitoring_state(**change))
    (new,) = schedules()
    assert new["recurring_run_id"] != old["recurring_run_id"]


def test_training_continues_if_the_server_refuses_monitoring(ctx, monitoring_state, proxy, runs):
    # GIVEN a monitoring schedule that the server rejects
    proxy.fault = lambda moment, _, method, path: (
        500 if (moment, method) == ("before", "POST") and path.endswith("/recurringruns") else None
    )
    # WHEN the configuration changes, THEN a run is submitted
    out = ctx.run(ctx.on.config_changed(), monitoring_state(train_on_change=True))
    assert [run["display_name"][:7] for run in runs()] == ["config-"]
    # AND the status shows the rejection
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "Kubeflow Pipelines: 500 made to fail" in out.unit_status.message


def test_emptied_option_deletes_the_schedule(ctx, monitoring_state, schedules):
    ctx.run(ctx.on.config_changed(), monitoring_state())
    ctx.run(ctx.on.config_changed(), monitoring_state(monitor_schedule=""))
    assert schedules() == []


def test_broken_relation_deletes_both_schedules(ctx, monitoring_state, kfp_api, schedules):
    state = monitoring_state(schedule="@weekly")
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.relation_broken(kfp_api), state)
    assert schedules() == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 10))
def test_fault_at_any_request_leaves_one_schedule(
    ctx, monitoring_state, proxy, schedules, moment, number
):
    proxy.fault = lambda m, n, *_: 503 if (m, n) == (moment, number) else None
    for _ in range(3):
        ctx.run(ctx.on.config_changed(), monitoring_state())
    assert len(schedules()) == 1


def test_monitor_submits_one_run_per_call(run_action, monitoring_state, runs, get_api):
    first = run_action("monitor", monitoring_state())
    second = run_action("monitor", monitoring_state(), monitor_data="s3://other/day")
    assert first["run-id"] != second["run-id"]
    data_by_run = {
        run["run_id"]: run["runtime_config"]["parameters"]["monitor_data"] for run in runs()
    }
    assert data_by_run == {first["run-id"]: DATA, second["run-id"]: "s3://other/day"}
    assert all(run["display_name"].startswith("monitor-11111111-") for run in runs())


@pytest.mark.parametrize(
    ("options", "params", "message"),
    [
        ({"monitor_data": "", "monitor_schedule": ""}, {}, "monitor-data must be s3://BUCKET"),
        ({}, {"monitor_data": "/tmp/x"}, "monitor-data must be empty or s3://BUCKET/PREFIX"),
        ({}, {"timeout": 0}, "timeout must be between 1 and 1440"),
    ],
)
def test_bad_parameter_fails_the_action_and_submits_nothing(
    run_action, monitoring_state, runs, options, params, message
):
    with pytest.raises(ops.testing.ActionFailed, match=message):
        run_action("monitor", monitoring_state(**options), **params)
    assert runs() == []


def test_monitor_on_a_follower_names_the_leader_command(run_action, monitoring_state, runs):
    with pytest.raises(ops.testing.ActionFailed, match="juju run trainer/leader monitor"):
        run_action("monitor", dataclasses.replace(monitoring_state(), leader=False))
    assert runs() == []


def test_monitoring_run_is_not_the_newest_training_run(
    ctx, state, run_action, monitoring_state, runs
):
    ctx.run(ctx.on.config_changed(), state)
    (training,) = runs()
    run_action("monitor", monitoring_state())
    out = ctx.run(ctx.on.update_status(), state)
    assert training["display_name"] in out.unit_status.message
    assert run_action("list-runs")["count"] == "1"


@pytest.mark.parametrize("minutes", [0, 60])
def test_run_timeout_applies_to_monitoring(
    ctx, run_action, monitoring_state, sandbox, runs, minutes, monkeypatch
):
    run_id = run_action("monitor", monitoring_state())["run-id"]
    sandbox.set_run_state(run_id, "RUNNING")
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=61)
    monkeypatch.setattr(reconcile, "utc_now", lambda: later)
    ctx.run(ctx.on.update_status(), monitoring_state(run_timeout=minutes))
    assert [run["state"] for run in runs()] == ["CANCELING" if minutes else "RUNNING"]


def test_get_run_returns_the_monitoring_report(run_action, monitored, registry):
    registry("run-1", accuracy=0.9, version=1)
    drift = {"pixels": 0.3125, "predictions": 0.02}
    run_id = monitored(drift=drift, accuracy=0.75, recall={"Shirt": 0.5, "Bag": 1})
    results = run_action("get-run", run_id=run_id)
    assert results["state"] == "SUCCEEDED"
    assert results["drift"] == "pixels 0.312, predictions 0.020"
    assert (results["version"], results["images"], results["accuracy"]) == ("1", "1000", "0.7500")
    assert results["recall"] == "Bag 1.0000, Shirt 0.5000"


def test_status_shows_drift_above_the_limit(ctx, monitoring_state, monitored, registry):
    registry("run-1", accuracy=0.9, version=1)
    monitored(drift={"pixels": 0.3, "predictions": 0.02})
    out = ctx.run(ctx.on.update_status(), monitoring_state())
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert "production drifted: pixels 0.300" in out.unit_status.message
    out = ctx.run(ctx.on.update_status(), monitoring_state(max_drift=0.35))
    assert "drifted" not in out.unit_status.message


def test_newest_report_is_used(ctx, monitoring_state, monitored, registry, sandbox):
    registry("run-1", accuracy=0.9, version=1)
    monitored(drift={"pixels": 0.3})
    assert "drifted" in ctx.run(ctx.on.update_status(), monitoring_state()).unit_status.message
    time.sleep(1.1)  # the server's times are whole seconds
    monitored(drift={"pixels": 0.01})
    assert "drifted" not in ctx.run(ctx.on.update_status(), monitoring_state()).unit_status.message


def test_drift_of_another_version_is_ignored(ctx, monitoring_state, monitored, registry):
    registry("run-1", accuracy=0.9, version=1)
    monitored(drift={"pixels": 0.3})
    registry("run-2", accuracy=0.92, version=2)
    out = ctx.run(ctx.on.update_status(), monitoring_state(retrain_on_drift=True))
    assert "drifted" not in out.unit_status.message


def test_status_shows_failed_monitoring(ctx, monitoring_state, monitored):
    monitored("FAILED")
    out = ctx.run(ctx.on.update_status(), monitoring_state())
    assert "monitoring failed" in out.unit_status.message


@pytest.mark.parametrize(
    "content", [{"schema_version": 2}, {"version": "one"}, {"drift": [1]}, {"images": None}]
)
def test_invalid_report_shows_in_the_status_and_training_continues(
    ctx, monitoring_state, run_action, registry, sandbox, runs, content
):
    registry("run-1", accuracy=0.9, version=1)
    run_id = run_action("monitor", monitoring_state())["run-id"]
    registry.put(f"monitoring/{run_id}/report.json", {**report(run_id), **content})
    sandbox.set_run_state(run_id, "SUCCEEDED")
    out = ctx.run(ctx.on.update_status(), monitoring_state(train_on_change=True))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert re.match(r"(malformed )?report", out.unit_status.message)
    assert len(runs()) == 2


def test_drift_starts_one_run_for_each_report(ctx, monitoring_state, monitored, registry, runs):
    registry("run-1", accuracy=0.9, version=1)
    monitored(drift={"pixels": 0.3})
    state = monitoring_state(retrain_on_drift=True)
    for leader in (True, False, True):
        ctx.run(ctx.on.update_status(), dataclasses.replace(state, leader=leader))
    (run,) = [run for run in runs() if run["display_name"].startswith("retrain-")]
    assert run["runtime_config"]["parameters"]["reason"] == "drift"
    assert "pixels 0.300" in run["description"]


def test_request_count_does_not_grow_with_monitoring_runs(
    ctx, monitoring_state, monitored, registry, proxy
):
    def calls():
        before = len(proxy.requests)
        ctx.run(ctx.on.update_status(), monitoring_state())
        return [path.partition("?")[0] for _, path in proxy.requests[before:]]

    registry("run-1", accuracy=0.9, version=1)
    ctx.run(ctx.on.config_changed(), monitoring_state())
    monitored()
    settled = calls()
    for _ in range(12):
        monitored()
    assert calls() == settled


def wait_for_run(sandbox, run_id, seconds=300):
    end = time.monotonic() + seconds
    url = f"{sandbox.api_url}/apis/v2beta1/runs/{run_id}"
    # The machine may be busy with the run.
    while (state := httpx.get(url, trust_env=False, timeout=60).json()["state"]) in (
        "PENDING",
        "RUNNING",
    ):
        assert time.monotonic() < end, sandbox.run_log(run_id).read_text()
        time.sleep(0.2)
    return state


@pytest.mark.slow
def test_shifted_images_start_a_retraining_run(ctx, tmp_path, monkeypatch):
    """Train, serve, monitor changed production data, and retrain, in the sandbox."""
    with Sandbox(tmp_path / "sandbox") as sandbox:
        store = sandbox.objects()
        host, port = sandbox.s3_url.removeprefix("http://").split(":")
        api = sandbox.api_url.rsplit(":", 1)[1]
        keys = {"access-key": sandbox.access_key, "secret-key": sandbox.secret_key}
        place = {"namespace": None, "port": int(port), "secure": False, "service": host}
        state = ops.testing.State(
            containers={PUSHGATEWAY},
            leader=True,
            config={
                "profile": "",
                "data-path": "s3://mlpipeline/data",
                "recipe": "notebook",
                "epochs": 3,
                "min-accuracy": 0.5,
                "min-recall": 0.0,
                "allow-anomalies": True,
                "monitor-data": DATA,
                "retrain-on-drift": True,
            },
            relations={
                sdi("kfp-api", "kfp-api", {"service-name": "127.0.0.1", "service-port": api}),
                sdi("object-storage", "minio", {**keys, **place}),
            },
            model=ops.testing.Model(name="kubeflow"),
        )
        # GIVEN a model that was trained on these images
        for part, count in (("train", 600), ("t10k", 200)):
            for kind, array in zip(("images", "labels"), bar_images(count, seed=0), strict=True):
                name = f"{part}-{kind}"
                data.write_idx(tmp_path / name, array)
                obstore.put(store, f"data/{data.FILES[name]}", (tmp_path / name).read_bytes())
        ctx.run(ctx.on.config_changed(), state)
        (first,) = sandbox.store.select("runs")
        assert wait_for_run(sandbox, first["id"]) == "SUCCEEDED", sandbox.run_log(
            first["id"]
        ).read_text()
        # WHEN production images are brighter, and are monitored
        images, labels = bar_images(600, seed=1)
        bright = np.clip(images.astype(int) + 60, 0, 255).astype(np.uint8)
        np.savez(tmp_path / "day.npz", images=bright, labels=labels)
        obstore.put(store, "production/day.npz", (tmp_path / "day.npz").read_bytes())
        out = ctx.run(ctx.on.action("monitor", params={"wait": True, "timeout": 5}), state)
        results = dict(ctx.action_results)
        # THEN drift is reported, and a run starts
        assert results["state"] == "SUCCEEDED"
        assert results["images"] == "600"
        assert "production drifted: pixels" in out.unit_status.message
        ctx.run(ctx.on.update_status(), out)
        second = [run for run in sandbox.store.select("runs") if run["name"].startswith("retrain-")]
        assert len(second) == 1
        assert json.loads(second[0]["parameters"])["reason"] == "drift"
        # AND its result is in the registry, with the reason
        wait_for_run(sandbox, second[0]["id"])
        path = f"models/fashion-mnist/runs/{second[0]['id']}/manifest.json"
        manifest = json.loads(bytes(obstore.get(store, path).bytes()))
        assert manifest["reason"] == "drift"
        # AND the version of the pipeline that made it, as it is called where it was uploaded
        (version,) = sandbox.store.select("versions", "id = ?", [second[0]["version_id"]])
        assert manifest["pipeline"]["version"] == version["name"]
        assert set(manifest["data"]["etags"]) == set(data.FILES.values())


def bar_images(count, seed):
    """Return images with a bright bar at the height of their class, and the classes."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % 10
    images = chance.integers(0, 60, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 2 : 2 * label + 6, 4:24] = 220
    return images, labels


def test_run_actions_select_the_newest_monitoring_run_by_name(run_action, monitored):
    with pytest.raises(ops.testing.ActionFailed, match="no run yet"):
        run_action("get-run", run_id="monitor")
    run_id = monitored("FAILED")
    assert run_action("get-run", run_id="monitor")["run-id"] == run_id
