"""A publisher in a process of its own, which dies by kill -9 before its nth write, to S3 or Kubernetes.

`python publisher.py ADDRESS ENDPOINT RUN FILES KEEP N MEETING`; N 0 lets it live. It prints how many
writes there were, and dies silently. It removes versions however young. MEETING is a folder where three
such processes wait for each other before each puts the first claim, and again before the first move.
"""

import datetime
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "lib"))
sys.path.insert(0, str(Path(__file__).parents[2] / "training"))

import obstore

from fashion_mnist.kubernetes import ConfigMaps
from fashion_mnist.storage import open_registry
from tests.manifests import manifest

address, endpoint, run, files, keep, dies_at, meeting = sys.argv[1:]
writes = 0


def deadly(write):
    def call(*args, **kwargs):
        global writes
        writes += 1
        if writes == int(dies_at):
            os.kill(os.getpid(), signal.SIGKILL)
        if meeting and created(args, kwargs) in ("claims/00000001.json", "champion/00000001.json"):
            meet(Path(meeting) / Path(created(args, kwargs)).parent)
        return write(*args, **kwargs)

    return call


def created(args, kwargs):
    """The path of which a write decides who creates it; empty for all other writes."""
    if isinstance(args[0], ConfigMaps):
        return json.loads(args[1].data.get("claim", "{}")).get("path", "")
    return args[1] if kwargs.get("mode") == "create" else ""


def meet(place):
    """Wait until three are there."""
    place.mkdir(parents=True, exist_ok=True)
    (place / run).touch()
    end = time.monotonic() + 60
    while len(list(place.iterdir())) < 3:
        assert time.monotonic() < end, "the others did not come"
        time.sleep(0.01)


for owner, name in (
    *((obstore, name) for name in ("put", "copy", "delete")),
    *((ConfigMaps, name) for name in ("create", "replace")),
):
    setattr(owner, name, deadly(getattr(owner, name)))
registry = open_registry(address, endpoint)
version = registry.publish(run, Path(files), manifest(run))
registry.promote_if_better(
    version, lambda champion: champion is None or champion.version < version, run
)
registry.collect_garbage()
registry.prune(int(keep), older_than=datetime.timedelta(0))
print(writes)
