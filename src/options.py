"""How to declare an option of the charm: its group, its default and a check of its values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, TypeVar

from kfp_ops import quantity
from kfp_ops.cron import six_fields

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Options that operators look for together."""

    title: str
    """Heading in the reference."""

    starts_run: bool = False
    """Whether changing one of them starts a run."""


@dataclasses.dataclass(frozen=True)
class Check:
    """Values that an option accepts."""

    expected: str
    """Description of the values, to follow "must be"."""

    accepts: Callable[[Any], bool]
    """Returns whether a value is accepted."""


def between(low: float, high: float) -> Check:
    """Accept numbers in a range, bounds included."""
    return Check(f"between {low} and {high}", lambda value: low <= value <= high)


def one_of(*names: str) -> Check:
    """Accept one of several names."""
    return Check(f"one of {', '.join(names)}", lambda value: value in names)


def matching(pattern: str, expected: str) -> Check:
    """Accept strings that match a pattern and have no path segment `.` or `..`."""
    return Check(
        expected,
        lambda value: (
            bool(re.fullmatch(pattern, value)) and not {".", ".."} & set(value.split("/"))
        ),
    )


def amount(low: str, high: str) -> Check:
    """Accept Kubernetes quantities in a range, bounds included."""

    def accepts(value: str) -> bool:
        try:
            return quantity(low) <= quantity(value) <= quantity(high)
        except ValueError:
            return False

    return Check(f"between {low} and {high}", accepts)


def _is_cron(value: str) -> bool:
    try:
        six_fields(value)
    except ValueError:
        return False
    return True


CRON = Check("five cron fields like '0 3 * * 0' (Sunday is 0), hourly, daily or weekly", _is_cron)


def or_empty(check: Check) -> Check:
    """Accept the empty string as well."""
    return Check(f"empty or {check.expected}", lambda value: value == "" or check.accepts(value))


def option(group: Group, default: T, check: Check | None = None, *, argument: bool = False) -> T:
    """Declare an option as a dataclass field.

    Args:
        group: Group in the reference.
        default: Default value, which also determines the type.
        check: Values that it accepts. None for any value of its type.
        argument: Whether the value is passed to the training pipeline's parameter of the same name.
    """
    # Annotate it as Any: at run time it is a Field, to type checkers it is the default.
    field: Any = dataclasses.field(
        default=default, metadata={"group": group, "check": check, "argument": argument}
    )
    return field
