"""From a trained model to a verdict, and from a verdict to a version: what two steps do."""

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
    """A model's answers to the test images, the gate's verdict, and both in Markdown."""

    evaluation: Evaluation
    verdict: Verdict
    summary: str


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
    """Evaluate a model, judge it against the champion, and keep what came of the run.

    Args:
        model: what the step `train` wrote: SavedModel, Keras model, training.json.
        dataset: what the step `ingest` wrote.
        run_id: the run's, under which the result is kept.
        registry: s3://bucket/prefix or a directory; empty keeps nothing and has no champion.
        s3_endpoint: of the S3 server.
        gate: the thresholds.
        seed: what was trained with, for the manifest.
        report: where the HTML report goes.
        manifest: where the manifest goes, with `predicted`, the answers as digits, for `publish`.
        reason: why the run was started, for the manifest.
        pipeline: the name of the run's pipeline, for the manifest.
        pipeline_version: the name of its version, for the manifest; empty where nobody said.

    Raises:
        ServingError: the exported model does not load or does not predict, or answers some test
            image with what is no number.
    """
    images = data.load_saved(dataset)
    prediction.check(model, images.test_images)
    candidate = evaluation.evaluate(model, images.test_images, images.test_labels)
    if not math.isfinite(candidate.loss):
        raise prediction.ServingError(
            "the exported model answers some test images with what is no number; train again, with "
            "a lower learning_rate"
        )
    model_registry = open_registry(registry, s3_endpoint) if registry else None
    champion = model_registry.champion() if model_registry else None
    quantized = evaluation.evaluate_probabilities(
        lite.LiteModel(model / lite.FILE).probabilities(images.test_images), images.test_labels
    )
    champion_evaluation, verdict = compare_with_champion(
        model_registry, champion, candidate, images, gate, quantized
    )
    print(f"test accuracy {candidate.accuracy:.4f}, {quantized.accuracy:.4f} in eight-bit integers")
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
        # A repeated step abides by the verdict of the first one.
        contents = dict(model_registry.write_result(run_id, contents).document)
        verdict = Verdict(**contents["verdict"])
    predicted = "".join(map(str, candidate.predictions.tolist()))
    handed_on = {**contents, "predicted": predicted}
    manifest.write_text(json.dumps(handed_on, indent=1, allow_nan=False))
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
    """Return the newest versions for the report, oldest first: manifest, and since when it serves."""
    return [
        (
            version.manifest.document,
            format_time(version.promoted_at) if version.promoted_at else "",
        )
        for version in reversed(model_registry.history())
    ]
