"""Statistics of a data set, and how far they are from another's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.data import reference
from fashion_mnist.data.dataset import CLASSES, Dataset
from fashion_mnist.data.digests import digests

BINS = 16
# Mean images of classes are stored as 7 x 7 pixels, each the mean of a block of 4 x 4.
_BLOCK = 4
# Images that are converted to float at once.
_BATCH = 5000
# Share that stands for an empty bin.
SMALL = 1e-6


def compute(dataset: Dataset) -> dict[str, Any]:
    """Return the statistics of a data set as JSON, by split ("train", "test").

    Each split has:

    - `images`: their number
    - `shape` and `dtype` of one image
    - `counts`: images by class
    - `mean` and `deviation` of pixels, 0 to 255
    - `spread`: standard deviation of the images' means within their class
    - `histogram`: shares of pixels in 16 equal bins
    - `duplicates`: images that equal an earlier one in the split
    - `leaked`: test images that are among the training images
    - `agreement`: by class, the share of images that are nearest (Euclidean) to their own class's mean
      training image
    - `class_images`: by class, the mean image as 7 x 7 bytes, hexadecimal
    """
    means = _class_means(dataset.train_images, dataset.train_labels)
    # Keep digests, not images: a copy of each image would double the memory.
    training_images = set(digests(dataset.train_images))
    result: dict[str, Any] = {}
    for split, images, labels in splits(dataset):
        counts = np.bincount(labels, minlength=CLASSES)
        pixels = _histogram(images)
        shares = pixels / pixels.sum()
        mean = float(shares @ np.arange(256))
        distinct = training_images if split == "train" else set(digests(images))
        correct = _nearest(images, means) == labels
        own_means = _class_means(images, labels)
        brightness = images.mean(axis=(1, 2))
        within = brightness - own_means.mean(axis=(1, 2))[labels]
        result[split] = {
            "images": len(images),
            "shape": list(images.shape[1:]),
            "dtype": str(images.dtype),
            "counts": {name: int(counts[i]) for i, name in enumerate(CLASS_NAMES)},
            "mean": round(mean, 4),
            "deviation": round(math.sqrt(shares @ (np.arange(256) - mean) ** 2), 4),
            "spread": round(float(within.std()), 4),
            "histogram": [round(float(v), 6) for v in shares.reshape(BINS, -1).sum(axis=1)],
            "duplicates": len(images) - len(distinct),
            "leaked": len(distinct & training_images) if split == "test" else 0,
            "agreement": {
                name: round(float(correct[labels == i].mean()), 4)
                for i, name in enumerate(CLASS_NAMES)
                if counts[i] and not np.isnan(means[i, 0, 0])
            },
            "class_images": {
                name: _shrink(own_means[i]).tobytes().hex()
                for i, name in enumerate(CLASS_NAMES)
                if counts[i]
            },
        }
    return result


def stability_index(actual: Any, expected: Any) -> float:
    """Return the population stability index of two distributions over the same bins; 0 is no change.

    This is the symmetrised Kullback-Leibler divergence, sum (p - q) ln(p / q), as credit scoring uses it
    (Siddiqi, "Credit Risk Scorecards", 2006). Empty bins count as 1e-6.

    Args:
        actual: counts or shares, one per bin.
        expected: counts or shares of the reference.
    """
    p = np.maximum(np.asarray(actual, float) / np.sum(actual), SMALL)
    q = np.maximum(np.asarray(expected, float) / np.sum(expected), SMALL)
    return float(((p - q) * np.log(p / q)).sum())


def mean_shift(current: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the standardised mean difference of pixels, at equal shares of classes.

    Args:
        current: statistics of a split.
        other: statistics of the split to compare with.

    Returns:
        the difference of means over the other's standard deviation of pixels; 0 if they have no class
        in common.
    """
    common = [name for name in current["class_images"] if name in other["class_images"]]
    weights = np.array([current["counts"][name] for name in common], float)
    if not common or not other["deviation"]:
        return 0.0
    actual, expected = (
        np.array(
            [
                np.mean(list(bytes.fromhex(split_statistics["class_images"][name])))
                for name in common
            ]
        )
        for split_statistics in (current, other)
    )
    return float((actual - expected) @ weights / weights.sum() / other["deviation"])


def drift(current: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, float]:
    """Return the stability indices of a data set: pixels of `train` and `test`, and training `classes`.

    Args:
        current: statistics of a data set.
        earlier: statistics to compare with, which may have other classes.
    """
    actual, expected = current["train"]["counts"], earlier["train"]["counts"]
    names = dict.fromkeys((*actual, *expected))
    return {
        "train": stability_index(current["train"]["histogram"], earlier["train"]["histogram"]),
        "test": stability_index(current["test"]["histogram"], earlier["test"]["histogram"]),
        "classes": stability_index(class_counts(actual, names), class_counts(expected, names)),
    }


def save(
    directory: Path,
    current: Mapping[str, Any],
    anomalies: Sequence[object],
    earlier: Mapping[str, Any] | None = None,
) -> None:
    """Write statistics, anomalies and drift beside a data set that `data.save` wrote.

    Args:
        directory: directory of the data set.
        current: statistics of the data set.
        anomalies: anomalies, each of which prints as a sentence.
        earlier: statistics to measure drift from, None for the published data set.
    """
    record = {
        "statistics": current,
        "anomalies": [str(anomaly) for anomaly in anomalies],
        "drift": drift(current, earlier or reference.PUBLISHED),
    }
    (directory / "statistics.json").write_text(json.dumps(record), encoding="utf-8")


def load_saved(directory: Path) -> Mapping[str, Any]:
    """Return `statistics`, `anomalies` (sentences) and `drift` as saved; empty if none were."""
    path = directory / "statistics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def splits(dataset: Dataset) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return name, images and labels of each split."""
    return [
        ("train", dataset.train_images, dataset.train_labels),
        ("test", dataset.test_images, dataset.test_labels),
    ]


def blocks(images: np.ndarray) -> np.ndarray:
    """Return the means of an image's blocks of 4 x 4 pixels.

    Args:
        images: (n, 28, 28).

    Returns:
        float (n, 49).
    """
    side = images.shape[1] // _BLOCK
    means = images.reshape(-1, side, _BLOCK, side, _BLOCK).mean(axis=(2, 4))
    return means.reshape(len(images), -1)


def class_counts(counts: Mapping[str, int], names: Iterable[str]) -> list[int]:
    """Return the counts of classes in the order of their names, 0 for a missing class."""
    return [counts.get(name, 0) for name in names]


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images in batches: as float64 they take eight times the memory."""
    for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH]


def _histogram(images: np.ndarray) -> np.ndarray:
    """Return the number of pixels with each value, int (256,)."""
    return sum(
        (np.bincount(batch.reshape(-1), minlength=256) for batch in _batches(images)),
        np.zeros(256, int),
    )


def _class_means(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return mean images, float32 (10, 28, 28); NaN for a class without images."""
    means = np.full((CLASSES, *images.shape[1:]), np.nan, np.float32)
    for label in np.unique(labels):
        means[label] = images[labels == label].mean(axis=0, dtype=np.float64)
    return means


def _nearest(images: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return for each image (n, 28, 28) the class with the nearest mean image, (n,)."""
    present = np.flatnonzero(~np.isnan(means[:, 0, 0]))
    flat = means[present].reshape(len(present), -1).astype(np.float64)
    nearest: list[np.ndarray] = []
    for batch in _batches(images):
        pixels = batch.reshape(-1, flat.shape[1]).astype(np.float64)
        # Leave out the square of the image itself, which is the same for all classes.
        nearest.append(present[((flat**2).sum(axis=1) - 2 * pixels @ flat.T).argmin(axis=1)])
    return np.concatenate(nearest)


def _shrink(image: np.ndarray) -> np.ndarray:
    """Return a mean image (28, 28) as uint8 (7, 7)."""
    return blocks(image[None]).reshape(-1, image.shape[1] // _BLOCK).round().astype(np.uint8)
