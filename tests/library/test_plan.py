"""The planner: observed states and the changes that follow."""

import dataclasses
import datetime
import itertools

import pytest

from kfp_ops import (
    ConcurrencyPolicy,
    CreateExperiment,
    CreatePipeline,
    CreateSchedule,
    DeleteSchedule,
    DesiredState,
    Disable,
    Experiment,
    ObservedState,
    Pipeline,
    PipelineSpec,
    PipelineVersion,
    RecurringRun,
    RecurringRunSpec,
    Run,
    RunSpec,
    RunState,
    SetEnabled,
    SubmitRun,
    TerminateRun,
    UploadVersion,
    plan,
)

PIPELINE = Pipeline(pipeline_id="p", display_name="pipeline")
VERSION = PipelineVersion(pipeline_id="p", pipeline_version_id="v", display_name="f")
EXPERIMENT = Experiment(experiment_id="e", display_name="experiment")
ONE = RunSpec(name="one", parameters={"a": 1})
TWO = RunSpec(name="two", parameters={"a": 2})


def desired(*runs):
    return DesiredState(
        pipeline="pipeline", spec=PipelineSpec("x"), experiment="experiment", runs=runs
    )


def run(name):
    return Run(run_id=f"id-{name}", display_name=name)


def test_version_is_named_by_the_fingerprint():
    assert desired().version == PipelineSpec("x").fingerprint


@pytest.mark.parametrize(
    ("pipeline", "version", "experiment", "existing"),
    [
        case
        for case in itertools.product(
            (None, PIPELINE), (None, VERSION), (None, EXPERIMENT), ((), ("one",), ("one", "two"))
        )
        # A version belongs to a pipeline, and a run to an experiment.
        if not (case[1] and not case[0]) and not (case[3] and not case[2])
    ],
)
def test_missing_objects_are_created_once_in_order(pipeline, version, experiment, existing):
    # GIVEN two desired runs, and some of the objects
    observed = ObservedState(
        pipeline=pipeline,
        version=version,
        experiment=experiment,
        runs={name: run(name) for name in existing},
    )
    # WHEN changes are planned
    steps = plan(desired(ONE, TWO), observed)
    # THEN only missing objects are created, parents first
    missing = [request for request in (ONE, TWO) if request.name not in existing]
    expected = []
    if missing:
        expected += [CreatePipeline()] if not pipeline else []
        expected += [UploadVersion()] if not version else []
        expected += [CreateExperiment()] if not experiment else []
        expected += [SubmitRun(request) for request in missing]
    assert steps == expected


def test_empty_desired_state_plans_no_changes():
    assert plan(desired(), ObservedState()) == []


def test_runs_of_others_are_ignored():
    observed = ObservedState(experiment=EXPERIMENT, runs={}, latest=run("another"))
    assert SubmitRun(ONE) in plan(desired(ONE), observed)


# The latest of a family wins ---------------------------------------------------------------------

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
LATEST = RunSpec(name="config-b", parameters={}, concurrency_group="config-")


def run_in_group(name, state):
    return Run(run_id=f"id-{name}", display_name=name, state=RunState(state))


def group(*runs):
    """Return an observed state with these runs of the group, newest first, a second apart."""
    runs = tuple(
        dataclasses.replace(run, created_at=NOON - datetime.timedelta(seconds=seconds))
        for seconds, run in enumerate(runs)
    )
    existing = {run.display_name: run for run in reversed(runs) if run.display_name == LATEST.name}
    return ObservedState(
        pipeline=PIPELINE,
        version=VERSION,
        experiment=EXPERIMENT,
        runs=existing,
        runs_by_prefix={"config-": runs},
    )


def test_timed_out_runs_are_terminated_once():
    superseded, stuck = run_in_group("config-a", "RUNNING"), run_in_group("train-1", "RUNNING")
    observed = group(superseded)
    (superseded,) = observed.runs_by_prefix["config-"]
    observed = dataclasses.replace(observed, timed_out=(superseded, stuck))
    assert plan(desired(LATEST), observed) == [
        TerminateRun(superseded),
        TerminateRun(stuck),
        SubmitRun(LATEST),
    ]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED"])
def test_active_run_of_an_earlier_configuration_is_terminated_first(state):
    observed = group(run_in_group("config-a", state))
    (old,) = observed.runs_by_prefix["config-"]
    assert plan(desired(LATEST), observed) == [TerminateRun(old), SubmitRun(LATEST)]


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "SKIPPED", "CANCELED", "CANCELING"])
def test_ended_or_ending_run_is_not_terminated(state):
    assert plan(desired(LATEST), group(run_in_group("config-a", state))) == [SubmitRun(LATEST)]


def test_missed_termination_is_repeated():
    observed = group(run_in_group("config-b", "RUNNING"), run_in_group("config-a", "RUNNING"))
    assert plan(desired(LATEST), observed) == [TerminateRun(observed.runs_by_prefix["config-"][1])]


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "CANCELING"])
def test_restored_configuration_repeats_an_unsuccessful_run(state):
    observed = group(run_in_group("config-a", "SUCCEEDED"), run_in_group("config-b", state))
    assert plan(desired(LATEST), observed) == [SubmitRun(LATEST)]


@pytest.mark.parametrize("state", ["SUCCEEDED", "RUNNING"])
def test_restored_configuration_reuses_a_successful_run(state):
    observed = group(run_in_group("config-a", "SUCCEEDED"), run_in_group("config-b", state))
    assert plan(desired(LATEST), observed) == []


@pytest.mark.parametrize("state", list(RunState))
def test_newest_run_of_its_group_is_never_repeated(state):
    observed = group(run_in_group("config-b", state), run_in_group("config-a", "SUCCEEDED"))
    assert plan(desired(LATEST), observed) == []


def test_unsuccessful_run_of_the_same_second_is_repeated():
    latest = dataclasses.replace(run_in_group("config-b", "FAILED"), created_at=NOON)
    other = dataclasses.replace(run_in_group("config-a", "SUCCEEDED"), created_at=NOON)
    observed = dataclasses.replace(group(latest), runs_by_prefix={"config-": (latest, other)})
    assert plan(desired(LATEST), observed) == [SubmitRun(LATEST)]


def test_run_without_created_at_sorts_first():
    latest = dataclasses.replace(run_in_group("config-b", "FAILED"), created_at=NOON)
    other = run_in_group("config-a", "SUCCEEDED")
    observed = dataclasses.replace(
        group(), runs={"config-b": latest}, runs_by_prefix={"config-": (latest, other)}
    )
    assert plan(desired(LATEST), observed) == []


@pytest.mark.parametrize("state", list(RunState))
def test_run_without_a_concurrency_group_is_never_repeated(state):
    observed = ObservedState(experiment=EXPERIMENT, runs={"one": run_in_group("one", state)})
    assert plan(desired(ONE), observed) == []


# One wish is one run --------------------------------------------------------------------------------


def duplicates(request, *states):
    """Return an observed state with runs of one desired name in these states, newest first."""
    runs = tuple(
        dataclasses.replace(run_in_group(request.name, state), run_id=f"id-{number}")
        for number, state in enumerate(states)
    )
    observed = ObservedState(
        pipeline=PIPELINE,
        version=VERSION,
        experiment=EXPERIMENT,
        runs={request.name: runs[-1]},
        runs_by_name={request.name: runs},
        runs_by_prefix={
            group: runs for group in (request.concurrency_group, request.concurrency_group) if group
        },
    )
    return observed, runs


ALONE = pytest.mark.parametrize(
    "request_",
    [
        ONE,
        LATEST,
        RunSpec(
            name="r-1",
            parameters={},
            concurrency_group="r-",
            concurrency_policy=ConcurrencyPolicy.QUEUE,
        ),
    ],
)


@ALONE
@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "PAUSED"])
def test_oldest_active_run_of_a_name_stays(request_, state):
    observed, (newest, newer, _) = duplicates(request_, state, "RUNNING", "PENDING")
    assert plan(desired(request_), observed) == [TerminateRun(newest), TerminateRun(newer)]


@ALONE
@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "SKIPPED", "CANCELED", "CANCELING"])
def test_one_active_run_stays_beside_ended_ones(request_, state):
    for states in ([state, "RUNNING"], ["RUNNING", state]):
        observed, _ = duplicates(request_, *states)
        assert (
            plan(
                desired(request_),
                dataclasses.replace(
                    observed, runs={request_.name: run_in_group(request_.name, "RUNNING")}
                ),
            )
            == []
        )


def test_timed_out_duplicate_is_terminated_once():
    observed, (newer, _) = duplicates(ONE, "RUNNING", "RUNNING")
    observed = dataclasses.replace(observed, timed_out=(newer,))
    assert plan(desired(ONE), observed) == [TerminateRun(newer)]


def test_runs_with_other_names_continue():
    observed, _ = duplicates(ONE, "RUNNING", "RUNNING")
    assert plan(desired(), observed) == []


# Runs that keep a distance ------------------------------------------------------------------------

DAY = datetime.timedelta(days=1)
SPACED = RunSpec(
    name="retrain-b",
    parameters={},
    concurrency_group="retrain-",
    concurrency_policy=ConcurrencyPolicy.QUEUE,
    cooldown_start=NOON,
)


def after_cooldown(*created, **fields):
    """Return an observed state with runs of the group created this long after the cooldown."""
    runs = tuple(
        dataclasses.replace(run_in_group(f"retrain-{number}", "FAILED"), created_at=NOON + after)
        for number, after in enumerate(created)
    )
    return ObservedState(
        pipeline=PIPELINE,
        version=VERSION,
        experiment=EXPERIMENT,
        runs_by_prefix={"retrain-": runs},
        **fields,
    )


@pytest.mark.parametrize(
    ("created", "steps"),
    [
        ([], [SubmitRun(SPACED)]),
        ([datetime.timedelta()], [SubmitRun(SPACED)]),
        ([-DAY], [SubmitRun(SPACED)]),
        ([datetime.timedelta(seconds=1)], []),
        ([DAY, -DAY], []),
    ],
)
def test_run_waits_for_the_cooldown_of_its_group(created, steps):
    assert plan(desired(SPACED), after_cooldown(*created)) == steps


def test_first_missing_run_of_a_group_is_submitted():
    other = dataclasses.replace(SPACED, name="retrain-c")
    alone = dataclasses.replace(
        SPACED, name="tune-a", concurrency_group="tune-", concurrency_policy=ConcurrencyPolicy.QUEUE
    )
    assert plan(desired(SPACED, other, alone, ONE), after_cooldown()) == [
        SubmitRun(SPACED),
        SubmitRun(alone),
        SubmitRun(ONE),
    ]
    observed = after_cooldown(-DAY, runs={SPACED.name: run_in_group(SPACED.name, "FAILED")})
    assert plan(desired(SPACED, other), observed) == [SubmitRun(other)]


def test_waiting_run_creates_no_objects():
    observed = dataclasses.replace(after_cooldown(DAY), pipeline=None, version=None)
    assert plan(desired(SPACED), observed) == []


@pytest.mark.parametrize("state", list(RunState))
def test_run_with_cooldown_is_never_repeated_and_terminates_no_other(state):
    going = run_in_group("retrain-other", "RUNNING")
    observed = after_cooldown(runs={SPACED.name: run_in_group(SPACED.name, state)})
    observed = dataclasses.replace(observed, runs_by_prefix={"retrain-": (going,)})
    assert plan(desired(SPACED), observed) == []


def test_each_concurrency_group_starts_one_run_at_a_time():
    one, other, again = (
        RunSpec(
            name=name,
            parameters={},
            concurrency_group=group,
            concurrency_policy=ConcurrencyPolicy.QUEUE,
        )
        for name, group in (("a-1", "a-"), ("b-1", "b-"), ("a-2", "a-"))
    )
    observed = ObservedState(pipeline=PIPELINE, version=VERSION, experiment=EXPERIMENT)
    assert plan(desired(one, other, again), observed) == [SubmitRun(one), SubmitRun(other)]


# Schedules ---------------------------------------------------------------------------------------

NIGHTLY = RecurringRunSpec(name="schedule-n", cron="0 0 3 * * *", parameters={})
PAUSED = dataclasses.replace(NIGHTLY, enabled=False)


def recurring(name, *, enabled=True, number=1):
    return RecurringRun(recurring_run_id=f"{name}{number}", display_name=name, enabled=enabled)


def scheduled(schedule, *existing, active=()):
    """Return the changes for a desired schedule and existing ones, newest first."""
    observed = ObservedState(
        pipeline=PIPELINE,
        version=VERSION,
        experiment=EXPERIMENT,
        schedules=existing,
        active_recurring_run_ids=frozenset(active),
    )
    return plan(dataclasses.replace(desired(), schedule=schedule), observed)


def test_missing_schedule_is_created_with_its_dependencies():
    steps = plan(dataclasses.replace(desired(), schedule=NIGHTLY), ObservedState())
    assert steps == [CreatePipeline(), UploadVersion(), CreateExperiment(), CreateSchedule()]


def test_existing_schedule_stays():
    assert scheduled(NIGHTLY, recurring("schedule-n")) == []


@pytest.mark.parametrize(("schedule", "enabled"), [(NIGHTLY, False), (PAUSED, True)])
def test_schedule_is_enabled_or_disabled(schedule, enabled):
    existing = recurring("schedule-n", enabled=enabled)
    assert scheduled(schedule, existing) == [SetEnabled(existing, schedule.enabled)]


def test_changed_schedule_is_created_before_the_old_one_is_deleted():
    old = recurring("schedule-o")
    assert scheduled(NIGHTLY, old) == [CreateSchedule(), DeleteSchedule(old)]


@pytest.mark.parametrize(("schedule", "first"), [(NIGHTLY, [CreateSchedule()]), (None, [])])
def test_old_schedule_is_deleted_after_its_run_ends(schedule, first):
    # The server would lose its run, too.
    old, resting = recurring("schedule-o"), recurring("schedule-p", enabled=False)
    both = [old.recurring_run_id, resting.recurring_run_id]
    assert scheduled(schedule, old, resting, active=both) == [
        *first,
        Disable(old),
    ]
    assert scheduled(schedule, resting, active=both[:1]) == [
        *first,
        DeleteSchedule(resting),
    ]


def test_all_other_schedules_are_deleted_in_any_order():
    old, wanted_one, older = (recurring(f"schedule-{name}") for name in "onp")
    assert scheduled(NIGHTLY, old, wanted_one, older) == [
        DeleteSchedule(old),
        DeleteSchedule(older),
    ]


def test_existing_schedules_are_deleted_if_none_is_desired():
    old = recurring("schedule-o"), recurring("schedule-p")
    assert scheduled(None, *old) == [DeleteSchedule(schedule_) for schedule_ in old]


def test_older_of_two_runs_with_one_name_stays():
    newer, older = recurring("schedule-n", number=2), recurring("schedule-n", number=1)
    assert scheduled(NIGHTLY, newer, older) == [DeleteSchedule(newer)]
