"""Recorded exchanges with a real Kubeflow Pipelines server."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORD = Path(
    os.environ.get("KFP_TRANSCRIPTS", ROOT.parent / "shared" / "kfp-transcripts" / "2.15.0")
)
# The exchanges with ML Metadata belong to another API.
TRANSCRIPTS = sorted(path for path in RECORD.glob("*.json") if not path.stem.startswith("mlmd"))
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=/)not-a-uuid")
NAMED = re.compile(r"(/(?:names|nodes|artifacts)/)[^/:]+")


def template(request: dict) -> str:
    """Return a request's endpoint: its method, and its path with placeholders."""
    path = NAMED.sub(r"\1NAME", UUID.sub("ID", request["path"]))
    return f"{request['method']} {path}"
