"""Following a run with a client that returns canned states."""

import dataclasses
from unittest import mock

import pytest

from kfp_ops import (
    AnswerError,
    ForbiddenError,
    KubernetesError,
    KubernetesForbiddenError,
    Run,
    RunState,
    ServerError,
    Task,
    UnreachableError,
    follow,
    progress,
)

RUN = Run(run_id="r", display_name="train-1", state=RunState.RUNNING)
STEPS = frozenset({"ingest", "train"})


@pytest.fixture
def follow_run():
    """Follow a run through these states; exceptions among them are raised."""

    def run(*responses, **options):
        lines = []
        client = mock.Mock(get_run=mock.Mock(side_effect=responses))
        options = {"timeout": 60, "log": lines.append, "pause": lambda _: None, **options}
        return follow(client, RUN, STEPS, **options), lines

    return run


@pytest.mark.parametrize(
    "error",
    [
        KubernetesError("cannot reach Kubernetes"),
        AnswerError("not JSON"),
        UnreachableError("no answer"),
        ServerError("x", 500, ""),
    ],
)
def test_temporary_error_is_logged_once_and_retried(follow_run, error):
    ended_run = dataclasses.replace(RUN, state=RunState.SUCCEEDED)
    run, lines = follow_run(RUN, error, error, ended_run)
    assert run == ended_run
    assert len(lines) == 3
    assert str(error) in lines[1]


@pytest.mark.parametrize("error", [KubernetesForbiddenError("no"), ForbiddenError("x", 403, "no")])
def test_refusal_ends_the_wait(follow_run, error):
    with pytest.raises(type(error)):
        follow_run(error)


def test_timeout_returns_the_unfinished_run(follow_run):
    clock = iter(range(0, 10000, 45)).__next__
    run, lines = follow_run(RUN, RUN, RUN, clock=clock)
    assert run == RUN
    assert lines == ["run train-1 RUNNING (0 of 2 steps done)"]


def test_progress_names_running_steps_and_counts_those_done():
    tasks = (
        Task(name="ingest", state=RunState.SUCCEEDED),
        Task(name="train", state=RunState.RUNNING),
        Task(name="root", state=RunState.RUNNING),
    )
    run = dataclasses.replace(RUN, tasks=tasks)
    assert progress(run, STEPS) == "RUNNING: train (1 of 2 steps done)"
    assert progress(dataclasses.replace(run, state=RunState.FAILED), STEPS) == "FAILED"
