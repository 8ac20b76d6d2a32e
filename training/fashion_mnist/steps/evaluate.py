"""Evaluate a trained model, apply the gate, and write manifest and report."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion_mnist import data, evaluation
from fashion_mnist.data import statistics
from fashion_mnist.evaluation import Evaluation, Gate, Verdict
from fashion_mnist.model import lite, prediction
from fashion_mnist.reports.model import model_report, summary
from fashion_mnist.steps.comparison import compare_with_champion
from fashion_mnist.steps.manifest import build_manifest, code_fingerprint, model_card
from fashion_mnist.storage import open_registry
from model_registry import Registry
from model_registry.schema import format_time


@dataclasses.dataclass(frozen=True)
class EvaluationOutcome:
    """The result of evaluating a model."""

    evaluation: Evaluation
    """The model's predictions for the test images."""

    verdict: Verdict
    """The gate's verdict."""

    summary: str
    """Both as Markdown."""


def evaluate_model(
    *,
    model: Path,
    dataset: Path,
    run_id: str,
    registry: str,
    s3_endpoint: str,
    gate: Gate,
    seed: int,
    report: Path,
    manifest: Path,
    reason: str = "",
    pipeline: str = "fashion-mnist-trainer",
    pipeline_version: str = "",
) -> EvaluationOutcome:
    """Evaluate a model, compare it with the champion, and record the result of the run.

    Args:
        model: output directory of the step train: SavedModel, Keras model, training.json.
        dataset: output directory of the step ingest.
        run_id: id of the run, under which the result is recorded.
        registry: s3://bucket/prefix or a directory, empty for no champion and no record.
        s3_endpoint: http(s)://host:port of the S3 server.
        gate: the requirements.
        seed: seed of the training, for the manifest.
        report: path of the HTML report to write.
        manifest: path of the manifest to write, with `predicted`, the predicted classes as digits, for
            `publish_model`.
        reason: why the run was started, for the manifest.
        pipeline: name of the run's pipeline, for the manifest.
        pipeline_version: name of its version, for the manifest, empty if unknown.

    Raises:
        ServingError: The exported model does not load, does not predict, or returns NaN for a test
            image.
    """
    images = data.load_saved(dataset)
    prediction.check(model, images.test_images)
    candidate = evaluation.evaluate(model, images.test_images, images.test_labels)
    if not math.isfinite(candidate.loss):
        raise prediction.ServingError(
            "the exported model returns values that are not finite for some test images; train again "
            "with a lower learning_rate"
        )
    model_registry = open_registry(registry, s3_endpoint) if registry else None
    champion = model_registry.champion() if model_registry else None
    quantized = evaluation.evaluate_probabilities(
        lite.LiteModel(model / lite.FILE).probabilities(images.test_images), images.test_labels
    )
    champion_evaluation, verdict = compare_with_champion(
        model_registry, champion, candidate, images, gate, quantized
    )
    print(f"test accuracy {candidate.accuracy:.4f}, {quantized.accuracy:.4f} quantized to int8")
    print(f"verdict {verdict.status}: {'; '.join(verdict.reasons)}")

    trained = json.loads((model / "training.json").read_text())
    contents = build_manifest(run_id, images, candidate, gate, verdict, champion, trained, seed)
    contents["reason"] = reason
    contents["pipeline"] = {
        "name": pipeline,
        "version": pipeline_version,
        "code": code_fingerprint(),
    }
    contents["metrics"]["int8"] = {
        "file": lite.FILE,
        "bytes": (model / lite.FILE).stat().st_size,
        "accuracy": quantized.accuracy,
        "accuracy_loss": candidate.accuracy - quantized.accuracy,
        "agreement": float((quantized.predictions == candidate.predictions).mean()),
    }
    contents["data"] |= statistics.load_saved(dataset)
    json.dumps(contents, allow_nan=False)
    if model_registry:
        # A retried step keeps the verdict of its first attempt.
        contents = dict(model_registry.write_result(run_id, contents).document)
        verdict = Verdict(**contents["verdict"])
    predicted = "".join(map(str, candidate.predictions.tolist()))
    manifest_with_predictions = {**contents, "predicted": predicted}
    manifest.write_text(json.dumps(manifest_with_predictions, indent=1, allow_nan=False))
    sections = {
        "title": f"Run {run_id}",
        "evaluation": candidate,
        "verdict": verdict,
        "champion": champion_evaluation,
        "champion_name": f"version {champion.version}" if champion else "",
        "facts": model_card(contents),
    }
    page = model_report(
        **sections,
        images=images.test_images,
        labels=images.test_labels,
        history=trained["history"],
        versions=_versions(model_registry) if model_registry else (),
    )
    report.write_text(page, encoding="utf-8")
    return EvaluationOutcome(candidate, verdict, summary(**sections))


def _versions(model_registry: Registry) -> list[tuple[Mapping[str, Any], str]]:
    """Return the latest versions, oldest first: manifest, and when each was promoted."""
    return [
        (
            version.manifest.document,
            format_time(version.promoted_at) if version.promoted_at else "",
        )
        for version in reversed(model_registry.history())
    ]
