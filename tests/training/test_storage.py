"""Temporarily unreachable object storage is retried."""

import datetime
import http.server
import threading
import time

import obstore
import pytest

from fashion_mnist import storage


class Starting(http.server.BaseHTTPRequestHandler):
    """An S3 server that responds 503 a number of times before it has the object."""

    left = 0

    def do_GET(self):
        Starting.left -= 1
        body = (
            b"model" if Starting.left < 0 else b"<Error><Code>ServerNotInitialized</Code></Error>"
        )
        self.send_response(200 if Starting.left < 0 else 503)
        for name, value in (
            ("content-length", str(len(body))),
            ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("etag", '"x"'),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "x")


@pytest.fixture
def starting():
    """The endpoint of a starting server that outlasts obstore's ten attempts."""
    Starting.left = 14
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Starting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_restarting_server_is_retried(starting):
    store = storage.open_store("s3://mlpipeline/models", starting)
    assert bytes(obstore.get(store, "x").bytes()) == b"model"


@pytest.mark.parametrize("address", ["", "gs://bucket/models"])
def test_invalid_storage_address_is_rejected(address):
    with pytest.raises(ValueError, match="is not s3://BUCKET/PREFIX or a directory"):
        storage.open_store(address)


def test_unreachable_server_is_reported_after_retries(monkeypatch):
    monkeypatch.setattr(storage, "PATIENCE", datetime.timedelta(seconds=1))
    store = storage.open_store("s3://mlpipeline/models", "http://127.0.0.1:1")
    began = time.monotonic()
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.get(store, "x")
    assert time.monotonic() - began < 30
