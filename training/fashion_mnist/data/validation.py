"""Validate a data set: compare its statistics with limits and with an earlier data set.

The terms are those of TensorFlow Data Validation (https://www.tensorflow.org/tfx/guide/tfdv): each
mismatch with the schema or with earlier statistics is an anomaly; skew is a difference between the
splits, drift a difference from an earlier data set.

The earlier data set is the one that the champion was trained on or, without a champion, the published
one (`reference.PUBLISHED`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.data import reference
from fashion_mnist.data.dataset import CLASSES, SHA256, SIDE, SPLITS, Dataset, load
from fashion_mnist.data.errors import DataError
from fashion_mnist.data.sources import FILES
from fashion_mnist.data.statistics import (
    SMALL,
    blocks,
    class_counts,
    compute,
    mean_shift,
    splits,
    stability_index,
)


@dataclasses.dataclass(frozen=True)
class Anomaly:
    """A property of the data that is out of its limits."""

    kind: str
    """"truncated", "damaged", "size", "format", "shape", "dtype", "counts", "label-range", "checksum",
    "missing-class", "duplicates", "leak", "labels", "class-balance", "skew" or "drift"."""

    split: str
    """"train" or "test"."""

    message: str
    """A sentence with figures."""

    def __str__(self) -> str:
        return f"{self.kind} in {self.split}: {self.message}"


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of what is usual.

    To each but the first, three standard deviations of chance are added, which follow from the numbers
    of images here and in the reference.
    """

    max_duplicates: float = 0.001
    """Share of a split's images that equal an earlier one, and of test images that are among the
    training images, 0 to 1. The published data set has none."""

    max_drift: float = 0.1
    """Population stability index of pixels and of classes, against the reference and between the splits.
    Below 0.1 is commonly read as no change, above 0.25 as a large one."""

    max_agreement_drop: float = 0.02
    """Decrease, against the reference, of the share of images that are nearest to their own class's mean
    image, 0 to 1. Each percent of wrong labels costs about 0.7 percent."""

    max_mean_shift: float = 0.05
    """Shift of the mean of pixels at equal shares of classes, in standard deviations of pixels (the
    standardised mean difference)."""


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A data set with its statistics and anomalies."""

    dataset: Dataset | None
    """None if it could not be read."""

    statistics: Mapping[str, Any] | None
    """See `statistics.compute`. None if the data set could not be read."""

    anomalies: list[Anomaly]


def inspect(
    source: str = "",
    *,
    s3_endpoint: str = "",
    limits: Limits | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> Inspection:
    """Load a data set and look for anomalies.

    Args:
        source: see `data.load`.
        s3_endpoint: http://host:port of the S3 server.
        limits: limits of what is usual.
        earlier: statistics to compare with, None for the published data set.

    Raises:
        DataError: A file does not exist or cannot be fetched.
    """
    try:
        dataset = load(source, s3_endpoint=s3_endpoint)
    except DataError as error:
        if not error.kind:
            raise
        return Inspection(None, None, [Anomaly(error.kind, error.split, str(error))])
    current = compute(dataset)
    return Inspection(dataset, current, validate(dataset, current, limits=limits, earlier=earlier))


def validate(
    dataset: Dataset,
    current: Mapping[str, Any] | None = None,
    *,
    limits: Limits | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> list[Anomaly]:
    """Return the anomalies of a data set.

    Args:
        dataset: data set, such as `data.load` returns.
        current: its statistics, None to compute them.
        limits: limits of what is usual.
        earlier: statistics to compare with, None for the published data set.
    """
    limits = limits or Limits()
    anomalies = _schema(dataset)
    if anomalies:
        return anomalies
    current = current or compute(dataset)
    earlier = earlier or reference.PUBLISHED
    anomalies += _checksums(dataset)
    for split, images, labels in splits(dataset):
        anomalies += _classes(split, current[split], earlier[split], limits)
        anomalies += _copies(split, current[split], limits)
        anomalies += _swapped(split, images, labels, current[split], earlier[split])
        anomalies += _labels(split, current[split], earlier[split], limits)
        anomalies += _pixels(
            "drift", split, current[split], earlier[split], "those of the reference", limits
        )
    anomalies += _pixels(
        "skew", "test", current["test"], current["train"], "those of the training images", limits
    )
    return anomalies


def _schema(dataset: Dataset) -> list[Anomaly]:
    """Return anomalies of types and shapes, which all other checks rely on."""
    anomalies: list[Anomaly] = []
    for split, images, labels in splits(dataset):
        if images.dtype != np.uint8 or labels.dtype != np.uint8:
            message = f"images are {images.dtype} and labels {labels.dtype}; both must be uint8"
            anomalies.append(Anomaly("dtype", split, message))
        if images.shape[1:] != (SIDE, SIDE) or labels.ndim != 1:
            message = (
                f"images are {images.shape} and labels {labels.shape}; they must be (n, "
                f"{SIDE}, {SIDE}) and (n,)"
            )
            anomalies.append(Anomaly("shape", split, message))
        if len(images) != len(labels) or len(images) == 0:
            message = f"there are {len(images)} images and {len(labels)} labels"
            anomalies.append(Anomaly("counts", split, message))
        elif labels.min() < 0 or labels.max() >= CLASSES:
            message = f"labels go from {labels.min()} to {labels.max()}; they must be 0 to 9"
            anomalies.append(Anomaly("label-range", split, message))
    return anomalies


def _checksums(dataset: Dataset) -> list[Anomaly]:
    """Return an anomaly for each file that was altered, if other files are the published ones."""
    altered = [name for name, value in SHA256.items() if dataset.sha256.get(name) != value]
    if len(altered) == len(SHA256):
        return []
    return [
        Anomaly(
            "checksum",
            SPLITS[name],
            f"{FILES[name]} differs from the published file, while others of the four files do not; "
            "fetch it again",
        )
        for name in altered
    ]


def _classes(
    split: str, current: Mapping[str, Any], earlier: Mapping[str, Any], limits: Limits
) -> list[Anomaly]:
    anomalies = [
        Anomaly("missing-class", split, f"no image of class {name}, which the reference has")
        for name, count in earlier["counts"].items()
        if count and not current["counts"].get(name)
    ]
    if anomalies:
        return anomalies
    # Add one image to each class: an empty class would count for more than it shows.
    actual, expected = (
        np.array(class_counts(split_statistics["counts"], CLASS_NAMES)) + 1
        for split_statistics in (current, earlier)
    )
    index = stability_index(actual, expected)
    threshold = limits.max_drift + _index_by_chance(actual, expected)
    if index > threshold:
        least = min(current["counts"], key=lambda name: current["counts"][name])
        most = max(current["counts"], key=lambda name: current["counts"][name])
        message = (
            f"classes have from {current['counts'][least]} ({least}) to {current['counts'][most]} "
            f"({most}) images: stability index {index:.3f} > {threshold:.3f} against the reference"
        )
        anomalies.append(Anomaly("class-balance", split, message))
    return anomalies


def _index_by_chance(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the stability index that chance explains, at three standard deviations.

    For two samples of one distribution, the index over 1/n + 1/m has a chi-squared distribution with
    k - 1 degrees of freedom (Yurdakul, "Statistical Properties of Population Stability Index", 2018).
    """
    degrees = len(actual) - 1
    return (degrees + 3 * math.sqrt(2 * degrees)) * (1 / actual.sum() + 1 / expected.sum())


def _pixels(
    kind: str,
    split: str,
    current: Mapping[str, Any],
    other: Mapping[str, Any],
    other_name: str,
    limits: Limits,
) -> list[Anomaly]:
    """Compare the histograms of pixels, and their means, which can shift within a bin."""
    anomalies: list[Anomaly] = []
    message = (
        f"its pixels (mean {current['mean']:.1f}) differ from {other_name} (mean "
        f"{other['mean']:.1f}): "
    )
    index = stability_index(current["histogram"], other["histogram"])
    if index > limits.max_drift:
        detail = f"stability index {index:.3f} > {limits.max_drift:.3f}"
        anomalies.append(Anomaly(kind, split, message + detail))
    shift = mean_shift(current, other)
    # The statistics of older versions have no spread.
    spread = max(current["spread"], other.get("spread", 0)) / (other["deviation"] or 1)
    threshold = limits.max_mean_shift + 3 * spread * math.sqrt(
        1 / current["images"] + 1 / other["images"]
    )
    if abs(shift) > threshold:
        detail = (
            f"at equal shares of classes the mean shifted by {shift:+.3f} standard deviations of "
            f"pixels, limit {threshold:.3f}"
        )
        anomalies.append(Anomaly(kind, split, message + detail))
    return anomalies


def _copies(split: str, current: Mapping[str, Any], limits: Limits) -> list[Anomaly]:
    anomalies: list[Anomaly] = []
    count = current["images"]
    if current["duplicates"] > limits.max_duplicates * count:
        message = (
            f"{current['duplicates']} of {count} images are copies of others in the split, "
            f"limit {limits.max_duplicates:.2%}"
        )
        anomalies.append(Anomaly("duplicates", split, message))
    if current["leaked"] > limits.max_duplicates * count:
        message = (
            f"{current['leaked']} of {count} images are among the training images, "
            f"limit {limits.max_duplicates:.2%}; they do not show how a model does on unseen images"
        )
        anomalies.append(Anomaly("leak", split, message))
    return anomalies


def _labels(
    split: str, current: Mapping[str, Any], earlier: Mapping[str, Any], limits: Limits
) -> list[Anomaly]:
    """Return anomalies for classes whose images are too often far from their mean: wrong labels."""
    anomalies: list[Anomaly] = []
    rows = [
        (
            *(name, current["agreement"][name], earlier["agreement"][name]),
            *(current["counts"][name], earlier["counts"][name]),
        )
        for name in current["agreement"]
        if name in earlier["agreement"]
    ]
    for name, share, expected, count, reference_count in [*rows, *_overall(rows)]:
        # Add one hit and one miss: none among few images does not mean that there are none.
        pooled = (share * count + expected * reference_count + 1) / (count + reference_count + 2)
        chance = 3 * math.sqrt(pooled * (1 - pooled) * (1 / count + 1 / reference_count))
        if expected - share > limits.max_agreement_drop + chance:
            message = (
                f"of {name}, {share:.1%} are nearest to the mean image of their class, but "
                f"{expected:.1%} in the reference; about "
                f"{(expected - share) / max(expected, SMALL):.0%} of the labels may be wrong"
            )
            anomalies.append(Anomaly("labels", split, message))
    return anomalies


def _overall(
    rows: list[tuple[str, float, float, int, int]],
) -> list[tuple[str, float, float, int, int]]:
    """Return the rows of all classes as one, weighted by their images; no row if there are none."""
    count = sum(row[3] for row in rows)
    if not count:
        return []
    share = sum(row[1] * row[3] for row in rows) / count
    expected = sum(row[2] * row[3] for row in rows) / count
    return [("all images", share, expected, count, sum(row[4] for row in rows))]


def _swapped(
    split: str,
    images: np.ndarray,
    labels: np.ndarray,
    current: Mapping[str, Any],
    earlier: Mapping[str, Any],
) -> list[Anomaly]:
    """Return anomalies for classes whose mean image is nearest to another class in the reference.

    The mean of all classes is subtracted first, so that brightness plays no part. A class between two
    others does not count as swapped while chance explains it.
    """
    names = [
        name
        for name in CLASS_NAMES
        if all(name in split_statistics["class_images"] for split_statistics in (current, earlier))
    ]
    if not names:
        # Without common classes nothing can be swapped; missing classes are an anomaly already.
        return []
    current_means, earlier_means = (
        _centred([split_statistics["class_images"][name] for name in names])
        for split_statistics in (current, earlier)
    )
    nearest = ((current_means[:, None] - earlier_means[None]) ** 2).sum(axis=2).argmin(axis=1)
    anomalies: list[Anomaly] = []
    for label, nearest_label in enumerate(nearest.tolist()):
        if nearest_label == label:
            continue
        direction = earlier_means[nearest_label] - earlier_means[label]
        excess = (
            current_means[label] - (earlier_means[label] + earlier_means[nearest_label]) / 2
        ) @ direction
        class_images = images[labels == CLASS_NAMES.index(names[label])]
        counts = current["counts"][names[label]], earlier["counts"][names[label]]
        chance = (blocks(class_images) @ direction).std() * math.sqrt(1 / counts[0] + 1 / counts[1])
        if excess > 3 * chance:
            message = (
                f"the mean image of {names[label]} is nearest to {names[nearest_label]} in the "
                "reference; labels are swapped"
            )
            anomalies.append(Anomaly("labels", split, message))
    return anomalies


def _centred(images: list[str]) -> np.ndarray:
    pixels = np.array([list(bytes.fromhex(image)) for image in images], float)
    return pixels - pixels.mean(axis=0)
