"""What the sandbox remembers: one SQLite file, written through at every change.

A kill loses nothing; a power cut may lose the last changes.
"""

from __future__ import annotations

import datetime
import json
import sqlite3
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# A specification, which is large, comes last: SQLite reads a row up to the column that it wants.
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS pipelines (
    id TEXT PRIMARY KEY, namespace TEXT, name TEXT, display_name TEXT, description TEXT,
    created_at TEXT, UNIQUE (namespace, name));
CREATE TABLE IF NOT EXISTS versions (
    id TEXT PRIMARY KEY, pipeline_id TEXT, name TEXT, display_name TEXT, description TEXT,
    created_at TEXT, spec TEXT, UNIQUE (pipeline_id, name));
CREATE TABLE IF NOT EXISTS experiments (
    id TEXT PRIMARY KEY, namespace TEXT, name TEXT, description TEXT, created_at TEXT,
    storage_state TEXT, last_run_created_at TEXT, UNIQUE (namespace, name));
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, namespace TEXT, experiment_id TEXT, name TEXT, description TEXT,
    pipeline_id TEXT, version_id TEXT, parameters TEXT, pipeline_root TEXT,
    service_account TEXT, created_at TEXT, scheduled_at TEXT, finished_at TEXT, state TEXT,
    history TEXT, storage_state TEXT, tasks TEXT, recurring_run_id TEXT, spec TEXT);
CREATE INDEX IF NOT EXISTS runs_by_age ON runs (experiment_id, created_at, id);
CREATE INDEX IF NOT EXISTS runs_by_name_nocase ON runs (experiment_id, name COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS runs_by_turn ON runs (state, created_at, id);
CREATE TABLE IF NOT EXISTS recurring_runs (
    id TEXT PRIMARY KEY, namespace TEXT, experiment_id TEXT, name TEXT, description TEXT,
    pipeline_id TEXT, version_id TEXT, parameters TEXT, pipeline_root TEXT,
    service_account TEXT, created_at TEXT, updated_at TEXT, max_concurrency INTEGER,
    trigger TEXT, mode TEXT, no_catchup INTEGER, next_at TEXT, counter INTEGER DEFAULT 0, spec TEXT);
"""

Row = dict[str, Any]


def utc_now() -> datetime.datetime:
    """Return the current time."""
    return datetime.datetime.now(datetime.timezone.utc)


class TakenError(Exception):
    """The name is taken."""


class Store:
    """The tables, safe for many threads.

    Args:
        path: the SQLite file; made when it is not there.
        clock: tells the time, UTC, in which things are made.
        ids: gives things their ids.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], datetime.datetime] = utc_now,
        ids: Callable[[], uuid.UUID] = uuid.uuid4,
    ):
        self._clock = clock
        self._ids = ids
        self._lock = threading.RLock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.executescript(_SCHEMA)

    def now(self) -> str:
        """Return the time as the server writes it: UTC, whole seconds."""
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def add(self, table: str, **values: object) -> Row:
        """Insert a row with an id of its own; TakenError when its name is there already."""
        row = {"id": str(self._ids()), **values}
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        with self._lock:
            try:
                self._database.execute(
                    f"INSERT INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608
                    list(row.values()),
                )
            except sqlite3.IntegrityError as error:
                raise TakenError(str(values.get("name"))) from error
        stored = self.get(table, row["id"])
        assert stored  # noqa: S101
        return stored

    def get(self, table: str, identity: str) -> Row | None:
        """Return the row with this id."""
        return self.first(table, "id = ?", identity)

    def first(self, table: str, where: str, *values: object) -> Row | None:
        """Return the first row that matches."""
        return next(iter(self.select(table, where, values, limit=1)), None)

    def select(
        self,
        table: str,
        where: str = "1",
        values: Sequence[object] = (),
        *,
        order: str = "created_at, id",
        limit: int = -1,
    ) -> list[Row]:
        """Rows that match, in order."""
        with self._lock:
            rows = self._database.execute(
                f"SELECT * FROM {table} WHERE {where} ORDER BY {order} LIMIT {limit}",  # noqa: S608
                list(values),
            ).fetchall()
        return [dict(row) for row in rows]

    def count(self, table: str, where: str = "1", values: Sequence[object] = ()) -> int:
        """How many rows match."""
        with self._lock:
            row = self._database.execute(
                f"SELECT count(*) FROM {table} WHERE {where}",  # noqa: S608
                list(values),
            ).fetchone()
        return int(row[0])

    def update(self, table: str, identity: str, **values: object) -> None:
        """Change columns of a row."""
        columns = ", ".join(f"{name} = ?" for name in values)
        with self._lock:
            self._database.execute(
                f"UPDATE {table} SET {columns} WHERE id = ?",  # noqa: S608
                [*values.values(), identity],
            )

    def delete(self, table: str, where: str, *values: object) -> int:
        """Remove rows; returns how many."""
        with self._lock:
            return self._database.execute(
                f"DELETE FROM {table} WHERE {where}",  # noqa: S608
                list(values),
            ).rowcount

    def add_run(self, *, experiment_id: str, **values: object) -> Row:
        """Insert a run that waits for its turn."""
        with self._lock:
            now = self.now()
            run = self.add(
                "runs",
                **{
                    "recurring_run_id": "",
                    "scheduled_at": now,
                    "history": json.dumps([{"update_time": now, "state": "PENDING"}]),
                    **values,
                },
                experiment_id=experiment_id,
                created_at=now,
                state="PENDING",
                storage_state="AVAILABLE",
                tasks="[]",
            )
            self.update("experiments", experiment_id, last_run_created_at=now)
        return run

    def archive_experiment(self, experiment_id: str) -> None:
        """Archive an experiment with its runs, and disable its recurring runs, all or nothing."""
        with self._lock, self._database:
            self._database.execute("BEGIN")
            for statement in (
                "UPDATE experiments SET storage_state = 'ARCHIVED' WHERE id = :id",
                "UPDATE runs SET storage_state = 'ARCHIVED' WHERE experiment_id = :id",
                "UPDATE recurring_runs SET mode = 'DISABLE', updated_at = :now "
                "WHERE experiment_id = :id",
            ):
                self._database.execute(statement, {"id": experiment_id, "now": self.now()})

    def cancel_run(self, run_id: str) -> bool:
        """Put a run that has not ended into CANCELING, without its history; False when it has."""
        with self._lock:
            run = self.get("runs", run_id)
            if run is None or run["state"] not in ("PENDING", "RUNNING"):
                return False
            self.update("runs", run_id, state="CANCELING")
            return True

    def move_run(self, run_id: str, state: str, *, expected: Sequence[str] = ()) -> bool:
        """Put a run into a state, with its history; False when it is in none of `expected`."""
        with self._lock:
            run = self.get("runs", run_id)
            if run is None or (expected and run["state"] not in expected):
                return False
            history = json.loads(run["history"])
            if run["state"] == state and history and history[-1]["state"] == state:
                return True
            if not history or history[-1]["state"] != state:
                history.append({"update_time": self.now(), "state": state})
            final = state in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
            self.update(
                "runs",
                run_id,
                state=state,
                history=json.dumps(history),
                finished_at=self.now() if final else None,
            )
            return True
