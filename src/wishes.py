"""From configuration and wishes to what shall exist in Kubeflow Pipelines. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path

import triggers
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
    evidence: triggers.Evidence,
    now: datetime.datetime,
) -> Wanted:
    """What shall exist.

    Args:
        config: the options; a storage class is named where there is a workspace.
        storage: where the registry is.
        experiment: the name of the trainer's experiment.
        asked: the parameters of runs that are asked for, by the name of the run.
        evidence: what the triggers go by.
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
        runs=(
            *_requests(config, spec, storage, asked),
            *_retraining(config, storage, evidence, now),
        ),
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
        arguments = _arguments(config, storage, "configuration")
        yield RunRequest(
            name=f"config-{fingerprint(spec.fingerprint, arguments)}",
            parameters=arguments,
            description="The charm's configuration",
            supersedes="config-",
        )
    for name, params in asked.items():
        yield RunRequest(
            name=name,
            parameters=_arguments(params.over(config), storage, "action"),
            description=params.note or "Asked for by the action train",
        )


def _retraining(
    config: TrainerConfig,
    storage: ObjectStorage,
    evidence: triggers.Evidence,
    now: datetime.datetime,
) -> Iterator[RunRequest]:
    """The runs that triggers ask for; the plan submits one at a time."""
    for trigger in triggers.due(config, evidence, now):
        yield RunRequest(
            name=trigger.name,
            parameters=_arguments(config, storage, trigger.reason),
            description=f"{trigger.reason}: {trigger.description}",
            family=triggers.FAMILY,
            quiet_since=now - datetime.timedelta(hours=config.retrain_interval),
        )


def _schedule(config: TrainerConfig, spec: PipelineSpec, storage: ObjectStorage) -> Schedule | None:
    if not config.schedule:
        return None
    arguments, cron = _arguments(config, storage, "schedule"), six_fields(config.schedule)
    return Schedule(
        name=f"schedule-{fingerprint(spec.fingerprint, {**arguments, 'cron': cron})}",
        cron=cron,
        parameters=arguments,
        description=f"The charm's schedule: {config.schedule}",
        enabled=not config.schedule_paused,
    )


def _arguments(config: TrainerConfig, storage: ObjectStorage, reason: str) -> dict[str, object]:
    return {**config.arguments, "s3_endpoint": storage.url, "reason": reason}
