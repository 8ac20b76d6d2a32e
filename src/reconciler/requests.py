"""Runs that an operator requests: the parameters of `train`, `tune` and `monitor`, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from config import TrainerConfig
from errors import OptionError, ParameterError
from reconciler import search_space


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainParams:
    """What the action `train` is given; None leaves the option's value.

    Attributes:
        note: why, for people who look at the run.
        wait: whether the action follows the run to its end.
        timeout: minutes after which it stops doing so.
    """

    recipe: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int | None = None
    min_accuracy: float | None = None
    data_path: str | None = None
    image_number: int | None = None
    note: str = ""
    wait: bool = False
    timeout: int = 60

    def __post_init__(self):
        """Check what no option checks; raises ParameterError."""
        _check_wish(self.note, self.timeout)

    def apply_to(self, config: TrainerConfig) -> TrainerConfig:
        """Return the configuration with these parameters applied.

        Raises:
            ParameterError: A parameter has a value that is invalid for its option.
        """
        overrides = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("note", "wait", "timeout")
            and getattr(self, field.name) is not None
        }
        return _replaced(config, overrides)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneParams:
    """What the action `tune` is given; what it does not name is the configuration's.

    Attributes:
        trials: how many settings are tried, the configuration's own among them.
        parallelism: how many at a time.
        seed: of the draw and of training; None leaves the option's value.
        space: what is searched, JSON as `tuning` has it; empty is `tuning.DEFAULT`.
        note: why, for people who look at the run.
        wait: whether the action follows the run to its end.
        timeout: minutes after which it stops doing so.
    """

    trials: int = 8
    parallelism: int = 2
    seed: int | None = None
    space: str = ""
    note: str = ""
    wait: bool = False
    timeout: int = 60

    def __post_init__(self):
        """Check what no option checks; raises ParameterError."""
        if not 1 <= self.trials <= 100:
            raise ParameterError("trials", self.trials, "between 1 and 100")
        if not 1 <= self.parallelism <= 16:
            raise ParameterError("parallelism", self.parallelism, "between 1 and 16")
        _check_wish(self.note, self.timeout)

    def apply_to(self, config: TrainerConfig) -> TrainerConfig:
        """Return the configuration with these parameters applied.

        Raises:
            ParameterError: a parameter, or a value in the space, is one that its option cannot have.
        """
        changed = config if self.seed is None else _replaced(config, {"seed": self.seed})
        try:
            for name, value in search_space.values(self.space or search_space.DEFAULT):
                dataclasses.replace(changed, **{name: value})
        except OptionError as error:
            raise ParameterError("space", self.space, f"a space in which {error}") from error
        except ValueError as error:
            expected = f"parameters as Katib's Experiment has them ({error})"
            raise ParameterError("space", self.space, expected) from error
        return changed


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonitorParams:
    """What the action `monitor` is given; None leaves the option's value.

    Attributes:
        wait: whether the action follows the run to its end.
        timeout: minutes after which it stops doing so.
    """

    monitor_data: str | None = None
    wait: bool = False
    timeout: int = 60

    def __post_init__(self):
        """Check what no option checks; raises ParameterError."""
        _check_wish("", self.timeout)

    def apply_to(self, config: TrainerConfig) -> TrainerConfig:
        """Return the configuration with these parameters applied.

        Raises:
            ParameterError: A parameter has a value that is invalid for its option, or there is no
                data to monitor.
        """
        data = config.monitor_data if self.monitor_data is None else self.monitor_data
        if not data:
            raise ParameterError("monitor_data", data, "s3://BUCKET/PREFIX")
        return _replaced(config, {"monitor_data": data})


RunRequest = TrainParams | TuneParams | MonitorParams
# The actions that request a run, and the dataclass of their parameters.
RUN_ACTIONS: dict[str, type[RunRequest]] = {
    "train": TrainParams,
    "tune": TuneParams,
    "monitor": MonitorParams,
}
# Requested runs, by name.
Requested = Mapping[str, RunRequest]


def _replaced(config: TrainerConfig, given: Mapping[str, Any]) -> TrainerConfig:
    """Return the configuration with an action's parameters in place of its options, checked."""
    try:
        return dataclasses.replace(config, **given)
    except OptionError as error:
        raise ParameterError(error.field, error.value, error.takes) from error


def _check_wish(note: str, timeout: int) -> None:
    if not 1 <= timeout <= 1440:
        raise ParameterError("timeout", timeout, "between 1 and 1440 minutes")
    if len(note) > 1000:
        raise ParameterError("note", note, "at most 1000 characters")
