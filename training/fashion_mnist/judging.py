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
from fashion_mnist.registry import SCHEMA_VERSION, Champion, Registry, now
from fashion_mnist.report import html_report, summary


@dataclasses.dataclass(frozen=True)
class Judged:
    """A model's answers to the test images, the gate's verdict, and both in Markdown."""

    evaluation: Evaluation
    verdict: Verdict
    summary: str


# A version's own answers to the test images, which the charm's action predict reads.
PREDICTIONS = "predictions.json"
# Where a manifest's data name what the training images are known again by.
TRAIN_DIGESTS = "train_digests"
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
    said = evaluation.evaluate(model, images.test_images, images.test_labels)
    if not math.isfinite(said.loss):
        raise prediction.ServingError(
            "the exported model answers some test images with what is no number; train again, with "
            "a lower learning_rate"
        )
    place = Registry.open(registry, s3_endpoint) if registry else None
    champion = place.champion() if place else None
    small = evaluation.of_probabilities(
        lite.LiteModel(model / lite.FILE).probabilities(images.test_images), images.test_labels
    )
    other, verdict = _judge(place, champion, said, images, gate, small)
    print(f"test accuracy {said.accuracy:.4f}, {small.accuracy:.4f} in eight-bit integers")
    print(f"verdict {verdict.status}: {'; '.join(verdict.reasons)}")

    trained = json.loads((model / "training.json").read_text())
    facts = _manifest(run_id, images, said, gate, verdict, champion, trained, seed)
    facts["reason"] = reason
    facts["pipeline"] = {"name": pipeline, "version": pipeline_version, "code": code_fingerprint()}
    facts["metrics"]["int8"] = {
        "file": lite.FILE,
        "bytes": (model / lite.FILE).stat().st_size,
        "accuracy": small.accuracy,
        "accuracy_loss": said.accuracy - small.accuracy,
        "agreement": float((small.predictions == said.predictions).mean()),
    }
    facts["data"] |= data_validation.load_saved(dataset)
    json.dumps(facts, allow_nan=False)
    if place:
        kept = place.write_result(run_id, facts)
        # A repeated step abides by what the first one said.
        verdict = Verdict(**kept["verdict"])
        facts = dict(kept)
    predicted = "".join(map(str, said.predictions.tolist()))
    handed_on = {**facts, "predicted": predicted}
    manifest.write_text(json.dumps(handed_on, indent=1, allow_nan=False))
    shown = {
        "title": f"Run {run_id}",
        "evaluation": said,
        "verdict": verdict,
        "champion": other,
        "champion_name": f"version {champion.version}" if champion else "",
        "facts": _card(facts),
    }
    page = html_report(
        **shown,
        images=images.test_images,
        labels=images.test_labels,
        history=trained["history"],
        versions=place.history() if place else (),
    )
    report.write_text(page, encoding="utf-8")
    return Judged(said, verdict, summary(**shown))


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
    place = Registry.open(registry, s3_endpoint)
    facts = json.loads(manifest.read_text())
    predicted = np.array(list(facts.pop("predicted")), np.uint8)
    gate = Gate(**facts["gate"])
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        shutil.copytree(model, files)
        shutil.copy(report, files / "report.html")
        images = data.load_saved(dataset)
        asked = evaluation.evaluate(model, images.test_images, images.test_labels)
        told = evaluation.answers(asked, images.test_labels)
        (files / PREDICTIONS).write_text(json.dumps(told), encoding="utf-8")
        facts["data"]["test_images"] = place.keep(data.idx(images.test_images))
        facts["data"][TRAIN_DIGESTS] = place.keep(data.pack_digests(images.train_images))
        version = place.publish(run_id, files, facts)
        back = Path(folder) / "back"
        place.fetch(version, back)
        prediction.check(back, images.test_images)
        said = evaluation.evaluate(back, images.test_images, images.test_labels)
    changed = int((said.predictions != predicted).sum())
    if changed > _MAX_CHANGED * len(predicted):
        raise RuntimeError(
            f"version {version} as published gives {changed} of {len(predicted)} test images another "
            "answer than it was judged by; it will not serve: train again"
        )

    def better(champion: Champion | None) -> bool:
        return _judge(place, champion, said, images, gate)[1].status == "accepted"

    reason = f"run {run_id}: {'; '.join(facts['verdict']['reasons'])}"
    if not promote:
        print(f"version {version} is kept for an operator to promote")
    elif place.promote(version, better, reason):
        print(f"version {version} serves, accuracy {said.accuracy:.4f}")
    elif place.has_served(version):
        print(f"version {version} served before, and was replaced since; it stays so")
    else:
        print(f"version {version} is kept; another model became better meanwhile")
    for dead in place.sweep():
        print(f"what a step left of version {dead} before it died is removed")
    for old in place.prune(keep_versions):
        print(f"version {old} is removed; the newest {keep_versions} are kept")


def _judge(
    place: Registry | None,
    champion: Champion | None,
    said: Evaluation,
    images: data.Dataset,
    gate: Gate,
    small: Evaluation | None = None,
) -> tuple[Evaluation | None, Verdict]:
    """The champion's answers to the test images, and the verdict on a model's own."""
    if place is None or champion is None:
        return None, evaluation.judge(said, None, images.test_labels, gate, small=small)
    other = _answers(place, champion.version, images)
    unseen = _unseen(place, champion, images)
    verdict = evaluation.judge(said, other, images.test_labels, gate, small=small, unseen=unseen)
    if verdict.status == "accepted":
        verdict = _unless_rolled_back(place, said, images, verdict)
    return other, verdict


def _unseen(place: Registry, champion: Champion, images: data.Dataset) -> np.ndarray | None:
    """Which test images the champion was not trained on, bool (n,); None where it did not keep that."""
    name = champion.manifest.get("data", {}).get(TRAIN_DIGESTS)
    return None if name is None else ~data.are_among(images.test_images, place.kept(name))


def _unless_rolled_back(
    place: Registry, said: Evaluation, images: data.Dataset, verdict: Verdict
) -> Verdict:
    """The verdict, unless an operator rolled back from this very model under another number."""
    for version in sorted(place.rolled_back()):
        if evaluation.are_alike(said, _answers(place, version, images)):
            reason = (
                f"it answers all {len(images.test_labels)} test images as version {version} does, from "
                f"which an operator rolled back; promote version {version} by hand, or train with other "
                "settings or data"
            )
            return dataclasses.replace(verdict, status="rejected", reasons=[reason])
    return verdict


def _answers(place: Registry, version: int, images: data.Dataset) -> Evaluation:
    """A version's answers to the same test images."""
    with tempfile.TemporaryDirectory() as folder:
        place.fetch(version, Path(folder))
        return evaluation.evaluate(Path(folder), images.test_images, images.test_labels)


def _manifest(
    run_id: str,
    images: data.Dataset,
    said: Evaluation,
    gate: Gate,
    verdict: Verdict,
    champion: Champion | None,
    trained: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    last = trained["history"][-1]
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
            "train": {"accuracy": last["accuracy"], "loss": last["loss"]},
            "test": {"accuracy": said.accuracy, "loss": said.loss},
            "recall": said.recall,
            "confusion_matrix": said.confusion.tolist(),
            "fit_seconds": trained["seconds"],
        },
        "gate": dataclasses.asdict(gate),
        "verdict": dataclasses.asdict(verdict),
        "parent": champion.version if champion else None,
        "version": None,
    }


def code_fingerprint() -> str:
    """Twelve hexadecimal digits that stand for this package's sources."""
    said = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        said.update(path.name.encode() + b"\0" + path.read_bytes())
    return said.hexdigest()[:12]


def _card(facts: Mapping[str, Any]) -> dict[str, object]:
    """What a model card tells: use, limits, data, figures, and how it was made."""
    metrics, counts, pipeline = facts["metrics"], facts["data"]["counts"], facts["pipeline"]
    recall = metrics["recall"]
    worst = min(recall, key=lambda name: recall[name])
    return {
        "intended use": "telling ten kinds of clothing apart in 28 x 28 grey images; nothing else",
        "limits": "it gives one of the ten whatever is shown; photographs, colours, other sizes and "
        f"cuts were not tried; {worst} is found least, in {recall[worst]:.1%} of its images",
        "data": f"{facts['data']['source']}, {counts['train']:,} images to train on and "
        f"{counts['test']:,} to test by",
        "official data": "yes" if facts["data"]["official"] else "no",
        "accuracy": "{accuracy:.4f} on the test images".format(**metrics["test"]),
        "int8 model": "{file}: {bytes:,} bytes, accuracy {accuracy:.4f}".format(**metrics["int8"]),
        "champion then": facts["parent"] or "none",
        "trained": facts["created_at"],
        "run": facts["run_id"],
        "reason": facts.get("reason") or "not given",
        "pipeline": f"{pipeline['name']}, version {pipeline['version'] or 'not given'}",
        "code": pipeline["code"],
        "seed": facts["seed"],
        **facts["parameters"],
        "seconds to fit": f"{metrics['fit_seconds']:.1f}",
        **{f"sha256 of {name}": value for name, value in facts["data"]["sha256"].items()},
    }
