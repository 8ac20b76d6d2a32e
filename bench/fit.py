"""`python -m bench.fit`: measure training times of recipes against the original notebook.

For each seed, the baseline and then each recipe run once, each in its own process. `fit` is the call
that trains: `model.fit` of the baseline, `training.train` of a recipe, which also builds and compiles
the network. `process` is the whole process, with imports and reading the data. On a shared machine, CPU
seconds are more meaningful than wall-clock seconds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from collections.abc import Sequence

from bench.measure import Run, machine, median, ratio, run

BASE = "the notebook"


def train(recipe: str, seed: int) -> dict[str, float]:
    """Train a recipe in this process; return seconds and test accuracy."""
    from fashion_mnist import data
    from fashion_mnist.model import recipes, training

    dataset = data.load()
    # Import TensorFlow outside the measured call, as in the baseline.
    importlib.import_module("keras")
    started, worked = time.perf_counter(), time.process_time()
    trained = training.train(
        dataset.train_images, dataset.train_labels, recipes.resolve(recipe), seed=seed
    )
    seconds = {
        "fit_seconds": time.perf_counter() - started,
        "fit_cpu_seconds": time.process_time() - worked,
    }
    logits = trained.model.predict(dataset.test_images, batch_size=1000, verbose=0)
    accuracy = float((logits.argmax(axis=1) == dataset.test_labels).mean())
    return {**seconds, "accuracy": accuracy}


def measure(recipes: Sequence[str], seeds: Sequence[int]) -> dict[str, list[Run]]:
    """Run the baseline and the recipes alternately, once per seed; return runs by name."""
    runs: dict[str, list[Run]] = {name: [] for name in (BASE, *recipes)}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for name, series in runs.items():
                if name == BASE:
                    series.append(run("-m", "bench.baseline", "train", folder, seed))
                else:
                    series.append(run("-m", "bench.fit", "--one", name, seed))
                output = series[-1].output
                print(
                    f"seed {seed} {name}: fit {output['fit_seconds']:.2f} s, process "
                    f"{series[-1].wall:.2f} s, accuracy {output['accuracy']:.4f}",
                    flush=True,
                )
    return runs


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.fit", description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=["quick", "fast"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--one", nargs=2, metavar=("RECIPE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(train(options.one[0], int(options.one[1]))))
        return 0
    runs = measure(options.recipes, options.seeds)
    base = runs[BASE]
    print(f"\n{machine()}\nmedians over seeds {options.seeds}; ratios: median (least-most)\n")
    print("| | test accuracy | fit s | fit | fit CPU s | fit CPU | process s | process | MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, series in runs.items():
        print(
            f"| {name} | {median(series, lambda r: r.output['accuracy']):.4f} "
            f"| {median(series, fit):.2f} | {ratio(base, series, fit)} "
            f"| {median(series, fit_cpu):.2f} | {ratio(base, series, fit_cpu)} "
            f"| {median(series, lambda r: r.wall):.2f} | {ratio(base, series, lambda r: r.wall)} "
            f"| {median(series, lambda r: r.rss):.0f} |"
        )
    return 0


def fit(measured: Run) -> float:
    """Return wall-clock seconds of the call that trains."""
    return measured.output["fit_seconds"]


def fit_cpu(measured: Run) -> float:
    """Return CPU seconds of the call that trains."""
    return measured.output["fit_cpu_seconds"]


if __name__ == "__main__":
    raise SystemExit(main())
