"""From configuration and wishes to what shall exist in Kubeflow Pipelines. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path

from config import TrainerConfig, TrainParams
from cron import six_fields
from kfp_ops import ObjectStorage, PipelineSpec, RunRequest, Schedule, Wanted, fingerprint

PIPELINE = "fashion-mnist-trainer"
_COMPILED = Path(__file__).parent / "pipelines"
# The step that trains, which options give resources.
_TRAIN = "train"


def wanted(
    config: TrainerConfig,
    storage: ObjectStorage,
    experiment: str,
    asked: Mapping[str, TrainParams],
    now: datetime.datetime,
) -> Wanted:
    """What shall exist.

    Args:
        config: the options; a storage class is named where there is a workspace.
        storage: where the registry is.
        experiment: the name of the trainer's experiment.
        asked: the parameters of runs that are asked for, by the name of the run.
        now: the time, UTC.

    Raises:
        OptionError: a parameter has a value that it cannot have.
    """
    spec = PipelineSpec.load(
        _compiled(config.arguments),
        image=config.training_image,
        resources={_TRAIN: config.resources},
    )
    return Wanted(
        pipeline=PIPELINE,
        spec=spec,
        experiment=experiment,
        runs=tuple(_requests(config, spec, storage, asked)),
        schedule=_schedule(config, spec, storage),
        deadline=now - config.timeout if config.timeout else None,
    )


def experiment(model: str, app: str) -> str:
    """The name of the experiment of an application in a Juju model."""
    return f"{model}-{app}"


def steps(parameters: Mapping[str, object]) -> frozenset[str]:
    """The names of the steps of a run with these parameters."""
    return PipelineSpec.load(_compiled(parameters)).steps


def _compiled(parameters: Mapping[str, object]) -> Path:
    """The pipeline that has these parameters: with a volume of the run's own, or without."""
    return _COMPILED / ("train-workspace.yaml" if "workspace_size" in parameters else "train.yaml")


def _requests(
    config: TrainerConfig,
    spec: PipelineSpec,
    storage: ObjectStorage,
    asked: Mapping[str, TrainParams],
) -> Iterator[RunRequest]:
    """The runs that shall exist: one for this very configuration, one for each wish."""
    if config.train_on_change:
        arguments = _arguments(config, storage)
        yield RunRequest(
            name=f"config-{fingerprint(spec.fingerprint, arguments)}",
            parameters=arguments,
            description="The charm's configuration",
            supersedes="config-",
        )
    for name, params in asked.items():
        yield RunRequest(
            name=name,
            parameters=_arguments(params.over(config), storage),
            description=params.note or "Asked for by the action train",
        )


def _schedule(config: TrainerConfig, spec: PipelineSpec, storage: ObjectStorage) -> Schedule | None:
    if not config.schedule:
        return None
    arguments, cron = _arguments(config, storage), six_fields(config.schedule)
    return Schedule(
        name=f"schedule-{fingerprint(spec.fingerprint, {**arguments, 'cron': cron})}",
        cron=cron,
        parameters=arguments,
        description=f"The charm's schedule: {config.schedule}",
        enabled=not config.schedule_paused,
    )


def _arguments(config: TrainerConfig, storage: ObjectStorage) -> dict[str, object]:
    return {**config.arguments, "s3_endpoint": storage.url}
