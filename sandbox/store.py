"""State of the sandbox, in one SQLite file that is written at every change.

Killing the process loses nothing; a power failure may lose the last changes.
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

# The specification, which is large, is the last column: SQLite reads a row only as far as needed.
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
    """Return the current time, UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


class TakenError(Exception):
    """The name is taken."""


class Store:
    """The tables; safe to use from several threads.

    Args:
        path: SQLite file; created if needed.
        clock: Returns the creation time, UTC, of new rows.
        ids: Returns IDs of new rows.
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
        """Return the time in the server's format: UTC, whole seconds."""
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def add(self, table: str, **values: object) -> Row:
        """Insert a row with a new ID; raise TakenError if its name exists."""
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
        """Return the rows that match, in order."""
        with self._lock:
            rows = self._database.execute(
                f"SELECT * FROM {table} WHERE {where} ORDER BY {order} LIMIT {limit}",  # noqa: S608
                list(values),
            ).fetchall()
        return [dict(row) for row in rows]

    def count(self, table: str, where: str = "1", values: Sequence[object] = ()) -> int:
        """Return the number of rows that match."""
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
        """Delete rows; return their number."""
        with self._lock:
            return self._database.execute(
                f"DELETE FROM {table} WHERE {where}",  # noqa: S608
                list(values),
            ).rowcount

    def add_run(self, *, experiment_id: str, **values: object) -> Row:
        """Insert a pending run."""
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
        """Archive an experiment with its runs, and disable its recurring runs, in one transaction."""
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
        """Set an unfinished run to CANCELING, without a history entry; return False if it has ended."""
        with self._lock:
            run = self.get("runs", run_id)
            if run is None or run["state"] not in ("PENDING", "RUNNING"):
                return False
            self.update("runs", run_id, state="CANCELING")
            return True

    def set_run_state(self, run_id: str, state: str, *, expected: Sequence[str] = ()) -> bool:
        """Set a run's state, with a history entry; return False if its state is not in `expected`."""
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
