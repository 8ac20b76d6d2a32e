"""The charm through Juju's events, against the sandbox."""

import dataclasses
import datetime
import functools
import json
import math
import re
import time

import httpx
import obstore
import ops
import ops.testing
import pytest
import yaml

import kfp_ops
from fashion_mnist.storage import open_registry
from k8s.config_maps import ConfigMaps
from sandbox import Sandbox
from tests.builders import sdi, trainer, unrelated_state
from tests.fakes.fault_proxy import FaultProxy


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


# Relations and waiting -------------------------------------------------------------------------


def test_without_relations_it_is_blocked_with_the_command(ctx):
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=True))
    assert out.unit_status == ops.BlockedStatus(
        "no relation kfp-api; add it with: juju integrate trainer:kfp-api kfp-api:kfp-api"
    )


def test_without_object_storage_it_is_blocked_with_the_command(ctx, kfp_api, runs):
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=True, relations={kfp_api}))
    assert out.unit_status == ops.BlockedStatus(
        "no relation object-storage; add it with: "
        "juju integrate trainer:object-storage minio:object-storage"
    )
    assert runs() == []


def test_commands_are_those_of_juju_2_under_juju_2():
    ctx = trainer(juju_version="2.9.53")
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=True))
    assert "juju relate trainer:kfp-api kfp-api:kfp-api" in out.unit_status.message


def test_the_leader_publishes_the_versions_of_the_interface(ctx):
    # GIVEN relations whose other sides have said nothing yet
    relations = {ops.testing.Relation("kfp-api"), ops.testing.Relation("object-storage")}
    # WHEN an event comes
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=True, relations=relations))
    # THEN both know which version is understood, and the charm waits
    for relation in out.relations:
        assert relation.local_app_data == {"_supported_versions": "- v1\n"}
    assert isinstance(out.unit_status, ops.WaitingStatus)


def test_a_unit_that_does_not_lead_publishes_nothing(ctx):
    relation = ops.testing.Relation("kfp-api")
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=False, relations={relation}))
    assert out.get_relation(relation.id).local_app_data == {}


@pytest.mark.parametrize(
    "data",
    [
        "{not yaml",
        "- a list",
        "just text",
        "service-name: kfp-api\n",
        "service-name: kfp-api\nservice-port: many\n",
        "service-name: kfp-api\nservice-port: 70000\n",
        "service-name: ''\nservice-port: 8888\n",
        "service-name: {a: 1}\nservice-port: 8888\n",
    ],
)
def test_wrong_data_of_kfp_api_is_blocked(ctx, state, kfp_api, data, runs):
    wrong = dataclasses.replace(kfp_api, remote_app_data={"data": data})
    out = ctx.run(
        ctx.on.relation_changed(wrong),
        dataclasses.replace(
            state, relations={wrong, *(r for r in state.relations if r is not kfp_api)}
        ),
    )
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "relation kfp-api: its data is wrong" in out.unit_status.message
    assert runs() == []


@pytest.mark.parametrize("missing", ["service", "port"])
def test_incomplete_data_of_object_storage_is_blocked_without_a_secret(
    ctx, state, object_storage, missing, sandbox
):
    data = yaml.safe_load(object_storage.remote_app_data["data"])
    del data[missing]
    wrong = dataclasses.replace(object_storage, remote_app_data={"data": yaml.safe_dump(data)})
    relations = {wrong, *(r for r in state.relations if r is not object_storage)}
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, relations=relations))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert missing in out.unit_status.message
    assert sandbox.secret_key not in out.unit_status.message


@pytest.mark.parametrize("keys", [{}, {"access-key": "", "secret-key": ""}])
def test_object_storage_without_keys_is_waited_for(ctx, state, object_storage, keys):
    data = yaml.safe_load(object_storage.remote_app_data["data"])
    data = {name: value for name, value in data.items() if not name.endswith("-key")} | keys
    related = dataclasses.replace(object_storage, remote_app_data={"data": yaml.safe_dump(data)})
    relations = {related, *(r for r in state.relations if r is not object_storage)}
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, relations=relations))
    assert out.unit_status == ops.WaitingStatus("relation object-storage: waiting for its keys")


@pytest.mark.parametrize("others", [{}, {"trainer_1": "active"}, {"trainer_1": "dying"}])
@pytest.mark.parametrize("leader", [True, False])
def test_a_unit_that_leaves_asks_for_no_relation(ctx, state, kfp_api, goal_state, others, leader):
    goal_state(trainer_0="dying", **others)
    out = ctx.run(ctx.on.relation_broken(kfp_api), dataclasses.replace(state, leader=leader))
    assert out.unit_status == ops.MaintenanceStatus("the unit is being removed")


def test_the_version_is_the_champions(ctx, state, registry):
    out = ctx.run(ctx.on.update_status(), state)
    assert not out.workload_version.startswith("v")
    registry("run-3", accuracy=0.93, version=3)
    out = ctx.run(ctx.on.update_status(), state)
    assert out.workload_version == "v3"
    # A unit that does not lead leaves it to the leader.
    out = ctx.run(ctx.on.update_status(), dataclasses.replace(state, leader=False))
    assert out.workload_version == ""


def test_a_broken_relation_blocks_again(ctx, state, kfp_api):
    out = ctx.run(ctx.on.relation_broken(kfp_api), state)
    assert out.unit_status.name == "blocked"
    assert "no relation kfp-api" in out.unit_status.message


@pytest.mark.parametrize("storage", [True, False])
def test_with_the_relation_the_schedule_goes(ctx, configured, kfp_api, schedules, storage):
    # GIVEN a schedule; it may be that object storage is not related any more
    state = configured(schedule="@daily")
    ctx.run(ctx.on.config_changed(), state)
    assert len(schedules()) == 1
    if not storage:
        state = dataclasses.replace(state, relations={kfp_api})
    # WHEN another unit than the leader sees the relation break, THEN the schedule stays
    other = dataclasses.replace(state, leader=False)
    ctx.run(ctx.on.relation_broken(kfp_api), other)
    assert len(schedules()) == 1
    # WHEN the leader does, THEN it goes, whatever is wrong with the options
    wrong = dataclasses.replace(state, config={**state.config, "image-number": 10000})
    ctx.run(ctx.on.relation_broken(kfp_api), wrong)
    assert schedules() == []
    # AND a new relation brings it back
    if storage:
        ctx.run(ctx.on.relation_changed(kfp_api), state)
        assert len(schedules()) == 1


@pytest.mark.parametrize(("other", "left"), [("active", 1), ("dying", 0)])
def test_a_unit_that_leaves_others_leaves_them_the_schedule(
    ctx, configured, kfp_api, schedules, goal_state, other, left
):
    # GIVEN a leader that is scaled away, or goes with all of the application
    state = configured(schedule="@daily")
    ctx.run(ctx.on.config_changed(), state)
    goal_state(trainer_0="dying", trainer_1=other)
    # WHEN its relations break, as they do to each unit that goes
    ctx.run(ctx.on.relation_broken(kfp_api), state)
    # THEN the schedule stays for as long as the application does
    assert len(schedules()) == left


def test_a_schedule_that_cannot_be_removed_is_told(ctx, configured, kfp_api, proxy, schedules):
    state = configured(schedule="@daily")
    ctx.run(ctx.on.config_changed(), state)
    proxy.fault = lambda *_: 503
    ctx.run(ctx.on.relation_broken(kfp_api), state)
    assert len(schedules()) == 1
    assert any("a schedule may be left" in log.message for log in ctx.juju_log)


@pytest.mark.parametrize("action", ["train", "list-runs", "rollback"])
def test_an_option_that_cannot_be_is_what_an_action_says_to_mend(ctx, configured, action):
    with pytest.raises(ops.testing.ActionFailed) as failed:
        ctx.run(ctx.on.action(action), configured(recipe="magic"))
    assert failed.value.message.startswith("recipe must be one of")
    assert failed.value.message.endswith("set it with: juju config trainer recipe=VALUE")


def test_object_storage_is_asked_past_the_models_proxy(ctx, state, three_versions, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    out = ctx.run(ctx.on.config_changed(), state)
    assert "v3 serves, accuracy 0.9300" in out.unit_status.message


def test_what_an_action_asked_for_in_vain_is_not_promised(ctx, state, sandbox):
    sandbox.stop()
    for action in ("train", "list-runs"):
        with pytest.raises(ops.testing.ActionFailed) as failed:
            ctx.run(ctx.on.action(action), state)
        assert "run the action again: juju run trainer/leader list-runs" in failed.value.message
        assert "retries at" not in failed.value.message


@pytest.mark.parametrize(
    ("moment", "thing"), [("after", "/runs"), ("before", "/recurringruns")], ids=["lost", "later"]
)
def test_a_run_that_was_submitted_is_told_whatever_went_wrong(
    ctx, configured, proxy, runs, moment, thing
):
    # GIVEN a proxy that loses the answer to the run, or a server that takes no schedule
    state = configured(schedule="@daily", train_on_change=False)
    failing = (moment, "POST", thing)
    proxy.fault = lambda when, _, method, path: (
        504 if (when, method, path[-len(thing) :]) == failing else None
    )
    # WHEN a run is asked for, THEN it is told
    ctx.run(ctx.on.action("train"), state)
    (run,) = runs()
    assert ctx.action_results["run-id"] == run["run_id"]


def test_an_unreachable_server_is_waited_for(ctx, state, sandbox, runs):
    sandbox.stop()
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "retries at the next update-status" in out.unit_status.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, ops.WaitingStatus),
        (503, ops.WaitingStatus),
        (401, ops.BlockedStatus),
        (403, ops.BlockedStatus),
        (400, ops.BlockedStatus),
    ],
)
def test_a_server_that_refuses_shows_in_the_status(ctx, state, proxy, status, kind):
    proxy.fault = lambda *_: status
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, kind)
    assert str(status) in out.unit_status.message
    # All of it is in the log.
    assert "made to fail" in "".join(log.message for log in ctx.juju_log)


# One run per wish ------------------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_every_event_takes_the_same_way(ctx, state, kfp_api, event, runs):
    out = ctx.run(events(ctx, kfp_api)[event], state)
    (run,) = runs()
    assert run["display_name"].startswith("config-")
    assert out.unit_status == ops.ActiveStatus(f"run {run['display_name']} PENDING")


def test_the_same_configuration_submits_no_second_run(ctx, state, kfp_api, runs):
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
def test_a_changed_option_submits_exactly_one_run_with_it(ctx, state, configured, change, runs):
    # GIVEN the default configuration's run
    ctx.run(ctx.on.config_changed(), state)
    # WHEN an option changes, and the event comes twice
    changed = configured(**change)
    ctx.run(ctx.on.config_changed(), changed)
    ctx.run(ctx.on.config_changed(), changed)
    # THEN there is one more run, and it has the value
    newest, first = sorted(runs(), key=lambda run: run["created_at"], reverse=True)
    assert {newest["display_name"], first["display_name"]} == {r["display_name"] for r in runs()}
    assert newest["display_name"] != first["display_name"]
    (name, value), *_ = change.items()
    if name != "training_image":
        given = [run["runtime_config"]["parameters"][name] for run in (newest, first)]
        assert value in given
        assert given[0] != given[1]


def test_going_back_to_a_trained_configuration_finds_its_run(ctx, state, configured, sandbox, runs):
    ctx.run(ctx.on.config_changed(), state)
    (first,) = runs()
    sandbox.set_run_state(first["run_id"], "SUCCEEDED")
    # The server's times are whole seconds, and which of two of one second is newer nobody knows.
    created = datetime.datetime.fromisoformat(first["created_at"].replace("Z", "+00:00"))
    while datetime.datetime.now(datetime.timezone.utc) < created + datetime.timedelta(seconds=1):
        time.sleep(0.05)
    out = ctx.run(ctx.on.config_changed(), configured(epochs=3))
    assert "before" not in out.unit_status.message
    out = ctx.run(ctx.on.config_changed(), state)
    assert len(runs()) == 2
    # AND the operator learns why nothing begins
    name = runs()[-1]["display_name"]
    assert f"run {name} trained this configuration" in out.unit_status.message


def test_the_latest_configuration_wins_and_asked_runs_are_left_alone(ctx, state, configured, runs):
    # GIVEN a run of the configuration and one that was asked for
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.action("train"), state)
    # WHEN the configuration changes, and back, and an event more comes
    ctx.run(ctx.on.config_changed(), configured(epochs=3))
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.update_status(), state)
    # THEN one run of the configuration is active, with its values, and the asked one goes on
    active = [run for run in runs() if run["state"] == "PENDING"]
    epochs = {
        run["display_name"].split("-")[0]: run["runtime_config"]["parameters"]["epochs"]
        for run in active
    }
    assert epochs == {"config": 0, "train": 0}
    assert len(active) == 2
    assert len(runs()) == 4


def test_a_superseded_run_that_ends_in_the_meantime_is_fine(
    ctx, state, configured, proxy, sandbox, runs
):
    # GIVEN a run that ends between the look and the termination
    ctx.run(ctx.on.config_changed(), state)
    (first,) = runs()

    def end_it(moment, _number, _method, path):
        if moment == "before" and path.endswith(":terminate"):
            sandbox.set_run_state(first["run_id"], "SUCCEEDED")

    proxy.fault = end_it
    # WHEN the configuration changes, THEN the new run is submitted all the same
    ctx.run(ctx.on.config_changed(), configured(epochs=3))
    assert sorted(run["state"] for run in runs()) == ["PENDING", "SUCCEEDED"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("how", ["cut", 503])
def test_a_fault_while_superseding_still_ends_in_one_active_run(
    ctx, state, configured, proxy, runs, moment, number, how
):
    ctx.run(ctx.on.config_changed(), state)
    start = len(proxy.requests)
    proxy.fault = lambda m, n, *_: how if (m, n - start) == (moment, number) else None
    for _ in range(3):
        ctx.run(ctx.on.config_changed(), configured(epochs=3, schedule="@daily"))
    assert len(runs()) == 2
    (active,) = [run for run in runs() if run["state"] == "PENDING"]
    assert active["runtime_config"]["parameters"]["epochs"] == 3


# Schedules -------------------------------------------------------------------------------------------


def test_a_schedule_is_one_recurring_run_with_the_configurations_values(
    ctx, configured, schedules, runs
):
    # WHEN a schedule is set, and more events come
    state = configured(schedule="30 3 * * SUN", train_on_change=False, epochs=2)
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.update_status(), state)
    # THEN there is one, that takes no more than one run at a time and makes up for none
    (schedule,) = schedules()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 30 3 * * SUN"
    assert schedule["status"] == "ENABLED"
    assert schedule["max_concurrency"] == "1"
    assert schedule["no_catchup"] is True
    assert schedule["runtime_config"]["parameters"]["epochs"] == 2
    assert runs() == []


def test_pausing_switches_the_same_schedule_off_and_on(ctx, configured, schedules):
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily"))
    (first,) = schedules()
    for paused, status in ((True, "DISABLED"), (False, "ENABLED")):
        state = configured(schedule="@daily", schedule_paused=paused)
        ctx.run(ctx.on.config_changed(), state)
        (schedule,) = schedules()
        assert schedule["recurring_run_id"] == first["recurring_run_id"]
        assert schedule["status"] == status


def test_a_schedule_that_is_born_paused_is_disabled(ctx, configured, schedules):
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily", schedule_paused=True))
    assert [schedule["status"] for schedule in schedules()] == ["DISABLED"]


@pytest.mark.parametrize("change", [{"schedule": "@weekly"}, {"epochs": 7}])
def test_a_change_replaces_the_schedule(ctx, configured, schedules, change):
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily"))
    (old,) = schedules()
    ctx.run(ctx.on.config_changed(), configured(**{"schedule": "@daily", **change}))
    (new,) = schedules()
    assert new["recurring_run_id"] != old["recurring_run_id"]


def test_without_a_schedule_only_the_charms_own_goes(ctx, state, configured, schedules, sandbox):
    # GIVEN the charm's schedule and one that somebody made in the same experiment
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily"))
    (ours,) = schedules()
    theirs = {
        key: ours[key]
        for key in ("experiment_id", "pipeline_version_reference", "runtime_config", "trigger")
    }
    httpx.post(
        f"{sandbox.api_url}/apis/v2beta1/recurringruns",
        json={**theirs, "display_name": "by hand", "max_concurrency": 1, "mode": "ENABLE"},
        trust_env=False,
    ).raise_for_status()
    # WHEN the option is emptied
    ctx.run(ctx.on.config_changed(), state)
    # THEN only theirs is left
    assert [schedule["display_name"] for schedule in schedules()] == ["by hand"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("how", ["cut", 503])
def test_a_fault_at_any_request_still_ends_in_one_schedule(
    ctx, configured, proxy, schedules, moment, number, how
):
    # GIVEN a schedule, and a server whose n-th request is lost from now on
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily", train_on_change=False))
    start = len(proxy.requests)
    proxy.fault = lambda m, n, *_: how if (m, n - start) == (moment, number) else None
    # WHEN another schedule is set and more events come
    state = configured(schedule="@hourly", train_on_change=False)
    for _ in range(3):
        ctx.run(ctx.on.config_changed(), state)
    # THEN the other one is the only one
    (schedule,) = schedules()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 * * * *"


def test_a_new_image_is_a_new_version_that_runs_in_it(ctx, configured, runs, sandbox):
    ctx.run(ctx.on.config_changed(), configured(training_image="registry.local/tensorflow:2"))
    (run,) = runs()
    reference = run["pipeline_version_reference"]
    version = httpx.get(
        f"{sandbox.api_url}/apis/v2beta1/pipelines/{reference['pipeline_id']}"
        f"/versions/{reference['pipeline_version_id']}"
    ).json()
    spec = version["pipeline_spec"]
    spec = spec.get("pipeline_spec", spec)
    images = {e["container"]["image"] for e in spec["deploymentSpec"]["executors"].values()}
    assert images == {"registry.local/tensorflow:2"}


def test_without_train_on_change_nothing_is_submitted(ctx, configured, runs):
    out = ctx.run(ctx.on.config_changed(), configured(train_on_change=False))
    assert runs() == []
    assert out.unit_status == ops.ActiveStatus(
        "no run yet; start one: juju run trainer/leader train"
    )


def test_a_unit_that_does_not_lead_submits_nothing_and_reports(ctx, state, runs):
    # GIVEN a follower, and no run
    follower = dataclasses.replace(state, leader=False)
    out = ctx.run(ctx.on.config_changed(), follower)
    assert runs() == []
    # WHEN the leader has submitted
    ctx.run(ctx.on.config_changed(), state)
    out = ctx.run(ctx.on.update_status(), follower)
    # THEN the follower shows no progress, which would grow stale
    assert out.unit_status == ops.ActiveStatus("standby; the leader reports runs and models")
    assert len(runs()) == 1


def test_a_bad_option_is_blocked_and_submits_nothing(ctx, configured, runs):
    out = ctx.run(ctx.on.config_changed(), configured(epochs=-1))
    assert out.unit_status == ops.BlockedStatus(
        "epochs must be between 0 and 1000, not '-1'; set it with: juju config trainer epochs=VALUE"
    )
    assert runs() == []


def test_the_number_of_calls_does_not_grow_with_runs(ctx, state, configured, proxy, runs):
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
def test_ten_thousand_runs_cost_no_more_than_none(ctx, state, sandbox, proxy):
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
    # THEN an event asks as often as before, and sees the same
    asked, status = update()
    assert asked == calls
    assert len(calls) == 6
    assert row["name"] in status.message


# Time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ago", [datetime.timedelta(hours=7)])
@pytest.mark.parametrize("minutes", [0, 360])
def test_a_run_that_goes_on_for_too_long_is_terminated(
    ctx, configured, sandbox, runs, ago, minutes
):
    # GIVEN a run that was submitted seven hours ago, and still runs, and one that waits
    state = configured(run_timeout=minutes)
    ctx.run(ctx.on.config_changed(), state)
    (first,) = runs()
    sandbox.set_run_state(first["run_id"], "RUNNING")
    ctx.run(ctx.on.action("train"), state)

    ctx.run(ctx.on.update_status(), state)

    # THEN both are terminated, if there is a limit
    states = {row["display_name"]: row["state"] for row in runs()}
    assert states.pop(first["display_name"]) == ("CANCELING" if minutes else "RUNNING")
    assert list(states.values()) == ["CANCELING" if minutes else "PENDING"]


@pytest.mark.parametrize("ago", [datetime.timedelta(hours=8)])
def test_a_run_that_was_told_to_end_and_never_does_is_told(ctx, state, sandbox, runs, ago):
    # GIVEN a run whose workflow is gone, so that the server never hears of its end
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    sandbox.set_run_state(run["run_id"], "RUNNING")
    out = ctx.run(ctx.on.update_status(), state)
    assert f"run {run['display_name']} CANCELING" in out.unit_status.message
    # WHEN it has not ended with the next event, THEN the unit says what to do
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert (
        f"run {run['display_name']} was terminated but is still running" in out.unit_status.message
    )
    assert out.unit_status.message.endswith("start another: juju run trainer/leader train")
    # AND training again is the way out
    ctx.run(ctx.on.action("train"), state)
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.ActiveStatus)


@pytest.mark.parametrize("ago", [datetime.timedelta(hours=7)])
def test_the_run_that_was_terminated_is_told_at_once_and_stays_so(ctx, state, sandbox, runs, ago):
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


# The action --------------------------------------------------------------------------------------


def test_train_submits_one_run_each_time_with_its_own_parameters(ctx, state, runs):
    # GIVEN a settled trainer
    ctx.run(ctx.on.config_changed(), state)
    # WHEN train is asked for twice, in the same words
    names = []
    for _ in range(2):
        ctx.run(ctx.on.action("train", params={"epochs": 2, "note": "by hand"}), state)
        names.append(ctx.action_results["run-name"])
    # THEN each wish has a run of its own
    asked = [run for run in runs() if run["display_name"].startswith("train-")]
    assert sorted(names) == sorted(run["display_name"] for run in asked)
    assert len(set(names)) == 2
    for run in asked:
        assert run["runtime_config"]["parameters"]["epochs"] == 2
        assert run["description"] == "by hand"
    assert len(runs()) == 3


def test_train_returns_id_name_and_link(ctx, configured, runs, proxy):
    ctx.run(ctx.on.action("train"), configured(train_on_change=False))
    (run,) = runs()
    assert ctx.action_results == {
        "run-id": run["run_id"],
        "run-name": run["display_name"],
        "run-url": f"http://127.0.0.1:{proxy.port}/apis/v2beta1/runs/{run['run_id']}",
    }


def test_the_link_goes_to_the_dashboard_when_it_is_known(ctx, configured):
    ctx.run(ctx.on.action("train"), configured(dashboard_url="http://kubeflow.example.com/"))
    assert ctx.action_results["run-url"] == (
        "http://kubeflow.example.com/_/pipeline/#/runs/details/" + ctx.action_results["run-id"]
    )


def test_names_of_asked_runs_differ_between_models(ctx, state, runs):
    other = dataclasses.replace(
        state,
        model=ops.testing.Model(name="kubeflow", uuid="99999999-2222-4333-8444-555555555555"),
    )
    for each in (state, other):
        ctx.run(ctx.on.action("train"), each)
    asked = {run["display_name"][:14] for run in runs() if run["display_name"][0] == "t"}
    assert asked == {"train-11111111", "train-99999999"}


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
def test_a_bad_parameter_fails_the_action_and_submits_nothing(ctx, state, params, option, runs):
    with pytest.raises(ops.testing.ActionFailed, match=f"{option} must be"):
        ctx.run(ctx.on.action("train", params=params), state)
    assert runs() == []


def test_train_on_another_unit_says_whom_to_ask(ctx, state, runs):
    follower = dataclasses.replace(state, leader=False)
    with pytest.raises(ops.testing.ActionFailed, match="juju run trainer/leader train"):
        ctx.run(ctx.on.action("train"), follower)
    assert runs() == []


def test_train_without_a_relation_says_which(ctx):
    with pytest.raises(ops.testing.ActionFailed, match="no relation kfp-api"):
        ctx.run(ctx.on.action("train"), unrelated_state(leader=True))


def test_train_with_a_bad_configuration_names_the_option(ctx, configured, runs):
    with pytest.raises(ops.testing.ActionFailed, match="seed must be"):
        ctx.run(ctx.on.action("train"), configured(seed=-1))
    assert runs() == []


def test_train_against_a_dead_server_fails_with_what_happened(ctx, state, sandbox):
    sandbox.stop()
    with pytest.raises(ops.testing.ActionFailed, match="Kubeflow Pipelines"):
        ctx.run(ctx.on.action("train"), state)


# The actions on runs -------------------------------------------------------------------------------


@pytest.fixture
def run_lifecycle(sandbox, runs, proxy, monkeypatch):
    """Let the newest run take these states, one each time that the charm looks at it alone."""
    monkeypatch.setattr("kfp_ops._follow.POLL_SECONDS", 0.01)

    def live(*states):
        left = list(states)

        def look(moment, _number, method, path):
            if moment == "before" and method == "GET" and "/runs/" in path and left:
                state = left.pop(0)
                if isinstance(state, int):
                    return state
                tasks = {"ingest": "SUCCEEDED"} if state != "PENDING" else {}
                sandbox.set_run_state(runs()[0]["run_id"], state, tasks)
            return None

        proxy.fault = look

    return live


def test_train_with_wait_follows_the_run_to_its_end(
    ctx, configured, run_action, run_lifecycle, registry
):
    # GIVEN a server that cannot be reached for a moment while the run goes on
    run_lifecycle("PENDING", "RUNNING", 503, "RUNNING", "SUCCEEDED")
    told = run_action("train", state=configured(train_on_change=False), wait=True)
    # THEN the action returns what get-run does, and its log tells each change once
    assert told["state"] == "SUCCEEDED"
    assert told["run-name"].startswith("train-")
    said = [line.split(" ", 2)[2] for line in ctx.action_logs]
    assert said[0] == "PENDING"
    assert said[1] == "RUNNING (1 of 3 steps done)"
    assert "503" in said[2]
    assert said[3] == said[1]
    assert said[-1].startswith("SUCCEEDED")
    assert len(said) == 5


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("ERROR connection is shut down", SystemExit),
        ("ERROR permission denied", ops.testing.errors.UncaughtCharmError),
    ],
)
def test_an_agent_that_stops_during_an_action_is_told_in_words(
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


def test_train_with_wait_fails_with_the_run(ctx, configured, run_action, run_lifecycle):
    run_lifecycle("RUNNING", "FAILED")
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("train", state=configured(train_on_change=False), wait=True)
    assert "ended FAILED; see: juju run trainer/leader get-run" in failed.value.message
    assert ctx.action_results["state"] == "FAILED"


def test_train_with_wait_gives_up_when_the_time_is_up(
    ctx, configured, run_action, run_lifecycle, monkeypatch
):
    # GIVEN a clock that goes on by 45 seconds each time it is looked at
    now = iter(range(0, 10000, 45))
    follow = functools.partial(kfp_ops.follow, clock=lambda: next(now))
    monkeypatch.setattr(kfp_ops, "follow", follow)
    run_lifecycle("RUNNING")
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("train", state=configured(train_on_change=False), wait=True, timeout=1)
    assert "the time is up and run train-" in failed.value.message
    assert ctx.action_results["state"] == "RUNNING"


@pytest.mark.parametrize("timeout", [0, 1441])
def test_train_takes_no_timeout_out_of_bounds(run_action, runs, timeout):
    with pytest.raises(ops.testing.ActionFailed, match="timeout must be between 1 and 1440"):
        run_action("train", wait=True, timeout=timeout)
    assert runs() == []


def test_list_runs_tells_the_newest_first_and_no_more_than_asked_for(ctx, state, run_action, runs):
    # GIVEN nothing, then a run of the configuration and three that are asked for
    assert run_action("list-runs")["count"] == "0"
    ctx.run(ctx.on.config_changed(), state)
    for _ in range(3):
        run_action("train")
    # WHEN they are listed
    every, two = run_action("list-runs"), run_action("list-runs", limit=2)
    # THEN each has a line with its name, state and id
    assert every["count"] == "4"
    lines = every["runs"].splitlines()
    for run in runs():
        (line,) = [line for line in lines if run["run_id"] in line]
        assert line.split()[:2] == [run["display_name"], "PENDING"]
    assert two["count"] == "2"
    assert len(two["runs"].splitlines()) == 2


def test_get_run_tells_steps_parameters_and_what_came_of_it(
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
    told = run_action("get-run")
    assert run_action("get-run", run_id=run["run_id"]) == told
    # THEN all is there
    assert told["run-name"] == run["display_name"]
    assert told["state"] == "SUCCEEDED"
    assert "train SUCCEEDED" in told["steps"]
    assert json.loads(told["parameters"])["recipe"] == "fast"
    assert (told["accuracy"], told["loss"]) == ("0.9213", "0.2500")
    assert told["recall"] == "Bag 0.9900, T-shirt/top 0.8512"
    assert told["verdict"] == "accepted"
    assert told["created-at"].startswith("20")
    assert run["run_id"] in told["run-url"]


def test_get_run_of_a_running_run_leaves_out_what_is_not_known(ctx, state, run_action):
    ctx.run(ctx.on.config_changed(), state)
    assert not {"accuracy", "loss", "recall", "verdict", "finished-at"} & set(run_action("get-run"))


def test_cancel_run_terminates_it_and_it_is_not_submitted_again(
    ctx, state, run_action, sandbox, runs
):
    # GIVEN a run of the configuration
    ctx.run(ctx.on.config_changed(), state)
    # WHEN it is cancelled
    told = run_action("cancel-run")
    # THEN the server stops it, and the next events leave it at that
    assert told["state"] == "CANCELING"
    for reported in ("CANCELING", "FAILED"):
        sandbox.set_run_state(told["run-id"], reported)
    out = ctx.run(ctx.on.update_status(), state)
    assert [run["run_id"] for run in runs()] == [told["run-id"]]
    # AND what the operator asked for is no failure, though the server calls it one
    assert out.unit_status == ops.ActiveStatus(
        f"run {told['run-name']} CANCELED; train again: juju run trainer/leader train"
    )
    # AND a second time there is nothing to cancel
    with pytest.raises(
        ops.testing.ActionFailed, match="has ended already: CANCELED; see: juju run"
    ):
        run_action("cancel-run")


def test_another_unit_cancels_nothing(ctx, state, run_action):
    ctx.run(ctx.on.config_changed(), state)
    with pytest.raises(ops.testing.ActionFailed, match="juju run trainer/leader cancel-run"):
        run_action("cancel-run", state=dataclasses.replace(state, leader=False))
    assert run_action("get-run")["state"] == "PENDING"


@pytest.mark.parametrize("action", ["get-run", "cancel-run"])
def test_a_run_that_is_not_there_or_not_ours_is_told(ctx, state, run_action, sandbox, action):
    # GIVEN no run at all
    with pytest.raises(ops.testing.ActionFailed, match="there is no run yet"):
        run_action(action)
    # GIVEN a run of another application
    ctx.run(ctx.on.config_changed(), state)
    ours = httpx.get(f"{sandbox.api_url}/apis/v2beta1/runs", trust_env=False).json()["runs"][0]
    default = httpx.post(
        f"{sandbox.api_url}/apis/v2beta1/experiments",
        json={"display_name": "of another"},
        trust_env=False,
    ).json()
    theirs = httpx.post(
        f"{sandbox.api_url}/apis/v2beta1/runs",
        json={
            "display_name": "theirs",
            "experiment_id": default["experiment_id"],
            "pipeline_version_reference": ours["pipeline_version_reference"],
        },
        trust_env=False,
    ).json()
    with pytest.raises(ops.testing.ActionFailed, match="not one of this trainer"):
        run_action(action, run_id=theirs["run_id"])
    with pytest.raises(ops.testing.ActionFailed, match="there is no run 1234; see: juju run"):
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
def test_a_bad_parameter_of_an_action_on_runs_is_told(run_action, proxy, action, params):
    (name,) = params
    with pytest.raises(ops.testing.ActionFailed, match=f"{name.replace('_', '-')} must be"):
        run_action(action, **params)
    assert not proxy.requests


@pytest.mark.parametrize("action", ["list-runs", "get-run", "cancel-run"])
def test_an_action_on_runs_fails_with_what_happened(ctx, state, run_action, proxy, action):
    proxy.fault = lambda *_: 503
    with pytest.raises(ops.testing.ActionFailed, match="Kubeflow Pipelines: "):
        run_action(action)
    with pytest.raises(ops.testing.ActionFailed, match="no relation kfp-api"):
        run_action(action, state=dataclasses.replace(state, relations=[]))


# The actions on models -----------------------------------------------------------------------------


def test_list_models_tells_the_newest_first_and_which_serves(run_action, three_versions):
    told = run_action("list-models", limit=2)
    assert told["count"] == "2"
    assert told["champion"] == "3"
    assert [re.split(" {2,}", line) for line in told["models"].splitlines()] == [
        ["v3", "0.9300", "Shirt 0.8000", "-", "2026-01-01T00:00:00+00:00", "run-3", "serves"],
        ["v2", "0.9200", "Shirt 0.8000", "-", "2026-01-01T00:00:00+00:00", "run-2"],
    ]


def test_versions_that_were_removed_cost_list_models_nothing(
    run_action, three_versions, registry, object_storage, state
):
    # GIVEN the claims of versions that are not there any more,
    def asked():
        requests.clear()
        run_action("list-models", state=watched)
        return len(requests)

    requests = []
    data = yaml.safe_load(object_storage.remote_app_data["data"])
    with FaultProxy(f"http://{data['service']}:{data['port']}") as proxy:
        requests = proxy.requests
        there = sdi("object-storage", "minio", {**data, "port": proxy.port})
        others = {each for each in state.relations if each is not object_storage}
        watched = dataclasses.replace(state, relations={there, *others})
        before = asked()
        for number in range(100, 130):
            registry.put(f"claims/{number:08d}.json", {"run_id": "gone"})
        # WHEN models are listed, THEN no more is asked for than before
        assert asked() == before


def test_list_models_compares_reasons_and_times(run_action, registry, three_versions):
    # GIVEN a model that was trained for a reason, and moves of the champion forth and back
    registry("run-5", accuracy=0.94, version=5, reason="new data")
    run_action("rollback")
    # THEN the list tells why, and since when and from when they served
    lines = run_action("list-models", limit=3)["models"].splitlines()
    assert "  new data  " in lines[0]
    assert re.search(r"  serves since 20\d\d-\d\d-\d\dT[\d:]+\+00:00$", lines[1])
    run_action("promote", version=5)
    lines = run_action("list-models", limit=3)["models"].splitlines()
    assert re.search(r"  serves since 20", lines[0])
    assert re.search(r"  served from 20", lines[1])


@pytest.mark.parametrize("moved", ["yesterday", 5])
def test_a_move_at_no_time_is_told(run_action, registry, three_versions, moved):
    registry.put("champion/00000006.json", {"version": 3, "run_id": "r", "moved_at": moved})
    with pytest.raises(ops.testing.ActionFailed, match=r"champion/00000006\.json"):
        run_action("list-models")


def test_without_models_the_list_is_empty(run_action):
    assert run_action("list-models") == {"count": "0", "models": ""}


def test_predict_tells_what_the_champion_sees_and_what_it_is(run_action, three_versions):
    assert run_action("predict", image_number=1) == {
        "version": "3",
        "served-by": "registry",
        "image-number": "1",
        "prediction": "Bag",
        "confidence": "0.7500",
        "actual": "Bag",
    }
    told = run_action("predict", image_number=1, version=2)
    assert (told["version"], told["prediction"], told["actual"]) == ("2", "Shirt", "Bag")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"image_number": 10000}, "image-number must be between 0 and 9999"),
        ({"image_number": 2}, "version 3 knows the images 0 to 1; see: juju run trainer/leader"),
        ({"version": 0}, "version must be a number from list-models"),
        ({"version": 4}, "version 4 kept no answers"),
    ],
)
def test_predict_says_what_it_cannot_tell(run_action, three_versions, params, says):
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", **params)
    assert says in failed.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"classes": [], "label": [0], "predicted": [0], "confidence": [1]},
        {"label": 1},
        {"classes": ["a"], "label": [0], "predicted": [math.inf], "confidence": [1]},
    ],
)
def test_predictions_that_are_none_are_told(run_action, three_versions, registry, wrong):
    registry.put("3/predictions.json", wrong)
    with pytest.raises(ops.testing.ActionFailed, match=r"predictions.json is not complete"):
        run_action("predict")


def test_without_a_champion_there_is_nobody_to_ask(run_action):
    with pytest.raises(ops.testing.ActionFailed, match="no model serves yet"):
        run_action("predict")


def test_promote_moves_the_champion_and_the_status_tells(ctx, state, run_action, three_versions):
    told = run_action("promote", version=1, reason="it is smaller")
    assert told == {"champion": "1", "accuracy": "0.9100", "run-id": "run-1"}
    out = ctx.run(ctx.on.update_status(), state)
    assert "v1 serves, accuracy 0.9100" in out.unit_status.message
    # AND the same again leaves it at that
    assert run_action("promote", version=1)["champion"] == "1"


def test_rollback_goes_to_the_one_before_and_back(run_action, three_versions):
    assert run_action("rollback")["champion"] == "2"
    assert run_action("rollback")["champion"] == "3"
    assert run_action("promote", version=1)["champion"] == "1"
    assert run_action("rollback")["champion"] == "3"


def test_the_trainings_registry_reads_what_the_charm_moved(
    run_action, three_versions, sandbox, monkeypatch
):
    # GIVEN the package that the pipeline's steps use
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_key)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    theirs = open_registry("s3://mlpipeline/models/fashion-mnist", sandbox.s3_url)
    # WHEN the charm moves the champion, THEN a step sees it, and moves it on from there
    run_action("promote", version=1)
    champion = theirs.champion()
    assert (champion.version, champion.sequence) == (1, 4)
    assert theirs.rolled_back() == set()
    theirs.move_champion(2, after=champion.sequence, reason="a step")
    assert run_action("list-models")["champion"] == "2"
    # AND it sees from which version an operator rolled back, until it is promoted again
    assert run_action("rollback")["champion"] == "1"
    assert theirs.rolled_back() == {2}
    run_action("promote", version=2)
    assert theirs.rolled_back() == set()


def test_a_move_that_comes_between_is_told_and_kept(
    run_action, three_versions, sandbox, registry, monkeypatch
):
    # GIVEN somebody who moves the champion between our look and our move
    put = obstore.put

    def late(store, path, *args, **kwargs):
        if path.startswith("champion/"):
            put(store, path, json.dumps({"version": 2, "run_id": "run-2"}).encode())
        return put(store, path, *args, **kwargs)

    monkeypatch.setattr(obstore, "put", late)
    # WHEN we move it, THEN it is told, and theirs counts
    with pytest.raises(ops.testing.ActionFailed, match="moved meanwhile"):
        run_action("promote", version=1)
    assert run_action("list-models")["champion"] == "2"


@pytest.fixture
def forgetful(monkeypatch):
    """Every S3 server puts objects whether they are there or not."""
    put = obstore.put
    monkeypatch.setattr(
        obstore, "put", lambda store, path, content, mode=None: put(store, path, content)
    )


@pytest.mark.parametrize(("action", "params"), [("promote", {"version": 1}), ("rollback", {})])
def test_a_server_without_conditions_moves_no_champion_where_there_is_no_cluster(
    run_action, three_versions, request, monkeypatch, action, params
):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    request.getfixturevalue("forgetful")
    with pytest.raises(ops.testing.ActionFailed, match="ignores If-None-Match") as failed:
        run_action(action, **params)
    assert "MinIO RELEASE.2024-05-07 or later" in failed.value.message
    assert run_action("list-models")["champion"] == "3"


@pytest.mark.usefixtures("forgetful")
def test_no_run_is_submitted_where_its_model_could_not_be_published(ctx, state, runs, monkeypatch):
    # GIVEN an S3 server without conditional writes, and no Kubernetes
    monkeypatch.delenv("KUBECONFIG", raising=False)
    # WHEN the relations are made THEN the status tells at once, in what Juju shows of it
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert out.unit_status.message == (
        "object storage ignores If-None-Match, and there is no Kubernetes; use MinIO "
        "RELEASE.2024-05-07 or later, or Amazon S3"
    )
    assert len(out.unit_status.message) <= 120
    assert runs() == []


class TestThroughKubernetes:
    """An S3 server without conditional writes, beside a cluster."""

    @pytest.fixture
    def sandbox(self, tmp_path, monkeypatch):
        with Sandbox(
            tmp_path / "sandbox", execute=False, s3_without_conditional_writes=True
        ) as sandbox:
            monkeypatch.setenv("KUBECONFIG", str(sandbox.kubeconfig))
            yield sandbox

    @pytest.fixture
    def steps(self, sandbox, monkeypatch):
        """The registry, as the pipeline's steps write it."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_key)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        return open_registry("s3://mlpipeline/models/fashion-mnist", sandbox.s3_url)

    def test_the_champion_moves_and_the_steps_follow(
        self, ctx, state, run_action, three_versions, steps
    ):
        # GIVEN the leader, which saw the relation first
        out = ctx.run(ctx.on.config_changed(), state)
        assert isinstance(out.unit_status, ops.ActiveStatus)
        # WHEN the champion is moved THEN the steps see it, and move it the same way
        assert run_action("promote", version=1)["champion"] == "1"
        assert run_action("rollback")["champion"] == "3"
        assert steps.champion().sequence == 5
        steps.move_champion(2, after=5, reason="better")
        assert run_action("list-models")["champion"] == "2"

    def test_a_step_that_moves_it_at_the_same_time_counts(
        self, run_action, three_versions, steps, monkeypatch
    ):
        # GIVEN a step that moves it between our look and our move
        replace, others = ConfigMaps.replace, []

        def late(self, config_map):
            if "champion/" in config_map.data.get("claim", "") and not others:
                others.append(steps.move_champion(2, after=3, reason="better"))
            return replace(self, config_map)

        monkeypatch.setattr(ConfigMaps, "replace", late)
        with pytest.raises(ops.testing.ActionFailed, match="moved meanwhile"):
            run_action("promote", version=1)
        assert run_action("list-models")["champion"] == "2"

    def test_runs_elsewhere_are_not_submitted(self, ctx, state, runs):
        ctx.run(ctx.on.config_changed(), state)
        (run,) = runs()
        # WHEN runs move to another namespace than the one that the registry names
        model = dataclasses.replace(state.model, name="another")
        out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, model=model))
        # THEN that is told, with what to do
        assert out.unit_status == ops.BlockedStatus(
            "the registry is in namespace kubeflow, runs in another; use another: "
            "juju config trainer registry-prefix=VALUE"
        )
        assert len(out.unit_status.message) <= 120
        assert run["run_id"] in {each["run_id"] for each in runs()}
        assert len(runs()) == 1

    def test_missing_rights_are_told_with_what_gives_them(self, ctx, state, runs, sandbox):
        # GIVEN a token that the cluster does not take
        kubeconfig = json.loads(sandbox.kubeconfig.read_text())
        kubeconfig["users"][0]["user"]["token"] = "another"
        sandbox.kubeconfig.write_text(json.dumps(kubeconfig))
        out = ctx.run(ctx.on.config_changed(), state)
        assert out.unit_status == ops.BlockedStatus(
            "S3 has no conditional writes: write ConfigMaps in kubeflow; allow it with: juju trust "
            "trainer --scope=cluster"
        )
        assert len(out.unit_status.message) <= 120
        assert runs() == []

    def test_an_api_server_that_is_away_is_waited_for(self, ctx, state, runs, sandbox):
        kubeconfig = json.loads(sandbox.kubeconfig.read_text())
        kubeconfig["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
        sandbox.kubeconfig.write_text(json.dumps(kubeconfig))
        out = ctx.run(ctx.on.config_changed(), state)
        assert isinstance(out.unit_status, ops.WaitingStatus)
        assert "cannot reach Kubernetes" in out.unit_status.message
        assert runs() == []


def test_a_version_that_is_removed_while_it_is_promoted_leaves_the_champion(
    run_action, three_versions, registry, monkeypatch
):
    # GIVEN a step that removes version 1 between our look and our move
    put = obstore.put

    def remove_first(store, path, *args, **kwargs):
        if path.startswith("champion/"):
            monkeypatch.setattr(obstore, "put", put)
            registry.put("removed/00000001.json", {"version": 1})
            obstore.delete(store, "1/manifest.json")
        return put(store, path, *args, **kwargs)

    monkeypatch.setattr(obstore, "put", remove_first)
    # WHEN we promote it THEN that is told, and who served serves
    with pytest.raises(ops.testing.ActionFailed, match="version 1 is being removed"):
        run_action("promote", version=1)
    assert run_action("list-models")["champion"] == "3"


def test_a_move_asks_the_server_once_whether_it_honours_conditions(
    run_action, three_versions, monkeypatch
):
    put, paths = obstore.put, []

    def counted(store, path, *args, **kwargs):
        paths.append(path)
        return put(store, path, *args, **kwargs)

    run_action("promote", version=1)
    monkeypatch.setattr(obstore, "put", counted)
    run_action("list-models")
    assert paths == []
    run_action("rollback")
    assert paths == ["probe.json", "champion/00000005.json"]


@pytest.mark.parametrize(
    ("action", "params", "words"),
    [
        (
            "promote",
            {"version": 9},
            "there is no version 9; see: juju run trainer/leader list-models",
        ),
        ("promote", {"version": 0}, "version must be"),
        ("promote", {"version": 1, "reason": ""}, "reason must be"),
        ("rollback", {"reason": 1001 * "x"}, "reason must be"),
        ("list-models", {"limit": 0}, "limit must be"),
    ],
)
def test_what_cannot_be_done_with_models_is_told(run_action, three_versions, action, params, words):
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action(action, **params)
    assert words in failed.value.message
    assert run_action("list-models")["champion"] == "3"


def test_without_another_champion_there_is_nothing_to_go_back_to(run_action, registry):
    with pytest.raises(ops.testing.ActionFailed, match="no other version has served"):
        run_action("rollback")
    registry("run-1", accuracy=0.9, version=1)
    with pytest.raises(ops.testing.ActionFailed, match="no other version has served"):
        run_action("rollback")


@pytest.mark.parametrize(("action", "params"), [("promote", {"version": 1}), ("rollback", {})])
def test_another_unit_moves_nothing(state, run_action, three_versions, action, params):
    with pytest.raises(ops.testing.ActionFailed, match="only the leader"):
        run_action(action, state=dataclasses.replace(state, leader=False), **params)
    assert run_action("list-models")["champion"] == "3"


@pytest.mark.parametrize(
    ("action", "params"), [("promote", {"version": 1}), ("rollback", {}), ("list-models", {})]
)
def test_an_unreachable_registry_fails_the_action(
    state, run_action, object_storage, action, params
):
    data = yaml.safe_load(object_storage.remote_app_data["data"]) | {"port": 1}
    elsewhere = dataclasses.replace(
        object_storage,
        remote_app_data={**object_storage.remote_app_data, "data": yaml.safe_dump(data)},
    )
    others = [each for each in state.relations if each.endpoint != "object-storage"]
    with pytest.raises(ops.testing.ActionFailed, match=r"object storage .* cannot be read"):
        run_action(
            action, state=dataclasses.replace(state, relations=[*others, elsewhere]), **params
        )


# Lost answers and faults ---------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("how", ["cut", 503])
def test_a_fault_at_any_request_still_ends_in_one_run(ctx, state, proxy, runs, moment, number, how):
    # GIVEN a server whose n-th request is lost, before or after it was carried out
    proxy.fault = lambda m, n, *_: how if (m, n) == (moment, number) else None
    # WHEN events come, the last of them after the fault
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.update_status(), state)
    out = ctx.run(ctx.on.update_status(), state)
    # THEN there is exactly one run, and the status is true
    (run,) = runs()
    assert run["display_name"] in out.unit_status.message


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(1, 9))
def test_a_wish_whose_answer_was_lost_is_not_submitted_twice(ctx, configured, proxy, runs, number):
    quiet = configured(train_on_change=False)
    proxy.fault = lambda m, n, *_: "cut" if (m, n) == ("after", number) else None
    try:
        ctx.run(ctx.on.action("train"), quiet)
    except ops.testing.ActionFailed as failed:
        assert "check, then run the action again" in failed.message
    assert len(runs()) <= 1
    ctx.run(ctx.on.update_status(), quiet)
    assert len(runs()) <= 1


def test_what_another_leader_made_in_the_meantime_is_taken(
    ctx, state, configured, proxy, sandbox, runs
):
    # GIVEN a pipeline and an experiment that exist, and a first look that does not see them yet
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
    # WHEN another configuration needs them
    ctx.run(ctx.on.config_changed(), configured(epochs=9))
    # THEN the conflict is taken as "it is there": one pipeline, and a run for each wish
    pipelines = httpx.get(f"{sandbox.api_url}/apis/v2beta1/pipelines", trust_env=False).json()
    assert hidden
    assert pipelines["total_size"] == 1
    assert len(runs()) == 2


# Results ---------------------------------------------------------------------------------------------


def test_a_promoted_model_is_told_with_its_accuracy(ctx, state, sandbox, registry, runs):
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    sandbox.set_run_state(
        run["run_id"], "RUNNING", tasks={"ingest": "SUCCEEDED", "train": "RUNNING"}
    )
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status == ops.ActiveStatus(
        f"run {run['display_name']} RUNNING: train (1 of 3 steps done)"
    )
    registry(run["run_id"], accuracy=0.9141, version=1)
    sandbox.set_run_state(run["run_id"], "SUCCEEDED")
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status == ops.ActiveStatus("v1 serves, accuracy 0.9141")


def test_a_rejected_model_is_told_with_the_reason(ctx, state, sandbox, registry, runs):
    registry("an-earlier-run", accuracy=0.9, version=4)
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    registry(run["run_id"], accuracy=0.8, reasons=("accuracy 0.8000 is below 0.8500",))
    sandbox.set_run_state(run["run_id"], "SUCCEEDED")
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status == ops.ActiveStatus(
        f"v4 serves; run {run['display_name']} rejected: accuracy 0.8000 is below 0.8500; "
        "see: juju run trainer/leader get-run"
    )


def test_the_newest_move_of_the_champion_counts(ctx, state, registry):
    registry("one", accuracy=0.91, version=9)
    registry("two", accuracy=0.92, version=10)
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status.message.startswith("v10 serves, accuracy 0.9200; ")


def test_a_move_to_a_version_that_was_being_removed_does_not_count(
    ctx, state, run_action, registry
):
    registry("one", accuracy=0.91, version=9)
    registry("two", accuracy=0.92, version=10)
    registry.put("removed/00000003.json", {"version": 3})
    registry.put("champion/00000011.json", {"version": 3})
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status.message.startswith("v10 serves, accuracy 0.9200; ")
    assert run_action("rollback")["champion"] == "9"
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status.message.startswith("v9 serves, accuracy 0.9100; ")


def test_a_failed_run_is_blocked_with_its_step_and_not_repeated(ctx, state, sandbox, runs):
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    sandbox.set_run_state(run["run_id"], "FAILED", tasks={"ingest": "SUCCEEDED", "train": "FAILED"})
    for _ in range(3):
        out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "failed at step train" in out.unit_status.message
    assert out.unit_status.message.endswith("juju run trainer/leader get-run")
    assert len(runs()) == 1


MANIFEST = {
    "schema_version": 1,
    "run_id": "x",
    "metrics": {"test": {"accuracy": 0.9}},
    "verdict": {"status": "accepted", "reasons": []},
}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"schema_version": 2},
        {"schema_version": 1, "run_id": "x", "metrics": {}, "verdict": {}},
        {"schema_version": 1, "run_id": "x", "metrics": [], "verdict": []},
        ["a list"],
        {**MANIFEST, "created_at": "2026-01-01T00:00:00"},
        {**MANIFEST, "created_at": "0001-01-01T00:00:00+14:00"},
        {**MANIFEST, "metrics": {"test": {"accuracy": "x" * 5000}}},
        {**MANIFEST, "metrics": {"test": {"accuracy": 10**400}}},
        {**MANIFEST, "schema_version": "\ud800" * 5000},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_manifest_that_is_none_is_told_and_nothing_breaks(ctx, configured, registry, wrong, runs):
    registry.put("3/manifest.json", wrong)
    registry.put("champion/00000001.json", {"version": 3})
    out = ctx.run(ctx.on.config_changed(), configured(retrain_after=1))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert len(out.unit_status.message.encode()) < 500
    assert len(runs()) == 1  # training does not depend on it


def test_what_the_registry_says_can_be_shown(ctx, state, run_action, runs, registry, sandbox):
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    registry(run["run_id"], accuracy=0.5, reasons=["a\x00b\ud800", "x" * 200_000])
    sandbox.set_run_state(run["run_id"], "SUCCEEDED")
    told = run_action("get-run")["verdict-reasons"]
    assert told.startswith("a\ufffdb\ufffd; xxx")
    assert len(told) < 1000


@pytest.mark.parametrize("action", ["train", "get-run", "cancel-run"])
def test_no_result_has_what_a_terminal_obeys(ctx, configured, run_action, action):
    state = ctx.run(ctx.on.config_changed(), configured(dashboard_url="https://kubeflow/\x1b[2J"))
    url = run_action(action, state)["run-url"]
    assert url.startswith("https://kubeflow/\ufffd[2J/_/pipeline/#/runs/details/")


def test_no_result_is_longer_than_juju_takes(run_action, registry):
    # GIVEN versions whose lines together are longer than an argument of a program may be
    result = {"metrics": {"test": {"accuracy": 0.9}}, "verdict": {"status": "", "reasons": []}}
    wide = {
        "schema_version": 1,
        "run_id": "\U0001f45f" * 256,
        "reason": "\U0001f45f" * 300,
        **result,
    }
    for version in range(1, 101):
        registry.put(f"{version}/manifest.json", wide)
    # WHEN they are listed, THEN the newest are told, and that there are more
    told = run_action("list-models", limit=100)
    assert told["count"] == "100"
    assert told["models"].startswith("v100  0.9000  ")
    assert told["models"].endswith("\u2026")
    assert len(told["models"].encode()) < 128 * 1024


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"9" * 5000])
def test_an_object_that_is_no_json_is_told(ctx, state, registry, content):
    obstore.put(registry.store, "champion/00000001.json", content)
    out = ctx.run(ctx.on.config_changed(), state)
    assert "champion/00000001.json is not a JSON object" in out.unit_status.message


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (404, "NoSuchBucket", ops.BlockedStatus, "option registry-bucket"),
        (403, "AccessDenied", ops.BlockedStatus, "relation object-storage"),
        (403, "SignatureDoesNotMatch", ops.BlockedStatus, "relation object-storage"),
        (503, "SlowDown", ops.WaitingStatus, "retries at the next update-status"),
    ],
)
def test_a_refusal_of_object_storage_says_what_to_do(
    ctx, state, object_storage, httpserver, runs, status, code, kind, says
):
    # GIVEN an S3 server that answers so
    httpserver.expect_request(re.compile(".*")).respond_with_data(
        f"<?xml version='1.0'?>\n<Error><Code>{code}</Code></Error>", status=status
    )
    address = yaml.safe_load(object_storage.remote_app_data["data"]) | {"port": httpserver.port}
    data = {**object_storage.remote_app_data, "data": yaml.safe_dump(address)}
    theirs = dataclasses.replace(object_storage, remote_app_data=data)
    relations = {theirs if each is object_storage else each for each in state.relations}
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, relations=relations))
    # THEN the status tells, and no run is submitted, which could not even fetch its code
    assert isinstance(out.unit_status, kind)
    assert says in out.unit_status.message
    assert runs() == []


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_a_report_with_numbers_without_end_is_told(ctx, state, run_action, runs, registry, number):
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    report = {"schema_version": 1, "run_id": "m", "version": 1, "images": number, "drift": {}}
    registry.put(f"monitoring/{run['run_id']}/report.json", report)
    with pytest.raises(ops.testing.ActionFailed, match="a report is not complete"):
        run_action("get-run")


@pytest.mark.parametrize("pointer", [{}, {"version": 7}, {"version": "../../x"}, {"version": None}])
def test_a_champion_that_is_not_there_is_told(ctx, state, registry, pointer):
    registry.put("champion/00000001.json", pointer)
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "names a version that is not there" in out.unit_status.message


@pytest.fixture
def away(object_storage):
    """Take object storage away from a trainer."""
    data = yaml.safe_load(object_storage.remote_app_data["data"])
    unreachable = {"data": yaml.safe_dump({**data, "port": 1})}

    def take(state):
        relation = dataclasses.replace(object_storage, remote_app_data=unreachable)
        others = (r for r in state.relations if r.endpoint != "object-storage")
        return dataclasses.replace(state, relations={relation, *others})

    return take


def test_without_object_storage_no_run_is_submitted_that_could_only_fail(ctx, state, away, runs):
    out = ctx.run(ctx.on.config_changed(), away(state))
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "object storage" in out.unit_status.message
    assert runs() == []
    # WHEN it is back THEN the next event submits it
    ctx.run(ctx.on.update_status(), state)
    assert len(runs()) == 1


@pytest.mark.parametrize("option", ["schedule", "monitor-schedule"])
def test_where_the_registry_may_not_be_written_all_else_is_done(
    ctx, state, sandbox, runs, schedules, option
):
    # GIVEN a schedule, and a run of the configuration
    config = {"schedule": "0 3 * * 0", option: "0 3 * * 0", "monitor-data": "s3://b/production"}
    state = dataclasses.replace(state, config={**state.config, **config})
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    before = {schedule["recurring_run_id"] for schedule in schedules()}
    # AND a registry that is written through another namespace than the one of the runs
    record = {"method": "kubernetes", "namespace": "old", "config_map": "c", "id": "i"}
    content = json.dumps({"schema_version": 1, **record}).encode()
    obstore.put(sandbox.objects("models/fashion-mnist"), "writes.json", content)
    # WHEN the schedule is to pause
    paused = dataclasses.replace(state, config={**state.config, "schedule-paused": True})
    out = ctx.run(ctx.on.config_changed(), paused)
    # THEN it does, and the status names the problem
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "the registry is in namespace old" in out.unit_status.message
    assert "DISABLED" in {schedule["status"] for schedule in schedules()}
    # WHEN another configuration is to be trained
    changed = dataclasses.replace(state, config={**state.config, "epochs": 3})
    ctx.run(ctx.on.config_changed(), changed)
    # THEN the run is terminated, and nothing is submitted or scheduled in the place of what there is
    (ended,) = runs()
    assert (ended["run_id"], ended["state"]) == (run["run_id"], "CANCELING")
    assert {schedule["recurring_run_id"] for schedule in schedules()} == before


# Secrets -----------------------------------------------------------------------------------------------


def test_keys_appear_nowhere(ctx, state, sandbox, runs):
    out = ctx.run(ctx.on.config_changed(), state)
    said = json.dumps(
        [
            runs(),
            [log.message for log in ctx.juju_log],
            out.unit_status.message,
            [dict(relation.local_app_data) for relation in out.relations],
        ]
    )
    assert sandbox.secret_key not in said
    assert sandbox.access_key not in said
