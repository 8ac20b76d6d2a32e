"""An S3 server: moto's, with objects persisted in SQLite."""

from __future__ import annotations

import functools
import io
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import flask
from moto.server import create_backend_app
from werkzeug.test import Client

# moto needs credentials to read, but checks no signature.
_HEADERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=sandbox/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=none"
}
_KEY = re.compile(rb"<Key>(.*?)</Key>", re.DOTALL)


class PersistentS3:
    """A WSGI application that implements S3.

    After each change, read the object from moto and write it to the file; at the start, put the file's
    objects into moto. moto has one set of buckets per process, so there can be only one instance at a
    time. Writes are serialized, which makes conditional puts atomic.

    Args:
        path: SQLite file.
        ignores_conditions: Ignore the conditions of puts, as MinIO did before RELEASE.2024-05-07.
    """

    def __init__(self, path: Path, *, ignores_conditions: bool = False):
        self._ignores_conditions = ignores_conditions
        self._app = _moto("s3")
        self._client = Client(self._app)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = WAL;"
            "PRAGMA synchronous = NORMAL;"
            "CREATE TABLE IF NOT EXISTS objects (path TEXT PRIMARY KEY, type TEXT, content BLOB);"
        )
        Client(_moto("moto_api")).post("/moto-api/reset")
        for path_, kind, content in self._database.execute(
            "SELECT path, type, content FROM objects ORDER BY length(path)"
        ):
            self._client.put(path_, data=content, content_type=kind, headers=_HEADERS)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def make_bucket(self, name: str) -> None:
        """Create a bucket if it does not exist."""
        if self._client.head(f"/{name}").status_code == 404:
            self._client.put(f"/{name}")
            self._persist(f"/{name}")

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._app(environ, start_response)
        if self._ignores_conditions:
            for header in ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"):
                environ.pop(header, None)
        with self._lock:
            path = quote(environ["PATH_INFO"].encode("latin-1"))
            changed = [path]
            if "delete" in environ.get("QUERY_STRING", "").split("&"):
                changed = [f"{path.rstrip('/')}/{key}" for key in _keys(environ)]
            body = b"".join(self._app(environ, start_response))
            for changed_path in changed:
                self._persist(changed_path)
        return [body]

    def _persist(self, path: str) -> None:
        """Copy an object from moto to the file, or delete it there."""
        response = self._client.get(path, headers=_HEADERS)
        if response.status_code == 200:
            content = b"" if path.strip("/").count("/") == 0 else response.data
            self._database.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?)",
                (path, response.content_type, content),
            )
        else:
            self._database.execute("DELETE FROM objects WHERE path = ?", (path,))


@functools.cache
def _moto(service: Literal["s3", "moto_api"]) -> flask.Flask:
    """Return one of moto's applications, whose state is global to the process."""
    return create_backend_app(service)


def _keys(environ: dict[str, Any]) -> list[str]:
    """Return the keys in the body of a multi-object delete; leave the body readable."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return [quote(unquote(key.decode())) for key in _KEY.findall(body)]
