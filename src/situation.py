"""What an event saw: Kubeflow Pipelines, the pods of the newest run, and the registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import kfp_ops
import kube
import models
import runs
from config import OptionError, TrainerConfig
from connection import Connection
from kfp_ops import Observed, Run
from pods import Trouble
from registry import Champion, NoSuchModelError, RegistryError, Result
from runs import NoSuccessError, NoSuchRunError
from serving import Served, ServedModelError


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
    NoSuchRunError,
    NoSuccessError,
    NoSuchModelError,
    ServedModelError,
)
Problem = (
    OptionError
    | NoDataError
    | kfp_ops.RelationDataError
    | kfp_ops.KfpError
    | kube.KubernetesError
    | RegistryError
    | NoSuchRunError
    | NoSuccessError
    | NoSuchModelError
    | ServedModelError
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Situation:
    """What was seen.

    Attributes:
        problem: what kept it from seeing or doing all; it outranks the rest.
        runs: those that were wanted and exist, by name.
        latest: the newest run of this trainer.
        steps: the names of the pipeline's steps.
        result: what came of the latest run; None as long as nothing is known.
        champion: the model that serves.
        served: what KServe says of it, where it is to serve it.
        trouble: what Kubernetes says of the latest run's pods, where something is wrong with them.
        schedule: whether the schedule submits runs; None where there is none.
        config: the options with which it was looked at.
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


def look(there: Connection, seen: Observed, steps: frozenset[str]) -> Situation:
    """Add to what Kubeflow Pipelines tells what the pods and the registry do.

    Args:
        there: what to ask.
        seen: what Kubeflow Pipelines tells.
        steps: the names of the pipeline's steps.
    """
    run = seen.latest
    situation = Situation(
        runs=seen.runs,
        latest=run,
        steps=steps,
        schedule=seen.schedules[0].enabled if seen.schedules else None,
        trouble=runs.trouble(there, run, steps),
        config=there.config,
    )
    try:
        return dataclasses.replace(
            situation,
            champion=there.registry.champion(),
            result=there.registry.result(run.run_id) if run and run.state.is_final else None,
        )
    except RegistryError as error:
        # The runs are what they are, also where the registry cannot be read.
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
