"""The bootstrap of each step: it runs only the code bundle with its digest."""

import hashlib
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import obstore
import pytest

from fashion_mnist.storage import open_store
from training import compile as compiling

ECHO = "import json, os, sys, hello; print(json.dumps([hello.WORLD, os.environ['CODE_SHA256']]))"


def tar(**files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/") if "__" in name else name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


BUNDLE = tar(**{"hello.py": "WORLD = 'world'\n", "requirements.txt": "pip==1 --hash=sha256:0\n"})
DIGEST = hashlib.sha256(BUNDLE).hexdigest()


@pytest.fixture
def start(tmp_path):
    """Start a step as its container does, in a separate folder and environment."""

    def run(address, digest=DIGEST, endpoint="", source=None, **environment):
        command = [sys.executable, "-c", source or compiling.bootstrap(), address, digest, endpoint]
        variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment}
        return subprocess.run(
            [*command, sys.executable, "-c", ECHO],
            env=variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_bundle_is_read_from_a_file(start, tmp_path):
    (tmp_path / "bundle").write_bytes(BUNDLE)
    step = start(str(tmp_path / "bundle"))
    assert step.stdout == f'["world", "{DIGEST}"]\n', step.stderr


def test_bundle_is_read_from_object_storage_with_the_keys(start, s3):
    address, endpoint = s3
    place = "a b/code+1/" + DIGEST
    obstore.put(open_store(address, endpoint), place, BUNDLE)
    keys = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    step = start(f"{address}/{place}", endpoint=endpoint, **keys)
    assert step.stdout == f'["world", "{DIGEST}"]\n', step.stderr


def test_missing_bundle_is_an_error_at_once(start, s3):
    address, endpoint = s3
    keys = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    step = start(f"{address}/code/{DIGEST}", endpoint=endpoint, **keys)
    assert step.returncode == 1
    assert f"{address}/code/{DIGEST} responds 404" in step.stderr
    assert "Traceback" not in step.stderr


def test_bundle_of_another_digest_is_refused(start, tmp_path):
    (tmp_path / "bundle").write_bytes(BUNDLE + b"\0")
    step = start(str(tmp_path / "bundle"))
    assert step.returncode == 1
    assert f"not {DIGEST}; upload the right file" in step.stderr
    assert "world" not in step.stdout


def test_image_with_the_bundle_needs_no_address(start, tmp_path):
    # GIVEN an image that contains the bundle
    (tmp_path / DIGEST).write_bytes(BUNDLE)
    folder = "/usr/share/fashion-mnist-trainer/code"
    assert folder in compiling.bootstrap()
    source = compiling.bootstrap().replace(folder, str(tmp_path))
    assert start("", source=source).stdout == f'["world", "{DIGEST}"]\n'
    # WHEN the image contains another bundle
    step = start("", digest="0" * 64, source=source)
    # THEN the error names the remedy
    assert step.returncode == 1
    assert "the parameter `code` is empty; rebuild the image" in step.stderr


def test_missing_package_is_installed_by_its_hash_or_the_error_says_what_to_do(start, tmp_path):
    bundle = tar(**{"hello.py": "WORLD = 1\n", "requirements.txt": "absent==1 --hash=sha256:00\n"})
    (tmp_path / "bundle").write_bytes(bundle)
    step = start(
        str(tmp_path / "bundle"),
        hashlib.sha256(bundle).hexdigest(),
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_RETRIES="0",
    )
    assert step.returncode == 1
    assert "juju config trainer training-image=IMAGE" in step.stderr


def test_image_is_built_with_the_folder_that_the_bootstrap_reads():
    dockerfile = (Path(compiling.ROOT) / "training" / "Dockerfile").read_text()
    assert "/usr/share/fashion-mnist-trainer/code/" in dockerfile


class Server:
    """An HTTP server that sends the next of some raw responses to each request."""

    def __init__(self, *responses):
        self.requests = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, args=(responses,), daemon=True).start()

    def _serve(self, responses):
        for response in responses:
            connection, _ = self._listener.accept()
            with connection:
                self.requests.append(connection.recv(65536).decode())
                connection.sendall(response)


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BUNDLE), BUNDLE)


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
        GOOD[:-1000],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc",
        b"no HTTP\r\n",
        b"",
    ],
    ids=["503", "429", "cut off", "chunk cut off", "garbage", "nothing"],
)
def test_unreachable_server_is_retried(start, first):
    server = Server(first, GOOD)
    step = start(f"{server.url}/{DIGEST}")
    assert step.stdout == f'["world", "{DIGEST}"]\n', step.stderr
    assert "waiting for" in step.stderr


def test_path_of_the_endpoint_is_signed(start):
    server = Server(GOOD)
    step = start(f"s3://b/{DIGEST}", endpoint=f"{server.url}/minio/", AWS_ACCESS_KEY_ID="k")
    assert step.returncode == 0, step.stderr
    assert server.requests[0].startswith(f"GET /minio/b/{DIGEST} HTTP/1.1\r\n")
