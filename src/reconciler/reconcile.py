"""Reconcile: observe, plan, apply, and return a snapshot of what exists then."""

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
from reconciler import etags as sources
from reconciler.context import Context
from reconciler.requests import Requested
from reconciler.run_issues import find_issue, note_termination
from reconciler.snapshot import Snapshot
from reconciler.teardown import leave_former_profiles
from reconciler.triggers import Signals

if TYPE_CHECKING:
    from kfp_ops.kubernetes import RunIssue

# Longer than a terminated run takes to end.
_ENDING = datetime.timedelta(hours=1)
_A_DAY = datetime.timedelta(days=1)


def reconcile(context: Context, requested: Requested, *, dry_run: bool) -> Snapshot:
    """Create what is missing in Kubeflow Pipelines, and return what exists then.

    Args:
        context: Options, clients and names.
        requested: Runs that an action requests, by name.
        dry_run: Change nothing, as on units other than the leader.
    """
    # Serve a promoted model also while the pipelines' API cannot be reached.
    signals = _champion(context)
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
        # Why no run can be submitted. Everything else is done all the same.
        self._refusal: CharmError | None = None if dry_run else _unwritable(context)
        self.runs: dict[str, Run] = {}
        """Desired runs that exist, by name: also those submitted before an error."""

    def reconcile(self, requested: Requested, signals: Signals) -> Snapshot:
        """Reconcile monitoring, then what its reports and the champion ask for, then training."""
        context, now = self._context, utc_now()
        config, storage = volumes.with_storage_class(context), context.storage
        training, monitoring = context.experiments
        monitored, monitoring_error = ObservedState(), None
        try:
            monitored = self._reconcile_pipeline(
                desired_state.monitoring(config, storage, monitoring, requested, now)
            )
        except (RequestError, ServerError) as error:
            # Train all the same if only monitoring is refused.
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
            problem=self._refusal or snapshot.problem or monitoring_error,
            stuck=_is_stuck(observed, config.timeout, now),
        )

    def _reconcile_pipeline(self, desired: DesiredState) -> ObservedState:
        """Observe, plan and apply for one pipeline."""
        client = self._context.client
        observed = observe(client, desired)
        self.runs.update(observed.runs)
        if self._dry_run:
            return observed
        changes = plan(desired, observed)
        if desired.schedule or any(isinstance(change, SubmitRun) for change in changes):
            # A schedule's runs need the code as long as the schedule exists.
            self._refusal = self._refusal or _without_code(self._context)
        if self._refusal:
            changes = _without_submissions(changes)
        for change in changes:
            if isinstance(change, TerminateRun):
                # The response may get lost, and the server's history may not keep the request.
                note_termination(self._context, change.run)
            try:
                observed = apply(client, desired, observed, [change])
            except ApplyError as error:
                raise error.error from error
            self.runs.update(observed.runs)
        return observed

    def _clean_up(self, observed: ObservedState, snapshot: Snapshot) -> None:
        """Delete what earlier profiles and ended runs left, and keep why the latest run failed."""
        leave_former_profiles(self._context)
        if snapshot.latest:
            _keep_issue(self._context, snapshot.latest, snapshot.pod_issue)
            volumes.remove_leftovers(self._context, observed)


def _unwritable(context: Context) -> CharmError | None:
    """Return why no run could publish a model, or None if the registry can be written."""
    try:
        with as_charm_errors():
            context.registry.ensure_safe(context.namespace)
    except (ModelRegistryError, KubernetesError) as error:
        return error
    return None


def _without_code(context: Context) -> CharmError | None:
    """Put the steps' code into the registry; return why that is impossible, or None."""
    try:
        with as_charm_errors():
            context.registry.put_code(code_bundle.digest(), code_bundle.content)
    except ModelRegistryError as error:
        return error
    return None


def _without_submissions(changes: Sequence[Change]) -> list[Change]:
    """Return the changes without those that submit runs or delete a schedule that is not replaced."""
    left_out: tuple[type, ...] = (SubmitRun, CreateSchedule)
    if any(isinstance(change, CreateSchedule) for change in changes):
        left_out = (*left_out, Disable, DeleteSchedule)
    return [change for change in changes if not isinstance(change, left_out)]


def _is_stuck(observed: ObservedState, timeout: datetime.timedelta, now: datetime.datetime) -> bool:
    """Return whether the latest run was terminated long ago and is still running.

    A server whose workflow is gone, as with a profile's namespace, never learns of its end. Others need
    a minute. The time of the termination is unknown, but `timeout`, if any, is the latest.
    """
    run = observed.latest
    if run is None or run.state is not RunState.CANCELING or run.begun_at is None:
        return False
    just_terminated = run.run_id in {timed_out.run_id for timed_out in observed.timed_out}
    return not just_terminated and now - run.begun_at > (timeout or _A_DAY) + _ENDING


def _champion(context: Context) -> Signals:
    try:
        with as_charm_errors():
            return Signals(champion=context.registry.champion())
    except ModelRegistryError as error:
        # Runs continue, and are reported, even if this cannot be read.
        return Signals(problem=error)


def _serve(
    context: Context, signals: Signals, *, dry_run: bool
) -> tuple[Served | None, KubernetesError | None]:
    """Serve the champion; return its state, or why it cannot be served."""
    if signals.problem:
        # The champion is unknown.
        return None, None
    try:
        return serving.serve(context, signals.champion, dry_run=dry_run), None
    except KubernetesError as error:
        return None, error


def _collect_signals(context: Context, monitored: ObservedState, signals: Signals) -> Signals:
    """Return what triggers are evaluated on; if data or registry cannot be read, say so and go on.

    Args:
        context: Options, clients and names.
        monitored: State of monitoring in Kubeflow Pipelines.
        signals: What was collected before: the champion.

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
            source, files = champion.manifest.source, champion.manifest.etags
            etags = sources.etags(source, files, context.storage)
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
        signals: What was collected before.
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
        pod_issue=find_issue(context, run, steps),
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


def _keep_issue(context: Context, run: Run, issue: RunIssue | None) -> None:
    """Record what is wrong with a run: its pods and workflow are deleted some time after its end."""
    if issue or not run.state.is_final:
        context.peer_data.runs.set_issue(run, issue)


def _trained_before(observed: ObservedState) -> Run | None:
    newest = next(iter(observed.runs_by_prefix.get(naming.CONFIGURATION, ())), None)
    wanted = (run for name, run in observed.runs.items() if name.startswith(naming.CONFIGURATION))
    run = next(wanted, None)
    is_back = run and newest and run.state is RunState.SUCCEEDED and run.run_id != newest.run_id
    return run if is_back else None


def utc_now() -> datetime.datetime:
    """Return the current time, UTC."""
    return datetime.datetime.now(datetime.timezone.utc)
