"""`python -m bench.predict`: measure the time of one prediction against the original notebook.

A prediction is a whole process: start Python, load a model and one test image, and predict its class.
The models are the original network (recipe `notebook`) and that of the recipe `fast`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.measure import Run, machine, median, ratio, run

BASE = "the notebook"
VARIANTS = {
    BASE: ("-m", "bench.baseline", "predict", "baseline"),
    "LiteRT, recipe notebook": ("-m", "training.predict", "notebook", "--runtime", "litert"),
    "LiteRT, recipe fast": ("-m", "training.predict", "fast", "--runtime", "litert"),
    "SavedModel, recipe fast": ("-m", "training.predict", "fast", "--runtime", "tensorflow"),
}


def measure(count: int) -> dict[str, list[Run]]:
    """Train the models, and run the variants alternately; return runs by variant."""
    runs: dict[str, list[Run]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        (models / "baseline").mkdir()
        run("-m", "bench.baseline", "train", models / "baseline", 1)
        for recipe in ("notebook", "fast"):
            # Train in another process: a child's memory includes that of its parent.
            run("-m", "bench.predict", "--train", recipe, models / recipe)
        for number in range(-1, count):
            for name, (flag, module, *rest) in VARIANTS.items():
                arguments: list[object] = [
                    models / argument if argument in _MODELS else argument for argument in rest
                ]
                arguments += ["--image-number"] if module == "training.predict" else []
                measured = run(flag, module, *arguments, max(0, number))
                if number >= 0:
                    runs[name].append(measured)
    return runs


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.predict", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="runs per variant, after a warm-up")
    parser.add_argument("--train", nargs=2, metavar=("RECIPE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.train:
        _train(options.train[0], Path(options.train[1]))
        return 0
    runs = measure(options.runs)
    base = runs[BASE]
    print(f"\n{machine()}\nmedians over {options.runs} runs; ratios: median (least-most)\n")
    print("| | process s | process | CPU s | CPU | MB |")
    print("|---|---|---|---|---|---|")
    for name, done in runs.items():
        print(
            f"| {name} | {median(done, lambda r: r.wall):.3f} | {ratio(base, done, lambda r: r.wall)} "
            f"| {median(done, lambda r: r.cpu):.3f} | {ratio(base, done, lambda r: r.cpu)} "
            f"| {median(done, lambda r: r.rss):.0f} |"
        )
    return 0


_MODELS = ("baseline", "notebook", "fast")


def _train(recipe: str, folder: Path) -> None:
    from fashion_mnist import data
    from fashion_mnist.model import export, recipes, training

    dataset = data.load()
    trained = training.train(
        dataset.train_images, dataset.train_labels, recipes.resolve(recipe, epochs=1), seed=1
    )
    export.export(trained.model, folder, "fashion_mnist.keras", dataset.train_images)


if __name__ == "__main__":
    raise SystemExit(main())
