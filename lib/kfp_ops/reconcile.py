"""This pipeline, this version, this experiment and these runs shall exist: observe, plan, act.

Kubeflow Pipelines is the only memory. Names carry the fingerprint of what they name, so what is
there already is found again after a retry, a restart, a change of leader or a lost answer, and
nothing is made twice. `plan` is pure; `observe` and `act` make the calls, a number of them that
does not grow with what the server holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeVar

from kfp_ops.client import Client
from kfp_ops.errors import ConflictError, UnreachableError
from kfp_ops.models import Experiment, Pipeline, PipelineVersion, Run
from kfp_ops.spec import PipelineSpec

_Found = TypeVar("_Found")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run that shall exist once.

    Attributes:
        name: its display name, which makes it the same run when it is asked for again.
        parameters: the pipeline's arguments.
        description: for people who look at the run.
    """

    name: str
    parameters: Mapping[str, object]
    description: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What shall exist in Kubeflow Pipelines."""

    pipeline: str
    spec: PipelineSpec
    experiment: str
    runs: tuple[RunRequest, ...] = ()
    description: str = ""

    @property
    def version(self) -> str:
        """The name of the pipeline's version: the specification's fingerprint."""
        return self.spec.fingerprint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """What was seen.

    Attributes:
        pipeline, version: only looked for when a wanted run is missing.
        runs: those of the wanted runs that exist, by name.
        latest: the newest run in the experiment, whoever asked for it.
    """

    experiment: Experiment | None = None
    runs: Mapping[str, Run] = dataclasses.field(default_factory=dict[str, Run])
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


Step = CreatePipeline | UploadVersion | CreateExperiment | SubmitRun


def observe(client: Client, wanted: Wanted) -> Observed:
    """See what exists, in at most 4 calls and one more for each wanted run.

    Raises:
        KfpError: the server cannot be reached or does not allow it.
    """
    experiment = client.find_experiment(wanted.experiment)
    runs: dict[str, Run] = {}
    latest = None
    if experiment:
        for request in wanted.runs:
            run = client.find_run(experiment.experiment_id, request.name)
            if run:
                runs[request.name] = run
        latest = next(iter(client.list_runs(experiment.experiment_id)), None)
    pipeline = version = None
    if len(runs) < len(wanted.runs):
        pipeline = client.find_pipeline(wanted.pipeline)
        if pipeline:
            version = client.find_version(pipeline.pipeline_id, wanted.version)
    return Observed(
        experiment=experiment, runs=runs, latest=latest, pipeline=pipeline, version=version
    )


def plan(wanted: Wanted, seen: Observed) -> list[Step]:
    """The steps from what is seen to what is wanted, in order; none when all is there."""
    missing = [request for request in wanted.runs if request.name not in seen.runs]
    if not missing:
        return []
    steps: list[Step] = []
    if not seen.pipeline:
        steps.append(CreatePipeline())
    if not seen.version:
        steps.append(UploadVersion())
    if not seen.experiment:
        steps.append(CreateExperiment())
    return [*steps, *(SubmitRun(request) for request in missing)]


def act(client: Client, wanted: Wanted, seen: Observed, steps: list[Step]) -> Observed:
    """Carry the steps out; returns what is seen then, without asking the server again.

    Raises:
        KfpError: a step failed; those before it are done, and the next observation shows them.
        ValueError: a run's parameters are not what the pipeline takes.
    """
    for step in steps:
        match step:
            case CreatePipeline():
                seen = dataclasses.replace(seen, pipeline=_create_pipeline(client, wanted))
            case UploadVersion():
                seen = dataclasses.replace(seen, version=_upload_version(client, wanted, seen))
            case CreateExperiment():
                seen = dataclasses.replace(seen, experiment=_create_experiment(client, wanted))
            case SubmitRun(request):
                run = _submit(client, wanted, seen, request)
                seen = dataclasses.replace(seen, runs={**seen.runs, request.name: run}, latest=run)
    return seen


def _create_pipeline(client: Client, wanted: Wanted) -> Pipeline:
    return _created_or_found(
        lambda: client.create_pipeline(wanted.pipeline, wanted.description),
        lambda: client.find_pipeline(wanted.pipeline),
    )


def _upload_version(client: Client, wanted: Wanted, seen: Observed) -> PipelineVersion:
    pipeline = _required(seen.pipeline)
    return _created_or_found(
        lambda: client.upload_version(pipeline.pipeline_id, wanted.version, wanted.spec.yaml),
        lambda: client.find_version(pipeline.pipeline_id, wanted.version),
    )


def _create_experiment(client: Client, wanted: Wanted) -> Experiment:
    return _created_or_found(
        lambda: client.create_experiment(wanted.experiment, wanted.description),
        lambda: client.find_experiment(wanted.experiment),
    )


def _submit(client: Client, wanted: Wanted, seen: Observed, request: RunRequest) -> Run:
    wanted.spec.check(request.parameters)
    experiment, version = _required(seen.experiment), _required(seen.version)
    return _created_or_found(
        lambda: client.create_run(
            name=request.name,
            experiment_id=experiment.experiment_id,
            version=version,
            parameters=request.parameters,
            description=request.description,
        ),
        lambda: client.find_run(experiment.experiment_id, request.name),
    )


def _created_or_found(create: Callable[[], _Found], find: Callable[[], _Found | None]) -> _Found:
    """A name that is taken now, or an answer that got lost: what is wanted may be there."""
    try:
        return create()
    except (ConflictError, UnreachableError):
        found = find()
        if found is None:
            raise
        return found


def _required(value: _Found | None) -> _Found:
    if value is None:
        raise ValueError("steps out of order: take them from plan()")
    return value
