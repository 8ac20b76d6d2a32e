"""The actions' parameters, checked; see `config` for how they are filled and refused."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import tuning
from config import TrainerConfig
from errors import OptionError, ParameterError


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
        """The configuration with these parameters in place.

        Raises:
            ParameterError: a parameter has a value that its option cannot have.
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
        """The configuration with these parameters in place.

        Raises:
            ParameterError: a parameter, or a value in the space, is one that its option cannot have.
        """
        changed = config if self.seed is None else _replaced(config, {"seed": self.seed})
        try:
            for name, value in tuning.values(self.space or tuning.DEFAULT):
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
        """The configuration with these parameters in place.

        Raises:
            ParameterError: a parameter has a value that its option cannot have, or there is nothing to
                look at.
        """
        data = config.monitor_data if self.monitor_data is None else self.monitor_data
        if not data:
            raise ParameterError("monitor_data", data, "s3://BUCKET/PREFIX")
        return _replaced(config, {"monitor_data": data})


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoParams:
    """What `pause` and `resume` are given: nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListParams:
    """What `list-runs` and `list-models` are given: how many at most, 1 to 100."""

    limit: int = 10

    def __post_init__(self):
        """Check it; raises ParameterError."""
        if not 1 <= self.limit <= 100:
            raise ParameterError("limit", self.limit, "between 1 and 100")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunParams:
    """What `get-run` and `cancel-run` are given: a run's id.

    Empty means the newest run, `monitor` the newest run of monitoring.
    """

    run_id: str = ""

    def __post_init__(self):
        """Check it; raises ParameterError."""
        # It becomes part of an address.
        if not re.fullmatch(r"[\w\-]{0,64}", self.run_id, re.ASCII):
            raise ParameterError("run_id", self.run_id, "empty or a run's id")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictParams:
    """What the action `predict` is given: a test image and whom to ask, or an image of one's own.

    Attributes:
        image_number: which test image, 0 to 9999; None is the first.
        version: whose published answer is told; None asks the model that serves.
        image: base64 of a PNG file, about which only the served model can be asked.
    """

    image_number: int | None = None
    version: int | None = None
    image: str | None = None

    def __post_init__(self):
        """Check it; raises ParameterError."""
        if self.image_number is not None and not 0 <= self.image_number <= 9999:
            raise ParameterError("image_number", self.image_number, "between 0 and 9999")
        if self.version is not None and self.version < 1:
            raise ParameterError("version", self.version, "a number from list-models")
        if self.image is not None:
            for name in ("image_number", "version"):
                value = getattr(self, name)
                if value is not None:
                    raise ParameterError(name, value, "left out where image is given")
            # An image that is none is told before anybody is asked.
            _ = self.pixels

    @functools.cached_property
    def pixels(self) -> bytes | None:
        """The image's grey levels, 28 rows of 28 bytes; None where there is none."""
        import images

        return None if self.image is None else images.pixels(self.image)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromoteParams:
    """What the action `promote` is given: the version that shall serve, and why."""

    version: int
    reason: str = "promoted by an operator"

    def __post_init__(self):
        """Check it; raises ParameterError."""
        if self.version < 1:
            raise ParameterError("version", self.version, "a number from list-models")
        _check_reason(self.reason)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RollbackParams:
    """What the action `rollback` is given: why."""

    reason: str = "rolled back by an operator"

    def __post_init__(self):
        """Check it; raises ParameterError."""
        _check_reason(self.reason)


def _replaced(config: TrainerConfig, given: Mapping[str, Any]) -> TrainerConfig:
    """A configuration that is right, with an action's parameters in place of options of its own."""
    try:
        return dataclasses.replace(config, **given)
    except OptionError as error:
        raise ParameterError(error.field, error.value, error.takes) from error


def _check_wish(note: str, timeout: int) -> None:
    if not 1 <= timeout <= 1440:
        raise ParameterError("timeout", timeout, "between 1 and 1440 minutes")
    if len(note) > 1000:
        raise ParameterError("note", note, "at most 1000 characters")


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason) <= 1000:
        raise ParameterError("reason", reason, "1 to 1000 characters")
