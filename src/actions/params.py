"""The actions' parameters, checked; see `config` for how they are filled and refused."""

from __future__ import annotations

import dataclasses
import functools
import re

from errors import ParameterError


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
        from actions import png_image

        return None if self.image is None else png_image.pixels(self.image)


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


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason) <= 1000:
        raise ParameterError("reason", reason, "1 to 1000 characters")
