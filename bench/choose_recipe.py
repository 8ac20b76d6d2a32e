"""`python -m bench.choose_recipe`: compare recipes on 55,000 training and 5,000 validation images.

The validation images are drawn from the training set with seed 55; the test set is not used. Compare the
recipes of `--recipes`, or else candidates for `quick` (as accurate as the original notebook in a twelfth
of its time) and for `fast` (0.91 in a fifth of its time). All run in one process, so the first one
includes the time to load libraries: compare medians, and CPU seconds on a shared machine.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from fashion_mnist import data
from fashion_mnist.model import recipes, training
from fashion_mnist.model.recipes import Recipe


def _candidate(layers: str, epochs: int, batch_size: int, learning_rate: float) -> Recipe:
    return Recipe(
        name=f"{layers}; {epochs} epochs of {batch_size}, rate {learning_rate:g}",
        layers=tuple(layers.split(", ")),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        mixed_precision="stem" in layers,
    )


CANDIDATES = [
    # For `quick`.
    _candidate("flatten, dense 128", 4, 256, 6e-3),
    _candidate("flatten, dense 128", 3, 128, 4e-3),
    _candidate("flatten, bn-dense 128", 3, 256, 1e-2),
    _candidate("flatten, bn-dense 128", 2, 256, 1e-2),
    _candidate("flatten, bn-dense 256", 3, 256, 1e-2),
    _candidate("flatten, bn-dense 128", 3, 512, 2e-2),
    _candidate("stem 8, flatten, bn-dense 64", 1, 256, 1e-2),
    _candidate("stem 16, flatten, bn-dense 64", 1, 512, 2e-2),
    # For `fast`.
    _candidate("stem 16, stem 32, flatten, bn-dense 128", 2, 256, 1e-2),
    _candidate("stem 16, stem 32, flatten, bn-dense 128", 2, 512, 1.5e-2),
    _candidate("stem 16, stem 24, flatten, bn-dense 128", 2, 512, 1.5e-2),
    _candidate("stem 16, stem 16, flatten, bn-dense 128", 2, 512, 1.5e-2),
    _candidate("stem 8, stem 32, flatten, bn-dense 128", 2, 512, 1.5e-2),
    _candidate("stem 16, stem 16, flatten, bn-dense 128", 2, 256, 1e-2),
    _candidate("stem 16, stem 16, flatten, bn-dense 256", 2, 384, 1.2e-2),
    _candidate("stem 16, stem 16, flatten, bn-dense 256", 2, 256, 1e-2),
    _candidate("stem 16, stem 32, flatten, bn-dense 256", 2, 512, 1.5e-2),
    _candidate("stem 16, stem 48, flatten, bn-dense 256", 1, 192, 1e-2),
    _candidate("stem 16, stem 48, flatten, bn-dense 256", 1, 128, 1e-2),
    _candidate("stem 16, stem 32, flatten, bn-dense 256", 1, 128, 1e-2),
    _candidate("stem 16, stem 32, flatten, bn-dense 256", 1, 96, 1e-2),
]


def main(arguments: list[str] | None = None) -> int:
    """Train each recipe with each seed, and print medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.choose_recipe", description=__doc__)
    parser.add_argument("--recipes", nargs="+", choices=sorted(recipes.RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options = parser.parse_args(arguments)
    dataset = data.load()
    order = np.random.default_rng(55).permutation(len(dataset.train_images))
    remaining, validation = order[5000:], order[:5000]
    images, labels = dataset.train_images, dataset.train_labels
    selected = [recipes.RECIPES[name] for name in options.recipes or ()] or CANDIDATES
    print("| recipe | accuracy on the 5,000 | fit s | fit CPU s |\n|---|---|---|---|")
    for recipe in selected:
        accuracy: list[float] = []
        wall_seconds: list[float] = []
        cpu_seconds: list[float] = []
        for seed in options.seeds:
            started, before = time.perf_counter(), time.process_time()
            trained = training.train(
                images[remaining], labels[remaining], recipe, seed=seed, log=lambda _: None
            )
            wall_seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - before)
            logits = trained.model.predict(images[validation], batch_size=1000, verbose=0)
            accuracy.append(float((logits.argmax(axis=1) == labels[validation]).mean()))
        middle = statistics.median
        print(
            f"| {recipe.name} | {middle(accuracy):.4f} ({min(accuracy):.4f}-{max(accuracy):.4f}) "
            f"| {middle(wall_seconds):.2f} | {middle(cpu_seconds):.2f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
