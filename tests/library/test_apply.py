"""Applying changes against a server that fails."""

import dataclasses
import datetime
from pathlib import Path

import pytest

from kfp_ops import (
    ApplyError,
    Client,
    DesiredState,
    PipelineSpec,
    RecurringRunSpec,
    RunSpec,
    RunState,
    ServerError,
    apply,
    delete_owned,
    observe,
    plan,
)
from sandbox import Sandbox
from tests.fakes.fault_proxy import FaultProxy

ROOT = Path(__file__).parents[2]
ONE = RunSpec(name="one", parameters={"endpoint": ""})
NIGHTLY = RecurringRunSpec(name="schedule-n", cron="0 0 3 * * *", parameters={"endpoint": ""})


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path / "sandbox", execute=False) as sandbox:
        yield sandbox


@pytest.fixture
def proxy(sandbox):
    with FaultProxy(sandbox.api_url) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with Client(f"http://127.0.0.1:{proxy.port}") as client:
        yield client


def desired(**fields):
    spec = PipelineSpec.load(ROOT / "examples/digits/src/pipelines/digits.yaml")
    return DesiredState(pipeline="p", spec=spec, experiment="e", **fields)


def apply_desired(client, desired_state):
    observed = observe(client, desired_state)
    return apply(client, desired_state, observed, plan(desired_state, observed))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_gateway_error_is_checked_against_the_server(proxy, client, status):
    # GIVEN a proxy that times out on creations that the server completes
    proxy.fault = lambda moment, _, method, __: (
        status if (moment, method) == ("after", "POST") else None
    )
    # WHEN everything is desired, THEN it exists once
    done = apply_desired(client, desired(runs=(ONE,), schedule=NIGHTLY))
    assert done.runs["one"].display_name == "one"
    observed = observe(client, desired(runs=(ONE,), schedule=NIGHTLY))
    assert observed.runs["one"].run_id == done.runs["one"].run_id
    assert observed.schedules == done.schedules
    assert len(client.list_runs(observed.experiment.experiment_id, limit=9)) == 1


def test_failed_change_raises_the_servers_error(proxy, client):
    proxy.fault = lambda moment, _, method, __: (
        500 if (moment, method) == ("before", "POST") else None
    )
    with pytest.raises(ApplyError) as raised:
        apply_desired(client, desired(runs=(ONE,)))
    assert isinstance(raised.value.error, ServerError)
    assert str(raised.value) == str(raised.value.error)
    assert raised.value.observed.runs == {}


def submit_twice(proxy, client, request):
    """Submit a run by two leaders that do not see each other's; return both, the older first."""
    desired_state = desired(runs=(request,))
    apply_desired(client, desired(schedule=NIGHTLY))
    unseen = observe(client, desired_state)
    return [
        apply(client, desired_state, unseen, plan(desired_state, unseen)).runs[request.name]
        for _ in range(2)
    ]


@pytest.mark.parametrize(
    "request_", [ONE, RunSpec(name="c-1", parameters={"endpoint": ""}, concurrency_group="c-")]
)
def test_duplicate_run_is_terminated_and_the_other_returned(proxy, client, request_):
    # GIVEN a request that was submitted twice
    submit_twice(proxy, client, request_)
    # WHEN it is applied twice
    observed = apply_desired(client, desired(runs=(request_,)))
    observed_again = observe(client, desired(runs=(request_,)))
    # THEN one run continues, and it is the returned one
    named = client.find_runs(observed.experiment.experiment_id, request_.name)
    assert sorted(run.state for run in named) == [RunState.CANCELING, RunState.PENDING]
    (stays,) = (run for run in named if run.state is RunState.PENDING)
    assert observed.runs[request_.name].run_id == observed.latest.run_id == stays.run_id
    assert observed_again.runs[request_.name].run_id == observed_again.latest.run_id == stays.run_id
    assert plan(desired(runs=(request_,)), observed_again) == []


def test_search_for_duplicates_needs_no_extra_call(proxy, client):
    def calls():
        before = len(proxy.requests)
        observe(client, desired(runs=(ONE,)))
        return len(proxy.requests) - before

    apply_desired(client, desired(runs=(ONE,)))
    settled = calls()
    submit_twice(proxy, client, ONE)
    assert calls() == settled


AN_HOUR = datetime.timedelta(hours=1)


def timed_out_runs(client, after):
    """Return the runs that have timed out this long after their submission."""
    deadline = datetime.datetime.now(datetime.timezone.utc) + after
    return [
        run.run_id
        for run in observe(client, desired(runs=(ONE,), started_before=deadline)).timed_out
    ]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_running_or_pending_run_is_timed_out(client, sandbox, state):
    run = apply_desired(client, desired(runs=(ONE,))).runs["one"]
    sandbox.set_run_state(run.run_id, state)
    assert timed_out_runs(client, -AN_HOUR) == []
    assert timed_out_runs(client, AN_HOUR) == [run.run_id]


@pytest.mark.parametrize("state", ["CANCELING", "SUCCEEDED", "FAILED"])
def test_ending_or_ended_run_is_not_timed_out(client, sandbox, state):
    run = apply_desired(client, desired(runs=(ONE,))).runs["one"]
    sandbox.set_run_state(run.run_id, state)
    assert timed_out_runs(client, AN_HOUR) == []


def test_retried_run_restarts_its_timeout(client, httpserver):
    # GIVEN a run as it is on record after :retry
    run = {
        "run_id": "r",
        "display_name": "one",
        "state": "RUNNING",
        "created_at": "2026-11-24T02:04:30Z",
        "state_history": [{"update_time": "2026-11-24T02:05:13Z", "state": "RUNNING"}],
    }
    httpserver.expect_request("/apis/v2beta1/runs").respond_with_json({"runs": [run]})
    httpserver.expect_request("/apis/v2beta1/recurringruns").respond_with_json({})
    experiments = {"experiments": [{"experiment_id": "e"}]}
    httpserver.expect_request("/apis/v2beta1/experiments").respond_with_json(experiments)
    # WHEN the timeout counts from the retry, THEN the run continues
    retried = datetime.datetime(2026, 11, 24, 2, 5, 13, tzinfo=datetime.timezone.utc)
    with Client(httpserver.url_for("/")) as client:
        for deadline, number in ((retried, 0), (retried + datetime.timedelta(seconds=1), 1)):
            observed = observe(client, desired(runs=(ONE,), started_before=deadline))
            assert len(observed.timed_out) == number


def test_submitted_run_is_in_the_error_of_a_later_change(proxy, client):
    # GIVEN a server that accepts runs but no schedules
    proxy.fault = lambda moment, _, method, path: (
        500 if (moment, method) == ("before", "POST") and "recurringruns" in path else None
    )
    # WHEN both are desired, THEN the error has the run
    with pytest.raises(ApplyError) as raised:
        apply_desired(client, desired(runs=(ONE,), schedule=NIGHTLY))
    submitted = raised.value.observed.runs["one"]
    assert client.get_run(submitted.run_id).display_name == "one"


# Schedules that are not wanted any more -------------------------------------------------------------


@pytest.fixture
def fired_schedule(client, sandbox):
    """A schedule that has fired, and its active run."""
    observed = apply_desired(
        client, desired(schedule=dataclasses.replace(NIGHTLY, name="schedule-o"))
    )
    (schedule,) = observed.schedules
    now = datetime.datetime.now(datetime.timezone.utc)
    sandbox.pass_time(now)  # the server sees the schedule, and later that it is due
    sandbox.pass_time(now + datetime.timedelta(days=2))
    (run,) = client.list_runs(observed.experiment.experiment_id)
    assert run.recurring_run_id == schedule.recurring_run_id
    return schedule, run


def test_old_schedule_is_disabled_until_its_run_ends(client, sandbox, fired_schedule):
    _, run = fired_schedule
    # WHEN another schedule is desired while a run of the old one is active
    observed = apply_desired(client, desired(schedule=NIGHTLY))
    # THEN the old one is kept, disabled
    enabled = {NIGHTLY.name: True, "schedule-o": False}
    assert {schedule.display_name: schedule.enabled for schedule in observed.schedules} == enabled
    settled = observe(client, desired(schedule=NIGHTLY))
    assert {schedule.display_name: schedule.enabled for schedule in settled.schedules} == enabled
    assert plan(desired(schedule=NIGHTLY), settled) == []
    # AND is deleted after the run ends
    sandbox.set_run_state(run.run_id, "SUCCEEDED")
    (remaining,) = apply_desired(client, desired(schedule=NIGHTLY)).schedules
    assert remaining.display_name == NIGHTLY.name


def test_schedule_that_cannot_be_disabled_is_deleted(client, proxy):
    # GIVEN a server whose ScheduledWorkflow is missing in Kubernetes
    apply_desired(client, desired(schedule=NIGHTLY))
    proxy.fault = lambda moment, _, __, path: (
        500 if moment == "before" and path.endswith(":disable") else None
    )
    assert apply_desired(client, desired()).schedules == ()
    assert observe(client, desired()).schedules == ()


def test_delete_owned_terminates_runs_and_disables_a_schedule_with_a_run(
    client, sandbox, fired_schedule
):
    old, run = fired_schedule
    # WHEN everything is deleted
    (remaining,) = delete_owned(client, "e")
    # THEN the schedule is disabled, and its run is terminated later
    assert remaining.recurring_run_id == old.recurring_run_id
    (schedule,) = client.list_recurring_runs(run.experiment_id)
    assert not schedule.enabled
    assert client.get_run(run.run_id).state is RunState.PENDING
    # AND it is deleted after its run ends
    sandbox.set_run_state(run.run_id, "FAILED")
    assert delete_owned(client, "e") == []
    assert client.list_recurring_runs(run.experiment_id) == []
