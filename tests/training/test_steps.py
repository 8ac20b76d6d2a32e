"""The pipeline's steps: their outputs and errors."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from kfp import dsl

from fashion_mnist import data
from fashion_mnist.data import statistics
from fashion_mnist.evaluation import Gate
from fashion_mnist.model import export
from fashion_mnist.steps import attempts, manifest
from fashion_mnist.storage import open_registry
from training import components

# They train models.
pytestmark = pytest.mark.slow

# The location of the code bundle, which only the bootstrap reads.
BUNDLE = {"code": "", "code_sha256": ""}
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "registry.md"


@pytest.fixture
def artifact(tmp_path):
    """Create an artifact of a kind at a separate path."""

    def make(kind, name):
        return kind(name=name, uri=str(tmp_path / name))

    return make


@pytest.fixture
def keep(tmp_path, artifact):
    """Save a data set as the step ingest does."""

    def run(dataset):
        data.save(dataset, tmp_path / "dataset")
        statistics.save(tmp_path / "dataset", statistics.compute(dataset), [])
        return artifact(dsl.Dataset, "dataset")

    return run


@pytest.fixture
def train(artifact):
    """Train as the step does, and return its artifacts."""

    def run(dataset, **settings):
        arguments = {
            "recipe": "quick",
            "epochs": 2,
            "batch_size": 50,
            "learning_rate": 0.01,
            "tuning": "",
            "run_id": "r",
            "registry": "",
            **settings,
        }
        model, metrics = artifact(dsl.Model, "model"), artifact(dsl.Metrics, "metrics")
        components.train.python_func(
            **arguments,
            **BUNDLE,
            seed=1,
            model_file="model.keras",
            workers=1,
            s3_endpoint="",
            workspace="",
            dataset=dataset,
            model=model,
            metrics=metrics,
        )
        return model, metrics

    return run


@pytest.fixture
def evaluate(artifact):
    """Evaluate, predict and publish as the steps do; return artifacts and outcome."""
    kinds = {
        "metrics": dsl.Metrics,
        "confusion": dsl.ClassificationMetrics,
        "summary": dsl.Markdown,
        "report": dsl.HTML,
    }

    def run(dataset, model, registry="", **thresholds):
        artifacts = {name: artifact(kind, name) for name, kind in kinds.items()}
        gate = dataclasses.asdict(Gate(**{"min_accuracy": 0, "min_recall": 0, **thresholds}))
        outcome = components.evaluate_and_predict.python_func(
            **gate,
            **BUNDLE,
            keep_versions=0,
            promote=True,
            image_number=1,
            workspace="",
            run_id="r",
            registry=registry,
            s3_endpoint="",
            seed=1,
            reason="",
            pipeline="tuner",
            pipeline_version="0a1b2c3d4e5f",
            dataset=dataset,
            model=model,
            **artifacts,
        )
        return artifacts, outcome

    return run


def test_accepted_model_is_published_and_its_prediction_echoed(
    toy, tmp_path, keep, train, evaluate
):
    dataset = keep(data.load(str(toy)))
    model, _ = train(dataset)
    registry = open_registry(str(tmp_path / "registry"))
    # WHEN the gate accepts the model
    _, (verdict, echo) = evaluate(dataset, model, registry=str(tmp_path / "registry"))
    # THEN it becomes the champion, and one image's prediction reads as in the original notebook
    assert verdict == "accepted"
    assert registry.champion().version == 1
    assert re.fullmatch(r"Prediction: .+ \| Confidence: [\d.]+ \| Actual: Trouser", echo)


def test_rejected_model_is_not_published_but_predicts(toy, tmp_path, keep, train, evaluate):
    dataset = keep(data.load(str(toy)))
    model, _ = train(dataset)
    _, (verdict, echo) = evaluate(
        dataset, model, registry=str(tmp_path / "registry"), min_accuracy=1.1
    )
    registry = open_registry(str(tmp_path / "registry"))
    assert (verdict, registry.champion(), registry.versions()) == ("rejected", None, [])
    assert echo.startswith("Prediction: ")


def test_permanent_error_is_not_retried(toy, tmp_path, keep, train, capsys):
    # GIVEN a training that diverged
    dataset = keep(data.load(str(toy)))
    diverging = {
        "recipe": "notebook",
        "learning_rate": 1e36,
        "registry": str(tmp_path / "registry"),
    }
    with pytest.raises(export.DivergedError):
        train(dataset, **diverging)
    assert "Epoch" in capsys.readouterr().out
    # WHEN Kubeflow Pipelines retries the step THEN it ends with the same error and trains nothing
    with pytest.raises(attempts.RepeatedError, match=r"lower learning_rate.*not retried"):
        train(dataset, **diverging)
    assert "Epoch" not in capsys.readouterr().out
    # AND another run is not affected
    train(dataset, registry=str(tmp_path / "registry"), run_id="other")


def is_json(value):
    return json.dumps(value, allow_nan=False)


def test_diverged_training_fails_with_a_remedy(toy, keep, train):
    dataset = keep(data.load(str(toy)))
    with pytest.raises(export.DivergedError, match=r"loss of epoch 1 of 2 .*lower learning_rate"):
        train(dataset, recipe="notebook", learning_rate=1e36)


def test_non_finite_weights_are_not_exported(toy, keep, train):
    # GIVEN one training step, whose loss is computed before its gradients ruin the weights
    dataset = keep(data.load(str(toy)))
    with pytest.raises(export.DivergedError, match=r"last step.*lower learning_rate"):
        train(dataset, recipe="notebook", epochs=1, batch_size=600, learning_rate=float("inf"))


def test_class_without_test_images_has_no_recall(toy, tmp_path, keep, train, evaluate):
    # GIVEN test images without one class, which was allowed
    whole = data.load(str(toy))
    kept_images = whole.test_labels != 3
    some = dataclasses.replace(
        whole,
        test_images=whole.test_images[kept_images],
        test_labels=whole.test_labels[kept_images],
    )
    dataset = keep(some)
    # WHEN a model is evaluated on them
    manifest, _ = evaluate(dataset, train(dataset)[0], registry=str(tmp_path / "registry"))
    # THEN no output has non-finite numbers
    for name in ("metrics", "confusion"):
        is_json(manifest[name].metadata)
    facts = json.loads((tmp_path / "registry" / "runs" / "r" / "manifest.json").read_text())
    assert is_json(facts)
    assert facts["environment"].keys() == {"python", "tensorflow", "keras", "numpy", "threads"}
    assert len(facts["metrics"]["recall"]) == 9
    assert "Dress" not in facts["metrics"]["recall"]
    assert "recall Dress" not in manifest["metrics"].metadata
    # AND the report says so
    assert "| Dress | unknown |" in (tmp_path / "summary").read_text()
    assert "<td>Dress</td><td>unknown</td>" in (tmp_path / "report").read_text()


def test_reference_documents_every_manifest_field(toy, tmp_path, keep, train, evaluate):
    # GIVEN the manifest of a tuned and published run
    dataset = keep(data.load(str(toy)))
    best = {"trials": 1, "best": 0, "val_accuracy": 0.9}
    model, _ = train(dataset, tuning=json.dumps(best))
    evaluate(dataset, model, registry=str(tmp_path / "registry"))
    facts = open_registry(str(tmp_path / "registry")).manifest(1).document
    assert facts["pipeline"] == {
        "name": "tuner",
        "version": "0a1b2c3d4e5f",
        "code": manifest.code_fingerprint(),
    }
    assert "| pipeline | tuner, version 0a1b2c3d4e5f |" in (tmp_path / "summary").read_text()
    # THEN each field has a row, and each nested field is named in that row
    text = REFERENCE.read_text()
    table = text[
        text.index("The manifest (`schema_version` 1)") : text.index("The report of a monitoring")
    ]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    names = {name for first, _ in rows for name in re.findall(r"`([^`]+)`", first)}
    assert {name for name in names if "." not in name} == facts.keys() - {"schema_version"}
    for field in ("pipeline", "environment", "tuning", "gate", "verdict", "metrics", "data"):
        descriptions = " ".join(first + what for first, what in rows if f"`{field}" in first)
        words = {word.removeprefix(f"{field}.") for word in re.findall(r"`([^`]+)`", descriptions)}
        assert facts[field].keys() <= words, field
