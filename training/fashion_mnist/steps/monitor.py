"""Detect drift: compare production images with the data that the champion was trained on.

Drift is measured by the population stability index, as in `data.validation`: of pixels, against the
champion's training images, and of predicted classes, against its predictions for the test images.
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

# Maximum drop of accuracy from the test images to production.
MAX_ACCURACY_DROP = 0.05
# Probability below which chance does not explain a drop of accuracy.
_SIGNIFICANCE = 0.001


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
    """Compare production images with the champion's data, and record the result.

    Args:
        source: see `production.load`.
        run_id: id of the run, under which the report is recorded.
        registry: s3://bucket/prefix or a directory.
        s3_endpoint: http(s)://host:port of the S3 server.
        max_drift: population stability index above which a distribution has drifted.
        max_accuracy_drop: see `compare`.
        min_images: minimum number of images.
        report: path of the HTML report to write.
        max_images: maximum number of images, the newest.

    Returns:
        content of `monitoring/RUN/report.json`, see docs/reference/registry.md.

    Raises:
        DataError: The images cannot be read, or there are too few.
        NoSuchModelError: There is no champion.
        ValueError: `max_images` is less than `min_images`.
    """
    if max_images < min_images:
        raise ValueError(
            f"max_images {max_images} is less than min_images {min_images}; raise it, or lower "
            "min_images"
        )
    model_registry = open_registry(registry, s3_endpoint)
    champion = model_registry.champion()
    if champion is None:
        raise NoSuchModelError(
            "there is no champion to compare the images with; train a model first"
        )
    batch = load(source, s3_endpoint, max_images=max_images)
    if len(batch.images) < min_images:
        raise DataError(
            f"{source} has {len(batch.images)} images, but {min_images} are needed to tell drift from "
            "chance; add more",
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
    """Compare a batch with the data of the champion.

    Args:
        batch: production images.
        probabilities: predictions of the champion, float (n, 10).
        champion: the champion with its manifest.
        max_drift: population stability index above which a distribution has drifted.
        max_accuracy_drop: maximum drop of accuracy from the test images to the labelled images, 0 to
            1, 0 excluded; accuracy has drifted if chance explains a larger drop less than once in a
            thousand times.

    Returns:
        report as JSON, without `run_id`, `source` and `created_at`.
    """
    manifest = champion.manifest.document
    baseline = manifest.get("data", {}).get("statistics") or reference.PUBLISHED
    # Predictions of each class for the test images: columns are predictions.
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
    min_accuracy = metrics["test"]["accuracy"] - max_accuracy_drop
    if evaluated and 0 < min_accuracy < 1:
        correct = int(evaluated.confusion.trace())
        if evaluation.binomial_cdf(correct, int(is_labelled.sum()), min_accuracy) < _SIGNIFICANCE:
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
