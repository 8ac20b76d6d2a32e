"""Read a request's body: a JSON object, parsed like protobuf's, or an uploaded file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import flask

from sandbox.api.errors import ApiError, UploadError, unreadable

# Fields that the server accepts, with their types.
_NAMED = {"display_name": str, "name": str, "description": str, "namespace": str}
EXPERIMENT = {**_NAMED, "experiment_id": str, "storage_state": str}
PIPELINE = {**_NAMED, "pipeline_id": str}
VERSION = {**_NAMED, "pipeline_id": str, "package_url": dict, "code_source_url": str}
RUN = {
    "run_id": str,
    "experiment_id": str,
    "display_name": str,
    "description": str,
    "storage_state": str,
    "pipeline_version_id": str,
    "pipeline_version_reference": dict,
    "pipeline_spec": dict,
    "runtime_config": dict,
    "service_account": str,
}
RECURRING_RUN = {
    **RUN,
    "recurring_run_id": str,
    "max_concurrency": object,
    "trigger": dict,
    "mode": str,
    "no_catchup": bool,
    "namespace": str,
}
_MODES = ("ENABLE", "DISABLE", "MODE_UNSPECIFIED")


def read(fields: Mapping[str, type]) -> dict[str, Any]:
    """Return the request's JSON object, validated like the server, with fields in snake case.

    Raises:
        ApiError: It is not a JSON object, or has a field or value that the server rejects.
    """
    text = flask.request.get_data(as_text=True)
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError:
        raise unreadable(_syntax(text.strip())) from None
    if not isinstance(document, dict):
        raise unreadable(f"proto: syntax error (line 1:1): unexpected token {text.strip()[0]}")
    body: dict[str, Any] = {}
    for key, value in document.items():
        name = _snake_case(key)
        position = text.find(f'"{key}"') + 1
        if name not in fields:
            raise _error_at(position, f'unknown field "{key}"')
        if value is None:
            continue
        kind = fields[name]
        if not isinstance(value, kind) or (kind is str and isinstance(value, bool)):
            raise _type_error(text, position, name, kind, value)
        if name == "mode" and value not in _MODES:
            value_position = text.find(json.dumps(value), position) + 1
            raise _error_at(value_position, f'invalid value for enum field mode: "{value}"')
        body[name] = snake_case(value) if name == "pipeline_version_reference" else value
    return body


def snake_case(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with fields in snake case; the server accepts camel case too."""
    return {_snake_case(key): value for key, value in fields.items()}


def uploaded() -> tuple[str, str]:
    """Return the uploaded file: (content, file name).

    Raises:
        UploadError: There is no file, or the server would reject it.
    """
    file = flask.request.files.get("uploadfile")
    if file is None:
        raise UploadError(400, "Failed to read pipeline from file")
    filename = file.filename or ""
    if not filename.endswith((".yaml", ".yml", ".zip", ".tar.gz", ".json")):
        raise UploadError(400, "Failed to read a pipeline spec file")
    return file.read().decode("utf-8", errors="replace"), filename


def _snake_case(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match.group().lower(), name)


def _camel_case(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name)


def _error_at(position: int, message: str) -> ApiError:
    return unreadable(f"proto: (line 1:{position}): {message}")


def _type_error(text: str, position: int, name: str, kind: type, value: object) -> ApiError:
    """Return the error for a value of the wrong type; Go reports where the value begins."""
    value_position = text.find(":", position) + 1
    value_position += len(text[value_position:]) - len(text[value_position:].lstrip()) + 1
    word = {str: "string", bool: "bool"}.get(kind, "message")
    return _error_at(
        value_position, f"invalid value for {word} field {_camel_case(name)}: {json.dumps(value)}"
    )


def _syntax(text: str) -> str:
    """Return what Go's decoder reports for text that is not JSON."""
    following = text[1:].lstrip()[:1]
    if text[0] == "{" and following not in ('"', "}", ""):
        return f"invalid character '{following}' looking for beginning of object key string"
    if text[0] not in '{["-0123456789tfn':
        return f"invalid character '{text[0]}' looking for beginning of value"
    return "unexpected end of JSON input"
