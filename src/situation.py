"""What an event saw: Kubeflow Pipelines, the pods of the newest run, and the registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import kfp_ops
import kube
import models
import runs
import sources
import triggers
import wishes
from config import OptionError, TrainerConfig
from connection import Connection
from kfp_ops import Observed, Run, RunState
from pods import Trouble
from registry import Champion, NoSuchModelError, RegistryError, Report, Result
from runs import NoSuccessError, NoSuchRunError
from schedules import NoScheduleError
from serving import Served, ServedModelError
from sources import SourceError
from triggers import Evidence


class NoDataError(Exception):
    """A relation that is needed is not there, or its other side has written nothing yet."""

    def __init__(self, endpoint: str, remote: str, *, is_related: bool):
        super().__init__(f"no data on relation {endpoint}")
        self.endpoint = endpoint
        self.remote = remote
        self.is_related = is_related


# What keeps an event from seeing or doing all.
PROBLEMS = (
    OptionError,
    NoDataError,
    kfp_ops.RelationDataError,
    kfp_ops.KfpError,
    kube.KubernetesError,
    RegistryError,
    SourceError,
    NoSuchRunError,
    NoSuccessError,
    NoSuchModelError,
    ServedModelError,
    NoScheduleError,
)
Problem = (
    OptionError
    | NoDataError
    | kfp_ops.RelationDataError
    | kfp_ops.KfpError
    | kube.KubernetesError
    | RegistryError
    | SourceError
    | NoSuchRunError
    | NoSuccessError
    | NoSuchModelError
    | ServedModelError
    | NoScheduleError
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Situation:
    """What was seen.

    Attributes:
        problem: what kept it from seeing or doing all; it outranks the rest.
        runs: those that were wanted and exist, by name.
        latest: the newest run of this trainer.
        steps: the names of the latest run's steps.
        result: what came of the latest run; None as long as nothing is known.
        champion: the model that serves.
        served: what KServe says of it, where it is to serve it.
        trouble: what Kubernetes says of the latest run's pods, where something is wrong with them.
        schedule: whether the schedule submits runs; None where there is none.
        config: the options with which it was looked at.
        report: of the newest monitoring that succeeded, on whatever model served then.
        monitor: the newest run of monitoring.
    """

    problem: Problem | None = None
    runs: Mapping[str, Run] = dataclasses.field(default_factory=dict[str, Run])
    latest: Run | None = None
    steps: frozenset[str] = frozenset()
    result: Result | None = None
    champion: Champion | None = None
    served: Served | None = None
    trouble: Trouble | None = None
    schedule: bool | None = None
    config: TrainerConfig | None = None
    report: Report | None = None
    monitor: Run | None = None

    @property
    def drift(self) -> dict[str, float]:
        """What of production drifted away from the model that serves: the index by part."""
        return triggers.drift(self.config, self.champion, self.report) if self.config else {}


def gather(there: Connection, monitored: Observed) -> Evidence:
    """What the triggers go by; what of data and registry cannot be seen is told and left out.

    Args:
        there: what to ask.
        monitored: what Kubeflow Pipelines tells of monitoring.

    Raises:
        KfpError: the server cannot be reached or does not allow it.
    """
    evidence, runs = Evidence(), list[Run]()
    if monitored.experiment:
        runs = there.client.list_runs(monitored.experiment.experiment_id, state=RunState.SUCCEEDED)
    try:
        champion = there.registry.champion()
        evidence = dataclasses.replace(evidence, champion=champion)
        for run in runs:
            evidence = dataclasses.replace(evidence, report=there.registry.report(run.run_id))
        if champion and triggers.watches_data(there.config, champion):
            source, files = champion.result.source, champion.result.etags
            etags = sources.etags(source, files, there.storage)
            evidence = dataclasses.replace(evidence, etags=etags)
    except (RegistryError, SourceError) as error:
        # Runs go on, and are told, also where this cannot be read.
        evidence = dataclasses.replace(evidence, problem=error)
    return evidence


def look(there: Connection, seen: Observed, monitored: Observed, evidence: Evidence) -> Situation:
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
        runs={**seen.runs, **monitored.runs},
        latest=run,
        steps=steps,
        champion=evidence.champion,
        schedule=seen.schedules[0].enabled if seen.schedules else None,
        trouble=runs.trouble(there, run, steps),
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


def serve(there: Connection, situation: Situation, *, acts: bool) -> Situation:
    """Have the champion that was seen served, and add what is seen of that.

    Args:
        there: what to ask.
        situation: with the champion.
        acts: False only looks.
    """
    if situation.problem:
        # Which model is the champion is not known.
        return situation
    try:
        served = models.serve(there, situation.champion, acts=acts)
    except kube.KubernetesError as error:
        return dataclasses.replace(situation, problem=error)
    return dataclasses.replace(situation, served=served)
