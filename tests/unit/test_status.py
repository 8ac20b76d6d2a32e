"""From a situation to what the operator sees."""

import dataclasses
import datetime
import typing

import ops
import pytest

import errors
import kfp_ops
import status
from config import TrainerConfig
from errors import (
    NoDataError,
    OptionError,
    RegistryContentError,
    RegistryError,
    RegistryRefusedError,
)
from kfp_ops import Run, RunState, Task
from pods import PodIssue
from registry import Champion, Report, Result
from serving import Served
from status import Commands, Situation

JUJU = Commands(app="trainer", juju=3)
GOOD = Result(run_id="new", accuracy=0.9141, accepted=True)
BAD = Result(run_id="new", accuracy=0.8, accepted=False, reasons=("accuracy 0.8 is below 0.85",))
SAME = Result(
    run_id="new", accuracy=0.9, accepted=False, reasons=("train on new data",), unchanged=True
)
OLD = Champion(version=2, result=Result(run_id="old", accuracy=0.9, accepted=True))
STEPS = frozenset({"ingest", "train", "evaluate", "publish", "predict"})


def run(state, **tasks):
    return Run(
        run_id="new",
        display_name="config-1",
        state=state,
        tasks=tuple(Task(name=name, state=RunState(each)) for name, each in tasks.items()),
    )


HOUR = TrainerConfig(run_timeout=60)
KILLED = PodIssue(
    step="train", pod="train-x-1", reason="OOMKilled (exit code 137)", message="epoch 3"
)


def lasted(state=RunState.CANCELED, **how_long):
    """A run that ended so after so long."""
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    end = begin + datetime.timedelta(**how_long)
    return dataclasses.replace(run(state), created_at=begin, begun_at=begin, finished_at=end)


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (
            Situation(champion=OLD, schedule=False, config=TrainerConfig()),
            ops.ActiveStatus(
                "v2 0.9000 serves; no run yet; start one: juju run trainer/leader train; "
                "the schedule is paused: juju run trainer/leader resume"
            ),
        ),
        (
            Situation(champion=OLD, latest=run(RunState.CANCELING), lost=True),
            ops.BlockedStatus(
                "v2 0.9000 serves; run config-1 was told to end and does not, as if its workflow were "
                "gone; see: juju run trainer/leader get-run, then: juju run trainer/leader train"
            ),
        ),
        (
            Situation(
                latest=run(RunState.PENDING),
                schedule=False,
                config=TrainerConfig(schedule="@daily", schedule_paused=True),
            ),
            ops.ActiveStatus(
                "run config-1 PENDING, 0 of 5 steps done; "
                "the schedule is paused: juju config trainer schedule-paused=false"
            ),
        ),
        (
            Situation(),
            ops.ActiveStatus("no run yet; start one: juju run trainer/leader train"),
        ),
        (
            Situation(champion=OLD),
            ops.ActiveStatus(
                "v2 0.9000 serves; no run yet; start one: juju run trainer/leader train"
            ),
        ),
        (
            Situation(latest=run(RunState.PENDING)),
            ops.ActiveStatus("run config-1 PENDING, 0 of 5 steps done"),
        ),
        (
            Situation(
                latest=run(
                    RunState.RUNNING,
                    ingest="SUCCEEDED",
                    train="RUNNING",
                    **{"train-driver": "SUCCEEDED"},
                ),
                champion=OLD,
            ),
            ops.ActiveStatus("v2 0.9000 serves; run config-1 RUNNING, 1 of 5 steps done"),
        ),
        (
            Situation(
                latest=run(RunState.SUCCEEDED),
                result=GOOD,
                champion=Champion(version=3, result=GOOD),
            ),
            ops.ActiveStatus("v3 serves, accuracy 0.9141"),
        ),
        (
            Situation(
                latest=run(RunState.SUCCEEDED),
                result=GOOD,
                champion=Champion(version=3, result=GOOD),
                served=Served(name="s", version=3, is_ready=True, canary=10),
            ),
            ops.ActiveStatus("v3 serves, accuracy 0.9141, KServe ready with 10 % of requests"),
        ),
        (
            Situation(
                latest=run(RunState.PENDING),
                champion=OLD,
                served=Served(name="s", version=2, is_ready=True),
            ),
            ops.ActiveStatus(
                "v2 0.9000 serves, KServe ready; run config-1 PENDING, 0 of 5 steps done"
            ),
        ),
        (
            Situation(
                champion=OLD,
                served=Served(name="s", version=2, is_ready=False, reason="RevisionMissing"),
            ),
            ops.WaitingStatus(
                "v2 0.9000 serves, KServe not ready: RevisionMissing; no run yet; start one: "
                "juju run trainer/leader train"
            ),
        ),
        (
            Situation(latest=run(RunState.PENDING), monitor=lasted(RunState.FAILED, hours=1)),
            ops.ActiveStatus(
                "run config-1 PENDING, 0 of 5 steps done; monitoring failed; see: "
                "juju run trainer/leader get-run run-id=new"
            ),
        ),
        (
            Situation(
                latest=run(RunState.PENDING),
                champion=OLD,
                config=HOUR,
                report=Report(run_id="m", version=2, images=1000, drift={"pixels": 0.2}),
            ),
            ops.ActiveStatus(
                "v2 0.9000 serves; run config-1 PENDING, 0 of 5 steps done; production drifted: "
                "pixels 0.200; see: juju run trainer/leader get-run run-id=m, then: "
                "juju run trainer/leader train"
            ),
        ),
        (
            Situation(latest=run(RunState.SUCCEEDED), result=GOOD, champion=OLD),
            ops.ActiveStatus("v2 0.9000 serves; run config-1 accepted, accuracy 0.9141"),
        ),
        (
            Situation(
                latest=run(RunState.SUCCEEDED),
                result=GOOD,
                champion=OLD,
                config=TrainerConfig(promotion="manual"),
            ),
            ops.ActiveStatus(
                "v2 0.9000 serves; run config-1 accepted, accuracy 0.9141; let it serve: "
                "juju run trainer/leader promote version=N"
            ),
        ),
        (
            Situation(latest=run(RunState.SUCCEEDED), result=BAD, champion=OLD),
            ops.ActiveStatus(
                "v2 0.9000 serves; run config-1 rejected, accuracy 0.8000: "
                "accuracy 0.8 is below 0.85"
            ),
        ),
        (
            Situation(latest=run(RunState.SUCCEEDED), result=SAME, champion=OLD),
            ops.ActiveStatus(
                "v2 0.9000 serves; run config-1 made the same model again, accuracy 0.9000: "
                "train on new data"
            ),
        ),
        (
            Situation(latest=run(RunState.SUCCEEDED)),
            ops.ActiveStatus("run config-1 SUCCEEDED without a result in the registry"),
        ),
        (
            Situation(latest=run(RunState.FAILED, train="FAILED", executor="FAILED")),
            ops.BlockedStatus(
                "run config-1 failed at step train; see: juju run trainer/leader get-run, then: "
                "juju run trainer/leader train"
            ),
        ),
        (
            Situation(latest=run(RunState.FAILED), champion=OLD),
            ops.BlockedStatus(
                "v2 0.9000 serves; run config-1 failed; see: juju run trainer/leader get-run, "
                "then: juju run trainer/leader train"
            ),
        ),
        (
            Situation(latest=run(RunState.FAILED), pod_issue=KILLED),
            ops.BlockedStatus(
                "run config-1 failed at step train: OOMKilled (exit code 137): epoch 3; see: "
                "juju run trainer/leader get-run, then: juju run trainer/leader train"
            ),
        ),
        (
            Situation(
                latest=run(RunState.RUNNING),
                pod_issue=PodIssue(
                    step="", pod="p", reason="ImagePullBackOff", message="no such tag"
                ),
            ),
            ops.WaitingStatus(
                "run config-1 RUNNING, 0 of 5 steps done; ImagePullBackOff: no such tag"
            ),
        ),
        (
            Situation(
                latest=run(RunState.SUCCEEDED),
                champion=OLD,
                trained_before=dataclasses.replace(
                    run(RunState.SUCCEEDED), display_name="config-0", run_id="old"
                ),
            ),
            ops.ActiveStatus(
                "v2 0.9000 serves; run config-1 SUCCEEDED without a result in the registry; "
                "run config-0 trained this configuration before; see: juju run trainer/leader "
                "get-run run-id=old, or train it again: juju run trainer/leader train"
            ),
        ),
        (
            Situation(latest=lasted(hours=2), config=HOUR),
            ops.BlockedStatus(
                "run config-1 ended without success after 2:00:00, more than run-timeout allows; see: "
                "juju run trainer/leader get-run, or raise it: "
                "juju config trainer run-timeout=VALUE, then: juju run trainer/leader train"
            ),
        ),
        (
            Situation(latest=lasted(RunState.FAILED, hours=2), config=HOUR, pod_issue=KILLED),
            ops.BlockedStatus(
                "run config-1 ended without success after 2:00:00, more than run-timeout allows at "
                "step train: OOMKilled (exit code 137): epoch 3; see: juju run trainer/leader get-run, or raise it: "
                "juju config trainer run-timeout=VALUE, then: juju run trainer/leader train"
            ),
        ),
        (
            Situation(latest=lasted(RunState.FAILED, minutes=2), config=HOUR),
            ops.BlockedStatus(
                "run config-1 failed; see: juju run trainer/leader get-run, then: "
                "juju run trainer/leader train"
            ),
        ),
        (
            Situation(latest=lasted(minutes=2), config=HOUR),
            ops.ActiveStatus("run config-1 CANCELED; start one: juju run trainer/leader train"),
        ),
        (
            Situation(latest=lasted(hours=2)),
            ops.ActiveStatus("run config-1 CANCELED; start one: juju run trainer/leader train"),
        ),
        (
            Situation(latest=run(RunState.PENDING), workload="exited quickly with code 1"),
            ops.WaitingStatus(
                "run config-1 PENDING, 0 of 5 steps done; the Pushgateway does not run: exited "
                "quickly with code 1; tried again at the next update-status; see: "
                "juju debug-log --include trainer"
            ),
        ),
        (
            Situation(latest=run(RunState.FAILED), workload="exited quickly with code 1"),
            ops.BlockedStatus(
                "run config-1 failed; see: juju run trainer/leader get-run, then: "
                "juju run trainer/leader train; the Pushgateway does not run: exited quickly with "
                "code 1; tried again at the next update-status; see: "
                "juju debug-log --include trainer"
            ),
        ),
        (
            Situation(latest=run(RunState.RUNNING), problem=RegistryError("first this")),
            ops.WaitingStatus("first this; tried again at the next update-status"),
        ),
    ],
)
def test_the_status_tells_the_run_and_the_model(situation, expected):
    situation = dataclasses.replace(situation, steps=STEPS)
    assert status.unit_status(situation, JUJU) == expected


def api_error(kind, code):
    return kind("GET /runs", code, "the server's words")


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            OptionError("batch_size", -1, "between 0 and 60000"),
            ops.BlockedStatus,
            ["batch-size must be between 0 and 60000", "juju config trainer batch-size=VALUE"],
        ),
        (
            kfp_ops.UnreachableError("GET /runs: no answer"),
            ops.WaitingStatus,
            ["no answer", "next update-status"],
        ),
        (
            kfp_ops.AnswerError("GET /runs: not JSON"),
            ops.WaitingStatus,
            ["not JSON", "tried again"],
        ),
        (api_error(kfp_ops.ServerError, 503), ops.WaitingStatus, ["503 the server's words"]),
        (
            api_error(kfp_ops.UnauthorizedError, 401),
            ops.BlockedStatus,
            ["does not let trainer in"],
        ),
        (api_error(kfp_ops.ForbiddenError, 403), ops.BlockedStatus, ["does not let trainer in"]),
        (
            api_error(kfp_ops.RequestError, 400),
            ops.BlockedStatus,
            ["refuses", "juju debug-log --include trainer"],
        ),
        (RegistryError("object storage is away"), ops.WaitingStatus, ["away", "tried again"]),
        (
            RegistryRefusedError("object storage answers NoSuchBucket: make it"),
            ops.BlockedStatus,
            ["NoSuchBucket: make it"],
        ),
        (
            RegistryContentError("1/manifest.json is not a JSON object"),
            ops.BlockedStatus,
            ["not a JSON object", "juju config trainer registry-prefix=VALUE"],
        ),
        (
            kfp_ops.RelationDataError("relation kfp-api: its data is wrong"),
            ops.BlockedStatus,
            ["remove the relation and add it again"],
        ),
    ],
)
def test_each_problem_says_what_to_do(error, kind, says):
    seen = status.problem(error, JUJU)
    assert isinstance(seen, kind)
    for words in says:
        assert words in seen.message


@pytest.mark.parametrize(
    ("juju", "train", "relate"),
    [
        (2, "juju run-action trainer/leader train --wait", "juju relate trainer:a minio:a"),
        (3, "juju run trainer/leader train", "juju integrate trainer:a minio:a"),
        (4, "juju run trainer/leader train", "juju integrate trainer:a minio:a"),
    ],
)
def test_commands_are_those_of_the_juju_at_hand(juju, train, relate):
    commands = Commands(app="trainer", juju=juju)
    assert commands.train == train
    assert commands.relate("a", "minio") == relate
    assert status.problem(
        NoDataError("a", "minio", is_related=False), commands
    ) == ops.BlockedStatus(f"no relation a; add it with: {relate}")


def test_a_silent_relation_is_waited_for():
    assert isinstance(
        status.problem(NoDataError("kfp-api", "kfp-api", is_related=True), Commands(app="trainer")),
        ops.WaitingStatus,
    )


def test_each_problem_is_caught():
    assert typing.get_args(errors.Problem) == errors.PROBLEMS
