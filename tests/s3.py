"""S3 servers for tests: a real MinIO, and a proxy that drops conditions."""

import contextlib
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time

import boto3
import httpx
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

MINIO = os.environ.get("MINIO") or shutil.which("minio")
# A release without conditional writes, such as Charmed MinIO's RELEASE.2021-09-03T03-56-13Z.
OLD_MINIO = os.environ.get("OLD_MINIO")
USER, PASSWORD, BUCKET = "minio-user", "minio-password", "mlpipeline"
# Headers that the client signs by default are forwarded unchanged.
_CONDITIONS = {"if-none-match", "if-match"}


@contextlib.contextmanager
def minio(binary, folder):
    """Run a MinIO server with an empty bucket, and yield its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
    # Releases of 2021 also accept these names.
    environment = {**os.environ, "MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD}
    command = [binary, "server", "--quiet", "--address", address, str(folder / "data")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            end = time.monotonic() + 60
            while not _ready(address):
                assert time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.1)
            boto3.client(
                "s3",
                endpoint_url=f"http://{address}",
                aws_access_key_id=USER,
                aws_secret_access_key=PASSWORD,
                region_name="us-east-1",
            ).create_bucket(Bucket=BUCKET)
            yield f"http://{address}"
        finally:
            server.terminate()


def _ready(address):
    with contextlib.suppress(httpx.TransportError):
        url = f"http://{address}/minio/health/ready"
        return httpx.get(url, trust_env=False).status_code == 200


class Unconditional:
    """Forward to an S3 server without the conditions of puts, and sign again.

    `answer` makes it answer conditional puts with a status code instead.
    """

    def __init__(self, upstream, user=USER, password=PASSWORD):
        self.upstream, self.answer, self.dropped = upstream, 0, 0
        credentials = Credentials(user, password)
        proxy = self
        client = httpx.Client(trust_env=False, timeout=30)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): text for name, text in self.headers.items()}
                if self.command == "PUT" and _CONDITIONS & headers.keys():
                    proxy.dropped += 1
                    if proxy.answer:
                        return self.say(proxy.answer, {}, b"<Error><Code>No</Code></Error>")
                    headers = resigned(self.command, headers, self.path, body)
                response = client.request(
                    self.command, proxy.upstream + self.path, headers=headers, content=body
                )
                kept_headers = {
                    name: text
                    for name, text in response.headers.items()
                    if name.lower() not in ("content-length", "transfer-encoding", "connection")
                    or (name.lower() == "content-length" and self.command == "HEAD")
                }
                return self.say(response.status_code, kept_headers, response.content)

            def say(self, status, headers, content):
                self.send_response_only(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                if "content-length" not in {name.lower() for name in headers}:
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_DELETE = do_PUT = forward

            def log_message(self, *_):
                pass

        def resigned(method, headers, path, body):
            """Return a request's headers without conditions, signed again for the client's host."""
            unsigned = {"authorization", "user-agent", "accept", "content-length", "x-amz-date"}
            kept_headers = {name: text for name, text in headers.items() if name not in _CONDITIONS}
            signed = {name: text for name, text in kept_headers.items() if name not in unsigned}
            request = AWSRequest(method, f"http://{headers['host']}{path}", signed, body)
            S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
            return {
                **kept_headers,
                **{name.lower(): text for name, text in request.headers.items()},
            }

        self._client = client
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._client.close()
