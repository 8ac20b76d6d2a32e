"""Recurring runs that fire: the scheduled-workflow controller's part."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable

from croniter import croniter

from sandbox.store import Row, Store

# What a run has from its recurring run.
_PASSED_ON = (
    "namespace",
    "experiment_id",
    "pipeline_id",
    "version_id",
    "spec",
    "parameters",
    "pipeline_root",
    "service_account",
)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class Scheduler:
    """Submits the runs of enabled recurring runs when their time has come.

    A recurring run has at most `max_concurrency` active runs; while it has them it waits. With
    no_catchup, times that passed in the meantime give one run.

    Args:
        store: where the recurring runs are.
        notify: called with ("submitted", id) of each run.
    """

    def __init__(self, store: Store, notify: Callable[[str, str], None]):
        self._store = store
        self._notify = notify
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join()

    def changed(self) -> None:
        """Hear that recurring runs or runs have changed."""
        with self._wake:
            self._wake.notify_all()

    def _work(self) -> None:
        with self._wake:
            while not self._stopping:
                self.tick(datetime.datetime.now(datetime.timezone.utc))
                self._wake.wait(timeout=0.5)

    def tick(self, now: datetime.datetime) -> None:
        """Submit what is due at this time (UTC)."""
        for row in self._store.select("recurring_runs", "mode = 'ENABLE'"):
            due = _parse(row["next_at"]) or self._following(row, now)
            if due is None:
                continue
            if due <= now and self._may_run(row):
                self._fire(row, due)
                start = now if row["no_catchup"] else due
                due = self._following(row, start)
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
            **{name: row[name] for name in _PASSED_ON},
            name=f"{row['name']} {number}",
            description=row["description"],
            recurring_run_id=row["id"],
            scheduled_at=due.strftime(_TIME),
        )
        self._notify("submitted", run["id"])

    def _following(self, row: Row, after: datetime.datetime) -> datetime.datetime | None:
        trigger = json.loads(row["trigger"])
        schedule = trigger.get("cron_schedule") or trigger.get("periodic_schedule") or {}
        start, end = _parse(schedule.get("start_time")), _parse(schedule.get("end_time"))
        after = max(after, start) if start else after
        if "cron" in schedule:
            due = next_time(schedule["cron"], after)
        elif "interval_second" in schedule:
            due = after + datetime.timedelta(seconds=int(schedule["interval_second"]))
        else:
            return None
        return None if due is None or (end and due > end) else due


def next_time(cron: str, after: datetime.datetime) -> datetime.datetime | None:
    """When a cron expression fires next (UTC): six fields, seconds first; None: it cannot be read.

    The server takes five fields too, and reads the first as seconds.
    """
    fields = cron.split()
    if len(fields) == 5 and not cron.startswith("@"):
        fields = [*fields, "*"]
    try:
        return croniter(" ".join(fields), after, second_at_beginning=True).get_next(
            datetime.datetime
        )
    except (ValueError, KeyError):
        return None


def _parse(text: str | None) -> datetime.datetime | None:
    if not text:
        return None
    return datetime.datetime.strptime(text, _TIME).replace(tzinfo=datetime.timezone.utc)
