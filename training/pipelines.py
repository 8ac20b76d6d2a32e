"""The pipelines, written with the KFP SDK for servers 2.5 to 2.15.

The parameters of the training pipelines are the fields of the groups below: each is named there, in a
step of `training.components`, and nowhere between.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from kfp import dsl, kubernetes

from fashion_mnist.data.validation import Limits
from fashion_mnist.evaluation import Gate
from training import components

NAME = "fashion-mnist-trainer"
WORKSPACE = "/workspace"
MONITOR = "fashion-mnist-monitor"
TUNER = "fashion-mnist-tuner"
SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - the Secret that Kubeflow creates in each profile


def _configure_step(
    task: dsl.PipelineTask, *, cpu: str, memory: str, minutes: int, retries: int
) -> None:
    """Set the resources, timeout and retries of a step, and disable caching.

    A cached step would miss data that changed under the same address, and would not write the registry.

    Args:
        task: the step.
        cpu: limit of processors.
        memory: limit of memory.
        minutes: timeout.
        retries: number of retries.
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
    # Clients require a region; S3 servers other than Amazon's accept any.
    task.set_env_variable("AWS_REGION", "us-east-1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """How a model is trained, which the action `tune` searches."""

    recipe: str = "fast"
    """Named set of hyperparameters."""

    epochs: int = 0
    """Passes over the training images. 0 for the recipe's."""

    batch_size: int = 0
    """Batch size, in images. 0 for the recipe's."""

    learning_rate: float = 0.0
    """Learning rate of the optimizer. 0 for the recipe's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Storage:
    """Where steps find their code and what they keep. Every step takes all of it."""

    registry: str = ""
    """Address of the model registry. Empty for none."""

    s3_endpoint: str = ""
    """Address of the S3 server. Empty for Amazon's."""

    code: str = ""
    """Address of the code bundle (`training/bootstrap.py`)."""

    code_sha256: str = ""
    """The bundle's digest, which `training.compile` fills in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What else a run is given."""

    data_path: str = ""
    """Location of the data set. Empty for the image's own, or its authors'."""

    model_file: str = "fashion_mnist.keras"
    """File name of the Keras model."""

    image_number: int = 0
    """Test image whose prediction is recorded."""

    allow_anomalies: bool = False
    """Whether to train on data with anomalies, and only report them."""

    seed: int = 42
    """Random seed."""

    workers: int = 1
    """Pods that train one model."""

    keep_versions: int = 0
    """Newest versions to keep. 0 for all."""

    promote: bool = True
    """Whether a model that passes the gate becomes the champion."""

    reason: str = ""
    """What started the run."""

    pipeline_version: str = ""
    """Version of the pipeline, for the manifest. Only the step that writes it takes it."""


_GROUPS: dict[str, type[Any]] = {
    "hyperparameters": Hyperparameters,
    "limits": Limits,
    "gate": Gate,
    "storage": Storage,
    "job": Job,
}


def _train(
    hyperparameters: Hyperparameters,
    limits: Limits,
    gate: Gate,
    storage: Storage,
    job: Job,
    *,
    workspace: str = "",
    tune: Callable[..., Mapping[str, Any]] | None = None,
) -> list[dsl.PipelineTask]:
    """Add the steps ingest, train, and evaluate-and-predict.

    There are only three, since each costs two pods and about twenty seconds. Ingest is separate because
    its errors are not worth a retry and because it needs a fraction of the training's resources. Train
    is separate because the charm's options set its resources and because it resumes from checkpoints.
    All that follows works on the same model and data, so it is one step.

    In the variant with a volume, `workspace` is the path where it is mounted. `tune` is called with the
    step ingest and the groups that it needs; it adds steps and returns better hyperparameters.

    Returns:
        the steps that use the workspace, in order.
    """
    ingest = components.ingest(
        data_path=job.data_path,
        workers=job.workers,
        allow_anomalies=job.allow_anomalies,
        image_number=job.image_number,
        workspace=workspace,
        **vars(hyperparameters),
        **vars(limits),
        **vars(storage),
    )
    _configure_step(ingest, cpu="1", memory="2Gi", minutes=20, retries=0)
    _use_storage_keys(ingest)

    settings: Mapping[str, Any] = {"tuning": "", **vars(hyperparameters)}
    if tune:
        settings = tune(ingest, hyperparameters, storage, job)
    train = components.train(
        seed=job.seed,
        model_file=job.model_file,
        workers=job.workers,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        workspace=workspace,
        dataset=ingest.outputs["dataset"],
        **settings,
        **vars(storage),
    )
    _configure_step(train, cpu="4", memory="4Gi", minutes=120, retries=3)
    _use_storage_keys(train)

    evaluate = components.evaluate_and_predict(
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        seed=job.seed,
        reason=job.reason,
        pipeline=TUNER if tune else NAME,
        pipeline_version=job.pipeline_version,
        keep_versions=job.keep_versions,
        promote=job.promote,
        image_number=job.image_number,
        workspace=workspace,
        dataset=ingest.outputs["dataset"],
        model=train.outputs["model"],
        **vars(gate),
        **vars(storage),
    )
    _configure_step(evaluate, cpu="2", memory="3Gi", minutes=50, retries=3)
    _use_storage_keys(evaluate)
    return [ingest, train, evaluate]


def _pipeline(
    function: Any,
    *extra: inspect.Parameter,
    name: str = NAME,
    description: str = "Train, evaluate and publish a Fashion-MNIST classifier.",
) -> Any:
    """Return a pipeline whose parameters are the fields of all groups, and more.

    Args:
        function: adds the steps, called with the parameters in `extra` and with the groups, by name.
        extra: further parameters.
        name: name of the pipeline.
        description: description of the pipeline.
    """
    inherited = [
        _parameter(name, kind, getattr(group, name))
        for group in _GROUPS.values()
        for name, kind in get_type_hints(group).items()
    ]
    signature = inspect.Signature([*extra, *inherited])

    def pipeline(*arguments):
        values = dict(zip(signature.parameters, arguments, strict=True))
        groups = {
            name: group(
                **{field.name: values.pop(field.name) for field in dataclasses.fields(group)}
            )
            for name, group in _GROUPS.items()
        }
        function(**values, **groups)

    pipeline.__signature__ = signature
    return dsl.pipeline(name=name, description=description)(pipeline)


def _in_workspace(workspace_size: str, storage_class: str, **groups: Any) -> None:
    """Add the same steps with a volume of the run, which is deleted after them, even if they fail.

    The volume's name is the run's id. One step at a time mounts it, so ReadWriteOnce suffices, which
    every storage provides. A storage class is required: Kubernetes reads an empty one as "no
    provisioning", and the server replaces a missing one by "standard".
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
        for step in _train(**groups, workspace=WORKSPACE):
            step.after(create)
            kubernetes.mount_pvc(step, run_id, WORKSPACE)


def _tuned(trials: int, parallelism: int, space: str, **groups: Any) -> None:
    """Add the same steps after parallel trials of settings, with the best of them."""

    def tune(
        ingest: dsl.PipelineTask, hyperparameters: Hyperparameters, storage: Storage, job: Job
    ) -> Mapping[str, Any]:
        suggest = components.suggest(
            space=space,
            trials=trials,
            parallelism=parallelism,
            seed=job.seed,
            **vars(hyperparameters),
            **vars(storage),
        )
        # No retries, as for ingest: an invalid search space stays invalid.
        _configure_step(suggest, cpu="1", memory="2Gi", minutes=10, retries=0)
        _use_storage_keys(suggest)
        # Each shard is a pod that runs its trials one after another: `parallelism` pods at a time.
        with dsl.ParallelFor(suggest.output, name="shares") as shard:
            trial = components.trial(
                share=shard,
                seed=job.seed,
                run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                dataset=ingest.outputs["dataset"],
                **vars(storage),
            )
            _configure_step(trial, cpu="4", memory="4Gi", minutes=240, retries=3)
            _use_storage_keys(trial)
        # Trials write their results to object storage, which works the same with every server.
        choose = components.choose(
            trials=trials, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **vars(storage)
        ).after(trial)
        _configure_step(choose, cpu="1", memory="2Gi", minutes=10, retries=3)
        _use_storage_keys(choose)
        return {name: choose.outputs[name] for name in ("tuning", *vars(hyperparameters))}

    _train(**groups, tune=tune)


def _parameter(name: str, kind: type, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind
    )


def train_pipeline() -> Any:
    """Build the pipeline that trains, evaluates and publishes."""
    return _pipeline(_train)


def workspace_pipeline() -> Any:
    """Build the same pipeline with a volume for the run."""
    return _pipeline(
        _in_workspace, _parameter("workspace_size", str), _parameter("storage_class", str)
    )


def tune_pipeline() -> Any:
    """Build the same pipeline with trials of settings before."""
    return _pipeline(
        _tuned,
        _parameter("trials", int, 8),
        _parameter("parallelism", int, 2),
        _parameter("space", str, "[]"),
        name=TUNER,
        description="Try settings, then train, evaluate and publish with the best.",
    )


def monitor_pipeline() -> Any:
    """Build the pipeline that compares production images with the champion's data."""
    description = "Compare production images with the data of the champion."
    return dsl.pipeline(name=MONITOR, description=description)(_monitor)


def _monitor(
    monitor_data: str,
    registry: str,
    s3_endpoint: str = "",
    max_drift: float = Limits.max_drift,
    max_accuracy_drop: float = 0.05,
    min_images: int = 500,
    max_images: int = 10_000,
    code: str = "",
    code_sha256: str = "",
):
    """Add one step, since each costs two pods.

    For 500 images of the same ten classes the stability index is 0.02 on average, and above 0.056 once
    in a thousand times. For 100 images it is above 0.1 more often than once in three times.
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
