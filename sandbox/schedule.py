"""Submit the runs of recurring runs, like the server's scheduled-workflow controller."""

from __future__ import annotations

import datetime
import json
import re
import threading
from collections.abc import Callable
from typing import Any

from croniter import croniter

from sandbox.store import Row, Store

# Columns that a run copies from its recurring run.
_COPIED = (
    "namespace",
    "experiment_id",
    "pipeline_id",
    "version_id",
    "spec",
    "parameters",
    "pipeline_root",
)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
# Maximum delay until the server's controller sees a new recurring run: with no_catchup, some real ones
# missed the next minute, and others did not.
_INITIAL_DELAY = datetime.timedelta(minutes=1)


class Scheduler:
    """Submits the runs of enabled recurring runs when they are due, like the server's controller.

    A recurring run waits while it has `max_concurrency` active runs. With no_catchup, it submits one run
    for the last of the times that it missed, even while it was disabled. It has its own copy of the
    specification, which stays when the pipeline version is deleted.

    Args:
        store: Store with the recurring runs.
        notify: Called with ("submitted", ID) for each run.
    """

    def __init__(self, store: Store, notify: Callable[[str, str], None]):
        self._store = store
        self._notify = notify
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join()

    def changed(self) -> None:
        """Check for due runs now, since runs or recurring runs have changed."""
        with self._wake:
            self._wake.notify_all()

    def _work(self) -> None:
        with self._wake:
            while not self._stopping:
                self.tick(datetime.datetime.now(datetime.timezone.utc))
                self._wake.wait(timeout=0.5)

    def tick(self, now: datetime.datetime) -> None:
        """Submit the runs that are due at a time (UTC)."""
        with self._wake:
            self._submit_due(now)

    def _submit_due(self, now: datetime.datetime) -> None:
        for row in self._store.select("recurring_runs", "mode = 'ENABLE'"):
            first = now + _INITIAL_DELAY if row["no_catchup"] else now
            due = _parse(row["next_at"]) or self._following(row, first)
            if due is None:
                continue
            if due <= now and self._may_run(row):
                if row["no_catchup"]:
                    due = self._last(row, due, now)
                self._fire(row, due)
                due = self._following(row, due)
            self._store.update(
                "recurring_runs", row["id"], next_at=due.strftime(_TIME) if due else None
            )

    def _may_run(self, row: Row) -> bool:
        active = self._store.count(
            "runs",
            "recurring_run_id = ? AND state IN ('PENDING', 'RUNNING', 'CANCELING')",
            [row["id"]],
        )
        return active < row["max_concurrency"]

    def _fire(self, row: Row, due: datetime.datetime) -> None:
        number = row["counter"] + 1
        self._store.update("recurring_runs", row["id"], counter=number)
        run = self._store.add_run(
            **{name: row[name] for name in _COPIED},
            name=run_name(row["name"], row["id"], number),
            recurring_run_id=row["id"],
            scheduled_at=due.strftime(_TIME),
            # The server learns of such a run only when it is running.
            history="[]",
        )
        self._notify("submitted", run["id"])

    def _last(self, row: Row, due: datetime.datetime, now: datetime.datetime) -> datetime.datetime:
        """Return the last time from `due` to `now` at which a recurring run was due."""
        schedule = _schedule(row)
        end = _parse(schedule.get("end_time"))
        until = min(now, end) if end else now
        if "cron" in schedule:
            # The expression is valid, since it was due before.
            times = _times(schedule["cron"], until + datetime.timedelta(seconds=1))
            return max(due, times.get_prev(datetime.datetime))
        interval = datetime.timedelta(seconds=int(schedule["interval_second"]))
        return due + (until - due) // interval * interval

    def _following(self, row: Row, after: datetime.datetime) -> datetime.datetime | None:
        schedule = _schedule(row)
        start, end = _parse(schedule.get("start_time")), _parse(schedule.get("end_time"))
        after = max(after, start) if start else after
        if "cron" in schedule:
            due = next_time(schedule["cron"], after)
        elif "interval_second" in schedule:
            due = after + datetime.timedelta(seconds=int(schedule["interval_second"]))
        else:
            return None
        return None if due is None or (end and due > end) else due


def run_name(schedule: str, identity: str, number: int) -> str:
    """Return the name of a recurring run's run, which is also that of its Argo workflow.

    Args:
        schedule: Name of the recurring run; at most 25 letters, digits and hyphens of it are used.
        identity: ID of the recurring run, used in place of Kubernetes' five random characters.
        number: Number of its runs, including this one.
    """
    plain = re.sub(r"[^a-z0-9-]+", "", schedule.lower())[:25] or "job-"
    resource = f"{plain}{identity[:5]}-{number}"
    return f"{resource}-{_fnv_1a(resource)}"


def _fnv_1a(text: str) -> int:
    """Return the 32-bit FNV-1a hash, which the server appends to workflow names."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def _schedule(row: Row) -> dict[str, Any]:
    """Return a recurring run's cron or periodic schedule; empty without one."""
    trigger = json.loads(row["trigger"])
    return trigger.get("cron_schedule") or trigger.get("periodic_schedule") or {}


def next_time(cron: str, after: datetime.datetime) -> datetime.datetime | None:
    """Return the next time (UTC) of a cron expression with six fields; None if it is invalid.

    Like the server, accept five fields too and read the first as seconds.
    """
    try:
        return _times(cron, after).get_next(datetime.datetime)
    except (ValueError, KeyError):
        return None


def _times(cron: str, start: datetime.datetime) -> croniter:
    fields = cron.split()
    if len(fields) == 5 and not cron.startswith("@"):
        fields = [*fields, "*"]
    return croniter(" ".join(fields), start, second_at_beginning=True)


def _parse(text: str | None) -> datetime.datetime | None:
    if not text:
        return None
    return datetime.datetime.strptime(text, _TIME).replace(tzinfo=datetime.timezone.utc)
