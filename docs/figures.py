"""Draw the figures of the documentation: `make figures`.

The architecture needs no data. The other figures show real training on Fashion-MNIST, with the data
that `fashion_mnist.data.load` finds. The figures are committed under `docs/figures`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from fashion_mnist import CLASS_NAMES, data, evaluation
from fashion_mnist.model import export, recipes, training

mpl.use("svg")
# Make the files reproducible, and keep texts as texts.
mpl.rcParams.update({"svg.hashsalt": "fashion-mnist", "svg.fonttype": "none", "font.size": 10})

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
BLUE, SOFT = "#2463c5", "#eef2fa"
# Position (left, bottom, width, height), heading, and the lines below it.
BOXES = {
    "operator": (0.0, 5.3, 2.8, 1.1, "operator", "juju config, run, status"),
    "juju": (0.0, 3.3, 2.8, 1.1, "Juju", "options, relations, events"),
    "charm": (
        4.4,
        2.9,
        3.0,
        1.9,
        "charm trainer",
        "load, observe, plan,\napply, report;\nlibrary kfp_ops",
    ),
    "kfp": (9.4, 4.9, 3.4, 1.4, "Kubeflow Pipelines", "experiment, runs,\nrecurring run"),
    "kubernetes": (9.4, 2.7, 3.4, 1.1, "Kubernetes", "profile, rights, token, pods"),
    "steps": (9.4, 0.2, 3.4, 1.4, "steps of a run", "ingest, train,\nevaluate-and-predict"),
    "registry": (4.4, 0.2, 3.0, 1.4, "object storage", "model registry:\nversions, champion"),
    "gateway": (0.0, 0.7, 2.8, 1.1, "Pushgateway", "metrics for COS"),
}
ARROWS = [
    ("operator", "juju", ""),
    ("juju", "charm", "events"),
    ("charm", "kfp", "REST v2beta1"),
    ("charm", "kubernetes", ""),
    ("charm", "registry", "reads, moves\nthe champion"),
    ("charm", "gateway", "pushes"),
    ("kfp", "kubernetes", "workflows"),
    ("kubernetes", "steps", "pods"),
    ("steps", "registry", "write"),
]


def grid(images: np.ndarray, labels: np.ndarray) -> Figure:
    """Return the first 25 images, uint8 (n, 28, 28), with the names of their labels (n,)."""
    figure, axes = plt.subplots(5, 5, figsize=(6, 6.4), layout="constrained")
    for image, label, place in zip(images[:25], labels[:25], axes.flat, strict=True):
        place.imshow(image, cmap="binary")
        place.set(xticks=[], yticks=[])
        place.set_xlabel(CLASS_NAMES[label], fontsize=8)
    return figure


def confusion(matrix: np.ndarray, title: str) -> Figure:
    """Return a confusion matrix (10, 10), rows are labels."""
    figure, place = plt.subplots(figsize=(6.4, 6), layout="constrained")
    place.imshow(matrix / matrix.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        colour = "white" if matrix[row, column] > matrix[row].sum() / 2 else "black"
        place.text(column, row, matrix[row, column], ha="center", va="center", color=colour)
    place.set_xticks(range(10), CLASS_NAMES, rotation=45, ha="right")
    place.set_yticks(range(10), CLASS_NAMES)
    place.set(xlabel="prediction", ylabel="label", title=title)
    return figure


def curves(histories: Mapping[str, Sequence[training.Epoch]]) -> Figure:
    """Return the accuracy on the training images by epoch, one line per recipe."""
    figure, place = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, history in histories.items():
        epochs = range(1, len(history) + 1)
        place.plot(epochs, [epoch.accuracy for epoch in history], marker="o", label=name)
    place.set(xlabel="epoch", ylabel="training accuracy")
    place.grid(alpha=0.3)
    place.legend()
    return figure


def architecture() -> Figure:
    """Draw the trainer and what it communicates with."""
    figure, place = plt.subplots(figsize=(9, 4.7), layout="constrained")
    place.set(xlim=(-0.2, 13.0), ylim=(0, 6.6), aspect="equal")
    place.axis("off")
    drawn: dict[str, FancyBboxPatch] = {}
    for name, (left, bottom, width, height, heading, said) in BOXES.items():
        style = "round,pad=0,rounding_size=0.15"
        drawn[name] = FancyBboxPatch(
            (left, bottom), width, height, boxstyle=style, facecolor=SOFT, edgecolor=BLUE
        )
        place.add_patch(drawn[name])
        middle, top = left + width / 2, bottom + height
        place.text(middle, top - 0.18, heading, ha="center", va="top", weight="bold")
        place.text(middle, top - 0.58, said, ha="center", va="top", fontsize=9)
    for begin, end, said in ARROWS:
        ends = [_middle(begin), _middle(end)]
        place.annotate(
            "",
            xy=ends[1],
            xytext=ends[0],
            arrowprops={
                "arrowstyle": "-|>",
                "color": BLUE,
                "patchA": drawn[begin],
                "patchB": drawn[end],
                "shrinkA": 2,
                "shrinkB": 2,
            },
        )
        (x, y), (right, up) = ends
        # Put the text above a horizontal line, beside a vertical one.
        side = "center" if y == up else "left" if x == right else "right"
        middle = ((x + right) / 2 + 0.1 * (side == "left"), (y + up) / 2 + 0.08)
        place.text(*middle, said, ha=side, va="bottom", fontsize=8)
    return figure


def _middle(name: str) -> tuple[float, float]:
    left, bottom, width, height, *_ = BOXES[name]
    return left + width / 2, bottom + height / 2


def of_training(images: data.Dataset) -> dict[str, Figure]:
    """Return the figures of real training, by file name."""
    trained = {
        name: training.train(
            images.train_images, images.train_labels, recipes.RECIPES[name], seed=42
        )
        for name in ("notebook", "quick", "fast")
    }
    with tempfile.TemporaryDirectory() as folder:
        export.export(trained["fast"].model, Path(folder), "model.keras", images.train_images)
        said = evaluation.evaluate(Path(folder), images.test_images, images.test_labels)
    return {
        "grid.png": grid(images.train_images, images.train_labels),
        "confusion.svg": confusion(
            said.confusion, f"recipe fast: accuracy {said.accuracy:.4f} on 10,000 test images"
        ),
        "curves.svg": curves({name: each.history for name, each in trained.items()}),
    }


def main() -> None:
    """Draw all figures, or only the architecture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-training", action="store_true", help="draw only the architecture")
    options = parser.parse_args()
    figures = {"architecture.svg": architecture()}
    if not options.no_training:
        figures |= of_training(data.load())
    for name, figure in figures.items():
        metadata = {"Date": None} if name.endswith(".svg") else {"Software": None}
        figure.savefig(FIGURES / name, metadata=metadata, dpi=110)
        print(FIGURES / name)


if __name__ == "__main__":
    main()
