"""The option schedule-paused: the schedule is kept, and starts no runs."""

import dataclasses

import pytest


@pytest.fixture
def scheduled(configured):
    return configured(schedule="@daily", train_on_change=False)


@pytest.fixture
def enabled(schedules):
    """Whether the recurring runs that the stand-in holds submit runs."""
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
    # THEN it stays so through events, another configuration and another leader
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


def test_status_says_how_to_resume(ctx, scheduled):
    state = ctx.run(ctx.on.config_changed(), changed(scheduled, schedule_paused=True))
    assert state.unit_status.message == (
        "no run yet; the schedule is paused; resume it: juju config trainer schedule-paused=false"
    )


def test_pausing_without_a_schedule_changes_nothing(ctx, configured, schedules):
    state = ctx.run(ctx.on.config_changed(), configured(schedule_paused=True))
    assert schedules() == []
    assert "paused" not in state.unit_status.message


def test_schedule_is_paused_once_the_server_can_be_reached(ctx, scheduled, proxy, enabled):
    # GIVEN a schedule, and a server that answers nothing when it is paused
    state = ctx.run(ctx.on.config_changed(), scheduled)
    proxy.fault = lambda *_: 503
    state = ctx.run(ctx.on.config_changed(), changed(state, schedule_paused=True))
    proxy.fault = lambda *_: None
    assert enabled() == [True]
    # THEN the next event pauses it
    ctx.run(ctx.on.update_status(), state)
    assert enabled() == [False]
