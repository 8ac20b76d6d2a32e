"""Runs that an operator requests: validated parameters of `train`, `tune` and `monitor`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from config import TrainerConfig
from errors import OptionError, ParameterError
from reconciler import search_space

_OPTIONS = {field.name for field in dataclasses.fields(TrainerConfig)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RunParams:
    """Parameters of every action that submits a run.

    A parameter with an option's name overrides the option and has its type and range. None keeps the
    option's value.
    """

    wait: bool = False
    """Whether the action waits for the run to end."""

    timeout: int = 60
    """Maximum wait in minutes."""

    def __post_init__(self):
        """Check parameters that are no options; raise ParameterError."""
        if not 1 <= self.timeout <= 1440:
            raise ParameterError("timeout", self.timeout, "between 1 and 1440 minutes")

    def apply_to(self, config: TrainerConfig) -> TrainerConfig:
        """Return the configuration with these parameters applied.

        Raises:
            ParameterError: A parameter has a value that is invalid for its option.
        """
        overrides: dict[str, Any] = {
            name: value
            for name, value in vars(self).items()
            if name in _OPTIONS and value is not None
        }
        try:
            return dataclasses.replace(config, **overrides)
        except OptionError as error:
            raise ParameterError(error.field, error.value, error.expected) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TrainingParams(_RunParams):
    """Parameters of `train` and `tune`."""

    seed: int | None = None
    note: str = ""
    """Reason for the run, shown as its description."""

    def __post_init__(self):
        """Check parameters that are no options; raise ParameterError."""
        super().__post_init__()
        if len(self.note) > 1000:
            raise ParameterError("note", self.note, "at most 1000 characters")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainParams(_TrainingParams):
    """Parameters of the action `train`."""

    recipe: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    min_accuracy: float | None = None
    data_path: str | None = None
    image_number: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneParams(_TrainingParams):
    """Parameters of the action `tune`."""

    trials: int = 8
    """Number of hyperparameter sets to try, including the configuration's."""

    parallelism: int = 2
    """Maximum number of trials that run at the same time."""

    space: str = ""
    """Search space, a JSON list in Katib's format. Empty for `search_space.DEFAULT`."""

    def __post_init__(self):
        """Check parameters that are no options; raise ParameterError."""
        super().__post_init__()
        if not 1 <= self.trials <= 100:
            raise ParameterError("trials", self.trials, "between 1 and 100")
        if not 1 <= self.parallelism <= 16:
            raise ParameterError("parallelism", self.parallelism, "between 1 and 16")

    def apply_to(self, config: TrainerConfig) -> TrainerConfig:
        """Return the configuration with these parameters applied.

        Raises:
            ParameterError: A parameter, or a value in the space, is invalid for its option.
        """
        config = super().apply_to(config)
        try:
            for name, value in search_space.values(self.space or search_space.DEFAULT):
                dataclasses.replace(config, **{name: value})
        except OptionError as error:
            raise ParameterError("space", self.space, f"a space in which {error}") from error
        except ValueError as error:
            expected = f"a list of parameters in Katib's format ({error})"
            raise ParameterError("space", self.space, expected) from error
        return config


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonitorParams(_RunParams):
    """Parameters of the action `monitor`."""

    monitor_data: str | None = None

    def apply_to(self, config: TrainerConfig) -> TrainerConfig:
        """Return the configuration with these parameters applied.

        Raises:
            ParameterError: A parameter has a value that is invalid for its option, or there is no
                data to monitor.
        """
        config = super().apply_to(config)
        if not config.monitor_data:
            raise ParameterError("monitor_data", config.monitor_data, "s3://BUCKET/PREFIX")
        return config


RunRequest = TrainParams | TuneParams | MonitorParams
# Requested runs, by name.
Requested = Mapping[str, RunRequest]
