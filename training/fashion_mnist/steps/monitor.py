"""Do production images still look like what the model was made for? What the step `monitor` does.

Drift is told as in `data_validation`, by the population stability index: of pixels against the training
images of the champion, and of predicted classes against its predictions for the test images.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist import CLASS_NAMES, data, evaluation
from fashion_mnist.data import DataError, reference
from fashion_mnist.data.production import MAX_IMAGES, Batch, load
from fashion_mnist.data.statistics import BINS, stability_index
from fashion_mnist.reports.monitoring import monitoring_report
from fashion_mnist.storage import open_registry
from model_registry import Champion, NoSuchModelError
from model_registry.schema import SCHEMA_VERSION, now

# How much less accurate the model may be in production than on the test images.
MAX_ACCURACY_DROP = 0.05
_CHANCE = 0.001


def monitor_images(
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
        if evaluation.binomial_cdf(correct, int(is_labelled.sum()), least_accuracy) < _CHANCE:
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
