"""Is this the data to train on? Statistics of a data set, and what is odd about it.

The words are those of TensorFlow Data Validation (https://www.tensorflow.org/tfx/guide/tfdv):
statistics are computed, held against a schema and against statistics from before, and each thing
that does not fit is an anomaly; skew is between the splits, drift is against an earlier data set.

Earlier means the data that the champion was trained on, and before there is a champion the data set
as it was published (`reference.PUBLISHED`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist import CLASS_NAMES, data, reference
from fashion_mnist.data import DataError, Dataset

BINS = 16
# Class means are kept as 7 x 7 pixels: each stands for a block of 4 x 4.
_BLOCK = 4
# So many images are widened at once.
_BATCH = 5000
_SMALL = 1e-6


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
    current = statistics(dataset)
    return Inspection(dataset, current, validate(dataset, current, limits=limits, earlier=earlier))


def statistics(dataset: Dataset) -> dict[str, Any]:
    """What a data set is like, as JSON, by split ("train", "test").

    Each split has: `images` (how many); `shape` and `dtype` of one image; `counts` by class;
    `mean` and `deviation` of pixels (0 to 255); `spread`, the standard deviation of images' means
    within their class; `histogram`, shares of pixels in 16 equal bins;
    `duplicates`, images that were in the split before; `leaked`, test images that are among the
    training images; `agreement` by class, the share of its images that lie nearest (Euclidean) to
    the class's own mean training image; `class_images` by class, the mean image as 7 x 7 bytes,
    hexadecimal.
    """
    means = _class_means(dataset.train_images, dataset.train_labels)
    # Not the images themselves: a copy of each takes as much memory again as all of them.
    training_images = set(data.digests(dataset.train_images))
    result: dict[str, Any] = {}
    for split, images, labels in _splits(dataset):
        counts = np.bincount(labels, minlength=data.CLASSES)
        pixels = _histogram(images)
        shares = pixels / pixels.sum()
        mean = float(shares @ np.arange(256))
        distinct = training_images if split == "train" else set(data.digests(images))
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
    current = current or statistics(dataset)
    earlier = earlier or reference.PUBLISHED
    anomalies += _checksums(dataset)
    for split, images, labels in _splits(dataset):
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


def stability_index(actual: Any, expected: Any) -> float:
    """The population stability index of two distributions over the same bins; 0 is no change.

    The symmetrised Kullback-Leibler divergence, sum (p - q) ln(p / q) with natural logarithms, as
    credit scoring uses it (Siddiqi, "Credit Risk Scorecards", 2006). Empty bins count as 1e-6.

    Args:
        actual: counts or shares, one for each bin.
        expected: the same of the reference.
    """
    p = np.maximum(np.asarray(actual, float) / np.sum(actual), _SMALL)
    q = np.maximum(np.asarray(expected, float) / np.sum(expected), _SMALL)
    return float(((p - q) * np.log(p / q)).sum())


def mean_shift(current: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The standardised mean difference of pixels, as if the other had the same shares of classes.

    Args:
        current: statistics of a split.
        other: those of the split to hold it against.

    Returns:
        the difference of means over the other's standard deviation of pixels; 0 where they have no
        class in common.
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
    """Population stability indices: pixels of `train` and of `test`, and the training `classes`.

    Args:
        current: the statistics of a data set.
        earlier: those to hold it against; it may have classes of other names.
    """
    actual, expected = current["train"]["counts"], earlier["train"]["counts"]
    names = dict.fromkeys((*actual, *expected))
    return {
        "train": stability_index(current["train"]["histogram"], earlier["train"]["histogram"]),
        "test": stability_index(current["test"]["histogram"], earlier["test"]["histogram"]),
        "classes": stability_index(_counts(actual, names), _counts(expected, names)),
    }


def save(
    directory: Path,
    current: Mapping[str, Any],
    anomalies: list[Anomaly],
    earlier: Mapping[str, Any] | None = None,
) -> None:
    """Keep statistics, anomalies and drift beside a data set that `data.save` wrote."""
    record = {
        "statistics": current,
        "anomalies": [str(anomaly) for anomaly in anomalies],
        "drift": drift(current, earlier or reference.PUBLISHED),
    }
    (directory / "statistics.json").write_text(json.dumps(record), encoding="utf-8")


def load_saved(directory: Path) -> Mapping[str, Any]:
    """What `save` kept: `statistics`, `anomalies` as sentences, `drift`; empty if it kept none."""
    path = directory / "statistics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _splits(dataset: Dataset) -> list[tuple[str, np.ndarray, np.ndarray]]:
    return [
        ("train", dataset.train_images, dataset.train_labels),
        ("test", dataset.test_images, dataset.test_labels),
    ]


def _schema(dataset: Dataset) -> list[Anomaly]:
    """What the arrays are in themselves; the other checks need it to be right."""
    anomalies: list[Anomaly] = []
    for split, images, labels in _splits(dataset):
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
        np.array(_counts(split_statistics["counts"], CLASS_NAMES)) + 1
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
                f"{(expected - share) / max(expected, _SMALL):.0%} of the labels may be wrong"
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
        chance = (_blocks(class_images) @ towards).std() * math.sqrt(1 / counts[0] + 1 / counts[1])
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


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """The images in parts, since what is computed of them is eight times as large."""
    for at in range(0, len(images), _BATCH):
        yield images[at : at + _BATCH]


def _histogram(images: np.ndarray) -> np.ndarray:
    """How many pixels have each of the 256 values."""
    return sum(
        (np.bincount(batch.reshape(-1), minlength=256) for batch in _batches(images)),
        np.zeros(256, int),
    )


def _class_means(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean images, float32 (10, 28, 28); those of classes without images are not a number."""
    means = np.full((data.CLASSES, *images.shape[1:]), np.nan, np.float32)
    for label in np.unique(labels):
        means[label] = images[labels == label].mean(axis=0, dtype=np.float64)
    return means


def _nearest(images: np.ndarray, means: np.ndarray) -> np.ndarray:
    """For each image (n, 28, 28) the class whose mean is nearest, (n,)."""
    present = np.flatnonzero(~np.isnan(means[:, 0, 0]))
    flat = means[present].reshape(len(present), -1).astype(np.float64)
    nearest: list[np.ndarray] = []
    for batch in _batches(images):
        pixels = batch.reshape(-1, flat.shape[1]).astype(np.float64)
        # The square of the image itself is the same for all classes.
        nearest.append(present[((flat**2).sum(axis=1) - 2 * pixels @ flat.T).argmin(axis=1)])
    return np.concatenate(nearest)


def _shrink(image: np.ndarray) -> np.ndarray:
    """A mean image (28, 28) as uint8 (7, 7)."""
    return _blocks(image[None]).reshape(-1, image.shape[1] // _BLOCK).round().astype(np.uint8)


def _blocks(images: np.ndarray) -> np.ndarray:
    """The means of blocks of images (n, 28, 28): (n, 49)."""
    side = images.shape[1] // _BLOCK
    blocks = images.reshape(-1, side, _BLOCK, side, _BLOCK).mean(axis=(2, 4))
    return blocks.reshape(len(images), -1)


def _counts(counts: Mapping[str, int], names: Iterable[str]) -> list[int]:
    """The counts of classes in the order of their names; a class that is not there has no images."""
    return [counts.get(name, 0) for name in names]
