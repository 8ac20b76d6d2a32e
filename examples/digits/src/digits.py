"""Options of this charm, its desired state, and how to read an accuracy."""

import dataclasses
from pathlib import Path

import obstore
from obstore.store import S3Store

from kfp_ops import (
    DesiredState,
    ObjectStorage,
    PipelineSpec,
    RecurringRunSpec,
    RunSpec,
    fingerprint,
)
from kfp_ops.cron import six_fields

SPEC = PipelineSpec.load(Path(__file__).parent / "pipelines" / "digits.yaml")
CONFIGURATION = "config-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitsConfig:
    """The charm's options.

    Raises:
        ValueError: One has an invalid value.
    """

    regularization: float = 1.0
    """The support vector machine's C."""

    schedule: str = ""
    """When to train again, as five fields of cron or an alias; empty for never."""

    profile: str = ""
    """Kubeflow profile to work in; empty on a single-user server."""

    def __post_init__(self):
        if not self.regularization > 0:
            raise ValueError("set it above 0: juju config digits regularization=1.0")
        try:
            six_fields(self.schedule or "daily")
        except ValueError as error:
            raise ValueError(f"set another: juju config digits schedule=daily ({error})") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainParams:
    """Parameters of the action `train`."""

    wait: bool = False
    """Whether to wait until the run has ended."""

    timeout: int = 30
    """Minutes to wait at most."""


def desired_state(
    config: DigitsConfig, storage: ObjectStorage, experiment: str, requested: tuple[str, ...]
) -> DesiredState:
    """Return what must exist: the configuration's run, the schedule, and runs by request.

    The name of the configuration's run carries the fingerprint of the pipeline and its arguments, so the
    same configuration finds its run again, and a new one gets a run of its own, which replaces the old.
    """
    arguments = {"regularization": config.regularization, "endpoint": storage.url}
    configured = RunSpec(
        name=f"{CONFIGURATION}{fingerprint(SPEC.fingerprint, arguments)}",
        parameters=arguments,
        concurrency_group=CONFIGURATION,
    )
    schedule = None
    if config.schedule:
        cron = six_fields(config.schedule)
        name = f"schedule-{fingerprint(SPEC.fingerprint, arguments, cron)}"
        schedule = RecurringRunSpec(name=name, cron=cron, parameters=arguments)
    return DesiredState(
        pipeline="digits",
        spec=SPEC,
        experiment=experiment,
        runs=(configured, *(RunSpec(name=name, parameters=arguments) for name in requested)),
        schedule=schedule,
    )


def read_accuracy(storage: ObjectStorage, run_id: str) -> float | None:
    """Return the accuracy that a run stored, or None if it cannot be read."""
    store = S3Store(
        "mlpipeline",
        endpoint=storage.url,
        access_key_id=storage.access_key,
        secret_access_key=storage.secret_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "5s"},
        retry_config={"max_retries": 1},
    )
    try:
        return float(bytes(obstore.get(store, f"digits/{run_id}").bytes()))
    except (OSError, obstore.exceptions.BaseError, ValueError):
        return None
