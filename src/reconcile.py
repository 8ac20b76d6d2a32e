"""The one way through: observe, plan, act, and tell what is then seen."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import MutableMapping

import models
import schedules
import sources
import triggers
import volumes
import wishes
from cleanup import leave_former_profiles
from connection import Connection
from errors import PROBLEMS, KubernetesError, RegistryError, SourceError
from kfp_ops import (
    Observed,
    RequestError,
    Run,
    RunState,
    ServerError,
    Wanted,
    act,
    observe,
    plan,
)
from runs import trouble
from serving import Served
from situation import Situation
from triggers import Evidence
from wishes import Asked

# More than a run takes to end that is told to.
_ENDING = datetime.timedelta(hours=1)
_A_DAY = datetime.timedelta(days=1)


def reconcile(
    there: Connection, asked: Asked, runs: MutableMapping[str, Run], *, leads: bool
) -> Situation:
    """See to it that all that is wanted exists.

    Args:
        there: what to ask, and where to act.
        asked: the runs that are asked for.
        runs: given those that are wanted and exist, by name, whatever goes wrong afterwards.
        leads: whether this unit acts; others only look.
    """
    # A promotion or rollback reaches those who ask the model also while the pipelines' API is away.
    evidence = _champion(there)
    served, refused = _serve(there, evidence, acts=leads)
    try:
        situation = _converge(there, asked, runs, evidence, leads=leads)
    except PROBLEMS as error:
        situation = Situation(problem=error, champion=evidence.champion, config=there.config)
    return dataclasses.replace(
        situation, runs=runs, served=served, problem=situation.problem or refused
    )


def _converge(
    there: Connection,
    asked: Asked,
    runs: MutableMapping[str, Run],
    evidence: Evidence,
    *,
    leads: bool,
) -> Situation:
    """Have in Kubeflow Pipelines what is wanted; see `reconcile`."""
    now, (training, monitoring) = utc_now(), there.experiments
    config, storage = volumes.settled(there), there.storage
    config = dataclasses.replace(config, schedule_paused=schedules.is_paused(there))

    def converge(wanted: Wanted) -> Observed:
        seen = observe(there.client, wanted)
        runs.update(seen.runs)
        if not leads:
            return seen
        return act(there.client, wanted, seen, plan(wanted, seen), runs.__setitem__)

    watched, refused = Observed(), None
    try:
        watched = converge(wishes.monitoring(config, storage, monitoring, asked, now))
    except (RequestError, ServerError) as error:
        # What is wrong with monitoring keeps no one from training.
        refused = error
    evidence, seen = _gather(there, watched, evidence), Observed()
    *tuning, own = wishes.wanted(config, storage, training, asked, evidence, now)
    for wanted in (*tuning, own):
        seen = converge(wanted)
    if leads:
        leave_former_profiles(there)
    name = own.schedule.name if own.schedule else None
    schedule = next((each for each in seen.schedules if each.display_name == name), None)
    situation = _look(there, seen, watched, evidence)
    return dataclasses.replace(
        situation,
        schedule=schedule and schedule.enabled,
        problem=situation.problem or refused,
        lost=_is_lost(seen, config.timeout, now),
    )


def _is_lost(seen: Observed, timeout: datetime.timedelta, now: datetime.datetime) -> bool:
    """Whether the latest run was told to end long ago and has not.

    A server whose workflow is gone, as with the namespace of a profile, never hears of its end. Others
    take a minute. When it was told is not known, but it was at `timeout` at the latest, if any.
    """
    run = seen.latest
    if run is None or run.state is not RunState.CANCELING or run.begun_at is None:
        return False
    just_told = run.run_id in {each.run_id for each in seen.overdue}
    return not just_told and now - run.begun_at > (timeout or _A_DAY) + _ENDING


def _champion(there: Connection) -> Evidence:
    try:
        return Evidence(champion=there.registry.champion())
    except RegistryError as error:
        # Runs go on, and are told, also where this cannot be read.
        return Evidence(problem=error)


def _serve(
    there: Connection, evidence: Evidence, *, acts: bool
) -> tuple[Served | None, KubernetesError | None]:
    """Have the champion served, and see what becomes of that, or why it cannot be."""
    if evidence.problem:
        # Which model is the champion is not known.
        return None, None
    try:
        return models.serve(there, evidence.champion, acts=acts), None
    except KubernetesError as error:
        return None, error


def _gather(there: Connection, monitored: Observed, evidence: Evidence) -> Evidence:
    """What the triggers go by; what of data and registry cannot be seen is told and left out.

    Args:
        there: what to ask.
        monitored: what Kubeflow Pipelines tells of monitoring.
        evidence: with the champion.

    Raises:
        KfpError: the server cannot be reached or does not allow it.
    """
    if evidence.problem:
        return evidence
    champion, experiment = evidence.champion, monitored.experiment
    succeeded = (
        there.client.list_runs(experiment.experiment_id, state=RunState.SUCCEEDED)
        if experiment
        else []
    )
    try:
        for run in succeeded:
            evidence = dataclasses.replace(evidence, report=there.registry.report(run.run_id))
        if champion and triggers.watches_data(there.config, champion):
            source, files = champion.result.source, champion.result.etags
            etags = sources.etags(source, files, there.storage)
            evidence = dataclasses.replace(evidence, etags=etags)
    except (RegistryError, SourceError) as error:
        evidence = dataclasses.replace(evidence, problem=error)
    return evidence


def _look(there: Connection, seen: Observed, monitored: Observed, evidence: Evidence) -> Situation:
    """Add to what Kubeflow Pipelines tells what the pods and the registry do.

    Args:
        there: what to ask.
        seen: what Kubeflow Pipelines tells.
        monitored: what it tells of monitoring.
        evidence: what was gathered before.
    """
    run = seen.latest
    steps = wishes.steps(run.parameters) if run else frozenset[str]()
    situation = Situation(
        problem=evidence.problem,
        latest=run,
        steps=steps,
        trained_before=_trained_before(seen),
        champion=evidence.champion,
        trouble=trouble(there, run, steps),
        config=there.config,
        report=evidence.report,
        monitor=monitored.latest,
    )
    if isinstance(evidence.problem, RegistryError) or not run or not run.state.is_final:
        return situation
    try:
        return dataclasses.replace(situation, result=there.registry.result(run.run_id))
    except RegistryError as error:
        return dataclasses.replace(situation, problem=error)


def _trained_before(seen: Observed) -> Run | None:
    newest = next(iter(seen.families.get(wishes.CONFIGURATION, ())), None)
    wanted = (run for name, run in seen.runs.items() if name.startswith(wishes.CONFIGURATION))
    run = next(wanted, None)
    is_back = run and newest and run.state is RunState.SUCCEEDED and run.run_id != newest.run_id
    return run if is_back else None


def utc_now() -> datetime.datetime:
    """The time."""
    return datetime.datetime.now(datetime.timezone.utc)
