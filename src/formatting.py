"""Format tables, times and figures for results and statuses. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

# What names the newest run of monitoring where actions take a run's id.
MONITOR = "monitor"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def timestamp(time: datetime.datetime | None) -> str:
    """Return a time as ISO 8601, UTC, whole seconds; empty for none."""
    return time.isoformat(timespec="seconds") if time else ""


def figures(values: Mapping[str, float], digits: int = 3) -> str:
    """Return names with a figure each, such as drift by feature, sorted by name.

    Args:
        values: the figures by name.
        digits: after the decimal point.
    """
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in sorted(values.items()))
