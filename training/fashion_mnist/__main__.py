"""`python -m fashion_mnist`: train and predict from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fashion_mnist import data, evaluation, export, prediction, recipes, training


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
    predict = commands.add_parser("predict", help="ask a model about one test image")
    predict.add_argument("model", type=Path, help="directory that `train` wrote")
    predict.add_argument("--data", default="")
    predict.add_argument("--image-number", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        dataset = data.load(options.data)
        if options.command == "train":
            recipe = recipes.resolve(options.recipe, epochs=options.epochs)
            trained = training.train(
                dataset.train_images, dataset.train_labels, recipe, seed=options.seed
            )
            export.export(trained.model, options.out, "fashion_mnist.keras", dataset.train_images)
            said = evaluation.evaluate(options.out, dataset.test_images, dataset.test_labels)
            print(json.dumps({"accuracy": said.accuracy, "loss": said.loss}))
        else:
            number = options.image_number
            if not 0 <= number < len(dataset.test_images):
                raise ValueError(f"--image-number must be 0 to {len(dataset.test_images) - 1}")
            image, label = dataset.test_images[number], int(dataset.test_labels[number])
            print(prediction.predict(options.model, image, label))
    except (ValueError, OSError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
