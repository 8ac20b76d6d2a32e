"""Publish an accepted model as a version of the registry, and promote it."""

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

# Share of predictions that may change on another processor, where the order of float32 sums differs.
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
    """Publish a model as a version and, if it is still better than the champion, promote it.

    Before it may serve, the version is fetched back, its checksums are compared with the manifest, and
    its predictions with those that the gate judged.

    Args:
        model: output directory of the step train.
        dataset: output directory of the step ingest.
        run_id: id of the run.
        registry: s3://bucket/prefix or a directory, empty to publish nothing.
        s3_endpoint: http(s)://host:port of the S3 server.
        report: path of the HTML report, which becomes part of the version.
        manifest: path of the manifest that `evaluate_model` wrote, with the gate's requirements.
        keep_versions: number of latest versions to keep, besides the champion and its predecessor; 0 for
            all.
        promote: False to leave the promotion to an operator.

    Raises:
        ServingError: The published model does not load or does not predict.
        RuntimeError: The published files give other predictions than the model did.
    """
    if not registry:
        print("nothing is published: the parameter registry is empty")
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
        fetched = Path(folder) / "fetched"
        model_registry.fetch(version, fetched)
        prediction.check(fetched, images.test_images)
        published = evaluation.evaluate(fetched, images.test_images, images.test_labels)
    changed = int((published.predictions != predicted).sum())
    if changed > _MAX_CHANGED * len(predicted):
        raise RuntimeError(
            f"version {version} as published predicts {changed} of {len(predicted)} test images "
            "differently than the evaluated model; it will not serve: train again"
        )

    def is_better(champion: Champion | None) -> bool:
        return (
            compare_with_champion(model_registry, champion, published, images, gate)[1].status
            == "accepted"
        )

    reason = f"run {run_id}: {'; '.join(contents['verdict']['reasons'])}"
    if not promote:
        print(f"version {version} is published; an operator may promote it")
    elif model_registry.promote_if_better(version, is_better, reason):
        print(f"version {version} is promoted, accuracy {published.accuracy:.4f}")
    elif model_registry.has_served(version):
        print(f"version {version} is not promoted: it served before and was replaced")
    else:
        print(f"version {version} is not promoted: another model became better meanwhile")
    for unfinished in model_registry.collect_garbage():
        print(f"removed the files of version {unfinished}, whose step died")
    for old in model_registry.prune(keep_versions):
        print(f"removed version {old}; the latest {keep_versions} are kept")
