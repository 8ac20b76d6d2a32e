"""This pipeline, version, experiment, schedule and these runs shall exist: observe, plan, act.

Kubeflow Pipelines is the only memory. Names carry the fingerprint of what they name, so what is
there already is found again after a retry, a restart, a change of leader or a lost answer, and
nothing is made twice. `plan` is pure; `observe` and `act` make the calls, a number of them that
does not grow with what the server holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from kfp_ops.errors import (
    ConflictError,
    NotFoundError,
    RequestError,
    ServerError,
    UnreachableError,
)
from kfp_ops.models import Experiment, Pipeline, PipelineVersion, RecurringRun, Run, RunState
from kfp_ops.spec import PipelineSpec

if TYPE_CHECKING:
    from kfp_ops.client import Client

_Resource = TypeVar("_Resource")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run that shall exist once.

    Attributes:
        name: its display name, which makes it the same run when it is asked for again.
        parameters: the pipeline's arguments.
        description: for people who look at the run.
        supersedes: the beginning of names, its own among them, of which the latest alone counts:
            active runs of other names are terminated, and a run that ended without success is
            submitted again when others of its kind came after it.
        family: the beginning of names, its own among them, of runs that keep a distance: of those
            that are missing one is submitted at a time, in the order in which they are wanted.
        quiet_since: it is not submitted while a run of its family is there that was submitted after
            this moment, UTC, however it ended.
    """

    name: str
    parameters: Mapping[str, object]
    description: str = ""
    supersedes: str = ""
    family: str = ""
    quiet_since: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """A recurring run that shall exist.

    Attributes:
        name: its display name, which should carry the fingerprint of all but `enabled`.
        cron: six fields, seconds first, in the server's time zone.
        parameters: the arguments of each of its runs.
        description: for people who look at it.
        enabled: False keeps it without submitting runs.
    """

    name: str
    cron: str
    parameters: Mapping[str, object]
    description: str = ""
    enabled: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What shall exist in Kubeflow Pipelines.

    Attributes:
        schedule: the one recurring run; None for none.
        deadline: a run that was submitted, or retried, before this moment, UTC, and still goes on or
            waits is terminated.
        schedule_prefix: recurring runs in the experiment whose names begin so are the caller's:
            those that are not `schedule` are deleted.
    """

    pipeline: str
    spec: PipelineSpec
    experiment: str
    runs: tuple[RunRequest, ...] = ()
    schedule: Schedule | None = None
    schedule_prefix: str = "schedule-"
    deadline: datetime.datetime | None = None
    description: str = ""

    @property
    def version(self) -> str:
        """The name of the pipeline's version: the specification's fingerprint."""
        return self.spec.fingerprint

    def current_schedule(self, schedules: Sequence[RecurringRun]) -> RecurringRun | None:
        """Of recurring runs, newest first, the one that is `schedule`; of several the oldest."""
        name = self.schedule.name if self.schedule else None
        return next((each for each in reversed(schedules) if each.display_name == name), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """What was seen.

    Attributes:
        pipeline, version: only looked for when a wanted run or the schedule is missing.
        runs: those of the wanted runs that exist, by name.
        named: all runs of each wanted name, newest first. More than one is active where a leader
            whose time had passed submitted, or the server did so after all.
        families: the newest runs whose names begin with a wanted run's `supersedes` or `family`,
            newest first.
        overdue: runs that go on or wait since before the deadline, oldest first.
        schedules: the caller's recurring runs, newest first.
        busy: ids of those recurring runs that are not wanted and of which a run goes on.
        latest: the newest run in the experiment, whoever asked for it.
    """

    experiment: Experiment | None = None
    runs: Mapping[str, Run] = dataclasses.field(default_factory=dict[str, Run])
    named: Mapping[str, tuple[Run, ...]] = dataclasses.field(
        default_factory=dict[str, tuple[Run, ...]]
    )
    families: Mapping[str, tuple[Run, ...]] = dataclasses.field(
        default_factory=dict[str, tuple[Run, ...]]
    )
    overdue: tuple[Run, ...] = ()
    schedules: tuple[RecurringRun, ...] = ()
    busy: frozenset[str] = frozenset()
    latest: Run | None = None
    pipeline: Pipeline | None = None
    version: PipelineVersion | None = None


@dataclasses.dataclass(frozen=True)
class CreatePipeline:
    """Create the pipeline, without a version yet."""


@dataclasses.dataclass(frozen=True)
class UploadVersion:
    """Upload the specification as the pipeline's version."""


@dataclasses.dataclass(frozen=True)
class CreateExperiment:
    """Create the experiment."""


@dataclasses.dataclass(frozen=True)
class SubmitRun:
    """Submit one run of the version in the experiment."""

    request: RunRequest


@dataclasses.dataclass(frozen=True)
class TerminateRun:
    """Stop a run whose place another one takes, or whose time is up."""

    run: Run


@dataclasses.dataclass(frozen=True)
class CreateSchedule:
    """Create the recurring run."""


@dataclasses.dataclass(frozen=True)
class SwitchSchedule:
    """Enable or disable a recurring run that is there."""

    schedule: RecurringRun
    enabled: bool


@dataclasses.dataclass(frozen=True)
class RetireSchedule:
    """Disable a recurring run that is not wanted any more, until it can be deleted."""

    schedule: RecurringRun


@dataclasses.dataclass(frozen=True)
class DeleteSchedule:
    """Disable and delete a recurring run that is not wanted any more."""

    schedule: RecurringRun


Step = (
    CreatePipeline
    | UploadVersion
    | CreateExperiment
    | TerminateRun
    | SubmitRun
    | CreateSchedule
    | SwitchSchedule
    | RetireSchedule
    | DeleteSchedule
)

_UNFINISHED = (RunState.PENDING, RunState.RUNNING)
# One run of a family is active at a time, so this is ample; it bounds the answer.
_RUN_LIMIT = 20


def observe(client: Client, wanted: Wanted) -> Observed:
    """See what exists, in at most 7 calls and three more for each wanted run.

    Raises:
        KfpError: the server cannot be reached or does not allow it.
    """
    seen = Observed(experiment=client.find_experiment(wanted.experiment))
    if seen.experiment:
        seen = _observe_experiment(client, wanted, seen, seen.experiment.experiment_id)
    if _missing(wanted, seen) or _schedule_is_missing(wanted, seen):
        pipeline = client.find_pipeline(wanted.pipeline)
        version = client.find_version(pipeline.pipeline_id, wanted.version) if pipeline else None
        seen = dataclasses.replace(seen, pipeline=pipeline, version=version)
    return seen


def _observe_experiment(
    client: Client, wanted: Wanted, seen: Observed, experiment_id: str
) -> Observed:
    runs: dict[str, Run] = {}
    named: dict[str, tuple[Run, ...]] = {}
    families: dict[str, tuple[Run, ...]] = {}
    for prefix in dict.fromkeys(p for r in wanted.runs for p in (r.supersedes, r.family) if p):
        families[prefix] = _runs_with_prefix(client, experiment_id, prefix)
    for request in wanted.runs:
        candidates = families.get(request.supersedes or request.family, ())
        same_name = [run for run in candidates if run.display_name == request.name]
        same_name = same_name or client.find_runs(experiment_id, request.name, limit=_RUN_LIMIT)
        if same_name:
            named[request.name] = tuple(same_name)
            runs[request.name] = _wanted_run(same_name)
    latest = next(iter(client.list_runs(experiment_id)), None)
    if latest:
        # Of two of one name it is not the one that has to go.
        latest = runs.get(latest.display_name, latest)
    schedules = _schedules(client, experiment_id, wanted.schedule_prefix)
    current = wanted.current_schedule(schedules)
    return dataclasses.replace(
        seen,
        runs=runs,
        named=named,
        families=families,
        schedules=schedules,
        busy=_busy(
            client, experiment_id, [schedule for schedule in schedules if schedule != current]
        ),
        overdue=_overdue(client, experiment_id, wanted.deadline),
        latest=latest,
    )


def _runs_with_prefix(
    client: Client, experiment_id: str, prefix: str, state: Sequence[RunState] = ()
) -> tuple[Run, ...]:
    """The newest runs whose names begin so, newest first; `state` leaves those in one of them."""
    runs = client.list_runs(experiment_id, limit=_RUN_LIMIT, name_contains=prefix, state=state)
    return tuple(run for run in runs if run.display_name.startswith(prefix))


def _schedules(client: Client, experiment_id: str, prefix: str) -> tuple[RecurringRun, ...]:
    """The recurring runs whose names begin so, newest first."""
    recurring_runs = client.list_recurring_runs(experiment_id, name_contains=prefix)
    return tuple(
        schedule for schedule in recurring_runs if schedule.display_name.startswith(prefix)
    )


def _busy(client: Client, experiment_id: str, schedules: Sequence[RecurringRun]) -> frozenset[str]:
    """The ids of those recurring runs of which a run goes on."""
    ids = [schedule.recurring_run_id for schedule in schedules]
    if not ids:
        return frozenset()
    runs = client.list_runs(
        experiment_id, limit=_RUN_LIMIT, state=_UNFINISHED, recurring_run_ids=ids
    )
    return frozenset(run.recurring_run_id for run in runs)


def _wanted_run(runs: Sequence[Run]) -> Run:
    """Of the runs of one name, newest first, the one that is the wanted one."""
    active = _active(runs)
    if active:
        return active[-1]
    # One that was submitted again counts before the one whose place it took.
    return min(runs, key=lambda run: run.state in _UNSUCCESSFUL)


def _active(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if not run.state.is_final and run.state is not RunState.CANCELING]


def _overdue(
    client: Client, experiment_id: str, deadline: datetime.datetime | None
) -> tuple[Run, ...]:
    if deadline is None:
        return ()
    unfinished = client.list_runs(
        experiment_id, limit=_RUN_LIMIT, state=_UNFINISHED, oldest_first=True
    )
    return tuple(run for run in unfinished if run.begun_at and run.begun_at < deadline)


def plan(wanted: Wanted, seen: Observed) -> list[Step]:
    """The steps from what is seen to what is wanted, in order; none when all is there."""
    missing = _missing(wanted, seen)
    new_schedule = _schedule_is_missing(wanted, seen)
    steps: list[Step] = []
    if missing or new_schedule:
        if not seen.pipeline:
            steps.append(CreatePipeline())
        if not seen.version:
            steps.append(UploadVersion())
        if not seen.experiment:
            steps.append(CreateExperiment())
    to_terminate = {
        run.run_id: run for run in (*_superseded(wanted, seen), *_duplicates(wanted, seen))
    }
    to_terminate |= {run.run_id: run for run in seen.overdue if run.run_id not in to_terminate}
    steps += [TerminateRun(run) for run in to_terminate.values()]
    steps += [SubmitRun(request) for request in missing]
    # The new schedule before the old one goes: a crash between the two loses no run.
    if new_schedule:
        steps.append(CreateSchedule())
    current = wanted.current_schedule(seen.schedules)
    if current and wanted.schedule and current.enabled != wanted.schedule.enabled:
        steps.append(SwitchSchedule(current, wanted.schedule.enabled))
    for old in seen.schedules:
        if old == current:
            continue
        # With the schedule the server would lose a run of it that goes on.
        if old.recurring_run_id not in seen.busy:
            steps.append(DeleteSchedule(old))
        elif old.enabled:
            steps.append(RetireSchedule(old))
    return steps


def _missing(wanted: Wanted, seen: Observed) -> list[RunRequest]:
    missing: list[RunRequest] = []
    families: set[str] = set()
    for request in wanted.runs:
        if _is_missing(request, seen) and not _is_too_soon(request, seen, families):
            missing.append(request)
            families |= {request.family} - {""}
    return missing


def _is_too_soon(request: RunRequest, seen: Observed, families: set[str]) -> bool:
    since = request.quiet_since
    return request.family in families or any(
        since is not None and _created(run) > since for run in seen.families.get(request.family, ())
    )


def _is_missing(request: RunRequest, seen: Observed) -> bool:
    run = seen.runs.get(request.name)
    if run is None:
        return True
    if run.state not in _UNSUCCESSFUL:
        return False
    # The server's times are whole seconds: one of the same second may have taken its place. Where it
    # has not, there is a run too many, which is better than a configuration that is never trained;
    # the server does not tell a run that was terminated from one that failed by itself.
    return any(
        other.display_name != request.name and _created(other) >= _created(run)
        for other in seen.families.get(request.supersedes, ())
    )


def _created(run: Run) -> datetime.datetime:
    return run.created_at or datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)


_UNSUCCESSFUL = (RunState.FAILED, RunState.CANCELING, RunState.CANCELED)


def _superseded(wanted: Wanted, seen: Observed) -> list[Run]:
    return [
        run
        for request in wanted.runs
        for run in _active(seen.families.get(request.supersedes, ()))
        if run.display_name != request.name
    ]


def _duplicates(wanted: Wanted, seen: Observed) -> list[Run]:
    """Of several active runs of one name all but the oldest, which two leaders agree upon."""
    return [
        run for request in wanted.runs for run in _active(seen.named.get(request.name, ()))[:-1]
    ]


def _schedule_is_missing(wanted: Wanted, seen: Observed) -> bool:
    return wanted.schedule is not None and wanted.current_schedule(seen.schedules) is None


def act(
    client: Client,
    wanted: Wanted,
    seen: Observed,
    steps: list[Step],
    submitted: Callable[[str, Run], object] | None = None,
    terminating: Callable[[Run], object] | None = None,
) -> Observed:
    """Carry the steps out; returns what is seen then, without asking the server again.

    Args:
        client: of the server.
        wanted: what shall exist.
        seen: what exists.
        steps: from `plan`.
        submitted: called with the name of a wanted run and the run as soon as it is submitted, so that
            it is known also where a later step fails.
        terminating: called with a run just before it is terminated, since the answer may get lost and
            the server's history may not keep the request.

    Raises:
        KfpError: a step failed; those before it are done.
        ValueError: a run's parameters are not what the pipeline takes.
    """
    for step in steps:
        if terminating and isinstance(step, TerminateRun):
            terminating(step.run)
        seen = _apply(client, wanted, seen, step)
        if submitted and isinstance(step, SubmitRun):
            submitted(step.request.name, seen.runs[step.request.name])
    return seen


def _apply(client: Client, wanted: Wanted, seen: Observed, step: Step) -> Observed:
    """Carry one step out; returns what is seen then."""
    match step:
        case CreatePipeline():
            return dataclasses.replace(seen, pipeline=_create_pipeline(client, wanted))
        case UploadVersion():
            return dataclasses.replace(seen, version=_upload_version(client, wanted, seen))
        case CreateExperiment():
            return dataclasses.replace(seen, experiment=_create_experiment(client, wanted))
        case TerminateRun(run):
            _terminate(client, run)
            if seen.latest is None or seen.latest.run_id != run.run_id:
                return seen
            canceling = dataclasses.replace(seen.latest, state=RunState.CANCELING)
            return dataclasses.replace(seen, latest=canceling)
        case SubmitRun(request):
            run = _submit(client, wanted, seen, request)
            return dataclasses.replace(seen, runs={**seen.runs, request.name: run}, latest=run)
        case CreateSchedule():
            created = _create_schedule(client, wanted, seen)
            return dataclasses.replace(seen, schedules=(created, *seen.schedules))
        case SwitchSchedule(schedule, enabled):
            change = client.enable_recurring_run if enabled else client.disable_recurring_run
            change(schedule.recurring_run_id)
            changed = dataclasses.replace(schedule, enabled=enabled)
            return _with_schedule(seen, schedule, changed)
        case RetireSchedule(schedule):
            _disable_schedule(client, schedule)
            return _with_schedule(seen, schedule, dataclasses.replace(schedule, enabled=False))
        case DeleteSchedule(schedule):
            _delete_schedule(client, schedule)
            return _with_schedule(seen, schedule, None)


def withdraw(
    client: Client,
    experiment: str,
    schedule_prefix: str = "schedule-",
    run_prefix: str | None = None,
) -> list[RecurringRun]:
    """Delete the caller's recurring runs, and end runs that nobody wants any more; all else stays.

    Args:
        client: of the server.
        experiment: its name; where there is none, nothing is done.
        schedule_prefix: recurring runs whose names begin so are deleted.
        run_prefix: runs that go on or wait, and whose names begin so, are terminated; None: none.

    Returns:
        recurring runs that are disabled only, since a run of theirs goes on, which the server would
        lose with them; they can be deleted when it has ended.

    Raises:
        KfpError: the server cannot be reached or does not allow it.
    """
    existing = client.find_experiment(experiment)
    if not existing:
        return []
    schedules = _schedules(client, existing.experiment_id, schedule_prefix)
    busy = _busy(client, existing.experiment_id, schedules)
    left = [schedule for schedule in schedules if schedule.recurring_run_id in busy]
    for schedule in left:
        _disable_schedule(client, schedule)
    for schedule in schedules:
        if schedule not in left:
            _delete_schedule(client, schedule)
    if run_prefix is not None:
        for run in _runs_with_prefix(client, existing.experiment_id, run_prefix, _UNFINISHED):
            _terminate(client, run)
    return left


def _with_schedule(seen: Observed, old: RecurringRun, new: RecurringRun | None) -> Observed:
    schedules = (new if schedule == old else schedule for schedule in seen.schedules)
    return dataclasses.replace(seen, schedules=tuple(s for s in schedules if s))


def _terminate(client: Client, run: Run) -> None:
    try:
        client.terminate_run(run.run_id)
    except RequestError:
        # It may have ended by itself in the meantime.
        if not client.get_run(run.run_id).state.is_final:
            raise


def _create_schedule(client: Client, wanted: Wanted, seen: Observed) -> RecurringRun:
    schedule = _required(wanted.schedule)
    wanted.spec.check(schedule.parameters)
    experiment, version = _required(seen.experiment), _required(seen.version)

    def find() -> RecurringRun | None:
        schedules = client.list_recurring_runs(
            experiment.experiment_id, name_contains=schedule.name
        )
        return next((s for s in schedules if s.display_name == schedule.name), None)

    return _create_or_find(
        lambda: client.create_recurring_run(
            name=schedule.name,
            experiment_id=experiment.experiment_id,
            version=version,
            cron=schedule.cron,
            parameters=schedule.parameters,
            description=schedule.description,
            enabled=schedule.enabled,
        ),
        find,
    )


def _disable_schedule(client: Client, schedule: RecurringRun) -> None:
    # A server whose ScheduledWorkflow is gone, as with a profile's namespace, cannot disable it any
    # more; it deletes it all the same.
    with contextlib.suppress(NotFoundError, ServerError):
        client.disable_recurring_run(schedule.recurring_run_id)


def _delete_schedule(client: Client, schedule: RecurringRun) -> None:
    # Disabled first: a deletion that fails on the way leaves nothing that fires.
    _disable_schedule(client, schedule)
    with contextlib.suppress(NotFoundError):
        client.delete_recurring_run(schedule.recurring_run_id)


def _create_pipeline(client: Client, wanted: Wanted) -> Pipeline:
    return _create_or_find(
        lambda: client.create_pipeline(wanted.pipeline, wanted.description),
        lambda: client.find_pipeline(wanted.pipeline),
    )


def _upload_version(client: Client, wanted: Wanted, seen: Observed) -> PipelineVersion:
    pipeline = _required(seen.pipeline)
    return _create_or_find(
        lambda: client.upload_version(pipeline.pipeline_id, wanted.version, wanted.spec.yaml),
        lambda: client.find_version(pipeline.pipeline_id, wanted.version),
    )


def _create_experiment(client: Client, wanted: Wanted) -> Experiment:
    return _create_or_find(
        lambda: client.create_experiment(wanted.experiment, wanted.description),
        lambda: client.find_experiment(wanted.experiment),
    )


def _submit(client: Client, wanted: Wanted, seen: Observed, request: RunRequest) -> Run:
    wanted.spec.check(request.parameters)
    experiment, version = _required(seen.experiment), _required(seen.version)
    previous = seen.runs.get(request.name)

    def find() -> Run | None:
        run = client.find_run(experiment.experiment_id, request.name)
        return None if run and previous and run.run_id == previous.run_id else run

    return _create_or_find(
        lambda: client.create_run(
            name=request.name,
            experiment_id=experiment.experiment_id,
            version=version,
            parameters=request.parameters,
            description=request.description,
        ),
        find,
    )


def _create_or_find(
    create: Callable[[], _Resource], find: Callable[[], _Resource | None]
) -> _Resource:
    """A name that is taken now, or an answer that got lost: what is wanted may be there."""
    try:
        return create()
    # ServerError: a proxy on the way may have waited no longer for a server that did it.
    except (ConflictError, ServerError, UnreachableError):
        resource = find()
        if resource is None:
            raise
        return resource


def _required(value: _Resource | None) -> _Resource:
    if value is None:
        raise ValueError("steps out of order: take them from plan()")
    return value
