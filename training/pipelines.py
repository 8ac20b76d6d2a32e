"""The pipelines, written with the KFP SDK and held to what servers 2.5 to 2.15 take."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl, kubernetes

from training import components

NAME = "fashion-mnist-trainer"
WORKSPACE = "/workspace"
MONITOR = "fashion-mnist-monitor"
TUNER = "fashion-mnist-tuner"
SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - the Secret that Kubeflow puts into each profile


def _configure_step(
    task: dsl.PipelineTask, *, cpu: str, memory: str, minutes: int, retries: int
) -> None:
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


def _use_storage_keys(task: dsl.PipelineTask) -> None:
    kubernetes.use_secret_as_env(
        task,
        SECRET,
        {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"},
    )
    # S3 servers other than Amazon's take any region, and clients want one.
    task.set_env_variable("AWS_REGION", "us-east-1")


def _train(
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
    max_mean_shift: float = 0.05,
    max_int8_loss: float = 0.01,
    allow_anomalies: bool = False,
    promote: bool = True,
    reason: str = "",
    pipeline_version: str = "",
    workers: int = 1,
    code: str = "",
    code_sha256: str = "",
    *,
    workspace: str = "",
    tune: Callable[..., Mapping[str, Any]] | None = None,
) -> list[dsl.PipelineTask]:
    """Add the steps ingest, train, and evaluate-and-predict.

    There are three, since each costs two pods and some twenty seconds. Ingest stays apart because it
    finds what a retry cannot mend, so it alone is not retried, and because it needs a fraction of what
    training reserves. Train stays apart because it alone takes the options' resources and resumes from
    checkpoints. What follows works on the same model and data, one part after another, in one step.

    A volume is mounted at `workspace` in the variant that has one. `tune` is called with the step ingest
    and the settings, adds steps, and returns better settings. `code` and `code_sha256` name the code
    bundle (`training/bootstrap.py`); `compile` puts in the digest. `pipeline_version` goes to the step
    that writes the manifest and to no other.

    Returns:
        the steps that work on the workspace, in order.
    """
    bundle = {"code": code, "code_sha256": code_sha256, "s3_endpoint": s3_endpoint}
    ingest = components.ingest(
        data_path=data_path,
        registry=registry,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        workers=workers,
        max_duplicates=max_duplicates,
        max_drift=max_drift,
        max_agreement_drop=max_agreement_drop,
        max_mean_shift=max_mean_shift,
        allow_anomalies=allow_anomalies,
        image_number=image_number,
        workspace=workspace,
        **bundle,
    )
    _configure_step(ingest, cpu="1", memory="2Gi", minutes=20, retries=0)
    _use_storage_keys(ingest)

    settings: Mapping[str, Any] = {
        "recipe": recipe,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    if tune:
        settings = tune(ingest, bundle, seed=seed, registry=registry, **settings)
    train = components.train(
        **{"tuning": "", **settings},
        seed=seed,
        model_file=model_file,
        workers=workers,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        registry=registry,
        workspace=workspace,
        dataset=ingest.outputs["dataset"],
        **bundle,
    )
    _configure_step(train, cpu="4", memory="4Gi", minutes=120, retries=3)
    _use_storage_keys(train)

    evaluate = components.evaluate_and_predict(
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        registry=registry,
        min_accuracy=min_accuracy,
        min_recall=min_recall,
        confidence=confidence,
        max_recall_drop=max_recall_drop,
        max_int8_loss=max_int8_loss,
        seed=seed,
        reason=reason,
        pipeline=TUNER if tune else NAME,
        pipeline_version=pipeline_version,
        keep_versions=keep_versions,
        promote=promote,
        image_number=image_number,
        workspace=workspace,
        dataset=ingest.outputs["dataset"],
        model=train.outputs["model"],
        **bundle,
    )
    _configure_step(evaluate, cpu="2", memory="3Gi", minutes=50, retries=3)
    _use_storage_keys(evaluate)
    return [ingest, train, evaluate]


def _pipeline(
    function: Any,
    *extra: inspect.Parameter,
    name: str = NAME,
    description: str = "Train, judge and publish a Fashion-MNIST classifier.",
) -> Any:
    """A pipeline with the parameters of `_train`, and more, which calls a function by their names."""
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    inherited = [p for p in inspect.signature(_train).parameters.values() if p.kind is positional]
    signature = inspect.Signature([*extra, *inherited])

    def pipeline(*arguments):
        function(**dict(zip(signature.parameters, arguments, strict=True)))

    pipeline.__signature__ = signature
    return dsl.pipeline(name=name, description=description)(pipeline)


def _in_workspace(workspace_size: str, storage_class: str, **arguments: Any) -> None:
    """The same steps around a volume of the run's own, which goes when they have ended, however.

    Its name is the run's id. One step at a time mounts it, so ReadWriteOnce, which every storage
    provides, is enough, wherever the steps' pods are. A storage class must be named: Kubernetes takes
    an empty one for "no provisioning", and the server without one for "standard".
    """
    run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    remove = kubernetes.DeletePVC(pvc_name=run_id)
    remove.set_caching_options(False)
    with dsl.ExitHandler(remove, name="in-workspace"):
        create = kubernetes.CreatePVC(
            pvc_name=run_id,
            access_modes=["ReadWriteOnce"],
            size=workspace_size,
            storage_class_name=storage_class,
        )
        create.set_caching_options(False)
        for step in _train(**arguments, workspace=WORKSPACE):
            step.after(create)
            kubernetes.mount_pvc(step, run_id, WORKSPACE)


def _tuned(trials: int, parallelism: int, space: str, **arguments: Any) -> None:
    """The same steps with settings of which several were tried side by side before."""

    def tune(ingest: dsl.PipelineTask, bundle: Mapping[str, Any], *, seed, registry, **settings):
        suggest = components.suggest(
            space=space, trials=trials, parallelism=parallelism, seed=seed, **bundle, **settings
        )
        # Like ingest: a space that is wrong stays wrong.
        _configure_step(suggest, cpu="1", memory="2Gi", minutes=10, retries=0)
        _use_storage_keys(suggest)
        # Each share is a pod that tries its settings one after another: `parallelism` at a time.
        with dsl.ParallelFor(suggest.output, name="shares") as share:
            trial = components.trial(
                share=share,
                seed=seed,
                run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                registry=registry,
                dataset=ingest.outputs["dataset"],
                **bundle,
            )
            _configure_step(trial, cpu="4", memory="4Gi", minutes=240, retries=3)
            _use_storage_keys(trial)
        # Trials leave their results in object storage, which is the same with every server.
        choose = components.choose(
            trials=trials, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, registry=registry, **bundle
        ).after(trial)
        _configure_step(choose, cpu="1", memory="2Gi", minutes=10, retries=3)
        _use_storage_keys(choose)
        return {name: choose.outputs[name] for name in ("tuning", *settings)}

    _train(**arguments, tune=tune)


def _parameter(name: str, kind: type, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind
    )


def train_pipeline() -> Any:
    """Build the pipeline that trains, judges and publishes."""
    return _pipeline(_train)


def workspace_pipeline() -> Any:
    """Build the same around a volume of the run's own."""
    return _pipeline(
        _in_workspace, _parameter("workspace_size", str), _parameter("storage_class", str)
    )


def tune_pipeline() -> Any:
    """Build the same after trials of settings."""
    return _pipeline(
        _tuned,
        _parameter("trials", int, 8),
        _parameter("parallelism", int, 2),
        _parameter("space", str, "[]"),
        name=TUNER,
        description="Try settings, and train, judge and publish the best.",
    )


def monitor_pipeline() -> Any:
    """Build the pipeline that holds production images against the model that serves."""
    description = "Hold production images against the model that serves."
    return dsl.pipeline(name=MONITOR, description=description)(_monitor)


def _monitor(
    monitor_data: str,
    registry: str,
    s3_endpoint: str = "",
    max_drift: float = 0.1,
    max_accuracy_drop: float = 0.05,
    min_images: int = 500,
    max_images: int = 10_000,
    code: str = "",
    code_sha256: str = "",
):
    """One step, since each costs two pods.

    The index of 500 images of the same ten classes is 0.02 on average and one in a thousand times above
    0.056, that of 100 images is above 0.1 more often than one in three times.
    """
    monitor = components.monitor(
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        monitor_data=monitor_data,
        registry=registry,
        s3_endpoint=s3_endpoint,
        max_drift=max_drift,
        max_accuracy_drop=max_accuracy_drop,
        min_images=min_images,
        max_images=max_images,
        code=code,
        code_sha256=code_sha256,
    )
    _configure_step(monitor, cpu="2", memory="3Gi", minutes=30, retries=1)
    _use_storage_keys(monitor)
