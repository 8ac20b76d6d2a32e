"""The pipelines, written with the KFP SDK and held to what servers 2.5 to 2.15 take."""

from kfp import dsl, kubernetes

from training import components

NAME = "fashion-mnist-trainer"
TUNE_NAME = "fashion-mnist-tuner"
SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - the Secret that Kubeflow puts into each profile


def _runs(task: dsl.PipelineTask, *, cpu: str, memory: str, minutes: int, retries: int) -> None:
    """What a step may use, how long it may take, and how often it is tried again.

    Nothing is cached: a step's data may have changed under the same address, and the registry is
    written on the side.
    """
    task.set_cpu_request("500m").set_cpu_limit(cpu)
    task.set_memory_request("1Gi").set_memory_limit(memory)
    task.set_caching_options(False)
    if retries:
        task.set_retry(num_retries=retries, backoff_duration="10s", backoff_factor=2)
    kubernetes.set_timeout(task, minutes * 60)


def _reads_storage(task: dsl.PipelineTask) -> None:
    kubernetes.use_secret_as_env(
        task,
        SECRET,
        {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"},
    )
    # S3 servers other than Amazon's take any region, and clients want one.
    task.set_env_variable("AWS_REGION", "us-east-1")


def _ingest(
    data_path,
    registry,
    s3_endpoint,
    max_duplicates,
    max_drift,
    max_agreement_drop,
    allow_anomalies,
) -> dsl.PipelineTask:
    """The step that has the data."""
    ingest = components.ingest(
        data_path=data_path,
        registry=registry,
        s3_endpoint=s3_endpoint,
        max_duplicates=max_duplicates,
        max_drift=max_drift,
        max_agreement_drop=max_agreement_drop,
        allow_anomalies=allow_anomalies,
    )
    _runs(ingest, cpu="1", memory="2Gi", minutes=20, retries=3)
    _reads_storage(ingest)
    return ingest


def _train_and_publish(
    ingest: dsl.PipelineTask,
    *,
    recipe,
    epochs,
    batch_size,
    learning_rate,
    seed,
    model_file,
    workers,
    tuning,
    image_number,
    registry,
    s3_endpoint,
    min_accuracy,
    min_recall,
    confidence,
    max_recall_drop,
    keep_versions,
    promote,
):
    """The steps from data to a judged model, and to a version; each is a parameter or an output."""
    train = components.train(
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        model_file=model_file,
        workers=workers,
        tuning=tuning,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        registry=registry,
        s3_endpoint=s3_endpoint,
        dataset=ingest.outputs["dataset"],
    )
    _runs(train, cpu="4", memory="4Gi", minutes=120, retries=1)
    _reads_storage(train)

    evaluate = components.evaluate(
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        registry=registry,
        s3_endpoint=s3_endpoint,
        min_accuracy=min_accuracy,
        min_recall=min_recall,
        confidence=confidence,
        max_recall_drop=max_recall_drop,
        seed=seed,
        dataset=ingest.outputs["dataset"],
        model=train.outputs["model"],
    )
    _runs(evaluate, cpu="2", memory="3Gi", minutes=20, retries=3)
    _reads_storage(evaluate)

    with dsl.If(evaluate.outputs["Output"] == "accepted", name="is-accepted"):
        publish = components.publish(
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            registry=registry,
            s3_endpoint=s3_endpoint,
            min_accuracy=min_accuracy,
            min_recall=min_recall,
            confidence=confidence,
            max_recall_drop=max_recall_drop,
            keep_versions=keep_versions,
            promote=promote,
            dataset=ingest.outputs["dataset"],
            model=train.outputs["model"],
            report=evaluate.outputs["report"],
            manifest=evaluate.outputs["manifest"],
        )
        _runs(publish, cpu="2", memory="3Gi", minutes=20, retries=0)
        _reads_storage(publish)

    predict = components.predict(
        image_number=image_number,
        dataset=ingest.outputs["dataset"],
        model=train.outputs["model"],
    )
    _runs(predict, cpu="1", memory="2Gi", minutes=10, retries=1)


@dsl.pipeline(name=NAME, description="Train, judge and publish a Fashion-MNIST classifier.")
def train_pipeline(
    data_path: str = "",
    model_file: str = "fashion_mnist.keras",
    image_number: int = 0,
    recipe: str = "fast",
    epochs: int = 0,
    batch_size: int = 0,
    learning_rate: float = 0.0,
    seed: int = 42,
    min_accuracy: float = 0.85,
    registry: str = "",
    s3_endpoint: str = "",
    min_recall: float = 0.5,
    confidence: float = 0.95,
    max_recall_drop: float = 0.05,
    keep_versions: int = 0,
    max_duplicates: float = 0.001,
    max_drift: float = 0.1,
    max_agreement_drop: float = 0.02,
    allow_anomalies: bool = False,
    promote: bool = True,
    workers: int = 1,
):
    """Ingest, train, evaluate; publish what is accepted; predict one image."""
    ingest = _ingest(
        data_path,
        registry,
        s3_endpoint,
        max_duplicates,
        max_drift,
        max_agreement_drop,
        allow_anomalies,
    )
    _train_and_publish(
        ingest,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        tuning="",
        seed=seed,
        model_file=model_file,
        workers=workers,
        image_number=image_number,
        registry=registry,
        s3_endpoint=s3_endpoint,
        min_accuracy=min_accuracy,
        min_recall=min_recall,
        confidence=confidence,
        max_recall_drop=max_recall_drop,
        keep_versions=keep_versions,
        promote=promote,
    )


@dsl.pipeline(name=TUNE_NAME, description="Try settings, and train, judge and publish the best.")
def tune_pipeline(
    data_path: str = "",
    model_file: str = "fashion_mnist.keras",
    image_number: int = 0,
    recipe: str = "fast",
    epochs: int = 0,
    batch_size: int = 0,
    learning_rate: float = 0.0,
    seed: int = 42,
    min_accuracy: float = 0.85,
    registry: str = "",
    s3_endpoint: str = "",
    min_recall: float = 0.5,
    confidence: float = 0.95,
    max_recall_drop: float = 0.05,
    keep_versions: int = 0,
    max_duplicates: float = 0.001,
    max_drift: float = 0.1,
    max_agreement_drop: float = 0.02,
    allow_anomalies: bool = False,
    promote: bool = True,
    workers: int = 1,
    trials: int = 8,
    parallelism: int = 2,
    space: str = "[]",
):
    """Ingest; try settings side by side; train, evaluate and publish with the best of them."""
    ingest = _ingest(
        data_path,
        registry,
        s3_endpoint,
        max_duplicates,
        max_drift,
        max_agreement_drop,
        allow_anomalies,
    )

    suggest = components.suggest(
        space=space,
        trials=trials,
        parallelism=parallelism,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    _runs(suggest, cpu="1", memory="2Gi", minutes=10, retries=1)

    # Each share is a pod that tries its settings one after another: `parallelism` of them at a time.
    with dsl.ParallelFor(suggest.output, name="shares") as share:
        trial = components.trial(
            share=share,
            seed=seed,
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            registry=registry,
            s3_endpoint=s3_endpoint,
            dataset=ingest.outputs["dataset"],
        )
        _runs(trial, cpu="4", memory="4Gi", minutes=240, retries=0)
        _reads_storage(trial)

    # Trials leave their results in object storage, which is the same with every server.
    choose = components.choose(
        trials=trials,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        registry=registry,
        s3_endpoint=s3_endpoint,
    ).after(trial)
    _runs(choose, cpu="1", memory="2Gi", minutes=10, retries=3)
    _reads_storage(choose)

    _train_and_publish(
        ingest,
        recipe=choose.outputs["recipe"],
        epochs=choose.outputs["epochs"],
        batch_size=choose.outputs["batch_size"],
        learning_rate=choose.outputs["learning_rate"],
        tuning=choose.outputs["tuning"],
        seed=seed,
        model_file=model_file,
        workers=workers,
        image_number=image_number,
        registry=registry,
        s3_endpoint=s3_endpoint,
        min_accuracy=min_accuracy,
        min_recall=min_recall,
        confidence=confidence,
        max_recall_drop=max_recall_drop,
        keep_versions=keep_versions,
        promote=promote,
    )
