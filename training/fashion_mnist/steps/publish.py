"""Publish a model that the gate accepted."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from fashion_mnist import data, evaluation
from fashion_mnist.evaluation import Gate
from fashion_mnist.model import prediction
from fashion_mnist.steps.comparison import compare_with_champion
from fashion_mnist.storage import open_registry
from model_registry import Champion, layout

# Share of answers that another processor may change, which may take float32's sums in another order.
_MAX_CHANGED = 0.005


def publish_model(
    *,
    model: Path,
    dataset: Path,
    run_id: str,
    registry: str,
    s3_endpoint: str,
    report: Path,
    manifest: Path,
    keep_versions: int = 0,
    promote: bool = True,
) -> None:
    """Make the model a version and, if it is still better than the champion, the champion.

    Before it may serve, the version is fetched back, its checksums are held against the manifest,
    and it has to give the answers again that it was judged by.

    Args:
        model: what the step `train` wrote.
        dataset: what the step `ingest` wrote.
        run_id: the run's.
        registry: s3://bucket/prefix or a directory; empty publishes nothing.
        s3_endpoint: of the S3 server.
        report: the HTML report, kept with the version.
        manifest: what `judge_model` wrote, with the thresholds that it judged by.
        keep_versions: how many of the newest versions stay, besides the champion and the one before
            it; 0 keeps all.
        promote: False leaves it to an operator to make the version the champion.

    Raises:
        ServingError: the published model does not load or does not predict.
        RuntimeError: the published files do not give the model's own answers.
    """
    if not registry:
        print("no registry is given: nothing is published")
        return
    model_registry = open_registry(registry, s3_endpoint)
    contents = json.loads(manifest.read_text())
    predicted = np.array(list(contents.pop("predicted")), np.uint8)
    gate = Gate(**contents["gate"])
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        shutil.copytree(model, files)
        shutil.copy(report, files / "report.html")
        images = data.load_saved(dataset)
        exported = evaluation.evaluate(model, images.test_images, images.test_labels)
        predictions = evaluation.prediction_columns(exported, images.test_labels)
        (files / layout.PREDICTIONS).write_text(json.dumps(predictions), encoding="utf-8")
        contents["data"]["test_images"] = model_registry.put_blob(
            data.encode_idx(images.test_images)
        )
        contents["data"]["train_digests"] = model_registry.put_blob(
            data.pack_digests(images.train_images)
        )
        version = model_registry.publish(run_id, files, contents)
        fetched = Path(folder) / "back"
        model_registry.fetch(version, fetched)
        prediction.check(fetched, images.test_images)
        published = evaluation.evaluate(fetched, images.test_images, images.test_labels)
    changed = int((published.predictions != predicted).sum())
    if changed > _MAX_CHANGED * len(predicted):
        raise RuntimeError(
            f"version {version} as published gives {changed} of {len(predicted)} test images another "
            "answer than it was judged by; it will not serve: train again"
        )

    def is_better(champion: Champion | None) -> bool:
        return (
            compare_with_champion(model_registry, champion, published, images, gate)[1].status
            == "accepted"
        )

    reason = f"run {run_id}: {'; '.join(contents['verdict']['reasons'])}"
    if not promote:
        print(f"version {version} is kept for an operator to promote")
    elif model_registry.promote_if_better(version, is_better, reason):
        print(f"version {version} serves, accuracy {published.accuracy:.4f}")
    elif model_registry.has_served(version):
        print(f"version {version} served before, and was replaced since; it stays so")
    else:
        print(f"version {version} is kept; another model became better meanwhile")
    for dead in model_registry.collect_garbage():
        print(f"what a step left of version {dead} before it died is removed")
    for old in model_registry.prune(keep_versions):
        print(f"version {old} is removed; the newest {keep_versions} are kept")
