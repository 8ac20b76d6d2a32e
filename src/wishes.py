"""From configuration and wishes to what shall exist in Kubeflow Pipelines. Pure."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path

import triggers
import tuning
from config import TrainerConfig, TrainParams, TuneParams
from cron import six_fields
from kfp_ops import ObjectStorage, PipelineSpec, RunRequest, Schedule, Wanted, fingerprint

PIPELINE, TUNER = "fashion-mnist-trainer", "fashion-mnist-tuner"
_COMPILED = Path(__file__).parent / "pipelines"
# The steps that train, which options give resources.
_TRAIN, _TRIAL = "train", "trial"


def wanted(
    config: TrainerConfig,
    storage: ObjectStorage,
    experiment: str,
    asked: Mapping[str, TrainParams | TuneParams],
    evidence: triggers.Evidence,
    now: datetime.datetime,
) -> Iterator[Wanted]:
    """What shall exist, a pipeline each; the trainer's own is the last, and always there.

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
    tunings = {name: what for name, what in asked.items() if isinstance(what, TuneParams)}
    trainings = {name: what for name, what in asked.items() if isinstance(what, TrainParams)}
    if tunings:
        requests = tuple(_tunings(config, storage, tunings))
        yield Wanted(
            pipeline=TUNER,
            spec=_spec(config, requests[0].parameters, _TRAIN, _TRIAL),
            experiment=experiment,
            runs=requests,
            # The schedule in the experiment is the trainer's.
            schedule_prefix="tune-",
        )
    spec = _spec(config, config.arguments, _TRAIN)
    yield Wanted(
        pipeline=PIPELINE,
        spec=spec,
        experiment=experiment,
        runs=(
            *_requests(config, spec, storage, trainings),
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
    """The pipeline that has these parameters."""
    if "trials" in parameters:
        return _COMPILED / "tune.yaml"
    return _COMPILED / ("train-workspace.yaml" if "workspace_size" in parameters else "train.yaml")


def _spec(config: TrainerConfig, parameters: Mapping[str, object], *training: str) -> PipelineSpec:
    return PipelineSpec.load(
        _compiled(parameters),
        image=config.training_image,
        resources=dict.fromkeys(training, config.resources),
    )


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


def _tunings(
    config: TrainerConfig, storage: ObjectStorage, asked: Mapping[str, TuneParams]
) -> Iterator[RunRequest]:
    for name, params in asked.items():
        # Trials run beside each other, and one volume is for one step at a time.
        tried = dataclasses.replace(params.over(config), workspace_size="")
        yield RunRequest(
            name=name,
            parameters={
                **_arguments(tried, storage, "action"),
                "trials": params.trials,
                "parallelism": params.parallelism,
                "space": params.space or tuning.DEFAULT,
            },
            description=params.note or "Asked for by the action tune",
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
