"""Build the manifest of a run, and the model card from it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fashion_mnist
import model_registry
from fashion_mnist import data
from fashion_mnist.evaluation import Evaluation, Gate, Verdict
from model_registry import Champion
from model_registry.schema import SCHEMA_VERSION, now


def build_manifest(
    run_id: str,
    images: data.Dataset,
    candidate: Evaluation,
    gate: Gate,
    verdict: Verdict,
    champion: Champion | None,
    trained: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Return the manifest of a run, without reason, pipeline, int8 metrics and statistics of the data.

    Args:
        run_id: id of the run.
        images: the data set.
        candidate: predictions of the model for the test images.
        gate: the requirements.
        verdict: the gate's verdict.
        champion: the champion at that time, None without one.
        trained: content of training.json.
        seed: seed of the training.
    """
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
    """Return twelve hexadecimal digits that identify the sources of this package and the registry's."""
    digest = hashlib.sha256()
    for package in (fashion_mnist, model_registry):
        root = Path(next(iter(package.__path__)))
        for path in sorted(root.rglob("*.py")):
            name = f"{root.name}/{path.relative_to(root).as_posix()}"
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def model_card(manifest: Mapping[str, Any]) -> dict[str, object]:
    """Return the rows of a model card: use, limits, data, metrics, and how the model was made."""
    metrics, counts, pipeline = (
        manifest["metrics"],
        manifest["data"]["counts"],
        manifest["pipeline"],
    )
    recall = metrics["recall"]
    worst_class = min(recall, key=lambda name: recall[name])
    return {
        "intended use": "classifying 28 x 28 grayscale images of clothing, and nothing else",
        "limits": "predicts one of the ten classes for any image; not tested with photographs, colours, "
        f"other sizes or crops; lowest recall: {worst_class}, {recall[worst_class]:.1%}",
        "data": f"{manifest['data']['source']}, {counts['train']:,} training images and "
        f"{counts['test']:,} test images",
        "official data": "yes" if manifest["data"]["official"] else "no",
        "accuracy": "{accuracy:.4f} on the test images".format(**metrics["test"]),
        "int8 model": "{file}: {bytes:,} bytes, accuracy {accuracy:.4f}".format(**metrics["int8"]),
        "champion at that time": manifest["parent"] or "none",
        "trained": manifest["created_at"],
        "run": manifest["run_id"],
        "reason": manifest.get("reason") or "not given",
        "pipeline": f"{pipeline['name']}, version {pipeline['version'] or 'not given'}",
        "code": pipeline["code"],
        "seed": manifest["seed"],
        **manifest["parameters"],
        "training time (s)": f"{metrics['fit_seconds']:.1f}",
        **{f"sha256 of {name}": value for name, value in manifest["data"]["sha256"].items()},
    }
