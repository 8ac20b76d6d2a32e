"""Parameters of the actions that submit no run, validated. `ops` fills them by name."""

from __future__ import annotations

import dataclasses
import functools
import re

from actions import png_image
from errors import ParameterError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListParams:
    """Parameters of `list-runs` and `list-models`."""

    limit: int = 10
    """Maximum number of rows, 1 to 100."""

    def __post_init__(self):
        """Check the range; raise ParameterError."""
        if not 1 <= self.limit <= 100:
            raise ParameterError("limit", self.limit, "between 1 and 100")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunParams:
    """Parameters of `get-run` and `cancel-run`."""

    run_id: str = ""
    """ID of the run. Empty for the newest run, `monitor` for the newest monitoring run."""

    def __post_init__(self):
        """Check the characters; raise ParameterError."""
        # The ID becomes part of a URL.
        if not re.fullmatch(r"[\w\-]{0,64}", self.run_id, re.ASCII):
            raise ParameterError("run_id", self.run_id, "empty or a run's id")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictParams:
    """Parameters of `predict`: a test image, or the operator's own image."""

    image_number: int | None = None
    """Number of the test image, 0 to 9999. None for the first."""

    version: int | None = None
    """Version whose published prediction is returned. None for the served model."""

    image: str | None = None
    """PNG file in base64, for the served model only."""

    def __post_init__(self):
        """Check values and combinations; raise ParameterError."""
        if self.image_number is not None and not 0 <= self.image_number <= 9999:
            raise ParameterError("image_number", self.image_number, "between 0 and 9999")
        if self.version is not None and self.version < 1:
            raise ParameterError("version", self.version, "a number from list-models")
        if self.image is not None:
            for name in ("image_number", "version"):
                value = getattr(self, name)
                if value is not None:
                    raise ParameterError(name, value, "unset if image is set")
            # Reject an invalid image before any request is sent.
            _ = self.pixels

    @functools.cached_property
    def pixels(self) -> bytes | None:
        """Gray levels of the image, 28 rows of 28 bytes; None without an image."""
        return None if self.image is None else png_image.pixels(self.image)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromoteParams:
    """Parameters of `promote`."""

    version: int
    """Version to promote."""

    reason: str = "promoted by an operator"
    """Reason, for the registry's history."""

    def __post_init__(self):
        """Check both values; raise ParameterError."""
        if self.version < 1:
            raise ParameterError("version", self.version, "a number from list-models")
        _check_reason(self.reason)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RollbackParams:
    """Parameters of `rollback`."""

    reason: str = "rolled back by an operator"
    """Reason, for the registry's history."""

    def __post_init__(self):
        """Check the length; raise ParameterError."""
        _check_reason(self.reason)


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason) <= 1000:
        raise ParameterError("reason", reason, "1 to 1000 characters")
