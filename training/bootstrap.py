"""Fetch the steps' code by its digest and start a step with it.

Each step of a compiled pipeline begins with the source of this file (`python3 -c`), so it uses only the
standard library and stays small: Argo stores a step's command about six times. It looks for the code
bundle, a tar file that `training.compile` writes, in the image (`IMAGE_FOLDER`) and then at an address,
and refuses a bundle with another digest. With pip, which verifies the hash of each file, it installs
what the bundle's requirements.txt names and the image lacks.

usage: python3 -c SOURCE CODE SHA256 S3_ENDPOINT COMMAND...

CODE is s3://BUCKET/KEY (credentials from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), http(s)://...,
the path of a file, or empty if the image has the bundle. S3_ENDPOINT is empty for Amazon S3.
"""

import datetime
import hashlib
import hmac
import http.client
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NoReturn

IMAGE_FOLDER = "/usr/share/fashion-mnist-trainer/code"
LIMIT = 32 << 20  # bytes
PATIENCE = 300  # seconds that an object storage server may take to restart


def fail(message) -> NoReturn:
    sys.exit(f"cannot get the code bundle: {message}")


def s3_request(address, endpoint):
    bucket, _, key = address[len("s3://") :].partition("/")
    region = os.environ.get("AWS_REGION", "us-east-1")
    endpoint = endpoint or f"https://s3.{region}.amazonaws.com"
    server = urllib.parse.urlsplit(endpoint)
    path = server.path.rstrip("/") + urllib.parse.quote(f"/{bucket}/{key}")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "host": server.netloc,
        "x-amz-content-sha256": hashlib.sha256(b"").hexdigest(),
        "x-amz-date": now,
    }
    if os.environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = os.environ["AWS_SESSION_TOKEN"]
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"GET\n{path}\n\n{lines}\n{names}\n{headers['x-amz-content-sha256']}"
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = b"AWS4" + os.environ.get("AWS_SECRET_ACCESS_KEY", "").encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={os.environ.get('AWS_ACCESS_KEY_ID', '')}/{scope},"
        f"SignedHeaders={names},Signature={key.hex()}"
    )
    return urllib.request.Request(f"{server.scheme}://{server.netloc}{path}", headers=headers)


def fetch(address, endpoint):
    end = time.monotonic() + PATIENCE
    while True:
        request = s3_request(address, endpoint) if address.startswith("s3://") else address
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                content = response.read(LIMIT + 1)
                # The length is what remains of the content if the connection was cut.
                if not response.length or len(content) > LIMIT:
                    return content
            problem = "the response was cut off"
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.read(500).decode(errors='replace')}"
            if error.code < 500 and error.code not in (408, 429):
                fail(f"{address} responds {problem}")
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or repr(error)
        if time.monotonic() > end:
            fail(f"{address} cannot be read: {problem}")
        print(f"waiting for {address}: {problem[:200]}", file=sys.stderr)
        time.sleep(5)


def read(address, sha256, endpoint):
    in_image = Path(IMAGE_FOLDER, sha256)
    if in_image.is_file():
        content = in_image.read_bytes()
    elif not address:
        fail(
            f"the image has no {in_image} and the parameter `code` is empty; rebuild the image or "
            "give the address of the bundle"
        )
    elif "://" in address:
        content = fetch(address, endpoint)
    else:
        content = Path(address).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        fail(f"sha256 of {address or in_image} is {digest}, not {sha256}; upload the right file")
    return content


def unpack(content):
    folder = Path(tempfile.mkdtemp())
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder)
    return folder


def install(requirements, folder):
    options = "--quiet --disable-pip-version-check --no-deps --require-hashes --target".split()
    command = [sys.executable, "-m", "pip", "install", *options, folder, "-r", requirements]
    if subprocess.run(command).returncode:
        fail(
            "the image lacks packages and pip cannot install them: build an image with them and run: "
            "juju config trainer training-image=IMAGE"
        )


def main(address, sha256, endpoint, *command):
    folder = unpack(read(address, sha256, endpoint))
    requirements = folder / "requirements.txt"
    names = {line.partition("==")[0] for line in requirements.read_text().splitlines()}
    if not all(importlib.util.find_spec(name) for name in names):
        install(requirements, folder)
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    # A step that starts other pods passes these on.
    os.environ.update(CODE=address, CODE_SHA256=sha256, CODE_ENDPOINT=endpoint)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
