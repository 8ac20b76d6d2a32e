"""A training in a process of its own, which may die by kill -9.

`python trainer.py ADDRESS ENDPOINT WEIGHTS [boundary|epoch]`: dies as soon as the second epoch's state
is kept, or within the epoch after that. Else it writes the trained weights to the file WEIGHTS.
"""

import os
import signal
import sys
import threading

import numpy as np

from fashion_mnist.model import training
from fashion_mnist.model.checkpoints import Checkpoints
from fashion_mnist.model.recipes import Recipe

address, endpoint, weights, *dies = sys.argv[1:]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(Checkpoints):
    """Kills its process after the second state."""

    def save(self, state):
        super().save(state)
        if len(state.history) == 2 and dies == ["boundary"]:
            die()
        if len(state.history) == 2 and dies == ["epoch"]:
            threading.Timer(0.05, die).start()


# With all that has a state of its own: running means, dropout, augmentation, the rate's schedule.
recipe = Recipe(
    name="small",
    layers=("stem 16", "dropout 20", "flatten", "bn-dense 32"),
    epochs=4,
    batch_size=50,
    learning_rate=0.01,
    augment=True,
)
chance = np.random.default_rng(0)
images = chance.integers(0, 256, (4000, 28, 28)).astype(np.uint8)
labels = chance.integers(0, 10, 4000).astype(np.uint8)
checkpoints = Deadly(address, "run-1", endpoint=endpoint, interval=0)
trained = training.train(images, labels, recipe, seed=1, checkpoints=checkpoints)
np.savez(weights, *trained.model.get_weights())
