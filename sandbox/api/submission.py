"""Parts of requests that runs and recurring runs share: specification, parameters, account."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sandbox import specs
from sandbox.api.errors import internal, invalid
from sandbox.store import Row, Store


def specification(store: Store, body: Mapping[str, Any]) -> dict[str, str]:
    """Return the specification that a request contains or names, as columns of a row.

    Raises:
        ApiError: It is missing or invalid.
    """
    if body.get("pipeline_spec"):
        text = specs.compiled(body["pipeline_spec"])
        try:
            specs.check(text)
        except ValueError:
            raise internal(
                "Failed to fetch a template with an invalid pipeline spec manifest: "
                "InvalidInputError: unknown template format: pipeline spec is invalid"
            ) from None
        return {"spec": text, "pipeline_id": "", "version_id": ""}
    version = _version(store, body.get("pipeline_version_reference", {}))
    return {
        "spec": version["spec"],
        "pipeline_id": version["pipeline_id"],
        "version_id": version["id"],
    }


def check_parameters(spec: str, body: Mapping[str, Any]) -> None:
    """Check a request's parameters against a specification.

    Raises:
        ApiError: A parameter is missing, unknown or has another type.
    """
    try:
        specs.check_parameters(spec, body.get("runtime_config", {}).get("parameters", {}))
    except ValueError as error:
        raise invalid(str(error)) from None


def settings(body: Mapping[str, Any], *, multi_user: bool) -> dict[str, str]:
    """Return a request's other settings of the run, as columns of a row."""
    runtime = body.get("runtime_config", {})
    account = "default-editor" if multi_user else "pipeline-runner"
    return {
        "name": body["display_name"],
        "description": body.get("description", ""),
        "parameters": json.dumps(runtime.get("parameters", {})),
        "pipeline_root": runtime.get("pipeline_root", ""),
        "service_account": body.get("service_account") or account,
    }


def _version(store: Store, reference: Mapping[str, str]) -> Row:
    """Return the named version, or the newest of the named pipeline."""
    pipeline_id = reference.get("pipeline_id", "")
    version_id = reference.get("pipeline_version_id", "")
    if version_id:
        version = store.get("versions", version_id)
        subject = f"PipelineVersion {version_id}"
        description = (
            f"pipeline version {version_id}: Failed to get a pipeline version with id {version_id}"
        )
    elif pipeline_id:
        newest = store.select(
            "versions", "pipeline_id = ?", [pipeline_id], order="created_at DESC, id DESC", limit=1
        )
        version = next(iter(newest), None)
        subject = f"Pipeline {pipeline_id}"
        description = (
            f"pipeline {pipeline_id}: Failed to get the latest pipeline version as pipeline was "
            "not found"
        )
    else:
        raise internal(
            "Invalid input error: Failed to fetch a template with an empty pipeline spec manifest"
        )
    if not version:
        raise internal(
            "Failed to fetch a template due to error retrieving pipeline version: "
            f"Failed to fetch a pipeline version and its manifest from {description}: "
            f"ResourceNotFoundError: {subject} not found"
        )
    return version
