"""The manifest of a run, and the model card."""

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
    """Return the manifest of a run's model, without what the caller adds."""
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
