"""The part of Kubernetes' API that safe writes to a registry need: ConfigMaps.

It implements get, create and replace with the API server's responses; tests/sandbox/test_config_maps.py
sends the same requests to a real one. Everything else is forbidden, as for an account with permissions
on ConfigMaps only.
"""

from __future__ import annotations

import hmac
import json
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from werkzeug import Request, Response

_PATH = re.compile(r"/api/v1/namespaces/([^/]+)/configmaps(?:/([^/]+))?")
# https://github.com/kubernetes/kubernetes/blob/v1.33.0/pkg/apis/core/validation/validation.go
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_MAX_BYTES = 1024 * 1024


class _StatusError(Exception):
    """An error response."""

    def __init__(self, code: int, reason: str, message: str):
        super().__init__(message)
        self.code, self.reason = code, reason


class ConfigMaps:
    """A WSGI application.

    Args:
        path: SQLite file.
        token: Bearer token of the only account.
        namespaces: Namespaces that exist.
    """

    def __init__(self, path: Path, token: str, namespaces: Collection[str]):
        self._authorization = f"Bearer {token}"
        self._namespaces = namespaces
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = WAL;"
            "CREATE TABLE IF NOT EXISTS config_maps"
            " (namespace TEXT, name TEXT, body TEXT, PRIMARY KEY (namespace, name));"
            "CREATE TABLE IF NOT EXISTS versions (number INTEGER PRIMARY KEY AUTOINCREMENT);"
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        # Always read the body: the rest of a request would be parsed as the next one.
        body = request.get_data()
        try:
            with self._lock:
                code, content = self._handle(request, body)
        except _StatusError as error:
            code, content = error.code, _status(error)
        return Response(json.dumps(content), code, content_type="application/json")(
            environ, start_response
        )

    def _handle(self, request: Request, body: bytes) -> tuple[int, dict[str, Any]]:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), self._authorization.encode()):
            raise _StatusError(401, "Unauthorized", "Unauthorized")
        match = _PATH.fullmatch(request.path)
        allowed = {"POST": False, "GET": True, "PUT": True}
        if match is None or allowed.get(request.method) is not (match[2] is not None):
            raise _StatusError(403, "Forbidden", f"{request.path} is forbidden: ConfigMaps only")
        namespace, name = match[1], match[2] or ""
        if request.method == "GET":
            return 200, self._get(namespace, name)
        desired = _checked(body, namespace, name)
        if request.method == "POST":
            return 201, self._create(namespace, desired)
        return 200, self._replace(namespace, desired)

    def _get(self, namespace: str, name: str) -> dict[str, Any]:
        rows = self._database.execute(
            "SELECT body FROM config_maps WHERE namespace = ? AND name = ?", (namespace, name)
        )
        for (body,) in rows:
            return json.loads(body)
        raise _StatusError(404, "NotFound", f'configmaps "{name}" not found')

    def _create(self, namespace: str, desired: dict[str, Any]) -> dict[str, Any]:
        metadata = desired["metadata"]
        if namespace not in self._namespaces:
            raise _StatusError(404, "NotFound", f'namespaces "{namespace}" not found')
        if metadata.get("resourceVersion"):
            message = "resourceVersion should not be set on objects to be created"
            raise _StatusError(500, "", message)
        try:
            self._get(namespace, metadata["name"])
        except _StatusError:
            metadata["uid"] = str(uuid.uuid4())
            return self._store(namespace, desired)
        message = f'configmaps "{metadata["name"]}" already exists'
        raise _StatusError(409, "AlreadyExists", message)

    def _replace(self, namespace: str, desired: dict[str, Any]) -> dict[str, Any]:
        metadata = desired["metadata"]
        current = self._get(namespace, metadata["name"])
        # Like Kubernetes, replace any version if none is given.
        version = metadata.get("resourceVersion") or current["metadata"]["resourceVersion"]
        if version != current["metadata"]["resourceVersion"]:
            raise _StatusError(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on configmaps "{metadata["name"]}": the object has been '
                "modified; please apply your changes to the latest version and try again",
            )
        metadata["uid"] = current["metadata"]["uid"]
        if desired.get("data") == current.get("data"):
            # Kubernetes writes nothing if nothing changes.
            return current
        return self._store(namespace, desired)

    def _store(self, namespace: str, desired: dict[str, Any]) -> dict[str, Any]:
        cursor = self._database.execute("INSERT INTO versions DEFAULT VALUES")
        desired["metadata"] |= {"namespace": namespace, "resourceVersion": str(cursor.lastrowid)}
        self._database.execute(
            "INSERT OR REPLACE INTO config_maps VALUES (?, ?, ?)",
            (namespace, desired["metadata"]["name"], json.dumps(desired)),
        )
        return desired


def _checked(body: bytes, namespace: str, name: str) -> dict[str, Any]:
    """Return the ConfigMap in a request's body."""
    try:
        desired = json.loads(body)
        metadata, data = desired["metadata"], desired.get("data") or {}
        is_text = all(isinstance(value, str) for value in data.values())
    except (ValueError, TypeError, KeyError, AttributeError):
        is_text, desired, metadata, data = False, {}, {}, {}
    if not is_text or (desired.get("apiVersion"), desired.get("kind")) != ("v1", "ConfigMap"):
        raise _StatusError(400, "BadRequest", "the body is not a ConfigMap")
    given = metadata.get("name", "")
    if name and given != name:
        message = f"the name of the object ({given}) does not match the name on the URL ({name})"
        raise _StatusError(400, "BadRequest", message)
    if metadata.get("namespace", namespace) != namespace:
        message = (
            "the namespace of the provided object does not match the namespace sent on the request"
        )
        raise _StatusError(400, "BadRequest", message)
    size = sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
    is_valid = len(given) <= 253 and _NAME.fullmatch(given) and all(map(_KEY.fullmatch, data))
    if not is_valid or size > _MAX_BYTES:
        raise _StatusError(422, "Invalid", f'ConfigMap "{given}" is invalid')
    return desired


def _status(error: _StatusError) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": str(error),
        **({"reason": error.reason} if error.reason else {}),
        "code": error.code,
    }
