"""Do production images still look like what the model was made for? What the step `monitor` does.

Drift is told as in `data_validation`, by the population stability index: of pixels against the training
images of the champion, and of predicted classes against its predictions for the test images.
"""

from __future__ import annotations

import dataclasses
import io
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import obstore

from fashion_mnist import CLASS_NAMES, data, evaluation, reference
from fashion_mnist.data import DataError
from fashion_mnist.data_validation import BINS, stability_index
from fashion_mnist.report import monitoring_report
from fashion_mnist.storage import open_registry, open_store
from model_registry import Champion, NoSuchModelError
from model_registry.schema import SCHEMA_VERSION, now

# More would hide what is new among what is old; fewer tell less about each class.
MAX_IMAGES = 10_000
# How much less accurate the model may be in production than on the test images.
MAX_ACCURACY_DROP = 0.05
_CHANCE = 0.001
# What reading an array raises where it is none, or none of a size that fits.
_DAMAGED = (
    *(EOFError, KeyError, MemoryError, OSError, RuntimeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images from production.

    Attributes:
        images: uint8 (n, 28, 28), as the model is given them.
        labels: int (n,), 0 to 9, or -1 where the label is not known.
        files: the names of the objects that they came from, the newest first.
    """

    images: np.ndarray
    labels: np.ndarray
    files: list[str]


def load(source: str, s3_endpoint: str = "", *, max_images: int = MAX_IMAGES) -> Batch:
    """Read the newest images under a prefix, and the labels that lie beside them.

    Images are IDX files (NAME-idx3-ubyte) and .npy of uint8 (n, 28, 28), or .npz with an array
    `images` and, where they are known, `labels`; each may be gzipped (.gz). Labels of other files are
    in one of the same name with `labels` for `images`, and idx1 for idx3. Anything else is passed over.

    Args:
        source: s3://bucket/prefix or a directory.
        s3_endpoint: of the S3 server.
        max_images: the newest that are read; older ones are left out. Of a file with more than fit
            its last are taken, since who adds to a file does so at its end.

    Raises:
        DataError: there are no images, or a file is not what its name says; the message names it.
    """
    try:
        store = open_store(source, s3_endpoint)
        entries = [entry for page in obstore.list(store) for entry in page]
        entries.sort(key=lambda entry: (entry["last_modified"], entry["path"]), reverse=True)
        paths = {_stem(entry["path"]): entry["path"] for entry in entries}
        batches: list[tuple[np.ndarray, np.ndarray, str]] = []
        room = max_images
        for entry in entries:
            path = entry["path"]
            kind = _kind(path)
            if kind and not _is_of_labels(path, kind):
                labels_path = "" if kind == "npz" else paths.get(_labels_of(path), "")
                images, labels = _read(store, source, path, kind, labels_path)
                batches.append((images[-room:], labels[-room:], path))
                room -= len(batches[-1][0])
            if room <= 0:
                break
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        first_line = (str(error).strip().splitlines() or [repr(error)])[0]
        raise DataError(
            f"{source} cannot be read ({first_line[:200]}); see that it is there"
        ) from error
    if not batches:
        raise DataError(
            f"{source} has no images: put IDX files (NAME-idx3-ubyte), .npy or .npz there, uint8 "
            f"(n, {data.SIDE}, {data.SIDE})",
            "counts",
        )
    images, labels, files = zip(*batches, strict=True)
    return Batch(np.concatenate(images), np.concatenate(labels), list(files))


def monitor(
    *,
    source: str,
    run_id: str,
    registry: str,
    s3_endpoint: str,
    max_drift: float,
    min_images: int,
    report: Path,
    max_accuracy_drop: float = MAX_ACCURACY_DROP,
    max_images: int = MAX_IMAGES,
) -> dict[str, Any]:
    """Hold production images against the champion's data, and keep what came of it.

    Args:
        source: see `load`.
        run_id: the run's, under which the report is kept.
        registry: s3://bucket/prefix or a directory.
        s3_endpoint: of the S3 server.
        max_drift: population stability index above which something has drifted.
        max_accuracy_drop: see `compare`.
        min_images: fewer are an error, since they tell nothing.
        report: where the HTML report goes.
        max_images: how many of the newest images are looked at.

    Returns:
        what is kept as `monitoring/RUN/report.json`; see docs/reference/registry.md.

    Raises:
        DataError: the images cannot be had, are none, or are too few.
        NoSuchModelError: no model serves.
        ValueError: fewer images would be looked at than are needed.
    """
    if max_images < min_images:
        raise ValueError(
            f"max_images is {max_images}, fewer than the {min_images} that are needed (min_images); "
            "raise it, or lower min_images"
        )
    model_registry = open_registry(registry, s3_endpoint)
    champion = model_registry.champion()
    if champion is None:
        raise NoSuchModelError(
            "no model serves yet that images could be held against; train one first"
        )
    batch = load(source, s3_endpoint, max_images=max_images)
    if len(batch.images) < min_images:
        raise DataError(
            f"{source} has {len(batch.images)} images, and {min_images} are needed to tell drift from "
            "chance; put more there",
            "counts",
        )
    with tempfile.TemporaryDirectory() as folder:
        model_registry.fetch(champion.version, Path(folder))
        probabilities = evaluation.probabilities(Path(folder), batch.images)
    record = compare(
        batch,
        probabilities,
        champion,
        max_drift=max_drift,
        max_accuracy_drop=max_accuracy_drop,
    )
    record |= {"run_id": run_id, "source": source, "created_at": now()}
    stored = dict(model_registry.write_report(run_id, record).document)
    report.write_text(monitoring_report(stored, batch.images, probabilities), encoding="utf-8")
    return stored


def compare(
    batch: Batch,
    probabilities: np.ndarray,
    champion: Champion,
    *,
    max_drift: float,
    max_accuracy_drop: float = MAX_ACCURACY_DROP,
) -> dict[str, Any]:
    """What a batch is like, against what the champion was made for.

    Args:
        batch: the images.
        probabilities: the champion's answers, float (n, 10).
        champion: the model that serves, with its manifest.
        max_drift: population stability index above which something has drifted.
        max_accuracy_drop: how much less accurate it may be on the labelled images than on the test
            images (0 to 1, not 0), by more than what chance explains once in a thousand times.
    """
    manifest = champion.manifest.document
    baseline = manifest.get("data", {}).get("statistics") or reference.PUBLISHED
    # How often it predicted each class for the test images: columns are predictions.
    baseline_counts = np.sum(manifest["metrics"]["confusion_matrix"], axis=0)
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=data.CLASSES)
    pixels = np.bincount(batch.images.reshape(-1), minlength=256).reshape(BINS, -1).sum(axis=1)
    drift = {
        "pixels": stability_index(pixels, baseline["train"]["histogram"]),
        "predictions": stability_index(predicted, baseline_counts),
    }
    is_labelled = batch.labels >= 0
    evaluated = (
        evaluation.evaluate_probabilities(probabilities[is_labelled], batch.labels[is_labelled])
        if is_labelled.any()
        else None
    )
    metrics = manifest["metrics"]
    drifted = [part for part, index in drift.items() if index > max_drift]
    least_accuracy = metrics["test"]["accuracy"] - max_accuracy_drop
    if evaluated and 0 < least_accuracy < 1:
        correct = int(evaluated.confusion.trace())
        if evaluation.at_most(correct, int(is_labelled.sum()), least_accuracy) < _CHANCE:
            drifted.append("accuracy")
    return {
        "schema_version": SCHEMA_VERSION,
        "version": champion.version,
        "images": len(batch.images),
        "labelled": int(is_labelled.sum()),
        "files": len(batch.files),
        "max_drift": max_drift,
        "drift": drift,
        "max_accuracy_drop": max_accuracy_drop,
        "drifted": drifted,
        "mean": float(batch.images.mean()),
        "confidence": float(probabilities.max(axis=1).mean()),
        "histogram": _shares(pixels),
        "predicted": dict(zip(CLASS_NAMES, _shares(predicted), strict=True)),
        "accuracy": evaluated.accuracy if evaluated else None,
        "recall": evaluated.recall if evaluated else {},
        "reference": {
            "mean": baseline["train"]["mean"],
            "histogram": list(baseline["train"]["histogram"]),
            "predicted": dict(zip(CLASS_NAMES, _shares(baseline_counts), strict=True)),
            "accuracy": metrics["test"]["accuracy"],
            "recall": dict(metrics["recall"]),
        },
    }


def _shares(counts: np.ndarray) -> list[float]:
    return [round(float(share), 6) for share in counts / counts.sum()]


def _stem(path: str) -> str:
    return path.removesuffix(".gz")


def _kind(path: str) -> str:
    """The form of a file, one of idx, npy and npz; empty where its name is of no such."""
    name = PurePosixPath(_stem(path)).name
    if name.endswith((".npy", ".npz")):
        return name[-3:]
    return "idx" if name.endswith(("idx3-ubyte", "idx1-ubyte", ".idx3", ".idx1")) else ""


def _is_of_labels(path: str, kind: str) -> bool:
    """Whether a file has the labels of another one; an .npz has its own beside its images."""
    return kind != "npz" and "labels" in PurePosixPath(path).name


def _labels_of(path: str) -> str:
    folder, name = PurePosixPath(_stem(path)).parent, PurePosixPath(_stem(path)).name
    labels_name = name.replace("images", "labels").replace("idx3", "idx1")
    return (folder / labels_name).as_posix() if labels_name != name else ""


def _read(
    store: Any, source: str, path: str, kind: str, labels_path: str
) -> tuple[np.ndarray, np.ndarray]:
    """The images of a file, uint8 (n, 28, 28), and their labels, -1 where they are not known."""
    location = f"{source}/{path}"
    arrays = _arrays(store, source, path, kind)
    if "images" not in arrays:
        raise DataError(f"{location}: it has no array images; name it so", "format")
    images, labels = arrays["images"], arrays.get("labels")
    if images.dtype != np.uint8:
        raise DataError(
            f"{location}: its images are {images.dtype}; give raw pixels, uint8, 0 to 255",
            "dtype",
        )
    if images.ndim != 3 or images.shape[1:] != (data.SIDE, data.SIDE) or not len(images):
        raise DataError(
            f"{location}: its images are {images.shape}; they must be (n, {data.SIDE}, {data.SIDE})",
            "shape",
        )
    if labels_path and labels is None:
        location = f"{source}/{labels_path}"
        labels = _arrays(store, source, labels_path, _kind(labels_path), labels=True)["labels"]
    if labels is None:
        return images, np.full(len(images), -1)
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise DataError(
            f"{location}: its labels are {labels.dtype} {labels.shape}, for {len(images)} images; they "
            f"must be whole numbers ({len(images)},)",
            "counts",
        )
    if labels.min() < -1 or labels.max() >= data.CLASSES:
        raise DataError(
            f"{location}: its labels go from {labels.min()} to {labels.max()}; they must be 0 to "
            f"{data.CLASSES - 1}, or -1 where they are not known",
            "label-range",
        )
    return images, labels.astype(int)


def _arrays(
    store: Any, source: str, path: str, kind: str, *, labels: bool = False
) -> dict[str, np.ndarray]:
    """The arrays in a file, as `images` and `labels`."""
    location = f"{source}/{path}"
    response = obstore.get(store, path)
    data.check_size(response.meta["size"], location)
    content = data.decompress(bytes(response.bytes()), location)
    try:
        if kind == "idx":
            array = data.parse_idx(content, location, dimensions=1 if labels else 3)
            return {"labels" if labels else "images": array}
        if kind == "npy":
            array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
            return {"labels" if labels else "images": array}
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            data.check_size(sum(member.file_size for member in members.infolist()), location)
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        return {name: loaded[name] for name in ("images", "labels") if name in loaded.files}
    except DataError:
        raise
    except _DAMAGED as error:
        first_line = (str(error).strip().splitlines() or [repr(error)])[0]
        raise DataError(
            f"{location}: truncated or damaged ({first_line[:200]}); put it there again",
            "truncated",
        ) from error
