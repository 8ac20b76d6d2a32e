"""A publisher in a separate process, which is killed before its nth write to S3 or Kubernetes."""

import datetime
import json
import os
import signal
import time
from pathlib import Path

import obstore

from fashion_mnist.kubernetes import ConfigMaps
from fashion_mnist.storage import open_registry
from tests.builders import manifest


def publish(say, address, endpoint, run, files, keep, dies_at, meeting):
    """Publish a version, move the champion to it, and remove old versions, however young.

    Args:
        say: told how many writes there were.
        address, endpoint: the registry.
        run: whose model it is.
        files: the folder with the version's files.
        keep: how many versions stay.
        dies_at: the number of the write before which the process dies; 0 lets it live.
        meeting: a folder where three such processes wait for each other before each puts the first
            claim, and again before the first move; empty for none.
    """
    writes = 0

    def deadly(write):
        def call(*args, **kwargs):
            nonlocal writes
            writes += 1
            if writes == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            path = created(args, kwargs)
            if meeting and path in ("claims/00000001.json", "champion/00000001.json"):
                meet(Path(meeting) / Path(path).parent, run)
            return write(*args, **kwargs)

        return call

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
    registry.prune(keep, older_than=datetime.timedelta(0))
    say(writes)


def created(args, kwargs):
    """Return the path that a write creates exclusively, empty for other writes."""
    if isinstance(args[0], ConfigMaps):
        return json.loads(args[1].data.get("claim", "{}")).get("path", "")
    return args[1] if kwargs.get("mode") == "create" else ""


def meet(place, run):
    """Wait until three publishers have arrived."""
    place.mkdir(parents=True, exist_ok=True)
    (place / run).touch()
    end = time.monotonic() + 60
    while len(list(place.iterdir())) < 3:
        assert time.monotonic() < end, "the others did not come"
        time.sleep(0.01)
