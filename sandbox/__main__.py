"""`python -m sandbox`: serve until stopped.

The S3 server's credentials are read from the environment variables SANDBOX_ACCESS_KEY and
SANDBOX_SECRET_KEY, or from ROOT/keys.json, ["ACCESS KEY", "SECRET KEY"], which is created if needed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from pathlib import Path

from sandbox import HOST, Sandbox, User

KEYS = "SANDBOX_ACCESS_KEY", "SANDBOX_SECRET_KEY"


def main() -> None:
    """Serve until SIGINT or SIGTERM; print the addresses when ready."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(".demo/sandbox"), help="folder for state")
    parser.add_argument(
        "--host",
        default=HOST,
        help="address to listen on; use only loopback unless everyone on the network is trusted",
    )
    parser.add_argument("--api-port", type=int, default=8888)
    parser.add_argument("--s3-port", type=int, default=9000)
    parser.add_argument("--no-execute", action="store_true", help="leave runs pending")
    parser.add_argument("--limit", type=int, default=1, help="maximum number of concurrent runs")
    parser.add_argument(
        "--users",
        type=Path,
        help="serve multiple users, from this file: "
        '[{"name": NAME, "token": TOKEN, "roles": {NAMESPACE: "edit" or "view"}}]',
    )
    parser.add_argument(
        "--s3-without-conditional-writes",
        action="store_true",
        help="ignore If-None-Match in the S3 server, like Charmed MinIO, and serve ConfigMaps instead, "
        "with ROOT/kubeconfig",
    )
    options = parser.parse_args()
    users = options.users and [User(**user) for user in json.loads(options.users.read_text())]
    keys = tuple(os.environ.pop(name, "") for name in KEYS)
    if any(keys) and not all(keys):
        parser.error(f"set both {' and '.join(KEYS)}, or neither")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Sandbox(
        options.root,
        api_port=options.api_port,
        s3_port=options.s3_port,
        execute=not options.no_execute,
        limit=options.limit,
        users=users,
        host=options.host,
        keys=keys if all(keys) else None,
        s3_without_conditional_writes=options.s3_without_conditional_writes,
    ) as sandbox:
        print(f"Kubeflow Pipelines {sandbox.api_url}, S3 {sandbox.s3_url}, ready", flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
