"""From configuration and wishes to what shall exist in Kubeflow Pipelines. Pure."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import tuning
from config import TrainerConfig, TrainParams, TuneParams
from cron import six_fields
from kfp_ops import ObjectStorage, PipelineSpec, Run, RunRequest, Schedule, Wanted, fingerprint

PIPELINE, TUNER = "fashion-mnist-trainer", "fashion-mnist-tuner"
_COMPILED = Path(__file__).parent / "pipelines"


def wanted(
    config: TrainerConfig,
    storage: ObjectStorage,
    experiment: str,
    asked: Mapping[str, TrainParams | TuneParams],
    now: datetime.datetime,
) -> Iterator[Wanted]:
    """What shall exist, a pipeline each; the trainer's own is the last, and always there.

    Args:
        config: the options.
        storage: where the registry is.
        experiment: the name of the trainer's experiment.
        asked: the parameters of runs that are asked for, by the name of the run.
        now: the time, UTC.

    Raises:
        OptionError: a parameter has a value that it cannot have.
    """
    tunings = {name: what for name, what in asked.items() if isinstance(what, TuneParams)}
    trainings = {name: what for name, what in asked.items() if isinstance(what, TrainParams)}
    if tunings:
        yield Wanted(
            pipeline=TUNER,
            spec=_spec("tune.yaml", config.training_image),
            experiment=experiment,
            runs=tuple(_tunings(config, storage, tunings)),
            # The schedule in the experiment is the trainer's.
            schedule_prefix="tune-",
        )
    spec = _spec("train.yaml", config.training_image)
    yield Wanted(
        pipeline=PIPELINE,
        spec=spec,
        experiment=experiment,
        runs=tuple(_requests(config, spec, storage, trainings)),
        schedule=_schedule(config, spec, storage),
        deadline=now - config.timeout if config.timeout else None,
    )


def steps(run: Run) -> frozenset[str]:
    """The names of the steps of a run's pipeline."""
    return _spec("tune.yaml" if run.display_name.startswith("tune-") else "train.yaml").steps


@functools.cache
def _spec(name: str, image: str = "") -> PipelineSpec:
    return PipelineSpec.load(_COMPILED / name, image=image)


def experiment(model: str, app: str) -> str:
    """The name of the experiment of an application in a Juju model."""
    return f"{model}-{app}"


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


def _tunings(
    config: TrainerConfig, storage: ObjectStorage, asked: Mapping[str, TuneParams]
) -> Iterator[RunRequest]:
    for name, params in asked.items():
        yield RunRequest(
            name=name,
            parameters={
                **_arguments(params.over(config), storage),
                "trials": params.trials,
                "parallelism": params.parallelism,
                "space": params.space or tuning.DEFAULT,
            },
            description=params.note or "Asked for by the action tune",
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
