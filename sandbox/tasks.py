"""A run's tasks in the server's form: three per step, its driver, itself and its executor."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from sandbox import specs
from sandbox.store import Row, Store

_UNFINISHED = ("PENDING", "RUNNING")
# The server's end time of unfinished tasks.
_NEVER = "0001-01-01T00:00:00Z"


def states(run: Row) -> dict[str, str]:
    """Return the states of a run's steps, as last reported."""
    steps = set(specs.steps(run["spec"]))
    return {
        task["display_name"]: task["state"]
        for task in json.loads(run["tasks"])
        if task["display_name"] in steps
    }


def update_states(store: Store, run: Row, changed: Mapping[str, str]) -> None:
    """Update the states of some of a run's steps; keep the others."""
    previous: dict[str, list[dict[str, Any]]] = {}
    for task in json.loads(run["tasks"]):
        previous.setdefault(task["display_name"], []).append(task)
    now = store.now()
    updated: list[dict[str, Any]] = []

    def add(name: str, state: str) -> None:
        # All executors have the same name, in the order of their steps.
        old = previous[name].pop(0) if previous.get(name) else {}
        if old.get("state") != state:
            old = {
                "run_id": run["id"],
                "task_id": old.get("task_id") or str(uuid.uuid4()),
                "display_name": name,
                "create_time": run["created_at"],
                "start_time": old.get("start_time") or now,
                "end_time": _NEVER if state in _UNFINISHED else now,
                "state": state,
                "state_history": [
                    *old.get("state_history", []),
                    {"update_time": now, "state": state},
                ],
            }
        updated.append(old)

    add("root-driver", "SUCCEEDED")
    for name, state in {**states(run), **changed}.items():
        add(f"{name}-driver", "SUCCEEDED")
        add(name, state)
        add("executor", state)
    store.update("runs", run["id"], tasks=json.dumps(updated))
