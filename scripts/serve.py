"""`make serve`: serve the champion of a registry, by default the demo's, over the V1 and V2 protocols.

The server is training/serve.py. The demo's registry is in the sandbox's S3 server: use that of a running
demo or sandbox, or else start one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

import httpx

from sandbox import HOST, Sandbox
from training import serve

ROOT = Path(__file__).resolve().parents[1]
DEMO = "s3://mlpipeline/models/fashion-mnist"


def running_s3(root: Path) -> str:
    """Return the URL of a running S3 server with this state folder; empty if there is none."""
    try:
        url = f"http://{HOST}:{json.loads((root / 'ports.json').read_text())['s3']}"
        httpx.get(url, trust_env=False, timeout=5)
    except (OSError, ValueError, httpx.HTTPError):
        return ""
    return url


def main() -> int:
    """Serve until SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", default="", help="s3://BUCKET/PREFIX or a directory")
    parser.add_argument("--s3-endpoint", default="", help="http://HOST:PORT of the S3 server")
    parser.add_argument(
        "--root", type=Path, default=ROOT / ".demo", help="folder with the demo's state"
    )
    parser.add_argument("--port", default="8080")
    options = parser.parse_args()
    registry, endpoint = options.registry, options.s3_endpoint
    with contextlib.ExitStack() as stack:
        if not registry:
            state = options.root / "sandbox"
            if not (state / "keys.json").exists():
                print(
                    f"{options.root} has no registry; create one with: make demo", file=sys.stderr
                )
                return 1
            registry, endpoint = DEMO, running_s3(state)
            if not endpoint:
                endpoint = stack.enter_context(Sandbox(state, execute=False)).s3_url
            keys = json.loads((state / "keys.json").read_text())
            os.environ.update(
                zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), keys, strict=True)
            )
            os.environ["AWS_REGION"] = "us-east-1"
        return serve.main([registry, f"--s3-endpoint={endpoint}", f"--port={options.port}"])


if __name__ == "__main__":
    raise SystemExit(main())
