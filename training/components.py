"""The steps of the pipelines as components: thin functions that call the package `fashion_mnist`.

Every step takes the fields of `pipelines.Storage`: the bootstrap in its command fetches the code bundle
by `code`, `code_sha256` and `s3_endpoint` (`training/bootstrap.py`).
"""

# pyright: reportInvalidTypeForm=false
# The SDK reads outputs from a NamedTuple in the signature, which it copies into the step.
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from kfp import dsl
from kfp.dsl.python_component import PythonComponent

IMAGE = "docker.io/tensorflow/tensorflow:2.21.0"


def step(function: Callable[..., Any]) -> PythonComponent:
    """Return a lightweight component that runs in the training image."""
    component = dsl.component(function, base_image=IMAGE, install_kfp_package=False)
    # dsl.component returns a decorator only without a function.
    return cast("PythonComponent", component)


@step
def ingest(
    code: str,
    code_sha256: str,
    data_path: str,
    registry: str,
    s3_endpoint: str,
    recipe: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    workers: int,
    max_duplicates: float,
    max_drift: float,
    max_agreement_drop: float,
    max_mean_shift: float,
    allow_anomalies: bool,
    image_number: int,
    workspace: str,
    dataset: dsl.Output[dsl.Dataset],
    summary: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
):
    """Validate the parameters and the data of the run, and write the data as one artifact.

    This step is not retried: its errors remain until a person resolves them.
    """
    from pathlib import Path

    from fashion_mnist.data import validation
    from fashion_mnist.model import recipes
    from fashion_mnist.steps import ingest
    from fashion_mnist.workspace import keep

    resolved = recipes.resolve(
        recipe, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate
    )
    markdown = ingest.ingest_data(
        source=data_path,
        registry=registry,
        s3_endpoint=s3_endpoint,
        limits=validation.Limits(
            max_duplicates=max_duplicates,
            max_drift=max_drift,
            max_agreement_drop=max_agreement_drop,
            max_mean_shift=max_mean_shift,
        ),
        allow_anomalies=allow_anomalies,
        image_number=image_number,
        recipe=resolved,
        workers=workers,
        dataset=Path(dataset.path),
        report=Path(report.path),
    )
    keep(workspace, "dataset", Path(dataset.path))
    Path(summary.path).write_text(markdown, encoding="utf-8")


@step
def train(
    code: str,
    code_sha256: str,
    recipe: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    model_file: str,
    workers: int,
    tuning: str,
    run_id: str,
    registry: str,
    s3_endpoint: str,
    workspace: str,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train the recipe on one or several workers, and export the model in the formats that serve.

    One worker resumes from the checkpoint of a killed attempt. Divergence is a permanent error.
    """
    import dataclasses
    import json
    from pathlib import Path

    from fashion_mnist import data
    from fashion_mnist.distributed.workers import train as train_on_workers
    from fashion_mnist.model import checkpoints, export, recipes
    from fashion_mnist.steps import attempts
    from fashion_mnist.workspace import artifact_path, keep

    with attempts.fail_once("train", run_id=run_id, registry=registry, s3_endpoint=s3_endpoint):
        resolved = recipes.resolve(
            recipe, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate
        )
        images = data.load_saved(artifact_path(workspace, "dataset", Path(dataset.path)))
        address = workspace or registry
        checkpoint_store = (
            checkpoints.Checkpoints(address, run_id, endpoint=s3_endpoint) if address else None
        )
        trained = train_on_workers(
            images.train_images,
            images.train_labels,
            resolved,
            seed=seed,
            workers=workers,
            registry=registry,
            s3_endpoint=s3_endpoint,
            run_id=run_id,
            checkpoints=checkpoint_store,
        )
        export.check(trained.model, [epoch.loss for epoch in trained.history])
        target = Path(model.path)
        export.export(trained.model, target, model_file, images.train_images)
        history = [dataclasses.asdict(epoch) for epoch in trained.history]
        record = {
            "history": history,
            "seconds": trained.seconds,
            "recipe": dataclasses.asdict(resolved),
        }
        record["environment"] = export.environment()
        record |= {"workers": workers} | ({"tuning": json.loads(tuning)} if tuning else {})
        (target / "training.json").write_text(json.dumps(record, indent=1))
        keep(workspace, "model", target)
        metrics.log_metric("train_accuracy", history[-1]["accuracy"])
        metrics.log_metric("train_loss", history[-1]["loss"])
        metrics.log_metric("fit_seconds", trained.seconds)
        print(f"train accuracy {history[-1]['accuracy']:.4f} in {trained.seconds:.1f} s")
        if checkpoint_store is not None:
            checkpoint_store.clear()


@step
def suggest(
    code: str,
    code_sha256: str,
    registry: str,
    s3_endpoint: str,
    space: str,
    trials: int,
    parallelism: int,
    recipe: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> list[str]:
    """Draw settings from the search space, in as many shards as run in parallel."""
    from fashion_mnist.steps import tune

    base = {
        "recipe": recipe,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    return tune.suggest(space, trials, parallelism, base, seed)


@step
def trial(
    code: str,
    code_sha256: str,
    share: str,
    seed: int,
    run_id: str,
    registry: str,
    s3_endpoint: str,
    dataset: dsl.Input[dsl.Dataset],
):
    """Train with the settings of each trial in a shard, and evaluate them on validation data."""
    import json
    from pathlib import Path

    from fashion_mnist import data
    from fashion_mnist.steps import attempts, tune

    # Shards run in parallel, so each needs a name of its own.
    name = f"trial-{json.loads(share)[0]['trial']}"
    with attempts.fail_once(name, run_id=run_id, registry=registry, s3_endpoint=s3_endpoint):
        tune.run_trials(
            share,
            data.load_saved(Path(dataset.path)),
            seed=seed,
            registry=registry,
            s3_endpoint=s3_endpoint,
            run_id=run_id,
        )


@step
def choose(
    code: str,
    code_sha256: str,
    trials: int,
    run_id: str,
    registry: str,
    s3_endpoint: str,
    metrics: dsl.Output[dsl.Metrics],
    table: dsl.Output[dsl.HTML],
) -> NamedTuple("Chosen", recipe=str, epochs=int, batch_size=int, learning_rate=float, tuning=str):
    """Show the results of the trials, the best first, and output the best settings."""
    import json
    from pathlib import Path

    from fashion_mnist.steps import attempts, tune

    with attempts.fail_once("choose", run_id=run_id, registry=registry, s3_endpoint=s3_endpoint):
        ranked = tune.results(trials, registry=registry, s3_endpoint=s3_endpoint, run_id=run_id)
    Path(table.path).write_text(tune.table(ranked), encoding="utf-8")
    for result in ranked:
        metrics.log_metric(f"val_accuracy of trial {result['trial']}", result["val_accuracy"])
    best = ranked[0]
    outcome = {"trials": trials, "best": best["trial"], "val_accuracy": best["val_accuracy"]}
    return (*(kind(best[name]) for name, kind in tune.SETTINGS.items()), json.dumps(outcome))


@step
def evaluate_and_predict(
    code: str,
    code_sha256: str,
    run_id: str,
    registry: str,
    s3_endpoint: str,
    min_accuracy: float,
    min_recall: float,
    confidence: float,
    max_recall_drop: float,
    max_int8_loss: float,
    seed: int,
    reason: str,
    pipeline: str,
    pipeline_version: str,
    keep_versions: int,
    promote: bool,
    image_number: int,
    workspace: str,
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    summary: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
) -> NamedTuple("Outcome", verdict=str, prediction=str):
    """Evaluate the model, predict one test image, and publish the model if the gate accepts it."""
    import tempfile
    from pathlib import Path

    from fashion_mnist import CLASS_NAMES, data, evaluation
    from fashion_mnist.model import prediction
    from fashion_mnist.steps import attempts, evaluate, publish
    from fashion_mnist.workspace import artifact_path

    with attempts.fail_once("evaluate", run_id=run_id, registry=registry, s3_endpoint=s3_endpoint):
        manifest = Path(tempfile.mkdtemp()) / "manifest.json"
        outcome = evaluate.evaluate_model(
            model=Path(model.path),
            dataset=Path(dataset.path),
            run_id=run_id,
            registry=registry,
            s3_endpoint=s3_endpoint,
            gate=evaluation.Gate(
                min_accuracy, min_recall, confidence, max_recall_drop, max_int8_loss
            ),
            seed=seed,
            report=Path(report.path),
            manifest=manifest,
            reason=reason,
            pipeline=pipeline,
            pipeline_version=pipeline_version,
        )
        Path(summary.path).write_text(outcome.summary, encoding="utf-8")
        metrics.log_metric("accuracy", outcome.evaluation.accuracy)
        metrics.log_metric("loss", outcome.evaluation.loss)
        for name, recall in outcome.evaluation.recall.items():
            metrics.log_metric(f"recall {name}", recall)
        confusion.log_confusion_matrix(list(CLASS_NAMES), outcome.evaluation.confusion.tolist())

        images = data.load_saved(artifact_path(workspace, "dataset", Path(dataset.path)))
        predicted = prediction.predict(
            artifact_path(workspace, "model", Path(model.path)),
            images.test_images[image_number],
            int(images.test_labels[image_number]),
        )
        print(predicted)
        if outcome.verdict.status == "accepted":
            publish.publish_model(
                model=Path(model.path),
                dataset=Path(dataset.path),
                run_id=run_id,
                registry=registry,
                s3_endpoint=s3_endpoint,
                report=Path(report.path),
                manifest=manifest,
                keep_versions=keep_versions,
                promote=promote,
            )
    return (outcome.verdict.status, str(predicted))


@step
def monitor(
    code: str,
    code_sha256: str,
    run_id: str,
    monitor_data: str,
    registry: str,
    s3_endpoint: str,
    max_drift: float,
    max_accuracy_drop: float,
    min_images: int,
    max_images: int,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
):
    """Compare production images with the data that the champion was trained on."""
    from pathlib import Path

    from fashion_mnist.steps import attempts, monitor

    with attempts.fail_once("monitor", run_id=run_id, registry=registry, s3_endpoint=s3_endpoint):
        result = monitor.monitor_images(
            source=monitor_data,
            run_id=run_id,
            registry=registry,
            s3_endpoint=s3_endpoint,
            max_drift=max_drift,
            max_accuracy_drop=max_accuracy_drop,
            min_images=min_images,
            max_images=max_images,
            report=Path(report.path),
        )
    for part, index in result["drift"].items():
        metrics.log_metric(f"drift {part}", index)
    if result["accuracy"] is not None:
        metrics.log_metric("accuracy", result["accuracy"])
    for name, recall in result["recall"].items():
        metrics.log_metric(f"recall {name}", recall)
    print(
        f"{result['images']} images compared with version {result['version']}: drift {result['drift']}"
    )
