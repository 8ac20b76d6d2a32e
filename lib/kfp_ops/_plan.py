"""Plan the changes from observed to desired state. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from kfp_ops._api_types import Run, RunState
from kfp_ops._state import (
    Change,
    ConcurrencyPolicy,
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

UNSUCCESSFUL = (RunState.FAILED, RunState.CANCELING, RunState.CANCELED)


def plan(desired: DesiredState, observed: ObservedState) -> list[Change]:
    """Return the changes from observed to desired state, in order; empty if there are none."""
    missing = _missing_runs(desired, observed)
    changes: list[Change] = []
    if has_missing(desired, observed):
        if not observed.pipeline:
            changes.append(CreatePipeline())
        if not observed.version:
            changes.append(UploadVersion())
        if not observed.experiment:
            changes.append(CreateExperiment())
    to_terminate = {
        run.run_id: run for run in (*_replaced(desired, observed), *_duplicates(desired, observed))
    }
    to_terminate |= {
        run.run_id: run for run in observed.timed_out if run.run_id not in to_terminate
    }
    changes += [TerminateRun(run) for run in to_terminate.values()]
    changes += [SubmitRun(spec) for spec in missing]
    return [*changes, *_plan_schedules(desired, observed)]


def _plan_schedules(desired: DesiredState, observed: ObservedState) -> list[Change]:
    changes: list[Change] = []
    # Create the new schedule before deleting the old one, so that a crash in between loses no run.
    if _is_schedule_missing(desired, observed):
        changes.append(CreateSchedule())
    current = desired.current_schedule(observed.schedules)
    if current and desired.schedule and current.enabled != desired.schedule.enabled:
        changes.append(SetEnabled(current, desired.schedule.enabled))
    for old in observed.schedules:
        if old == current:
            continue
        # Deleting a schedule makes the server lose its unfinished run.
        if old.recurring_run_id not in observed.active_recurring_run_ids:
            changes.append(DeleteSchedule(old))
        elif old.enabled:
            changes.append(Disable(old))
    return changes


def has_missing(desired: DesiredState, observed: ObservedState) -> bool:
    """Return whether a run or the schedule has to be created."""
    return bool(_missing_runs(desired, observed)) or _is_schedule_missing(desired, observed)


def filter_active(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that neither have ended nor are being canceled."""
    return [run for run in runs if not run.state.is_final and run.state is not RunState.CANCELING]


def _missing_runs(desired: DesiredState, observed: ObservedState) -> list[RunSpec]:
    missing: list[RunSpec] = []
    queued: set[str] = set()
    for spec in desired.runs:
        if _is_missing(spec, observed) and not _must_wait(spec, observed, queued):
            missing.append(spec)
            if spec.concurrency_policy is ConcurrencyPolicy.QUEUE:
                queued |= {spec.concurrency_group} - {""}
    return missing


def _must_wait(spec: RunSpec, observed: ObservedState, queued: set[str]) -> bool:
    start = spec.cooldown_start
    return spec.concurrency_group in queued or any(
        start is not None and _created_at(run) > start for run in _group(spec, observed)
    )


def _is_missing(spec: RunSpec, observed: ObservedState) -> bool:
    run = observed.runs.get(spec.name)
    if run is None:
        return True
    if run.state not in UNSUCCESSFUL or spec.concurrency_policy is not ConcurrencyPolicy.REPLACE:
        return False
    # Times are whole seconds: a run of the same second may have replaced it. If it has not, there is one
    # run too many, which is better than a configuration that is never trained. The server does not tell
    # a terminated run from one that failed.
    return any(
        other.display_name != spec.name and _created_at(other) >= _created_at(run)
        for other in _group(spec, observed)
    )


def _group(spec: RunSpec, observed: ObservedState) -> tuple[Run, ...]:
    return observed.runs_by_prefix.get(spec.concurrency_group, ())


def _created_at(run: Run) -> datetime.datetime:
    return run.created_at or datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)


def _replaced(desired: DesiredState, observed: ObservedState) -> list[Run]:
    return [
        run
        for spec in desired.runs
        if spec.concurrency_policy is ConcurrencyPolicy.REPLACE
        for run in filter_active(_group(spec, observed))
        if run.display_name != spec.name
    ]


def _duplicates(desired: DesiredState, observed: ObservedState) -> list[Run]:
    """Return all but the oldest active run of each name; every leader keeps the same one."""
    return [
        run
        for spec in desired.runs
        for run in filter_active(observed.runs_by_name.get(spec.name, ()))[:-1]
    ]


def _is_schedule_missing(desired: DesiredState, observed: ObservedState) -> bool:
    return desired.schedule is not None and desired.current_schedule(observed.schedules) is None
