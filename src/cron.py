"""Cron as operators write it, in the six fields that Kubeflow Pipelines takes.

Kubeflow Pipelines (robfig/cron, version 1) puts seconds first and reads a line of five fields with
its first one as seconds: what is written here always has six.
"""

from __future__ import annotations

import datetime
import re

from cronsim import CronSim, CronSimError

# Also without the @: Juju's client takes a value that begins with it for the name of a file.
ALIASES = {
    "yearly": "0 0 1 1 *",
    "annually": "0 0 1 1 *",
    "monthly": "0 0 1 * *",
    "weekly": "0 0 * * 0",
    "daily": "0 0 * * *",
    "midnight": "0 0 * * *",
    "hourly": "0 * * * *",
}
_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
# What both dialects read alike: no L, W, # or ?, and Sunday is 0.
_FIELD = re.compile(r"[\d*,/\-]+|[A-Za-z]{3}([,\-][A-Za-z]{3})*", re.ASCII)


def six_fields(expression: str) -> str:
    """Return the expression (five fields, or an alias like daily) with its seconds, 0, in front.

    Raises:
        ValueError: it is no such expression, or never comes true.
    """
    fields = ALIASES.get(expression.strip().removeprefix("@"), expression).split()
    if len(fields) != 5 or not all(_FIELD.fullmatch(field) for field in fields):
        raise ValueError("not five fields")
    # A step, behind the stroke, is no day.
    days = re.findall(r"\d+", re.sub(r"/\d*", "", fields[4]))
    if any(day.lstrip("0") == "7" for day in days):
        raise ValueError("Sunday is 0")
    try:
        next(CronSim(" ".join(fields), _START))
    except (CronSimError, StopIteration) as error:
        raise ValueError("never") from error
    return " ".join(["0", *fields])
