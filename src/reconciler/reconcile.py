"""Observe, plan and apply changes, and return a snapshot of the resulting state."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

import naming
from errors import (
    CharmError,
    KubernetesError,
    ModelRegistryError,
    PipelinesError,
    SourceError,
    as_charm_errors,
)
from k8s.inference_service import Served
from kfp_ops import (
    ApplyError,
    Change,
    CreateSchedule,
    DeleteSchedule,
    DesiredState,
    Disable,
    ObservedState,
    RequestError,
    Run,
    RunState,
    ServerError,
    SubmitRun,
    TerminateRun,
    apply,
    observe,
    plan,
)
from reconciler import code_bundle, desired_state, pipelines, serving, triggers, volumes
from reconciler.context import Context
from reconciler.etags import read_etags
from reconciler.requests import Requested
from reconciler.run_issues import find_issue, record_termination
from reconciler.snapshot import Snapshot
from reconciler.teardown import clean_up_former_profiles
from reconciler.triggers import Signals

if TYPE_CHECKING:
    from kfp_ops.kubernetes import RunIssue

# Longer than a terminated run takes to end.
_TERMINATION_TIME = datetime.timedelta(hours=1)
# Assumed if run-timeout is 0.
_DEFAULT_TIMEOUT = datetime.timedelta(days=1)


def reconcile(context: Context, requested: Requested, *, dry_run: bool) -> Snapshot:
    """Create what is missing in Kubeflow Pipelines, and return a snapshot of the resulting state.

    Args:
        context: Options, clients and names.
        requested: Runs that an action requests, by name.
        dry_run: Change nothing, as on units other than the leader.
    """
    # Serve a promoted model even if Kubeflow Pipelines cannot be reached.
    signals = _read_champion(context)
    served, serving_error = _serve(context, signals, dry_run=dry_run)
    reconciler = _Reconciler(context, dry_run=dry_run)
    try:
        with as_charm_errors():
            snapshot = reconciler.reconcile(requested, signals)
    except CharmError as error:
        snapshot = Snapshot(problem=error, champion=signals.champion, config=context.config)
    return dataclasses.replace(
        snapshot,
        runs=reconciler.runs,
        served=served,
        problem=snapshot.problem or serving_error,
    )


class _Reconciler:
    """One pass over the trainer's pipelines.

    Args:
        context: Options, clients and names.
        dry_run: Change nothing.
    """

    def __init__(self, context: Context, *, dry_run: bool):
        self._context = context
        self._dry_run = dry_run
        # The error that prevents submitting runs, if any; all other changes are still made.
        self._submit_error: CharmError | None = None if dry_run else _check_registry(context)
        self.runs: dict[str, Run] = {}
        """Desired runs that exist, by name: also those submitted before an error."""

    def reconcile(self, requested: Requested, signals: Signals) -> Snapshot:
        """Reconcile monitoring, collect the triggers' signals, then reconcile training."""
        context, now = self._context, utc_now()
        config, storage = volumes.with_storage_class(context), context.storage
        training, monitoring = context.experiments
        monitored, monitoring_error = ObservedState(), None
        try:
            monitored = self._reconcile_pipeline(
                desired_state.monitoring(config, storage, monitoring, requested, now)
            )
        except (RequestError, ServerError) as error:
            # Continue with training if only monitoring is rejected.
            monitoring_error = PipelinesError(error)
        signals, observed = _collect_signals(context, monitored, signals), ObservedState()
        *tuning, trainer = desired_state.training(
            config, storage, training, requested, signals, now
        )
        for desired in (*tuning, trainer):
            observed = self._reconcile_pipeline(desired)
        snapshot = _build_snapshot(context, observed, monitored, signals)
        if not self._dry_run:
            self._clean_up(observed, snapshot)
        schedule = trainer.current_schedule(observed.schedules)
        return dataclasses.replace(
            snapshot,
            schedule=schedule and schedule.enabled,
            problem=self._submit_error or snapshot.problem or monitoring_error,
            stuck=_is_stuck(observed, config.timeout, now),
        )

    def _reconcile_pipeline(self, desired: DesiredState) -> ObservedState:
        """Observe, plan and apply changes for one pipeline."""
        client = self._context.client
        observed = observe(client, desired)
        self.runs.update(observed.runs)
        if self._dry_run:
            return observed
        changes = plan(desired, observed)
        if desired.schedule or any(isinstance(change, SubmitRun) for change in changes):
            # A schedule's runs also need the code.
            self._submit_error = self._submit_error or _upload_code(self._context)
        if self._submit_error:
            changes = _without_submissions(changes)
        for change in changes:
            if isinstance(change, TerminateRun):
                # Record it first: the response may be lost, and the server's history is unreliable.
                record_termination(self._context, change.run)
            try:
                observed = apply(client, desired, observed, [change])
            except ApplyError as error:
                raise error.error from error
            self.runs.update(observed.runs)
        return observed

    def _clean_up(self, observed: ObservedState, snapshot: Snapshot) -> None:
        """Clean up former profiles and ended runs, and record why the latest run failed."""
        clean_up_former_profiles(self._context)
        if snapshot.latest:
            _record_issue(self._context, snapshot.latest, snapshot.pod_issue)
            volumes.remove_leftovers(self._context, observed)


def _check_registry(context: Context) -> CharmError | None:
    """Return why runs cannot publish models in the registry, or None if they can."""
    try:
        with as_charm_errors():
            context.registry.ensure_safe(context.namespace)
    except (ModelRegistryError, KubernetesError) as error:
        return error
    return None


def _upload_code(context: Context) -> CharmError | None:
    """Upload the code bundle to the registry; return the error if that fails."""
    try:
        with as_charm_errors():
            context.registry.put_code(code_bundle.digest(), code_bundle.content)
    except ModelRegistryError as error:
        return error
    return None


def _without_submissions(changes: Sequence[Change]) -> list[Change]:
    """Return the changes that do not submit runs, and keep a schedule whose successor is dropped."""
    excluded: tuple[type, ...] = (SubmitRun, CreateSchedule)
    if any(isinstance(change, CreateSchedule) for change in changes):
        excluded = (*excluded, Disable, DeleteSchedule)
    return [change for change in changes if not isinstance(change, excluded)]


def _is_stuck(observed: ObservedState, timeout: datetime.timedelta, now: datetime.datetime) -> bool:
    """Return whether the latest run was terminated long ago and is still running.

    Ending takes a minute, but a server that lost the run's workflow, as when the profile's namespace was
    deleted, never reports the end. The time of termination is unknown, so assume the latest: `timeout`.
    """
    run = observed.latest
    if run is None or run.state is not RunState.CANCELING or run.begun_at is None:
        return False
    just_terminated = run.run_id in {timed_out.run_id for timed_out in observed.timed_out}
    limit = (timeout or _DEFAULT_TIMEOUT) + _TERMINATION_TIME
    return not just_terminated and now - run.begun_at > limit


def _read_champion(context: Context) -> Signals:
    try:
        with as_charm_errors():
            return Signals(champion=context.registry.champion())
    except ModelRegistryError as error:
        # Continue: runs are independent of the champion.
        return Signals(problem=error)


def _serve(
    context: Context, signals: Signals, *, dry_run: bool
) -> tuple[Served | None, KubernetesError | None]:
    """Serve the champion; return its status, or the error that prevents it."""
    if signals.problem:
        # The champion is unknown.
        return None, None
    try:
        return serving.serve(context, signals.champion, dry_run=dry_run), None
    except KubernetesError as error:
        return None, error


def _collect_signals(context: Context, monitored: ObservedState, signals: Signals) -> Signals:
    """Add the monitoring report and the data's ETags to the signals, or the error that prevents it.

    Args:
        context: Options, clients and names.
        monitored: State of monitoring in Kubeflow Pipelines.
        signals: Signals with the champion.

    Raises:
        KfpError: The server cannot be reached, or denies access.
    """
    if signals.problem:
        return signals
    champion, experiment = signals.champion, monitored.experiment
    succeeded = (
        context.client.list_runs(experiment.experiment_id, state=RunState.SUCCEEDED)
        if experiment
        else []
    )
    try:
        with as_charm_errors():
            reports = [context.registry.report(run.run_id) for run in succeeded]
        for report in reports:
            signals = dataclasses.replace(signals, report=report)
        if champion and triggers.watches_data(context.config, champion):
            manifest = champion.manifest
            etags = read_etags(manifest.source, manifest.etags, context.storage)
            signals = dataclasses.replace(signals, etags=etags)
    except (ModelRegistryError, SourceError) as error:
        signals = dataclasses.replace(signals, problem=error)
    return signals


def _build_snapshot(
    context: Context, observed: ObservedState, monitored: ObservedState, signals: Signals
) -> Snapshot:
    """Return a snapshot of Kubeflow Pipelines, the pods and the registry.

    Args:
        context: Options, clients and names.
        observed: State of training in Kubeflow Pipelines.
        monitored: State of monitoring in Kubeflow Pipelines.
        signals: Champion, monitoring report and ETags.
    """
    run, monitor = observed.latest, monitored.latest
    run = run and context.peer_data.runs.as_known(run)
    steps = pipelines.steps(run.parameters) if run else frozenset[str]()
    snapshot = Snapshot(
        problem=signals.problem,
        latest=run,
        steps=steps,
        trained_before=_trained_before(observed),
        champion=signals.champion,
        pod_issue=find_issue(context, run),
        config=context.config,
        report=signals.report,
        monitor=monitor and context.peer_data.runs.as_known(monitor),
    )
    if isinstance(signals.problem, ModelRegistryError) or not run or not run.state.is_final:
        return snapshot
    try:
        with as_charm_errors():
            return dataclasses.replace(snapshot, result=context.registry.result(run.run_id))
    except ModelRegistryError as error:
        return dataclasses.replace(snapshot, problem=error)


def _record_issue(context: Context, run: Run, issue: RunIssue | None) -> None:
    """Record a run's issue: its pods and workflow are deleted some time after its end."""
    if issue or not run.state.is_final:
        context.peer_data.runs.set_issue(run, issue)


def _trained_before(observed: ObservedState) -> Run | None:
    """Return the current configuration's run if it succeeded and another configuration's is newer."""
    newest = next(iter(observed.runs_by_prefix.get(naming.CONFIGURATION, ())), None)
    current = (run for name, run in observed.runs.items() if name.startswith(naming.CONFIGURATION))
    run = next(current, None)
    is_older = run and newest and run.state is RunState.SUCCEEDED and run.run_id != newest.run_id
    return run if is_older else None


def utc_now() -> datetime.datetime:
    """Return the current time, UTC."""
    return datetime.datetime.now(datetime.timezone.utc)
