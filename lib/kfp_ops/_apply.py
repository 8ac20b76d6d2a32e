"""Carry out changes, and delete what a caller leaves behind."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from kfp_ops._api_types import Experiment, Pipeline, PipelineVersion, RecurringRun, Run, RunState
from kfp_ops._errors import (
    ApplyError,
    ConflictError,
    KfpError,
    NotFoundError,
    RequestError,
    ServerError,
    UnreachableError,
)
from kfp_ops._observe import UNFINISHED, find_active, find_runs, find_schedules
from kfp_ops._state import (
    Change,
    CreateExperiment,
    CreatePipeline,
    CreateSchedule,
    DeleteSchedule,
    DesiredState,
    Disable,
    ObservedState,
    RunSpec,
    SetEnabled,
    SubmitRun,
    TerminateRun,
    UploadVersion,
)

if TYPE_CHECKING:
    from kfp_ops._client import Client

_Resource = TypeVar("_Resource")


def apply(
    client: Client, desired: DesiredState, observed: ObservedState, changes: Sequence[Change]
) -> ObservedState:
    """Carry out planned changes in order and return the resulting state.

    If a create request gets no response, look the object up by name before failing, so that calling
    this again never creates a second run.

    Args:
        client: Client of the server.
        desired: What must exist.
        observed: What exists, from ``observe``.
        changes: From ``plan``.

    Raises:
        ApplyError: A change failed. ``error.observed`` includes the changes before it.
        ValueError: A run's parameters do not fit the pipeline.
    """
    try:
        for change in changes:
            observed = _apply(client, desired, observed, change)
    except KfpError as error:
        raise ApplyError(error, observed) from error
    return observed


def _apply(
    client: Client, desired: DesiredState, observed: ObservedState, change: Change
) -> ObservedState:
    """Carry out one change and return the resulting state."""
    match change:
        case CreatePipeline():
            return dataclasses.replace(observed, pipeline=_create_pipeline(client, desired))
        case UploadVersion():
            return dataclasses.replace(observed, version=_upload_version(client, desired, observed))
        case CreateExperiment():
            return dataclasses.replace(observed, experiment=_create_experiment(client, desired))
        case TerminateRun(run):
            _terminate(client, run)
            if observed.latest is None or observed.latest.run_id != run.run_id:
                return observed
            canceling = dataclasses.replace(observed.latest, state=RunState.CANCELING)
            return dataclasses.replace(observed, latest=canceling)
        case SubmitRun(spec):
            run = _submit(client, desired, observed, spec)
            return dataclasses.replace(observed, runs={**observed.runs, spec.name: run}, latest=run)
        case CreateSchedule():
            created = _create_schedule(client, desired, observed)
            return dataclasses.replace(observed, schedules=(created, *observed.schedules))
        case SetEnabled(schedule, enabled):
            switch = client.enable_recurring_run if enabled else client.disable_recurring_run
            switch(schedule.recurring_run_id)
            changed = dataclasses.replace(schedule, enabled=enabled)
            return _with_schedule(observed, schedule, changed)
        case Disable(schedule):
            _disable_schedule(client, schedule)
            return _with_schedule(observed, schedule, dataclasses.replace(schedule, enabled=False))
        case DeleteSchedule(schedule):
            _delete_schedule(client, schedule)
            return _with_schedule(observed, schedule, None)


def delete_owned(
    client: Client,
    experiment: str,
    schedule_prefix: str = "schedule-",
    run_prefix: str | None = None,
) -> list[RecurringRun]:
    """Delete the caller's recurring runs and terminate its unfinished runs in an experiment.

    Args:
        client: Client of the server.
        experiment: Name of the experiment. If it does not exist, do nothing.
        schedule_prefix: Delete recurring runs whose names begin with this.
        run_prefix: Terminate unfinished runs whose names begin with this; None for none.

    Returns:
        Recurring runs that are disabled but not deleted, because deleting them would make the server
        lose their unfinished run. Call this again when it has ended.

    Raises:
        KfpError: The server cannot be reached, or denies access.
    """
    existing = client.find_experiment(experiment)
    if not existing:
        return []
    schedules = find_schedules(client, existing.experiment_id, schedule_prefix)
    active = find_active(client, existing.experiment_id, schedules)
    left = [schedule for schedule in schedules if schedule.recurring_run_id in active]
    for schedule in left:
        _disable_schedule(client, schedule)
    for schedule in schedules:
        if schedule not in left:
            _delete_schedule(client, schedule)
    if run_prefix is not None:
        for run in find_runs(client, existing.experiment_id, run_prefix, UNFINISHED):
            _terminate(client, run)
    return left


def _with_schedule(
    observed: ObservedState, old: RecurringRun, new: RecurringRun | None
) -> ObservedState:
    schedules = (new if schedule == old else schedule for schedule in observed.schedules)
    return dataclasses.replace(observed, schedules=tuple(s for s in schedules if s))


def _terminate(client: Client, run: Run) -> None:
    try:
        client.terminate_run(run.run_id)
    except RequestError:
        # The run may have ended in the meantime.
        if not client.get_run(run.run_id).state.is_final:
            raise


def _create_schedule(
    client: Client, desired: DesiredState, observed: ObservedState
) -> RecurringRun:
    schedule = _required(desired.schedule)
    desired.spec.check(schedule.parameters)
    experiment, version = _required(observed.experiment), _required(observed.version)

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
    # A server that lost the ScheduledWorkflow, as with a profile's namespace, can no longer disable the
    # recurring run, but it can delete it.
    with contextlib.suppress(NotFoundError, ServerError):
        client.disable_recurring_run(schedule.recurring_run_id)


def _delete_schedule(client: Client, schedule: RecurringRun) -> None:
    # Disable it first, so that a deletion that fails halfway leaves nothing that submits runs.
    _disable_schedule(client, schedule)
    with contextlib.suppress(NotFoundError):
        client.delete_recurring_run(schedule.recurring_run_id)


def _create_pipeline(client: Client, desired: DesiredState) -> Pipeline:
    return _create_or_find(
        lambda: client.create_pipeline(desired.pipeline, desired.description),
        lambda: client.find_pipeline(desired.pipeline),
    )


def _upload_version(
    client: Client, desired: DesiredState, observed: ObservedState
) -> PipelineVersion:
    pipeline = _required(observed.pipeline)
    return _create_or_find(
        lambda: client.upload_version(pipeline.pipeline_id, desired.version, desired.spec.yaml),
        lambda: client.find_version(pipeline.pipeline_id, desired.version),
    )


def _create_experiment(client: Client, desired: DesiredState) -> Experiment:
    return _create_or_find(
        lambda: client.create_experiment(desired.experiment, desired.description),
        lambda: client.find_experiment(desired.experiment),
    )


def _submit(client: Client, desired: DesiredState, observed: ObservedState, spec: RunSpec) -> Run:
    desired.spec.check(spec.parameters)
    experiment, version = _required(observed.experiment), _required(observed.version)
    previous = observed.runs.get(spec.name)

    def find() -> Run | None:
        run = client.find_run(experiment.experiment_id, spec.name)
        return None if run and previous and run.run_id == previous.run_id else run

    return _create_or_find(
        lambda: client.create_run(
            name=spec.name,
            experiment_id=experiment.experiment_id,
            version=version,
            parameters=spec.parameters,
            description=spec.description,
        ),
        find,
    )


def _create_or_find(
    create: Callable[[], _Resource], find: Callable[[], _Resource | None]
) -> _Resource:
    """Create an object; if the name is taken or the response is lost, look the object up."""
    try:
        return create()
    # ServerError: a proxy may have given up on a server that carried out the request.
    except (ConflictError, ServerError, UnreachableError):
        resource = find()
        if resource is None:
            raise
        return resource


def _required(value: _Resource | None) -> _Resource:
    if value is None:
        raise ValueError("changes are out of order; use those of plan()")
    return value
