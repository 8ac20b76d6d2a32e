"""A publisher in a process of its own, which dies by kill -9 before its nth write.

`python publisher.py ADDRESS ENDPOINT RUN FILES KEEP N`; N 0 lets it live. It prints how many writes
there were, and dies silently.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))

import obstore

from fashion_mnist.registry import Registry

address, endpoint, run, files, keep, dies_at = sys.argv[1:]
writes = 0


def deadly(write):
    def call(*args, **kwargs):
        global writes
        writes += 1
        if writes == int(dies_at):
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*args, **kwargs)

    return call


obstore.put, obstore.delete = deadly(obstore.put), deadly(obstore.delete)
registry = Registry.open(address, endpoint)
version = registry.publish(run, Path(files), {"schema_version": 1, "run_id": run})
registry.promote(version, lambda champion: champion is None or champion.version < version, run)
registry.sweep()
registry.prune(int(keep))
print(writes)
