"""Read and validate the data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fashion_mnist import CLASS_NAMES, data
from fashion_mnist.data import DataError, reference, statistics, validation
from fashion_mnist.data.validation import Limits
from fashion_mnist.model import training
from fashion_mnist.model.recipes import Recipe
from fashion_mnist.reports.data import data_report
from fashion_mnist.storage import open_registry
from model_registry import Champion


def ingest_data(
    *,
    source: str,
    registry: str,
    s3_endpoint: str,
    limits: Limits,
    allow_anomalies: bool,
    dataset: Path,
    report: Path,
    image_number: int = 0,
    recipe: Recipe | None = None,
    workers: int = 1,
) -> str:
    """Read the files, compare them with the champion's data, and write them with their statistics.

    Args:
        source: see `data.load`.
        registry: s3://bucket/prefix or a directory with the champion, empty for none.
        s3_endpoint: http(s)://host:port of the S3 server.
        limits: limits of what is usual.
        allow_anomalies: True to report anomalies and continue, if the data can be read at all.
        dataset: directory for the data set and its statistics.
        report: path of the HTML report to write.
        image_number: index of the test image that the run will predict.
        recipe: how the run will train, None to skip that check.
        workers: number of workers that will train together.

    Returns:
        a summary as Markdown.

    Raises:
        RegistryError: The registry cannot be written.
        DataError: The data cannot be read, or have anomalies, which the message lists.
        ValueError: There is no such test image, or the recipe's batches do not fit the data or the
            workers.
    """
    model_registry = open_registry(registry, s3_endpoint) if registry else None
    if model_registry:
        # Fail now, not in the last step after the training.
        model_registry.check()
    champion = model_registry.champion() if model_registry else None
    champion_statistics = _statistics(champion) if champion else None
    earlier_name = (
        f"the data of version {champion.version}" if champion and champion_statistics else ""
    )
    inspection = validation.inspect(
        source,
        s3_endpoint=s3_endpoint,
        limits=limits,
        earlier=champion_statistics or reference.PUBLISHED,
    )
    for anomaly in inspection.anomalies:
        print(f"anomaly: {anomaly}")
    if (
        inspection.dataset is None
        or inspection.statistics is None
        or (inspection.anomalies and not allow_anomalies)
    ):
        bullets = "\n".join(f"- {anomaly}" for anomaly in inspection.anomalies)
        raise DataError(
            f"{len(inspection.anomalies)} anomalies in the data:\n{bullets}\n"
            "correct the data, raise the pipeline's limits, or set its parameter allow_anomalies"
        )
    count = len(inspection.dataset.test_images)
    if not 0 <= image_number < count:
        # Fail now: the step that predicts may have promoted a model by then.
        raise ValueError(f"image_number must be 0 to {count - 1}, not {image_number}")
    if recipe:
        training.check(inspection.dataset.train_images, recipe, workers)
    data.save(inspection.dataset, dataset)
    statistics.save(dataset, inspection.statistics, inspection.anomalies, champion_statistics)
    loaded = inspection.dataset
    headline = (
        f"{len(loaded.train_images)} training and {len(loaded.test_images)} test images from "
        f"{loaded.source}, {'the' if loaded.is_official else 'not the'} official data set"
    )
    print(headline)
    report.write_text(
        data_report(
            title=f"Data: {headline}",
            statistics=inspection.statistics,
            anomalies=inspection.anomalies,
            images=loaded.train_images,
            labels=loaded.train_labels,
            earlier=champion_statistics or reference.PUBLISHED,
            earlier_name=earlier_name or "Fashion-MNIST as published",
        ),
        encoding="utf-8",
    )
    counts = inspection.statistics["train"]["counts"]
    lines = [
        headline,
        "",
        *(f"- anomaly: {anomaly}" for anomaly in inspection.anomalies),
        "" if inspection.anomalies else "no anomalies\n",
        "| class | training images |",
        "|---|---|",
        *(f"| {name} | {counts[name]} |" for name in CLASS_NAMES),
    ]
    return "\n".join(lines)


def _statistics(champion: Champion) -> dict[str, Any] | None:
    """Return the statistics of the champion's data, or None if its manifest has none."""
    return champion.manifest.document.get("data", {}).get("statistics")
