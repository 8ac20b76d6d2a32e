"""Read the state of Kubeflow Pipelines, in a number of calls that does not grow with its content."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kfp_ops._api_types import RecurringRun, Run, RunState
from kfp_ops._plan import UNSUCCESSFUL, filter_active, has_missing
from kfp_ops._state import DesiredState, ObservedState

if TYPE_CHECKING:
    from kfp_ops._client import Client

UNFINISHED = (RunState.PENDING, RunState.RUNNING)
# A concurrency group has one active run at a time, so this is ample; it limits the response.
RUN_LIMIT = 20


def observe(client: Client, desired: DesiredState) -> ObservedState:
    """Read what exists, in at most 7 calls and three more per desired run.

    Raises:
        KfpError: The server cannot be reached, or denies access.
    """
    observed = ObservedState(experiment=client.find_experiment(desired.experiment))
    if observed.experiment:
        experiment_id = observed.experiment.experiment_id
        observed = _observe_experiment(client, desired, observed, experiment_id)
    if has_missing(desired, observed):
        pipeline = client.find_pipeline(desired.pipeline)
        version = client.find_version(pipeline.pipeline_id, desired.version) if pipeline else None
        observed = dataclasses.replace(observed, pipeline=pipeline, version=version)
    return observed


def _observe_experiment(
    client: Client, desired: DesiredState, observed: ObservedState, experiment_id: str
) -> ObservedState:
    runs: dict[str, Run] = {}
    runs_by_name: dict[str, tuple[Run, ...]] = {}
    groups = dict.fromkeys(run.concurrency_group for run in desired.runs if run.concurrency_group)
    runs_by_prefix = {group: find_runs(client, experiment_id, group) for group in groups}
    for spec in desired.runs:
        candidates = runs_by_prefix.get(spec.concurrency_group, ())
        same_name = [run for run in candidates if run.display_name == spec.name]
        same_name = same_name or client.find_runs(experiment_id, spec.name, limit=RUN_LIMIT)
        if same_name:
            runs_by_name[spec.name] = tuple(same_name)
            runs[spec.name] = _select_run(same_name)
    latest = next(iter(client.list_runs(experiment_id)), None)
    if latest:
        # Of two runs of one name, not the one that is about to be terminated.
        latest = runs.get(latest.display_name, latest)
    schedules = find_schedules(client, experiment_id, desired.schedule_prefix)
    current = desired.current_schedule(schedules)
    others = [schedule for schedule in schedules if schedule != current]
    return dataclasses.replace(
        observed,
        runs=runs,
        runs_by_name=runs_by_name,
        runs_by_prefix=runs_by_prefix,
        schedules=schedules,
        active_recurring_run_ids=find_active(client, experiment_id, others),
        timed_out=_find_timed_out(client, experiment_id, desired.started_before),
        latest=latest,
    )


def find_runs(
    client: Client, experiment_id: str, prefix: str, state: Sequence[RunState] = ()
) -> tuple[Run, ...]:
    """Return the newest runs whose names begin with a prefix, newest first.

    Args:
        client: Client of the server.
        experiment_id: Experiment to look in.
        prefix: Beginning of the names.
        state: Return only runs in one of these states; empty for all.
    """
    runs = client.list_runs(experiment_id, limit=RUN_LIMIT, name_contains=prefix, state=state)
    return tuple(run for run in runs if run.display_name.startswith(prefix))


def find_schedules(client: Client, experiment_id: str, prefix: str) -> tuple[RecurringRun, ...]:
    """Return the recurring runs whose names begin with a prefix, newest first."""
    recurring_runs = client.list_recurring_runs(experiment_id, name_contains=prefix)
    return tuple(
        schedule for schedule in recurring_runs if schedule.display_name.startswith(prefix)
    )


def find_active(
    client: Client, experiment_id: str, schedules: Sequence[RecurringRun]
) -> frozenset[str]:
    """Return the IDs of those recurring runs that have an unfinished run."""
    ids = [schedule.recurring_run_id for schedule in schedules]
    if not ids:
        return frozenset()
    runs = client.list_runs(experiment_id, limit=RUN_LIMIT, state=UNFINISHED, recurring_run_ids=ids)
    return frozenset(run.recurring_run_id for run in runs)


def _select_run(runs: Sequence[Run]) -> Run:
    """Return the run that counts of several with one name, newest first."""
    active = filter_active(runs)
    if active:
        return active[-1]
    # A run that was submitted again counts, not the one that it replaces.
    return min(runs, key=lambda run: run.state in UNSUCCESSFUL)


def _find_timed_out(
    client: Client, experiment_id: str, started_before: datetime.datetime | None
) -> tuple[Run, ...]:
    if started_before is None:
        return ()
    unfinished = client.list_runs(
        experiment_id, limit=RUN_LIMIT, state=UNFINISHED, oldest_first=True
    )
    return tuple(run for run in unfinished if run.begun_at and run.begun_at < started_before)
