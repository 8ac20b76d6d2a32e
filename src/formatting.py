"""Format tables, times and numbers for results and statuses. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

# Stands for the newest monitoring run where actions take a run ID.
MONITOR = "monitor"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as left-aligned columns, one line per row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def timestamp(time: datetime.datetime | None) -> str:
    """Return a UTC time in ISO 8601, in whole seconds; empty for None."""
    return time.isoformat(timespec="seconds") if time else ""


def figures(values: Mapping[str, float], digits: int = 3) -> str:
    """Return names and numbers, such as drift by feature, sorted by name.

    Args:
        values: Numbers by name.
        digits: Number of decimals.
    """
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in sorted(values.items()))
