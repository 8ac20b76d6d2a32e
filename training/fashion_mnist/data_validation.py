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
    found = statistics(dataset)
    return Inspection(dataset, found, validate(dataset, found, limits=limits, earlier=earlier))


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
    seen = set(data.digests(dataset.train_images))
    said: dict[str, Any] = {}
    for split, images, labels in _splits(dataset):
        counts = np.bincount(labels, minlength=data.CLASSES)
        pixels = _histogram(images)
        shares = pixels / pixels.sum()
        mean = float(shares @ np.arange(256))
        distinct = seen if split == "train" else set(data.digests(images))
        hits = _nearest(images, means) == labels
        own_means = _class_means(images, labels)
        brightness = images.mean(axis=(1, 2))
        within = brightness - own_means.mean(axis=(1, 2))[labels]
        said[split] = {
            "images": len(images),
            "shape": list(images.shape[1:]),
            "dtype": str(images.dtype),
            "counts": {name: int(counts[i]) for i, name in enumerate(CLASS_NAMES)},
            "mean": round(mean, 4),
            "deviation": round(math.sqrt(shares @ (np.arange(256) - mean) ** 2), 4),
            "spread": round(float(within.std()), 4),
            "histogram": [round(float(v), 6) for v in shares.reshape(BINS, -1).sum(axis=1)],
            "duplicates": len(images) - len(distinct),
            "leaked": len(distinct & seen) if split == "test" else 0,
            "agreement": {
                name: round(float(hits[labels == i].mean()), 4)
                for i, name in enumerate(CLASS_NAMES)
                if counts[i] and not np.isnan(means[i, 0, 0])
            },
            "class_images": {
                name: _shrink(own_means[i]).tobytes().hex()
                for i, name in enumerate(CLASS_NAMES)
                if counts[i]
            },
        }
    return said


def validate(
    dataset: Dataset,
    found: Mapping[str, Any] | None = None,
    *,
    limits: Limits | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> list[Anomaly]:
    """What is odd about a data set; empty when nothing is.

    Args:
        dataset: any that `data.load` gives.
        found: its statistics; None computes them.
        limits: what is still usual.
        earlier: statistics to hold it against; None takes the published set's.
    """
    limits = limits or Limits()
    wrong = _schema(dataset)
    if wrong:
        return wrong
    found = found or statistics(dataset)
    earlier = earlier or reference.PUBLISHED
    wrong += _checksums(dataset)
    for split, images, labels in _splits(dataset):
        wrong += _classes(split, found[split], earlier[split], limits)
        wrong += _copies(split, found[split], limits)
        wrong += _swapped(split, images, labels, found[split], earlier[split])
        wrong += _labels(split, found[split], earlier[split], limits)
        wrong += _pixels("drift", split, found[split], earlier[split], "the reference's", limits)
    wrong += _pixels("skew", "test", found["test"], found["train"], "the training images'", limits)
    return wrong


def stability_index(now: Any, before: Any) -> float:
    """The population stability index of two distributions over the same bins; 0 is no change.

    The symmetrised Kullback-Leibler divergence, sum (p - q) ln(p / q) with natural logarithms, as
    credit scoring uses it (Siddiqi, "Credit Risk Scorecards", 2006). Empty bins count as 1e-6.

    Args:
        now: counts or shares, one for each bin.
        before: the same of the reference.
    """
    p = np.maximum(np.asarray(now, float) / np.sum(now), _SMALL)
    q = np.maximum(np.asarray(before, float) / np.sum(before), _SMALL)
    return float(((p - q) * np.log(p / q)).sum())


def mean_shift(found: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The standardised mean difference of pixels, as if the other had the same shares of classes.

    Args:
        found: statistics of a split.
        other: those of the split to hold it against.

    Returns:
        the difference of means over the other's standard deviation of pixels; 0 where they have no
        class in common.
    """
    both = [name for name in found["class_images"] if name in other["class_images"]]
    weights = np.array([found["counts"][name] for name in both], float)
    if not both or not other["deviation"]:
        return 0.0
    now, before = (
        np.array([np.mean(list(bytes.fromhex(said["class_images"][name]))) for name in both])
        for said in (found, other)
    )
    return float((now - before) @ weights / weights.sum() / other["deviation"])


def drift(found: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, float]:
    """Population stability indices: pixels of `train` and of `test`, and the training `classes`.

    Args:
        found: the statistics of a data set.
        earlier: those to hold it against; it may have classes of other names.
    """
    now, before = found["train"]["counts"], earlier["train"]["counts"]
    names = dict.fromkeys((*now, *before))
    return {
        "train": stability_index(found["train"]["histogram"], earlier["train"]["histogram"]),
        "test": stability_index(found["test"]["histogram"], earlier["test"]["histogram"]),
        "classes": stability_index(_counts(now, names), _counts(before, names)),
    }


def save(
    directory: Path,
    found: Mapping[str, Any],
    anomalies: list[Anomaly],
    earlier: Mapping[str, Any] | None = None,
) -> None:
    """Keep statistics, anomalies and drift beside a data set that `data.save` wrote."""
    facts = {
        "statistics": found,
        "anomalies": [str(anomaly) for anomaly in anomalies],
        "drift": drift(found, earlier or reference.PUBLISHED),
    }
    (directory / "statistics.json").write_text(json.dumps(facts), encoding="utf-8")


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
    wrong: list[Anomaly] = []
    for split, images, labels in _splits(dataset):
        if images.dtype != np.uint8 or labels.dtype != np.uint8:
            said = f"images are {images.dtype} and labels {labels.dtype}; both must be uint8"
            wrong.append(Anomaly("dtype", split, said))
        if images.shape[1:] != (data.SIDE, data.SIDE) or labels.ndim != 1:
            said = (
                f"images are {images.shape} and labels {labels.shape}; they must be (n, "
                f"{data.SIDE}, {data.SIDE}) and (n,)"
            )
            wrong.append(Anomaly("shape", split, said))
        if len(images) != len(labels) or len(images) == 0:
            said = f"there are {len(images)} images and {len(labels)} labels"
            wrong.append(Anomaly("counts", split, said))
        elif labels.min() < 0 or labels.max() >= data.CLASSES:
            said = f"labels go from {labels.min()} to {labels.max()}; they must be 0 to 9"
            wrong.append(Anomaly("label-range", split, said))
    return wrong


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
    split: str, found: Mapping[str, Any], earlier: Mapping[str, Any], limits: Limits
) -> list[Anomaly]:
    wrong = [
        Anomaly("missing-class", split, f"no image is of the class {name}, which the reference has")
        for name, count in earlier["counts"].items()
        if count and not found["counts"].get(name)
    ]
    if wrong:
        return wrong
    # One image more in each class, since an empty one would count for more than it tells.
    now, before = (np.array(_counts(each["counts"], CLASS_NAMES)) + 1 for each in (found, earlier))
    index = stability_index(now, before)
    most_usual = limits.max_drift + _index_by_chance(now, before)
    if index > most_usual:
        least = min(found["counts"], key=lambda name: found["counts"][name])
        most = max(found["counts"], key=lambda name: found["counts"][name])
        said = (
            f"classes have from {found['counts'][least]} ({least}) to {found['counts'][most]} "
            f"({most}) images: stability index {index:.3f} against the reference, at most "
            f"{most_usual:.3f} is usual"
        )
        wrong.append(Anomaly("class-balance", split, said))
    return wrong


def _index_by_chance(now: np.ndarray, before: np.ndarray) -> float:
    """The stability index that two samples of one distribution stay below, at three deviations.

    Over 1/n + 1/m it is distributed as chi-squared with k - 1 degrees of freedom (Yurdakul, "Statistical
    Properties of Population Stability Index", 2018).
    """
    free = len(now) - 1
    return (free + 3 * math.sqrt(2 * free)) * (1 / now.sum() + 1 / before.sum())


def _pixels(
    kind: str,
    split: str,
    found: Mapping[str, Any],
    other: Mapping[str, Any],
    whose: str,
    limits: Limits,
) -> list[Anomaly]:
    """How pixels are distributed, and their mean, which moves within the histogram's bins."""
    wrong: list[Anomaly] = []
    said = f"its pixels (mean {found['mean']:.1f}) differ from {whose} (mean {other['mean']:.1f}): "
    index = stability_index(found["histogram"], other["histogram"])
    if index > limits.max_drift:
        usual = f"stability index {index:.3f}, at most {limits.max_drift:.3f} is usual"
        wrong.append(Anomaly(kind, split, said + usual))
    shift = mean_shift(found, other)
    # Versions from before have no spread in their statistics.
    spread = max(found["spread"], other.get("spread", 0)) / (other["deviation"] or 1)
    most = limits.max_mean_shift + 3 * spread * math.sqrt(1 / found["images"] + 1 / other["images"])
    if abs(shift) > most:
        usual = (
            f"at equal classes the mean moved by {shift:+.3f} standard deviations of pixels, at most "
            f"{most:.3f} is usual"
        )
        wrong.append(Anomaly(kind, split, said + usual))
    return wrong


def _copies(split: str, found: Mapping[str, Any], limits: Limits) -> list[Anomaly]:
    wrong: list[Anomaly] = []
    count = found["images"]
    if found["duplicates"] > limits.max_duplicates * count:
        said = (
            f"{found['duplicates']} of {count} images are copies of others in it, at most "
            f"{limits.max_duplicates:.2%} are usual"
        )
        wrong.append(Anomaly("duplicates", split, said))
    if found["leaked"] > limits.max_duplicates * count:
        said = (
            f"{found['leaked']} of {count} images are among the training images, at most "
            f"{limits.max_duplicates:.2%} are usual; they say nothing about unseen images"
        )
        wrong.append(Anomaly("leak", split, said))
    return wrong


def _labels(
    split: str, found: Mapping[str, Any], earlier: Mapping[str, Any], limits: Limits
) -> list[Anomaly]:
    """Labels that may be wrong: images far from the mean of their class."""
    wrong: list[Anomaly] = []
    rows = [
        (
            *(name, found["agreement"][name], earlier["agreement"][name]),
            *(found["counts"][name], earlier["counts"][name]),
        )
        for name in found["agreement"]
        if name in earlier["agreement"]
    ]
    for name, share, before, count, of in [*rows, *_overall(rows)]:
        # One hit and one miss more, since none of few images does not mean that there is none.
        both = (share * count + before * of + 1) / (count + of + 2)
        chance = 3 * math.sqrt(both * (1 - both) * (1 / count + 1 / of))
        if before - share > limits.max_agreement_drop + chance:
            said = (
                f"of {name}, {share:.1%} lie nearest to the mean image of their class, and "
                f"{before:.1%} do in the reference; about "
                f"{(before - share) / max(before, _SMALL):.0%} of the labels may be wrong"
            )
            wrong.append(Anomaly("labels", split, said))
    return wrong


def _overall(
    rows: list[tuple[str, float, float, int, int]],
) -> list[tuple[str, float, float, int, int]]:
    """The rows of all classes as one, each class with its own weight; none of none."""
    count = sum(row[3] for row in rows)
    if not count:
        return []
    share = sum(row[1] * row[3] for row in rows) / count
    before = sum(row[2] * row[3] for row in rows) / count
    return [("all images", share, before, count, sum(row[4] for row in rows))]


def _swapped(
    split: str,
    images: np.ndarray,
    labels: np.ndarray,
    found: Mapping[str, Any],
    earlier: Mapping[str, Any],
) -> list[Anomaly]:
    """Classes whose mean image is most like that of another class in the reference.

    What all classes have in common is taken off first, so that brightness plays no part. A class that
    lies between two is not counted as swapped as long as chance explains it.
    """
    names = [
        name for name in CLASS_NAMES if all(name in s["class_images"] for s in (found, earlier))
    ]
    if not names:
        # Nothing can be swapped with what is not there; that the classes are missing is told already.
        return []
    ours, theirs = (
        _centred([said["class_images"][name] for name in names]) for said in (found, earlier)
    )
    nearest = ((ours[:, None] - theirs[None]) ** 2).sum(axis=2).argmin(axis=1)
    wrong: list[Anomaly] = []
    for own, other in enumerate(nearest.tolist()):
        if other == own:
            continue
        towards = theirs[other] - theirs[own]
        beyond = (ours[own] - (theirs[own] + theirs[other]) / 2) @ towards
        some = images[labels == CLASS_NAMES.index(names[own])]
        counts = found["counts"][names[own]], earlier["counts"][names[own]]
        chance = (_blocks(some) @ towards).std() * math.sqrt(1 / counts[0] + 1 / counts[1])
        if beyond > 3 * chance:
            said = (
                f"the mean image of {names[own]} is that of {names[other]} in the reference; labels are "
                "swapped"
            )
            wrong.append(Anomaly("labels", split, said))
    return wrong


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
        (np.bincount(some.reshape(-1), minlength=256) for some in _batches(images)),
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
    known = np.flatnonzero(~np.isnan(means[:, 0, 0]))
    flat = means[known].reshape(len(known), -1).astype(np.float64)
    nearest: list[np.ndarray] = []
    for some in _batches(images):
        pixels = some.reshape(-1, flat.shape[1]).astype(np.float64)
        # The square of the image itself is the same for all classes.
        nearest.append(known[((flat**2).sum(axis=1) - 2 * pixels @ flat.T).argmin(axis=1)])
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
