"""The one way through: observe, plan, act, and tell what is then seen."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING

import naming
from errors import PROBLEMS, KubernetesError, RegistryError, SourceError
from k8s.inference_service import Served
from kfp_ops import (
    CreateSchedule,
    DeleteSchedule,
    Observed,
    RequestError,
    RetireSchedule,
    Run,
    RunState,
    ServerError,
    Step,
    SubmitRun,
    Wanted,
    act,
    observe,
    plan,
)
from reconciler import code_bundle, desired_state, pipelines, serving, triggers, volumes
from reconciler import etags as sources
from reconciler.context import Context
from reconciler.requests import Asked
from reconciler.run_issues import find_issue, note_termination
from reconciler.snapshot import Situation
from reconciler.teardown import leave_former_profiles
from reconciler.triggers import Signals

if TYPE_CHECKING:
    from k8s.pods import PodIssue

# More than a run takes to end that is told to.
_ENDING = datetime.timedelta(hours=1)
_A_DAY = datetime.timedelta(days=1)


def reconcile(
    context: Context, asked: Asked, runs: MutableMapping[str, Run], *, leads: bool
) -> Situation:
    """See to it that all that is wanted exists.

    Args:
        context: what to ask, and where to act.
        asked: the runs that are asked for.
        runs: given those that are wanted and exist, by name, whatever goes wrong afterwards.
        leads: whether this unit acts; others only look.
    """
    # A promotion or rollback reaches those who ask the model also while the pipelines' API is away.
    signals = _champion(context)
    served, serving_error = _serve(context, signals, acts=leads)
    try:
        situation = _converge(context, asked, runs, signals, leads=leads)
    except PROBLEMS as error:
        situation = Situation(problem=error, champion=signals.champion, config=context.config)
    return dataclasses.replace(
        situation, runs=runs, served=served, problem=situation.problem or serving_error
    )


def _converge(
    context: Context,
    asked: Asked,
    runs: MutableMapping[str, Run],
    signals: Signals,
    *,
    leads: bool,
) -> Situation:
    """Have in Kubeflow Pipelines what is wanted; see `reconcile`."""
    # Why nothing may be submitted. Pausing, terminating and leaving profiles go on all the same.
    refusal = _unwritable(context) if leads else None
    now, (training, monitoring) = utc_now(), context.experiments
    config, storage = volumes.with_storage_class(context), context.storage
    config = dataclasses.replace(config, schedule_paused=_is_schedule_paused(context))

    def converge(wanted: Wanted) -> Observed:
        nonlocal refusal
        current = observe(context.client, wanted)
        runs.update(current.runs)
        if not leads:
            return current
        steps = plan(wanted, current)
        if wanted.schedule or any(isinstance(step, SubmitRun) for step in steps):
            # Before the first step that needs it; a schedule's runs need it for as long as it lasts.
            refusal = refusal or _without_code(context)
        if refusal:
            steps = _without_submissions(steps)
        return act(
            context.client,
            wanted,
            current,
            steps,
            submitted=runs.__setitem__,
            terminating=lambda run: note_termination(context, run),
        )

    monitored, monitoring_error = Observed(), None
    try:
        monitored = converge(desired_state.monitoring(config, storage, monitoring, asked, now))
    except (RequestError, ServerError) as error:
        # What is wrong with monitoring keeps no one from training.
        monitoring_error = error
    signals, observed = _collect_signals(context, monitored, signals), Observed()
    *tuning, trainer = desired_state.wanted(config, storage, training, asked, signals, now)
    for wanted in (*tuning, trainer):
        observed = converge(wanted)
    if leads:
        leave_former_profiles(context)
    schedule = trainer.current_schedule(observed.schedules)
    situation = _build_situation(context, observed, monitored, signals)
    if leads and situation.latest:
        _keep_issue(context, situation.latest, situation.pod_issue)
        volumes.remove_leftovers(context, observed)
    return dataclasses.replace(
        situation,
        schedule=schedule and schedule.enabled,
        problem=refusal or situation.problem or monitoring_error,
        lost=_is_lost(observed, config.timeout, now),
    )


def _unwritable(context: Context) -> RegistryError | KubernetesError | None:
    """Return why no run's model could be published; None where the registry can be written."""
    try:
        context.registry.ensure_safe(context.namespace)
    except (RegistryError, KubernetesError) as error:
        return error
    return None


def _without_code(context: Context) -> RegistryError | None:
    """Keep the steps' code in the registry; return why that is impossible."""
    try:
        context.registry.put_blob(code_bundle.path(), code_bundle.content)
    except RegistryError as error:
        return error
    return None


def _without_submissions(steps: Sequence[Step]) -> list[Step]:
    """Leave out what submits runs, and what takes an old schedule's place before a new one exists."""
    left_out: tuple[type, ...] = (SubmitRun, CreateSchedule)
    if any(isinstance(step, CreateSchedule) for step in steps):
        left_out = (*left_out, RetireSchedule, DeleteSchedule)
    return [step for step in steps if not isinstance(step, left_out)]


def _is_lost(observed: Observed, timeout: datetime.timedelta, now: datetime.datetime) -> bool:
    """Whether the latest run was told to end long ago and has not.

    A server whose workflow is gone, as with the namespace of a profile, never hears of its end. Others
    take a minute. When it was told is not known, but it was at `timeout` at the latest, if any.
    """
    run = observed.latest
    if run is None or run.state is not RunState.CANCELING or run.begun_at is None:
        return False
    just_told = run.run_id in {overdue_run.run_id for overdue_run in observed.overdue}
    return not just_told and now - run.begun_at > (timeout or _A_DAY) + _ENDING


def _champion(context: Context) -> Signals:
    try:
        return Signals(champion=context.registry.champion())
    except RegistryError as error:
        # Runs go on, and are told, also where this cannot be read.
        return Signals(problem=error)


def _serve(
    context: Context, signals: Signals, *, acts: bool
) -> tuple[Served | None, KubernetesError | None]:
    """Have the champion served, and see what becomes of that, or why it cannot be."""
    if signals.problem:
        # Which model is the champion is not known.
        return None, None
    try:
        return serving.serve(context, signals.champion, acts=acts), None
    except KubernetesError as error:
        return None, error


def _collect_signals(context: Context, monitored: Observed, signals: Signals) -> Signals:
    """What the triggers go by; what of data and registry cannot be seen is told and left out.

    Args:
        context: what to ask.
        monitored: what Kubeflow Pipelines tells of monitoring.
        signals: with the champion.

    Raises:
        KfpError: the server cannot be reached or does not allow it.
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
        for run in succeeded:
            signals = dataclasses.replace(signals, report=context.registry.report(run.run_id))
        if champion and triggers.watches_data(context.config, champion):
            source, files = champion.result.source, champion.result.etags
            etags = sources.etags(source, files, context.storage)
            signals = dataclasses.replace(signals, etags=etags)
    except (RegistryError, SourceError) as error:
        signals = dataclasses.replace(signals, problem=error)
    return signals


def _build_situation(
    context: Context, observed: Observed, monitored: Observed, signals: Signals
) -> Situation:
    """Add to what Kubeflow Pipelines tells what the pods and the registry do.

    Args:
        context: what to ask.
        observed: what Kubeflow Pipelines tells.
        monitored: what it tells of monitoring.
        signals: what was gathered before.
    """
    run, monitor = observed.latest, monitored.latest
    run = run and context.peer_data.runs.as_known(run)
    steps = pipelines.steps(run.parameters) if run else frozenset[str]()
    situation = Situation(
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
    if isinstance(signals.problem, RegistryError) or not run or not run.state.is_final:
        return situation
    try:
        return dataclasses.replace(situation, result=context.registry.result(run.run_id))
    except RegistryError as error:
        return dataclasses.replace(situation, problem=error)


def _keep_issue(context: Context, run: Run, issue: PodIssue | None) -> None:
    """Keep what is wrong with a run: pods and workflow are deleted some time after its end."""
    if issue or not run.state.is_final:
        context.peer_data.runs.set_issue(run, issue)


def _trained_before(observed: Observed) -> Run | None:
    newest = next(iter(observed.families.get(naming.CONFIGURATION, ())), None)
    wanted = (run for name, run in observed.runs.items() if name.startswith(naming.CONFIGURATION))
    run = next(wanted, None)
    is_back = run and newest and run.state is RunState.SUCCEEDED and run.run_id != newest.run_id
    return run if is_back else None


def utc_now() -> datetime.datetime:
    """The time."""
    return datetime.datetime.now(datetime.timezone.utc)


def _is_schedule_paused(context: Context) -> bool:
    """Whether the schedule is paused, by the option or by the action `pause`."""
    config = context.config
    # Without a schedule, do not read the peer relation.
    return config.schedule_paused or (
        bool(config.schedule) and context.peer_data.is_schedule_paused
    )
