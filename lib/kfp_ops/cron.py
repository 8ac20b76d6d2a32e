"""Convert cron expressions to the six fields that Kubeflow Pipelines takes.

Kubeflow Pipelines (robfig/cron, version 1) expects seconds first, and takes the first of five fields for
seconds, so an operator's expression must be converted before it is sent.
"""

from __future__ import annotations

import datetime
import re

from cronsim import CronSim, CronSimError

# Also without the @, since `juju config` reads a value that begins with @ from a file.
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
    """Return a cron expression with seconds, 0, in front.

    Args:
        expression: Five fields, or an alias such as ``@daily`` or ``daily``.

    Raises:
        ValueError: It is neither, has a feature that the server reads differently, or never fires.
    """
    fields = ALIASES.get(expression.strip().removeprefix("@"), expression).split()
    if len(fields) != 5 or not all(_FIELD.fullmatch(field) for field in fields):
        raise ValueError("not five fields")
    # A step, after the slash, is not a day.
    days = re.findall(r"\d+", re.sub(r"/\d*", "", fields[4]))
    if any(day.lstrip("0") == "7" for day in days):
        raise ValueError("Sunday is 0")
    try:
        next(CronSim(" ".join(fields), _START))
    except (CronSimError, StopIteration) as error:
        raise ValueError("never") from error
    return " ".join(["0", *fields])
