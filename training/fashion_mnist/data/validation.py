"""Is this the data to train on? Statistics of a data set, and what is odd about it.

The words are those of TensorFlow Data Validation (https://www.tensorflow.org/tfx/guide/tfdv):
statistics are computed, held against a schema and against statistics from before, and each thing
that does not fit is an anomaly; skew is between the splits, drift is against an earlier data set.

Earlier means the data that the champion was trained on, and before there is a champion the data set
as it was published (`reference.PUBLISHED`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fashion_mnist import CLASS_NAMES, data
from fashion_mnist.data import reference
from fashion_mnist.data.dataset import Dataset
from fashion_mnist.data.errors import DataError
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
    """Something about the data that is not as it should be.

    Attributes:
        kind: "truncated", "damaged", "size", "format", "shape", "dtype", "counts", "label-range",
            "checksum", "missing-class", "duplicates", "leak", "labels", "class-balance", "skew" or
            "drift".
        split: "train" or "test".
        message: a sentence with figures.
    """

    kind: str
    split: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.split}: {self.message}"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is still usual.

    Attributes:
        max_duplicates: share of a split's images that were in it before, and of the test images that
            are among the training images, 0 to 1. The published set has none.
        max_drift: population stability index of pixels and of classes, against the reference and
            between the splits. Below 0.1 is commonly read as no change, above 0.25 as a large one.
        max_agreement_drop: how much smaller than in the reference the share of images may be that
            lie nearest to the mean image of their own class, 0 to 1. Each percent of labels that are
            wrong takes about 0.7 percent.
        max_mean_shift: how far the mean of pixels may move, in standard deviations of pixels (the
            standardised mean difference), with the classes weighed alike.

    What chance explains at three standard deviations in as many images, both here and in the reference,
    is added to each but the first.
    """

    max_duplicates: float = 0.001
    max_drift: float = 0.1
    max_agreement_drop: float = 0.02
    max_mean_shift: float = 0.05


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A data set with its statistics and anomalies; both are None where it could not be read."""

    dataset: Dataset | None
    statistics: Mapping[str, Any] | None
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
        s3_endpoint: of the S3 server.
        limits: what is still usual.
        earlier: statistics to hold it against; None takes the published set's.

    Raises:
        DataError: the data cannot be had.
    """
    try:
        dataset = data.load(source, s3_endpoint=s3_endpoint)
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
    """What is odd about a data set; empty when nothing is.

    Args:
        dataset: any that `data.load` gives.
        current: its statistics; None computes them.
        limits: what is still usual.
        earlier: statistics to hold it against; None takes the published set's.
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
            "drift", split, current[split], earlier[split], "the reference's", limits
        )
    anomalies += _pixels(
        "skew", "test", current["test"], current["train"], "the training images'", limits
    )
    return anomalies


def _schema(dataset: Dataset) -> list[Anomaly]:
    """What the arrays are in themselves; the other checks need it to be right."""
    anomalies: list[Anomaly] = []
    for split, images, labels in splits(dataset):
        if images.dtype != np.uint8 or labels.dtype != np.uint8:
            message = f"images are {images.dtype} and labels {labels.dtype}; both must be uint8"
            anomalies.append(Anomaly("dtype", split, message))
        if images.shape[1:] != (data.SIDE, data.SIDE) or labels.ndim != 1:
            message = (
                f"images are {images.shape} and labels {labels.shape}; they must be (n, "
                f"{data.SIDE}, {data.SIDE}) and (n,)"
            )
            anomalies.append(Anomaly("shape", split, message))
        if len(images) != len(labels) or len(images) == 0:
            message = f"there are {len(images)} images and {len(labels)} labels"
            anomalies.append(Anomaly("counts", split, message))
        elif labels.min() < 0 or labels.max() >= data.CLASSES:
            message = f"labels go from {labels.min()} to {labels.max()}; they must be 0 to 9"
            anomalies.append(Anomaly("label-range", split, message))
    return anomalies


def _checksums(dataset: Dataset) -> list[Anomaly]:
    """A file that is not the published one, among others that are, was altered."""
    altered = [name for name, value in data.SHA256.items() if dataset.sha256.get(name) != value]
    if len(altered) == len(data.SHA256):
        return []
    return [
        Anomaly(
            "checksum",
            data.SPLITS[name],
            f"{data.FILES[name]} has other content than the published file, which others of the "
            "four files still are; fetch it again",
        )
        for name in altered
    ]


def _classes(
    split: str, current: Mapping[str, Any], earlier: Mapping[str, Any], limits: Limits
) -> list[Anomaly]:
    anomalies = [
        Anomaly("missing-class", split, f"no image is of the class {name}, which the reference has")
        for name, count in earlier["counts"].items()
        if count and not current["counts"].get(name)
    ]
    if anomalies:
        return anomalies
    # One image more in each class, since an empty one would count for more than it tells.
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
            f"({most}) images: stability index {index:.3f} against the reference, at most "
            f"{threshold:.3f} is usual"
        )
        anomalies.append(Anomaly("class-balance", split, message))
    return anomalies


def _index_by_chance(actual: np.ndarray, expected: np.ndarray) -> float:
    """The stability index that two samples of one distribution stay below, at three deviations.

    Over 1/n + 1/m it is distributed as chi-squared with k - 1 degrees of freedom (Yurdakul, "Statistical
    Properties of Population Stability Index", 2018).
    """
    degrees = len(actual) - 1
    return (degrees + 3 * math.sqrt(2 * degrees)) * (1 / actual.sum() + 1 / expected.sum())


def _pixels(
    kind: str,
    split: str,
    current: Mapping[str, Any],
    other: Mapping[str, Any],
    whose: str,
    limits: Limits,
) -> list[Anomaly]:
    """How pixels are distributed, and their mean, which moves within the histogram's bins."""
    anomalies: list[Anomaly] = []
    message = (
        f"its pixels (mean {current['mean']:.1f}) differ from {whose} (mean {other['mean']:.1f}): "
    )
    index = stability_index(current["histogram"], other["histogram"])
    if index > limits.max_drift:
        detail = f"stability index {index:.3f}, at most {limits.max_drift:.3f} is usual"
        anomalies.append(Anomaly(kind, split, message + detail))
    shift = mean_shift(current, other)
    # Versions from before have no spread in their statistics.
    spread = max(current["spread"], other.get("spread", 0)) / (other["deviation"] or 1)
    threshold = limits.max_mean_shift + 3 * spread * math.sqrt(
        1 / current["images"] + 1 / other["images"]
    )
    if abs(shift) > threshold:
        detail = (
            f"at equal classes the mean moved by {shift:+.3f} standard deviations of pixels, at most "
            f"{threshold:.3f} is usual"
        )
        anomalies.append(Anomaly(kind, split, message + detail))
    return anomalies


def _copies(split: str, current: Mapping[str, Any], limits: Limits) -> list[Anomaly]:
    anomalies: list[Anomaly] = []
    count = current["images"]
    if current["duplicates"] > limits.max_duplicates * count:
        message = (
            f"{current['duplicates']} of {count} images are copies of others in it, at most "
            f"{limits.max_duplicates:.2%} are usual"
        )
        anomalies.append(Anomaly("duplicates", split, message))
    if current["leaked"] > limits.max_duplicates * count:
        message = (
            f"{current['leaked']} of {count} images are among the training images, at most "
            f"{limits.max_duplicates:.2%} are usual; they say nothing about unseen images"
        )
        anomalies.append(Anomaly("leak", split, message))
    return anomalies


def _labels(
    split: str, current: Mapping[str, Any], earlier: Mapping[str, Any], limits: Limits
) -> list[Anomaly]:
    """Labels that may be wrong: images far from the mean of their class."""
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
        # One hit and one miss more, since none of few images does not mean that there is none.
        pooled = (share * count + expected * reference_count + 1) / (count + reference_count + 2)
        chance = 3 * math.sqrt(pooled * (1 - pooled) * (1 / count + 1 / reference_count))
        if expected - share > limits.max_agreement_drop + chance:
            message = (
                f"of {name}, {share:.1%} lie nearest to the mean image of their class, and "
                f"{expected:.1%} do in the reference; about "
                f"{(expected - share) / max(expected, SMALL):.0%} of the labels may be wrong"
            )
            anomalies.append(Anomaly("labels", split, message))
    return anomalies


def _overall(
    rows: list[tuple[str, float, float, int, int]],
) -> list[tuple[str, float, float, int, int]]:
    """The rows of all classes as one, each class with its own weight; none of none."""
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
    """Classes whose mean image is most like that of another class in the reference.

    What all classes have in common is taken off first, so that brightness plays no part. A class that
    lies between two is not counted as swapped as long as chance explains it.
    """
    names = [
        name
        for name in CLASS_NAMES
        if all(name in split_statistics["class_images"] for split_statistics in (current, earlier))
    ]
    if not names:
        # Nothing can be swapped with what is not there; that the classes are missing is told already.
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
        towards = earlier_means[nearest_label] - earlier_means[label]
        beyond = (
            current_means[label] - (earlier_means[label] + earlier_means[nearest_label]) / 2
        ) @ towards
        class_images = images[labels == CLASS_NAMES.index(names[label])]
        counts = current["counts"][names[label]], earlier["counts"][names[label]]
        chance = (blocks(class_images) @ towards).std() * math.sqrt(1 / counts[0] + 1 / counts[1])
        if beyond > 3 * chance:
            message = (
                f"the mean image of {names[label]} is that of {names[nearest_label]} in the reference; "
                "labels are swapped"
            )
            anomalies.append(Anomaly("labels", split, message))
    return anomalies


def _centred(images: list[str]) -> np.ndarray:
    pixels = np.array([list(bytes.fromhex(image)) for image in images], float)
    return pixels - pixels.mean(axis=0)
