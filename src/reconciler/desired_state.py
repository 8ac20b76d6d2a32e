"""The desired state of Kubeflow Pipelines, from options, requests and triggers. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterator, Mapping

from config import TrainerConfig
from kfp_ops import (
    ConcurrencyPolicy,
    DesiredState,
    ObjectStorage,
    PipelineSpec,
    RecurringRunSpec,
    Run,
    RunSpec,
    fingerprint,
)
from kfp_ops.cron import six_fields
from naming import CONFIGURATION
from reconciler import code_bundle, pipelines, search_space, triggers
from reconciler.requests import MonitorParams, Requested, TrainParams, TuneParams

# Name prefix of a schedule's runs: the server drops the hyphen.
_SCHEDULED = "schedule"
# Names of other training runs: of the configuration, a trigger, or an action with the Juju model's UUID.
_SUBMITTED = re.compile(rf"({CONFIGURATION}|{triggers.RUN_PREFIX}|train-[0-9a-f]{{8}}-)\w+$")
# Steps that train, to which the train-* options apply.
_TRAIN, _TRIAL = "train", "trial"


def training(
    config: TrainerConfig,
    storage: ObjectStorage,
    experiment: str,
    requested: Requested,
    signals: triggers.Signals,
    now: datetime.datetime,
) -> Iterator[DesiredState]:
    """Return the desired states of the training pipelines; that of the trainer is the last.

    Args:
        config: Options; with a workspace, they must name a storage class.
        storage: S3 server of the registry.
        experiment: Name of the trainer's experiment.
        requested: Runs that an action requests, by name.
        signals: Input of the triggers.
        now: Current time, UTC.

    Raises:
        OptionError: A parameter has an invalid value.
    """
    tunings = {name: params for name, params in requested.items() if isinstance(params, TuneParams)}
    trainings = {
        name: params for name, params in requested.items() if isinstance(params, TrainParams)
    }
    if tunings:
        runs = tuple(_tuning_runs(config, storage, tunings))
        tuner = DesiredState(
            pipeline=pipelines.TUNER,
            spec=pipelines.spec(config, runs[0].parameters, _TRAIN, _TRIAL),
            experiment=experiment,
            runs=runs,
            # Leave the trainer's schedule, in the same experiment, alone.
            schedule_prefix="tune-",
        )
        yield _with_code(config, tuner, pipeline_version=tuner.version)
    spec = pipelines.spec(config, config.arguments, _TRAIN)
    trainer = DesiredState(
        pipeline=pipelines.PIPELINE,
        spec=spec,
        experiment=experiment,
        runs=(
            *_training_runs(config, spec, storage, trainings),
            *_retraining_runs(config, storage, signals, now),
        ),
        schedule=_schedule(config, spec, storage),
        started_before=_started_before(config, now),
    )
    yield _with_code(config, trainer, pipeline_version=trainer.version)


def monitoring(
    config: TrainerConfig,
    storage: ObjectStorage,
    experiment: str,
    requested: Requested,
    now: datetime.datetime,
) -> DesiredState:
    """Return the desired state of the monitoring pipeline.

    Args:
        config: Options.
        storage: S3 server of the registry.
        experiment: Name of the monitoring experiment.
        requested: Runs that an action requests, by name.
        now: Current time, UTC.

    Raises:
        OptionError: A parameter has an invalid value.
    """
    spec = pipelines.spec(config, config.monitor_arguments)
    schedule = None
    if config.monitor_schedule:
        arguments = _monitor_arguments(config, storage)
        schedule = _recurring(spec, config.monitor_schedule, arguments, enabled=True)
    monitor = DesiredState(
        pipeline=pipelines.MONITOR,
        spec=spec,
        experiment=experiment,
        runs=tuple(
            RunSpec(
                name=name,
                parameters=_monitor_arguments(params.apply_to(config), storage),
                description="Requested by the action monitor",
            )
            for name, params in requested.items()
            if isinstance(params, MonitorParams)
        ),
        schedule=schedule,
        started_before=_started_before(config, now),
    )
    return _with_code(config, monitor)


def is_submitted(run: Run) -> bool:
    """Return whether the charm or its schedule submitted a run, rather than a person."""
    name = run.display_name
    return bool(_SUBMITTED.match(name) or (run.recurring_run_id and name.startswith(_SCHEDULED)))


def _training_runs(
    config: TrainerConfig,
    spec: PipelineSpec,
    storage: ObjectStorage,
    requested: Mapping[str, TrainParams],
) -> Iterator[RunSpec]:
    """Return the run of the configuration and those that actions request."""
    if config.train_on_change:
        arguments = _arguments(config, storage, "configuration")
        yield RunSpec(
            name=f"{CONFIGURATION}{fingerprint(spec.fingerprint, arguments)}",
            parameters=arguments,
            description="The charm's configuration",
            concurrency_group=CONFIGURATION,
        )
    for name, params in requested.items():
        yield RunSpec(
            name=name,
            parameters=_arguments(params.apply_to(config), storage, "action"),
            description=params.note or "Requested by the action train",
        )


def _retraining_runs(
    config: TrainerConfig,
    storage: ObjectStorage,
    signals: triggers.Signals,
    now: datetime.datetime,
) -> Iterator[RunSpec]:
    """Return the runs of due triggers; the plan submits one at a time."""
    for trigger in triggers.due(config, signals, now):
        yield RunSpec(
            name=trigger.name,
            parameters=_arguments(config, storage, trigger.reason),
            description=f"{trigger.reason}: {trigger.description}",
            concurrency_group=triggers.RUN_PREFIX,
            concurrency_policy=ConcurrencyPolicy.QUEUE,
            cooldown_start=now - datetime.timedelta(hours=config.retrain_cooldown),
        )


def _tuning_runs(
    config: TrainerConfig, storage: ObjectStorage, requested: Mapping[str, TuneParams]
) -> Iterator[RunSpec]:
    for name, params in requested.items():
        # Trials run in parallel, but only one step at a time can mount the volume.
        trial_config = dataclasses.replace(params.apply_to(config), workspace_size="")
        yield RunSpec(
            name=name,
            parameters={
                **_arguments(trial_config, storage, "action"),
                "trials": params.trials,
                "parallelism": params.parallelism,
                "space": params.space or search_space.DEFAULT,
            },
            description=params.note or "Requested by the action tune",
        )


def _schedule(
    config: TrainerConfig, spec: PipelineSpec, storage: ObjectStorage
) -> RecurringRunSpec | None:
    if not config.schedule:
        return None
    arguments = _arguments(config, storage, "schedule")
    return _recurring(spec, config.schedule, arguments, enabled=not config.schedule_paused)


def _recurring(
    spec: PipelineSpec, cron: str, arguments: Mapping[str, object], *, enabled: bool
) -> RecurringRunSpec:
    fields = six_fields(cron)
    return RecurringRunSpec(
        name=f"schedule-{fingerprint(spec.fingerprint, {**arguments, 'cron': fields})}",
        cron=fields,
        parameters=arguments,
        description=f"The charm's schedule: {cron}",
        enabled=enabled,
    )


def _with_code(config: TrainerConfig, desired: DesiredState, **more: object) -> DesiredState:
    """Add the location of the code bundle, and more arguments, to each run.

    Add them after the runs and schedules are named: names contain the fingerprint of the specification,
    which already determines these arguments.
    """
    added = {"code": f"{config.registry}/{code_bundle.path()}", **more}

    def merged(arguments: Mapping[str, object]) -> dict[str, object]:
        return {**arguments, **added}

    schedule = desired.schedule
    return dataclasses.replace(
        desired,
        runs=tuple(
            dataclasses.replace(run, parameters=merged(run.parameters)) for run in desired.runs
        ),
        schedule=schedule and dataclasses.replace(schedule, parameters=merged(schedule.parameters)),
    )


def _started_before(config: TrainerConfig, now: datetime.datetime) -> datetime.datetime | None:
    return now - config.timeout if config.timeout else None


def _arguments(config: TrainerConfig, storage: ObjectStorage, reason: str) -> dict[str, object]:
    return {**config.arguments, "s3_endpoint": storage.url, "reason": reason}


def _monitor_arguments(config: TrainerConfig, storage: ObjectStorage) -> dict[str, object]:
    return {**config.monitor_arguments, "s3_endpoint": storage.url}
