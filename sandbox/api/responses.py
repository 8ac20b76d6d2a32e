"""Format objects for responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sandbox import specs
from sandbox.store import Row

# The server's value of an unset time.
EPOCH = "1970-01-01T00:00:00Z"


def pipeline(row: Row) -> dict[str, Any]:
    """Return a pipeline."""
    return _filled(
        pipeline_id=row["id"],
        display_name=row["display_name"],
        name=row["name"],
        description=row["description"],
        created_at=row["created_at"],
        namespace=row["namespace"],
    )


def version(row: Row) -> dict[str, Any]:
    """Return a version of a pipeline."""
    return _filled(
        pipeline_id=row["pipeline_id"],
        pipeline_version_id=row["id"],
        display_name=row["display_name"],
        name=row["name"],
        description=row["description"],
        created_at=row["created_at"],
        pipeline_spec=specs.as_json(row["spec"]),
    )


def experiment(row: Row) -> dict[str, Any]:
    """Return an experiment."""
    return _filled(
        experiment_id=row["id"],
        display_name=row["name"],
        description=row["description"],
        created_at=row["created_at"],
        namespace=row["namespace"],
        storage_state=row["storage_state"],
        last_run_created_at=row["last_run_created_at"],
    )


def run(row: Row) -> dict[str, Any]:
    """Return a run."""
    tasks = json.loads(row["tasks"])
    return _filled(
        experiment_id=row["experiment_id"],
        run_id=row["id"],
        display_name=row["name"],
        description=row["description"],
        storage_state=row["storage_state"],
        **_source(row),
        runtime_config=_runtime(row),
        service_account=row["service_account"],
        created_at=row["created_at"],
        scheduled_at=row["scheduled_at"],
        finished_at=row["finished_at"] or EPOCH,
        state=row["state"],
        run_details={"task_details": tasks} if tasks else None,
        recurring_run_id=row["recurring_run_id"],
        state_history=json.loads(row["history"]),
    )


def recurring_run(row: Row) -> dict[str, Any]:
    """Return a recurring run."""
    return _filled(
        recurring_run_id=row["id"],
        display_name=row["name"],
        description=row["description"],
        **_source(row),
        runtime_config=_runtime(row),
        service_account=row["service_account"],
        max_concurrency=str(row["max_concurrency"]),
        mode=row["mode"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        status="ENABLED" if row["mode"] == "ENABLE" else "DISABLED",
        no_catchup=bool(row["no_catchup"]) or None,
        namespace=row["namespace"],
        experiment_id=row["experiment_id"],
        trigger=_trigger(json.loads(row["trigger"])),
    )


def _filled(**values: Any) -> dict[str, Any]:
    """Return the fields that are not empty, like the server."""
    return {key: value for key, value in values.items() if value not in ("", None, [], {})}


def _source(row: Row) -> dict[str, Any]:
    if row["version_id"]:
        return {
            "pipeline_version_reference": {
                "pipeline_id": row["pipeline_id"],
                "pipeline_version_id": row["version_id"],
            }
        }
    return {"pipeline_spec": specs.as_json(row["spec"])}


def _runtime(row: Row) -> dict[str, Any]:
    return _filled(parameters=json.loads(row["parameters"]), pipeline_root=row["pipeline_root"])


def _trigger(trigger: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trigger in the server's form, with 64-bit integers as strings."""
    return {
        kind: {
            key: str(value) if key == "interval_second" else value for key, value in values.items()
        }
        for kind, values in trigger.items()
    }
