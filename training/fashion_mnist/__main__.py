"""`python -m fashion_mnist train`: train from the command line; `training.predict` predicts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fashion_mnist import data, evaluation, export, recipes, training


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 when it succeeded."""
    parser = argparse.ArgumentParser(prog="python -m fashion_mnist", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a model and judge it on the test images")
    train.add_argument("--data", default="", help="directory, address or s3://; empty finds it")
    train.add_argument("--recipe", default="fast", choices=sorted(recipes.RECIPES))
    train.add_argument("--epochs", type=int, default=0, help="0: the recipe's own")
    train.add_argument("--seed", type=int, default=42)
    train.add_argument("--out", type=Path, required=True, help="directory for the model")
    options = parser.parse_args(arguments)
    try:
        dataset = data.load(options.data)
        recipe = recipes.resolve(options.recipe, epochs=options.epochs)
        trained = training.train(
            dataset.train_images, dataset.train_labels, recipe, seed=options.seed
        )
        export.export(trained.model, options.out, "fashion_mnist.keras", dataset.train_images)
        said = evaluation.evaluate(options.out, dataset.test_images, dataset.test_labels)
        print(json.dumps({"accuracy": said.accuracy, "loss": said.loss}))
    except (ValueError, OSError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
