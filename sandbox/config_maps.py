"""Kubernetes' ConfigMaps, as much of its API as keeps writers of a registry apart.

Get, create and replace, with the API server's own answers: tests/sandbox/test_config_maps.py asks a real
one the same. Everything else is forbidden, as it is to an account with rights on ConfigMaps only.
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


class _RefusedError(Exception):
    """The answer that is no."""

    def __init__(self, code: int, reason: str, message: str):
        super().__init__(message)
        self.code, self.reason = code, reason


class ConfigMaps:
    """A WSGI application.

    Args:
        path: the SQLite file.
        token: the bearer token of the one account.
        namespaces: those that exist.
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
        # Read in any case: what is left of a request would be taken for the next one.
        body = request.get_data()
        try:
            with self._lock:
                code, answer = self._answer(request, body)
        except _RefusedError as error:
            code, answer = error.code, _status(error)
        return Response(json.dumps(answer), code, content_type="application/json")(
            environ, start_response
        )

    def _answer(self, request: Request, body: bytes) -> tuple[int, dict[str, Any]]:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), self._authorization.encode()):
            raise _RefusedError(401, "Unauthorized", "Unauthorized")
        match = _PATH.fullmatch(request.path)
        allowed = {"POST": False, "GET": True, "PUT": True}
        if match is None or allowed.get(request.method) is not (match[2] is not None):
            raise _RefusedError(403, "Forbidden", f"{request.path} is forbidden: ConfigMaps only")
        namespace, name = match[1], match[2] or ""
        if request.method == "GET":
            return 200, self._get(namespace, name)
        wanted = _checked(body, namespace, name)
        if request.method == "POST":
            return 201, self._create(namespace, wanted)
        return 200, self._replace(namespace, wanted)

    def _get(self, namespace: str, name: str) -> dict[str, Any]:
        rows = self._database.execute(
            "SELECT body FROM config_maps WHERE namespace = ? AND name = ?", (namespace, name)
        )
        for (body,) in rows:
            return json.loads(body)
        raise _RefusedError(404, "NotFound", f'configmaps "{name}" not found')

    def _create(self, namespace: str, wanted: dict[str, Any]) -> dict[str, Any]:
        metadata = wanted["metadata"]
        if namespace not in self._namespaces:
            raise _RefusedError(404, "NotFound", f'namespaces "{namespace}" not found')
        if metadata.get("resourceVersion"):
            message = "resourceVersion should not be set on objects to be created"
            raise _RefusedError(500, "", message)
        try:
            self._get(namespace, metadata["name"])
        except _RefusedError:
            metadata["uid"] = str(uuid.uuid4())
            return self._store(namespace, wanted)
        message = f'configmaps "{metadata["name"]}" already exists'
        raise _RefusedError(409, "AlreadyExists", message)

    def _replace(self, namespace: str, wanted: dict[str, Any]) -> dict[str, Any]:
        metadata = wanted["metadata"]
        current = self._get(namespace, metadata["name"])
        # Without one it is replaced whatever it is, as in Kubernetes.
        version = metadata.get("resourceVersion") or current["metadata"]["resourceVersion"]
        if version != current["metadata"]["resourceVersion"]:
            raise _RefusedError(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on configmaps "{metadata["name"]}": the object has been '
                "modified; please apply your changes to the latest version and try again",
            )
        metadata["uid"] = current["metadata"]["uid"]
        if wanted.get("data") == current.get("data"):
            # Kubernetes writes nothing then.
            return current
        return self._store(namespace, wanted)

    def _store(self, namespace: str, wanted: dict[str, Any]) -> dict[str, Any]:
        cursor = self._database.execute("INSERT INTO versions DEFAULT VALUES")
        wanted["metadata"] |= {"namespace": namespace, "resourceVersion": str(cursor.lastrowid)}
        self._database.execute(
            "INSERT OR REPLACE INTO config_maps VALUES (?, ?, ?)",
            (namespace, wanted["metadata"]["name"], json.dumps(wanted)),
        )
        return wanted


def _checked(body: bytes, namespace: str, name: str) -> dict[str, Any]:
    """Return the ConfigMap in a request's body."""
    try:
        wanted = json.loads(body)
        metadata, data = wanted["metadata"], wanted.get("data") or {}
        is_text = all(isinstance(value, str) for value in data.values())
    except (ValueError, TypeError, KeyError, AttributeError):
        is_text, wanted, metadata, data = False, {}, {}, {}
    if not is_text or (wanted.get("apiVersion"), wanted.get("kind")) != ("v1", "ConfigMap"):
        raise _RefusedError(400, "BadRequest", "the body is no ConfigMap")
    given = metadata.get("name", "")
    if name and given != name:
        message = f"the name of the object ({given}) does not match the name on the URL ({name})"
        raise _RefusedError(400, "BadRequest", message)
    if metadata.get("namespace", namespace) != namespace:
        message = (
            "the namespace of the provided object does not match the namespace sent on the request"
        )
        raise _RefusedError(400, "BadRequest", message)
    size = sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
    is_valid = len(given) <= 253 and _NAME.fullmatch(given) and all(map(_KEY.fullmatch, data))
    if not is_valid or size > _MAX_BYTES:
        raise _RefusedError(422, "Invalid", f'ConfigMap "{given}" is invalid')
    return wanted


def _status(error: _RefusedError) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": str(error),
        **({"reason": error.reason} if error.reason else {}),
        "code": error.code,
    }
