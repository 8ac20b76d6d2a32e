"""From a trained model to a verdict, and from a verdict to a version: what two steps do."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fashion_mnist import data, data_validation, evaluation, lite, prediction
from fashion_mnist.evaluation import Evaluation, Gate, Verdict
from fashion_mnist.report import html_report, summary
from fashion_mnist.storage import open_registry
from model_registry import Champion, Registry, layout
from model_registry.schema import SCHEMA_VERSION, format_time, now


@dataclasses.dataclass(frozen=True)
class Judged:
    """A model's answers to the test images, the gate's verdict, and both in Markdown."""

    evaluation: Evaluation
    verdict: Verdict
    summary: str


# Share of answers that another processor may change, which may take float32's sums in another order.
_MAX_CHANGED = 0.005


def judge_model(
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
) -> Judged:
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
    champion_evaluation, verdict = _judge(
        model_registry, champion, candidate, images, gate, quantized
    )
    print(f"test accuracy {candidate.accuracy:.4f}, {quantized.accuracy:.4f} in eight-bit integers")
    print(f"verdict {verdict.status}: {'; '.join(verdict.reasons)}")

    trained = json.loads((model / "training.json").read_text())
    contents = _manifest(run_id, images, candidate, gate, verdict, champion, trained, seed)
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
    contents["data"] |= data_validation.load_saved(dataset)
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
        "facts": _card(contents),
    }
    page = html_report(
        **sections,
        images=images.test_images,
        labels=images.test_labels,
        history=trained["history"],
        versions=_versions(model_registry) if model_registry else (),
    )
    report.write_text(page, encoding="utf-8")
    return Judged(candidate, verdict, summary(**sections))


def publish(
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
        contents["data"]["test_images"] = model_registry.put_blob(data.idx(images.test_images))
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
        return _judge(model_registry, champion, published, images, gate)[1].status == "accepted"

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


def _judge(
    model_registry: Registry | None,
    champion: Champion | None,
    candidate: Evaluation,
    images: data.Dataset,
    gate: Gate,
    quantized: Evaluation | None = None,
) -> tuple[Evaluation | None, Verdict]:
    """Return the champion's answers to the test images, and the verdict on the candidate's."""
    if model_registry is None or champion is None:
        return None, evaluation.judge(
            candidate, None, images.test_labels, gate, quantized=quantized
        )
    baseline = _evaluate_version(model_registry, champion.version, images)
    unseen = _unseen(model_registry, champion, images)
    verdict = evaluation.judge(
        candidate, baseline, images.test_labels, gate, quantized=quantized, unseen=unseen
    )
    if verdict.status == "accepted":
        verdict = _unless_rolled_back(model_registry, candidate, images, verdict)
    return baseline, verdict


def _unseen(
    model_registry: Registry, champion: Champion, images: data.Dataset
) -> np.ndarray | None:
    """Return which test images the champion was not trained on, bool (n,).

    None where its manifest names no digests of its training images.
    """
    name = champion.manifest.train_digests
    return ~data.are_among(images.test_images, model_registry.get_blob(name)) if name else None


def _versions(model_registry: Registry) -> list[tuple[Mapping[str, Any], str]]:
    """Return the newest versions for the report, oldest first: manifest, and since when it serves."""
    return [
        (
            version.manifest.document,
            format_time(version.promoted_at) if version.promoted_at else "",
        )
        for version in reversed(model_registry.history())
    ]


def _unless_rolled_back(
    model_registry: Registry, candidate: Evaluation, images: data.Dataset, verdict: Verdict
) -> Verdict:
    """The verdict, unless an operator rolled back from this very model under another number."""
    for version in sorted(model_registry.rolled_back()):
        if evaluation.are_alike(candidate, _evaluate_version(model_registry, version, images)):
            reason = (
                f"it answers all {len(images.test_labels)} test images as version {version} does, from "
                f"which an operator rolled back; promote version {version} by hand, or train with other "
                "settings or data"
            )
            return dataclasses.replace(verdict, status="rejected", reasons=[reason])
    return verdict


def _evaluate_version(model_registry: Registry, version: int, images: data.Dataset) -> Evaluation:
    """A version's answers to the same test images."""
    with tempfile.TemporaryDirectory() as folder:
        model_registry.fetch(version, Path(folder))
        return evaluation.evaluate(Path(folder), images.test_images, images.test_labels)


def _manifest(
    run_id: str,
    images: data.Dataset,
    candidate: Evaluation,
    gate: Gate,
    verdict: Verdict,
    champion: Champion | None,
    trained: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    last_epoch = trained["history"][-1]
    return {
        "schema_version": SCHEMA_VERSION,
        "model": "fashion-mnist",
        "run_id": run_id,
        "created_at": now(),
        "parameters": trained["recipe"],
        "seed": seed,
        "workers": trained.get("workers", 1),
        "environment": trained.get("environment", {}),
        **({"tuning": trained["tuning"]} if "tuning" in trained else {}),
        "data": {
            "source": images.source,
            "official": images.is_official,
            "sha256": dict(images.sha256),
            "etags": dict(images.etags),
            "counts": {"train": len(images.train_images), "test": len(images.test_images)},
        },
        "metrics": {
            "train": {"accuracy": last_epoch["accuracy"], "loss": last_epoch["loss"]},
            "test": {"accuracy": candidate.accuracy, "loss": candidate.loss},
            "recall": candidate.recall,
            "confusion_matrix": candidate.confusion.tolist(),
            "fit_seconds": trained["seconds"],
        },
        "gate": dataclasses.asdict(gate),
        "verdict": dataclasses.asdict(verdict),
        "parent": champion.version if champion else None,
        "version": None,
    }


def code_fingerprint() -> str:
    """Twelve hexadecimal digits that stand for this package's sources."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _card(manifest: Mapping[str, Any]) -> dict[str, object]:
    """What a model card tells: use, limits, data, figures, and how it was made."""
    metrics, counts, pipeline = (
        manifest["metrics"],
        manifest["data"]["counts"],
        manifest["pipeline"],
    )
    recall = metrics["recall"]
    worst_class = min(recall, key=lambda name: recall[name])
    return {
        "intended use": "telling ten kinds of clothing apart in 28 x 28 grey images; nothing else",
        "limits": "it gives one of the ten whatever is shown; photographs, colours, other sizes and "
        f"cuts were not tried; {worst_class} is found least, in {recall[worst_class]:.1%} of its images",
        "data": f"{manifest['data']['source']}, {counts['train']:,} images to train on and "
        f"{counts['test']:,} to test by",
        "official data": "yes" if manifest["data"]["official"] else "no",
        "accuracy": "{accuracy:.4f} on the test images".format(**metrics["test"]),
        "int8 model": "{file}: {bytes:,} bytes, accuracy {accuracy:.4f}".format(**metrics["int8"]),
        "champion then": manifest["parent"] or "none",
        "trained": manifest["created_at"],
        "run": manifest["run_id"],
        "reason": manifest.get("reason") or "not given",
        "pipeline": f"{pipeline['name']}, version {pipeline['version'] or 'not given'}",
        "code": pipeline["code"],
        "seed": manifest["seed"],
        **manifest["parameters"],
        "seconds to fit": f"{metrics['fit_seconds']:.1f}",
        **{f"sha256 of {name}": value for name, value in manifest["data"]["sha256"].items()},
    }
