"""How results and statuses write tables, times and figures. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Lines with their columns under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def timestamp(time: datetime.datetime | None) -> str:
    """A time as ISO 8601, UTC, whole seconds; empty for none."""
    return time.isoformat(timespec="seconds") if time else ""


def figures(values: Mapping[str, float], digits: int = 3) -> str:
    """Names with a figure each, such as drift by part, in words that are the same each time.

    Args:
        values: the figures by name.
        digits: after the decimal point.
    """
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in sorted(values.items()))
