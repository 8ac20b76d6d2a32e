"""Unit statuses of snapshots and errors."""

import dataclasses
import datetime
import re
import uuid

import ops
import ops.testing
import pytest

import errors
import kfp_ops
import model_registry
from commands import Commands
from config import TrainerConfig
from errors import (
    InvalidRelationDataError,
    ModelRegistryError,
    NoDataError,
    OptionError,
    PipelinesError,
)
from k8s.inference_service import Served
from kfp_ops import Run, RunState, Task
from kfp_ops.kubernetes import RunIssue
from model_registry import Champion, Manifest, MonitoringReport
from reconciler.snapshot import Snapshot
from reporting import status


def test_workload_version_is_the_champions(ctx, state, registry):
    out = ctx.run(ctx.on.update_status(), state)
    assert not out.workload_version.startswith("v")
    registry("run-3", accuracy=0.93, version=3)
    out = ctx.run(ctx.on.update_status(), state)
    assert out.workload_version == "v3"
    # A follower leaves it to the leader.
    out = ctx.run(ctx.on.update_status(), dataclasses.replace(state, leader=False))
    assert out.workload_version == ""


def test_status_shows_a_promoted_model_with_its_accuracy(ctx, state, sandbox, registry, runs):
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


def test_status_shows_a_rejected_model_with_the_reason(ctx, state, sandbox, registry, runs):
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


def test_newest_champion_move_is_used(ctx, state, registry):
    registry("one", accuracy=0.91, version=9)
    registry("two", accuracy=0.92, version=10)
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status.message.startswith("v10 serves, accuracy 0.9200; ")


def test_failed_run_blocks_with_its_step_and_is_not_repeated(ctx, state, sandbox, runs):
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    sandbox.set_run_state(run["run_id"], "FAILED", tasks={"ingest": "SUCCEEDED", "train": "FAILED"})
    for _ in range(3):
        out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "failed at step train" in out.unit_status.message
    assert out.unit_status.message.endswith("juju run trainer/leader get-run")
    assert len(runs()) == 1


JUJU = Commands(app="trainer", juju=3)
GOOD = Manifest(run_id="new", accuracy=0.9141, accepted=True)
BAD = Manifest(run_id="new", accuracy=0.8, accepted=False, reasons=("accuracy 0.8 is below 0.85",))
SAME = Manifest(
    run_id="new", accuracy=0.9, accepted=False, reasons=("train on new data",), unchanged=True
)
OLD = Champion(version=2, manifest=Manifest(run_id="old", accuracy=0.9, accepted=True))
STEPS = frozenset({"ingest", "train", "evaluate-and-predict"})


def run(state, **tasks):
    return Run(
        run_id="new",
        display_name="config-1",
        state=state,
        tasks=tuple(
            Task(name=name, state=RunState(task_state)) for name, task_state in tasks.items()
        ),
    )


HOUR = TrainerConfig(run_timeout=60)
KILLED = RunIssue(
    step="train", pod="train-x-1", reason="OOMKilled (exit code 137)", message="epoch 3"
)


def ended_after(state=RunState.CANCELED, **how_long):
    """Return a run that ended in a state after a duration."""
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    end = begin + datetime.timedelta(**how_long)
    return dataclasses.replace(run(state), created_at=begin, begun_at=begin, finished_at=end)


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (
            Snapshot(champion=OLD, schedule=False, config=TrainerConfig()),
            ops.ActiveStatus(
                "v2 serves, accuracy 0.9000; no run yet; the schedule is paused; resume it: juju config trainer schedule-paused=false"
            ),
        ),
        (
            Snapshot(champion=OLD, latest=run(RunState.CANCELING), stuck=True),
            ops.BlockedStatus(
                "v2 serves; run config-1 was terminated but is still running; start another: juju run trainer/leader train"
            ),
        ),
        (
            Snapshot(
                latest=run(RunState.PENDING),
                schedule=False,
                config=TrainerConfig(schedule="@daily", schedule_paused=True),
            ),
            ops.ActiveStatus(
                "run config-1 PENDING; the schedule is paused; resume it: juju config trainer schedule-paused=false"
            ),
        ),
        (
            Snapshot(),
            ops.ActiveStatus("no run yet; start one: juju run trainer/leader train"),
        ),
        (
            Snapshot(champion=OLD),
            ops.ActiveStatus(
                "v2 serves, accuracy 0.9000; no run yet; start one: juju run trainer/leader train"
            ),
        ),
        (
            Snapshot(
                latest=run(RunState.SUCCEEDED),
                result=GOOD,
                champion=Champion(version=3, manifest=GOOD),
                schedule=False,
            ),
            ops.ActiveStatus(
                "v3 serves, accuracy 0.9141; the schedule is paused; resume it: juju config trainer schedule-paused=false"
            ),
        ),
        (
            Snapshot(latest=run(RunState.CANCELING)),
            ops.ActiveStatus("run config-1 CANCELING"),
        ),
        (
            Snapshot(
                latest=run(RunState.SUCCEEDED),
                result=GOOD,
                champion=Champion(version=3, manifest=GOOD),
                config=HOUR,
                report=MonitoringReport(run_id="m", version=3, images=1000, drift={"pixels": 0.2}),
            ),
            ops.ActiveStatus(
                "v3 serves, accuracy 0.9141; production drifted: pixels 0.200; train on new data: juju run trainer/leader train"
            ),
        ),
        (
            Snapshot(latest=run(RunState.PENDING)),
            ops.ActiveStatus("run config-1 PENDING"),
        ),
        (
            Snapshot(
                latest=run(
                    RunState.RUNNING,
                    ingest="SUCCEEDED",
                    train="RUNNING",
                    **{"train-driver": "SUCCEEDED"},
                ),
                champion=OLD,
            ),
            ops.ActiveStatus(
                "v2 serves, accuracy 0.9000; run config-1 RUNNING: train (1 of 3 steps done)"
            ),
        ),
        (
            Snapshot(
                latest=run(RunState.SUCCEEDED),
                result=GOOD,
                champion=Champion(version=3, manifest=GOOD),
            ),
            ops.ActiveStatus("v3 serves, accuracy 0.9141"),
        ),
        (
            Snapshot(
                latest=run(RunState.SUCCEEDED),
                result=GOOD,
                champion=Champion(version=3, manifest=GOOD),
                served=Served(name="s", version=3, is_ready=True, canary=10),
            ),
            ops.ActiveStatus("v3 serves, accuracy 0.9141, KServe ready with 10 % of requests"),
        ),
        (
            Snapshot(
                latest=run(RunState.PENDING),
                champion=OLD,
                served=Served(name="s", version=2, is_ready=True),
            ),
            ops.ActiveStatus("v2 serves, accuracy 0.9000, KServe ready; run config-1 PENDING"),
        ),
        (
            Snapshot(
                champion=OLD,
                served=Served(name="s", version=2, is_ready=False, reason="RevisionMissing"),
            ),
            ops.WaitingStatus(
                "v2 serves, accuracy 0.9000, KServe not ready: RevisionMissing; no run yet; start one: juju run trainer/leader train"
            ),
        ),
        (
            Snapshot(latest=run(RunState.PENDING), monitor=ended_after(RunState.FAILED, hours=1)),
            ops.ActiveStatus(
                "run config-1 PENDING; monitoring failed; see: juju run trainer/leader get-run run-id=monitor"
            ),
        ),
        (
            Snapshot(
                latest=run(RunState.PENDING),
                champion=OLD,
                config=HOUR,
                report=MonitoringReport(run_id="m", version=2, images=1000, drift={"pixels": 0.2}),
            ),
            ops.ActiveStatus(
                "v2 serves, accuracy 0.9000; run config-1 PENDING; production drifted: pixels 0.200"
            ),
        ),
        (
            Snapshot(latest=run(RunState.SUCCEEDED), result=GOOD, champion=OLD),
            ops.ActiveStatus("v2 serves, accuracy 0.9000; run config-1 accepted, accuracy 0.9141"),
        ),
        (
            Snapshot(
                latest=run(RunState.SUCCEEDED),
                result=GOOD,
                champion=OLD,
                config=TrainerConfig(promotion="manual"),
            ),
            ops.ActiveStatus(
                "v2 serves; run config-1 accepted, accuracy 0.9141; serve it with: juju run trainer/leader promote version=N"
            ),
        ),
        (
            Snapshot(latest=run(RunState.SUCCEEDED), result=BAD, champion=OLD),
            ops.ActiveStatus(
                "v2 serves, accuracy 0.9000; run config-1 rejected: accuracy 0.8 is below 0.85; see: juju run trainer/leader get-run"
            ),
        ),
        (
            Snapshot(latest=run(RunState.SUCCEEDED), result=SAME, champion=OLD),
            ops.ActiveStatus(
                "v2 serves; run config-1 reproduced the champion: train on new data; see: juju run trainer/leader get-run"
            ),
        ),
        (
            Snapshot(latest=run(RunState.SUCCEEDED)),
            ops.ActiveStatus("run config-1 SUCCEEDED without a result in the registry"),
        ),
        (
            Snapshot(latest=run(RunState.FAILED, train="FAILED", executor="FAILED")),
            ops.BlockedStatus(
                "run config-1 failed at step train; see: juju run trainer/leader get-run"
            ),
        ),
        (
            Snapshot(latest=run(RunState.FAILED), champion=OLD),
            ops.BlockedStatus(
                "v2 serves; run config-1 failed; see: juju run trainer/leader get-run"
            ),
        ),
        (
            Snapshot(latest=run(RunState.FAILED), pod_issue=KILLED),
            ops.BlockedStatus(
                "run config-1 failed at step train: OOMKilled (exit code 137): epoch 3; see: juju run trainer/leader get-run"
            ),
        ),
        (
            Snapshot(
                latest=run(RunState.RUNNING),
                pod_issue=RunIssue(
                    step="", pod="p", reason="ImagePullBackOff", message="no such tag"
                ),
            ),
            ops.WaitingStatus(
                "run config-1 RUNNING: ImagePullBackOff: no such tag; see: juju run trainer/leader get-run"
            ),
        ),
        (
            Snapshot(
                latest=run(RunState.SUCCEEDED),
                champion=OLD,
                trained_before=dataclasses.replace(
                    run(RunState.SUCCEEDED), display_name="config-0", run_id="old"
                ),
            ),
            ops.ActiveStatus(
                "v2 serves, accuracy 0.9000; run config-0 trained this configuration; train it again: juju run trainer/leader train"
            ),
        ),
        (
            Snapshot(latest=ended_after(hours=2), config=HOUR),
            ops.BlockedStatus(
                "run config-1 exceeded run-timeout after 2:00:00; raise it: juju config trainer run-timeout=VALUE"
            ),
        ),
        (
            Snapshot(latest=ended_after(RunState.FAILED, hours=2), config=HOUR, pod_issue=KILLED),
            ops.BlockedStatus(
                "run config-1 exceeded run-timeout after 2:00:00 at step train: OOMKill…; raise it: juju config trainer run-timeout=VALUE"
            ),
        ),
        (
            Snapshot(latest=ended_after(RunState.FAILED, minutes=2), config=HOUR),
            ops.BlockedStatus("run config-1 failed; see: juju run trainer/leader get-run"),
        ),
        (
            Snapshot(latest=ended_after(minutes=2), config=HOUR),
            ops.ActiveStatus("run config-1 CANCELED; train again: juju run trainer/leader train"),
        ),
        (
            Snapshot(latest=ended_after(hours=2)),
            ops.ActiveStatus("run config-1 CANCELED; train again: juju run trainer/leader train"),
        ),
        (
            Snapshot(latest=run(RunState.PENDING), workload="exited quickly with code 1"),
            ops.WaitingStatus(
                "run config-1 PENDING; Pushgateway is not running: exited quickly with code 1; see: juju debug-log --include trainer"
            ),
        ),
        (
            Snapshot(latest=run(RunState.FAILED), workload="exited quickly with code 1"),
            ops.BlockedStatus(
                "Pushgateway is not running: exited quickly with code 1; run config-1 failed; see: juju run trainer/leader get-run"
            ),
        ),
        (
            Snapshot(
                latest=run(RunState.RUNNING),
                problem=ModelRegistryError(model_registry.RegistryError("first this")),
            ),
            ops.WaitingStatus("first this; retries at the next update-status"),
        ),
    ],
)
def test_status_shows_the_run_and_the_model(snapshot, expected):
    snapshot = dataclasses.replace(snapshot, steps=STEPS)
    assert status.unit_status(snapshot, JUJU) == expected


def api_error(kind, code):
    return kind("GET /runs", code, "the server's words")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            OptionError("batch_size", -1, "between 0 and 60000"),
            ops.BlockedStatus,
            ["batch-size must be between 0 and 60000", "juju config trainer batch-size=VALUE"],
        ),
        (
            PipelinesError(kfp_ops.UnreachableError("GET /runs: no answer")),
            ops.WaitingStatus,
            ["no answer", "retries at the next update-status"],
        ),
        (
            PipelinesError(kfp_ops.AnswerError("GET /runs: not JSON")),
            ops.WaitingStatus,
            ["not JSON", "retries"],
        ),
        (
            PipelinesError(api_error(kfp_ops.ServerError, 503)),
            ops.WaitingStatus,
            ["503 the server's words"],
        ),
        (
            PipelinesError(api_error(kfp_ops.UnauthorizedError, 401)),
            ops.BlockedStatus,
            ["denies access", "juju config trainer profile=VALUE"],
        ),
        (
            PipelinesError(api_error(kfp_ops.ForbiddenError, 403)),
            ops.BlockedStatus,
            ["denies access", "juju config trainer profile=VALUE"],
        ),
        (
            PipelinesError(api_error(kfp_ops.RequestError, 400)),
            ops.BlockedStatus,
            ["rejected the request", "juju debug-log --include trainer"],
        ),
        (
            ModelRegistryError(model_registry.RegistryError("object storage is away")),
            ops.WaitingStatus,
            ["away", "retries"],
        ),
        (
            ModelRegistryError(
                model_registry.RegistryRefusedError("object storage returned NoSuchBucket: make it")
            ),
            ops.BlockedStatus,
            ["NoSuchBucket: make it"],
        ),
        (
            ModelRegistryError(
                model_registry.RegistryContentError("1/manifest.json is not a JSON object")
            ),
            ops.BlockedStatus,
            ["not a JSON object", "juju config trainer registry-prefix=VALUE"],
        ),
        (
            InvalidRelationDataError("relation kfp-api: invalid data"),
            ops.BlockedStatus,
            ["remove the relation and add it again"],
        ),
    ],
)
def test_each_error_shows_its_remedy(error, kind, message):
    unit_status = status.problem(error, JUJU)
    assert isinstance(unit_status, kind)
    for words in message:
        assert words in unit_status.message


@pytest.mark.parametrize(
    ("juju", "train", "relate"),
    [
        (2, "juju run-action trainer/leader train --wait", "juju relate trainer:a minio:a"),
        (3, "juju run trainer/leader train", "juju integrate trainer:a minio:a"),
        (4, "juju run trainer/leader train", "juju integrate trainer:a minio:a"),
    ],
)
def test_commands_match_the_juju_version(juju, train, relate):
    commands = Commands(app="trainer", juju=juju)
    assert commands.train == train
    assert commands.relate("a", "minio") == relate
    assert status.problem(
        NoDataError("a", "minio", "data", is_related=False), commands
    ) == ops.BlockedStatus(f"no relation a; add it with: {relate}")


def test_relation_without_data_is_waiting():
    error = NoDataError("object-storage", "minio", "keys", is_related=True)
    assert status.problem(error, JUJU) == ops.WaitingStatus(
        "relation object-storage: waiting for its keys"
    )


LONG = "http://minio.kubeflow.svc.cluster.local:9000/mlpipeline: " + 40 * "the server's words "
SITUATIONS = [case[0] for case in test_status_shows_the_run_and_the_model.pytestmark[0].args[1]]


def with_long_names(snapshot):
    """Return a snapshot with names and reasons of realistic lengths."""
    names = {"display_name": "config-0123456789ab", "run_id": str(uuid.UUID(int=1))}
    longer = {
        field: dataclasses.replace(getattr(snapshot, field), **names)
        for field in ("latest", "monitor", "trained_before")
        if getattr(snapshot, field)
    }
    if snapshot.pod_issue:
        longer["pod_issue"] = dataclasses.replace(snapshot.pod_issue, message=LONG, log="")
    if snapshot.result:
        longer["result"] = dataclasses.replace(snapshot.result, reasons=(LONG, LONG))
        if longer["result"].accepted and longer.get("latest"):
            result = dataclasses.replace(longer["result"], run_id=longer["latest"].run_id)
            longer["result"] = result
    if snapshot.workload:
        longer["workload"] = LONG
    if snapshot.problem:
        longer["problem"] = ModelRegistryError(model_registry.RegistryError(LONG))
    return dataclasses.replace(snapshot, steps=STEPS, **longer)


@pytest.mark.parametrize(("app", "juju"), [("trainer", 2), ("trainer", 3), ("fashion-mnist", 4)])
@pytest.mark.parametrize("snapshot", [with_long_names(snapshot) for snapshot in SITUATIONS])
def test_juju_status_shows_state_and_command_untruncated(snapshot, juju, app):
    commands = Commands(app=app, juju=juju)
    for text in (
        status.unit_status(snapshot, commands),
        status.standby_status(snapshot, commands),
    ):
        assert len(text.message) <= 120
        # At most one command, untruncated at the end.
        assert text.message.count("juju ") <= 1
        command = text.message.rpartition("juju ")[2]
        if "juju " in text.message:
            assert "\u2026" not in command
            assert re.search(rf"{app}\b", command)


@pytest.mark.parametrize("juju", [2, 3])
@pytest.mark.parametrize(
    "error",
    [
        NoDataError("object-storage", "minio", "data", is_related=False),
        OptionError("retrain_cooldown", 10**9, "between 1 and 8760"),
        PipelinesError(kfp_ops.UnreachableError(LONG)),
        PipelinesError(kfp_ops.ForbiddenError("GET /runs", 403, LONG)),
        PipelinesError(kfp_ops.RequestError("GET /runs", 400, LONG)),
        errors.KubernetesForbiddenError(LONG),
        errors.NoProfilesError(LONG),
        errors.NoKServeError(LONG),
        errors.SourceError(LONG),
        ModelRegistryError(model_registry.RegistryRefusedError(LONG)),
        ModelRegistryError(model_registry.RegistryContentError(LONG)),
        InvalidRelationDataError(LONG),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_show_their_remedy_untruncated(error, juju):
    commands = Commands(app="trainer", juju=juju)
    message = status.problem(error, commands).message
    assert len(message) <= 120
    assert message[:20] in status.failure(error, commands)
    # An action's message has room for the whole text and remedy.
    remedy = message.rpartition("; ")[2]
    if not isinstance(error, ModelRegistryError | PipelinesError | errors.SourceError):
        assert status.failure(error, commands).endswith(remedy)


@pytest.mark.parametrize("snapshot", SITUATIONS)
def test_no_status_requests_a_run_that_is_running(snapshot):
    snapshot = dataclasses.replace(snapshot, steps=STEPS)
    if snapshot.latest and not snapshot.latest.state.is_final and not snapshot.stuck:
        assert "leader train" not in status.unit_status(snapshot, JUJU).message


def test_follower_shows_no_progress():
    snapshot = Snapshot(latest=run(RunState.RUNNING), steps=STEPS, champion=OLD)
    assert status.standby_status(snapshot, JUJU) == ops.ActiveStatus(
        "standby; the leader reports runs and models"
    )


def subclasses(kind):
    return [kind, *(subclass for child in kind.__subclasses__() for subclass in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(errors.CharmError))
def test_error_is_in_the_tree_of_the_docstring(kind):
    assert re.search(rf"\b{kind.__name__}\b", errors.__doc__) or kind is errors.RetryableError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (kfp_ops.UnreachableError("no answer"), errors.PipelinesError),
        (InvalidRelationDataError("not YAML"), errors.InvalidRelationDataError),
        (errors.SourceError("no data"), errors.SourceError),
    ],
)
def test_library_errors_become_charm_errors(error, kind):
    with pytest.raises(kind, match=str(error)), errors.as_charm_errors():
        raise error
