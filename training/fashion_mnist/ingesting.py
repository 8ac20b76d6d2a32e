"""From four files to a data set that was validated: what the first step does."""

from __future__ import annotations

from pathlib import Path

from fashion_mnist import CLASS_NAMES, data, data_validation, reference
from fashion_mnist.data import DataError
from fashion_mnist.data_validation import Limits
from fashion_mnist.registry import Registry
from fashion_mnist.report import data_report


def ingest(
    *,
    source: str,
    registry: str,
    s3_endpoint: str,
    limits: Limits,
    allow_anomalies: bool,
    dataset: Path,
    report: Path,
    image_number: int = 0,
) -> str:
    """Read the files, hold them against the champion's, and keep them with their statistics.

    Args:
        source: see `data.load`.
        registry: s3://bucket/prefix or a directory with the champion; empty has none.
        s3_endpoint: of the S3 server.
        limits: what is still usual.
        allow_anomalies: report anomalies and go on, where the data can be read at all.
        dataset: the directory that the data set and its statistics go to.
        report: where the HTML report goes.
        image_number: which test image the run will predict at its end.

    Returns:
        a summary as Markdown.

    Raises:
        DataError: the data cannot be had, or there are anomalies, which the message lists.
        ValueError: there is no such test image.
    """
    champion = Registry.open(registry, s3_endpoint).champion() if registry else None
    kept = champion.manifest.get("data", {}).get("statistics") if champion else None
    earlier_name = f"the data of version {champion.version}" if champion and kept else ""
    said = data_validation.inspect(
        source, s3_endpoint=s3_endpoint, limits=limits, earlier=kept or reference.PUBLISHED
    )
    for anomaly in said.anomalies:
        print(f"anomaly: {anomaly}")
    if said.dataset is None or said.statistics is None or (said.anomalies and not allow_anomalies):
        listed = "\n".join(f"- {anomaly}" for anomaly in said.anomalies)
        raise DataError(
            f"{len(said.anomalies)} anomalies in the data:\n{listed}\n"
            "correct the data, or raise the pipeline's limits, or let them pass with its parameter "
            "allow_anomalies"
        )
    count = len(said.dataset.test_images)
    if not 0 <= image_number < count:
        # Told now, since the step that predicts comes after a model may have been promoted.
        raise ValueError(f"image_number must be 0 to {count - 1}, not {image_number}")
    data.save(said.dataset, dataset)
    data_validation.save(dataset, said.statistics, said.anomalies, kept)
    found = said.dataset
    first = (
        f"{len(found.train_images)} training and {len(found.test_images)} test images from "
        f"{found.source}, {'the' if found.is_official else 'not the'} official data set"
    )
    print(first)
    report.write_text(
        data_report(
            title=f"Data: {first}",
            statistics=said.statistics,
            anomalies=said.anomalies,
            images=found.train_images,
            labels=found.train_labels,
            earlier=kept or reference.PUBLISHED,
            earlier_name=earlier_name or "Fashion-MNIST as it was published",
        ),
        encoding="utf-8",
    )
    counts = said.statistics["train"]["counts"]
    lines = [
        first,
        "",
        *(f"- anomaly: {anomaly}" for anomaly in said.anomalies),
        "" if said.anomalies else "no anomalies\n",
        "| class | training images |",
        "|---|---|",
        *(f"| {name} | {counts[name]} |" for name in CLASS_NAMES),
    ]
    return "\n".join(lines)
