"""Recurring runs that train: created, paused, replaced, deleted."""

import dataclasses

import httpx
import pytest


def test_schedule_is_one_recurring_run_with_the_options(ctx, configured, schedules, runs):
    # WHEN a schedule is set, and more events follow
    state = configured(schedule="30 3 * * SUN", train_on_change=False, epochs=2)
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.update_status(), state)
    # THEN there is one, with one run at a time and without catch-up
    (schedule,) = schedules()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 30 3 * * SUN"
    assert schedule["status"] == "ENABLED"
    assert schedule["max_concurrency"] == "1"
    assert schedule["no_catchup"] is True
    assert schedule["runtime_config"]["parameters"]["epochs"] == 2
    assert runs() == []


def test_pausing_disables_and_enables_the_same_schedule(ctx, configured, schedules):
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily"))
    (first,) = schedules()
    for paused, status in ((True, "DISABLED"), (False, "ENABLED")):
        state = configured(schedule="@daily", schedule_paused=paused)
        ctx.run(ctx.on.config_changed(), state)
        (schedule,) = schedules()
        assert schedule["recurring_run_id"] == first["recurring_run_id"]
        assert schedule["status"] == status


def test_schedule_created_while_paused_is_disabled(ctx, configured, schedules):
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily", schedule_paused=True))
    assert [schedule["status"] for schedule in schedules()] == ["DISABLED"]


@pytest.mark.parametrize("change", [{"schedule": "@weekly"}, {"epochs": 7}])
def test_changed_option_replaces_the_schedule(ctx, configured, schedules, change):
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily"))
    (old,) = schedules()
    ctx.run(ctx.on.config_changed(), configured(**{"schedule": "@daily", **change}))
    (new,) = schedules()
    assert new["recurring_run_id"] != old["recurring_run_id"]


def test_emptied_option_deletes_only_the_charms_schedule(
    ctx, state, configured, schedules, sandbox
):
    # GIVEN the charm's schedule and a manually created one in the same experiment
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily"))
    (own_schedule,) = schedules()
    foreign_schedule = {
        key: own_schedule[key]
        for key in ("experiment_id", "pipeline_version_reference", "runtime_config", "trigger")
    }
    httpx.post(
        f"{sandbox.api_url}/apis/v2beta1/recurringruns",
        json={
            **foreign_schedule,
            "display_name": "by hand",
            "max_concurrency": 1,
            "mode": "ENABLE",
        },
        trust_env=False,
    ).raise_for_status()
    # WHEN the option is emptied
    ctx.run(ctx.on.config_changed(), state)
    # THEN only the manual one remains
    assert [schedule["display_name"] for schedule in schedules()] == ["by hand"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("fault", ["cut", 503])
def test_fault_at_any_request_leaves_one_schedule(
    ctx, configured, proxy, schedules, moment, number, fault
):
    # GIVEN a schedule, and a server whose n-th request is lost from now on
    ctx.run(ctx.on.config_changed(), configured(schedule="@daily", train_on_change=False))
    start = len(proxy.requests)
    proxy.fault = lambda m, n, *_: fault if (m, n - start) == (moment, number) else None
    # WHEN another schedule is set and more events follow
    state = configured(schedule="@hourly", train_on_change=False)
    for _ in range(3):
        ctx.run(ctx.on.config_changed(), state)
    # THEN the new one is the only one
    (schedule,) = schedules()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 * * * *"


@pytest.fixture
def scheduled(configured):
    return configured(schedule="@daily", train_on_change=False)


@pytest.fixture
def enabled(schedules):
    """Return whether the server's recurring runs are enabled."""
    return lambda: [schedule["status"] == "ENABLED" for schedule in schedules()]


def changed(state, **config):
    options = {name.replace("_", "-"): value for name, value in config.items()}
    return dataclasses.replace(state, config={**state.config, **options})


def test_paused_schedule_stays_paused_until_it_is_resumed(ctx, scheduled, enabled, runs):
    # GIVEN a schedule
    state = ctx.run(ctx.on.config_changed(), scheduled)
    assert enabled() == [True]
    # WHEN it is paused
    state = ctx.run(ctx.on.config_changed(), changed(state, schedule_paused=True))
    assert enabled() == [False]
    # THEN it stays paused through events, another configuration and another leader
    state = ctx.run(ctx.on.update_status(), state)
    state = ctx.run(ctx.on.config_changed(), changed(state, epochs=3, schedule="@weekly"))
    assert enabled() == [False]
    after = dataclasses.replace(state, leader=False)
    after = ctx.run(ctx.on.leader_elected(), dataclasses.replace(after, leader=True))
    assert enabled() == [False]
    # UNTIL it is resumed
    ctx.run(ctx.on.config_changed(), changed(after, schedule_paused=False))
    assert enabled() == [True]
    assert runs() == []


def test_status_shows_how_to_resume(ctx, scheduled):
    state = ctx.run(ctx.on.config_changed(), changed(scheduled, schedule_paused=True))
    assert state.unit_status.message == (
        "no run yet; the schedule is paused; resume it: juju config trainer schedule-paused=false"
    )


def test_pausing_without_a_schedule_changes_nothing(ctx, configured, schedules):
    state = ctx.run(ctx.on.config_changed(), configured(schedule_paused=True))
    assert schedules() == []
    assert "paused" not in state.unit_status.message


def test_schedule_is_paused_once_the_server_is_reachable(ctx, scheduled, proxy, enabled):
    # GIVEN a schedule, and a server that is unreachable when it is paused
    state = ctx.run(ctx.on.config_changed(), scheduled)
    proxy.fault = lambda *_: 503
    state = ctx.run(ctx.on.config_changed(), changed(state, schedule_paused=True))
    proxy.fault = lambda *_: None
    assert enabled() == [True]
    # THEN the next event pauses it
    ctx.run(ctx.on.update_status(), state)
    assert enabled() == [False]
