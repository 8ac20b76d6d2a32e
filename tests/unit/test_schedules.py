"""The actions pause and resume: the schedule rests as long as an operator wants it to."""

import dataclasses

import ops.testing
import pytest

from tests.unit.conftest import bare


@pytest.fixture
def peers():
    return ops.testing.PeerRelation("peers")


@pytest.fixture
def scheduled(configured, peers):
    state = configured(schedule="@daily", train_on_change=False)
    return dataclasses.replace(state, relations={*state.relations, peers})


@pytest.fixture
def enabled(schedules):
    """Whether the recurring runs that the stand-in holds submit runs."""
    return lambda: [each["status"] == "ENABLED" for each in schedules()]


def options(state, **config):
    return dataclasses.replace(state, config={**state.config, **config})


def test_the_schedule_rests_until_it_is_resumed(ctx, scheduled, enabled):
    # GIVEN a schedule
    state = ctx.run(ctx.on.config_changed(), scheduled)
    assert enabled() == [True]
    # WHEN it is paused
    state = ctx.run(ctx.on.action("pause"), state)
    assert ctx.action_results == {"schedule": "@daily", "paused": "true"}
    assert enabled() == [False]
    # THEN it rests through events, another configuration and another leader
    state = ctx.run(ctx.on.update_status(), state)
    state = ctx.run(ctx.on.config_changed(), options(state, epochs=3, schedule="@weekly"))
    assert enabled() == [False]
    after = dataclasses.replace(state, leader=False)
    after = ctx.run(ctx.on.leader_elected(), dataclasses.replace(after, leader=True))
    assert enabled() == [False]
    # UNTIL it is resumed
    ctx.run(ctx.on.action("resume"), after)
    assert ctx.action_results == {"schedule": "@weekly", "paused": "false"}
    assert enabled() == [True]


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_without_a_schedule_there_is_nothing_to_pause(ctx, state, action):
    with pytest.raises(ops.testing.ActionFailed, match="there is no schedule; set it with: juju"):
        ctx.run(ctx.on.action(action), state)


def test_what_the_option_pauses_the_action_does_not_resume(ctx, scheduled, enabled):
    state = ctx.run(ctx.on.config_changed(), options(scheduled, **{"schedule-paused": True}))
    with pytest.raises(ops.testing.ActionFailed, match="option schedule-paused is true; set"):
        ctx.run(ctx.on.action("resume"), state)
    assert enabled() == [False]


def test_the_option_pauses_too_what_the_action_resumed(ctx, scheduled, enabled):
    state = ctx.run(ctx.on.action("pause"), scheduled)
    state = ctx.run(ctx.on.action("resume"), state)
    ctx.run(ctx.on.config_changed(), options(state, **{"schedule-paused": True}))
    assert enabled() == [False]


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_only_the_leader_pauses(ctx, scheduled, action):
    with pytest.raises(ops.testing.ActionFailed, match="only the leader"):
        ctx.run(ctx.on.action(action), dataclasses.replace(scheduled, leader=False))


def test_a_server_that_cannot_be_reached_leaves_it_for_later(ctx, scheduled, proxy, enabled):
    # GIVEN a schedule, and a server that answers nothing
    state = ctx.run(ctx.on.config_changed(), scheduled)
    proxy.trouble = lambda *_: 503
    state = ctx.run(ctx.on.action("pause"), state)
    proxy.trouble = lambda *_: None
    assert enabled() == [True]
    # THEN what was asked for is kept, and done with the next event
    ctx.run(ctx.on.update_status(), state)
    assert enabled() == [False]


def test_an_unrelated_trainer_says_what_it_needs(ctx):
    with pytest.raises(ops.testing.ActionFailed, match="no relation kfp-api"):
        ctx.run(ctx.on.action("pause"), bare(leader=True, config={"schedule": "@daily"}))


def test_what_has_not_reached_kubeflow_yet_is_told(ctx, scheduled, enabled, proxy):
    # GIVEN a schedule, and a server that answers nothing
    state = ctx.run(ctx.on.config_changed(), scheduled)
    proxy.trouble = lambda *_: 503
    # WHEN it is paused
    state = ctx.run(ctx.on.action("pause"), state)
    # THEN that it is still enabled is not passed over
    assert enabled() == [True]
    assert "retries at the next update-status" in ctx.action_results["pending"]
    # AND it is so when the server is back
    proxy.trouble = lambda *_: None
    state = ctx.run(ctx.on.update_status(), state)
    assert enabled() == [False]
    assert (
        "the schedule is paused; resume it: juju run trainer/leader resume"
        in state.unit_status.message
    )
