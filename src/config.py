"""The charm's options: type, default, range and description, each stated once.

The docstring below each field is the option's description. `docs/generate.py` generates the options in
charmcraft.yaml and docs/reference/options.md from this module. `ops.CharmBase.load_config` fills the
fields, with underscores for dashes.
"""

from __future__ import annotations

import dataclasses
import datetime

from errors import OptionError
from kfp_ops import Resources
from model_registry import layout
from options import CRON, Group, amount, between, matching, one_of, option, or_empty

RECIPES = ("notebook", "quick", "fast", "balanced", "accurate")
_IMAGE = r"[a-z0-9]([\w.\-]*[a-z0-9])?(:\d+)?(/[\w.\-]+)*(:[\w.\-]{1,128})?(@sha256:[0-9a-f]{64})?"
_OBJECT = r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9\-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9\-]*[a-z0-9])?)*"
_S3 = r"s3://[a-z0-9.\-]+(/\S*)?"


TRAINING = Group(title="Training", starts_run=True)
DATA = Group(title="Data", starts_run=True)
GATE = Group(title="Gate", starts_run=True)
SCHEDULE = Group(title="Schedule and triggers")
MONITORING = Group(title="Monitoring")
SERVING = Group(title="Serving")
KUBEFLOW = Group(title="Kubeflow")
REGISTRY = Group(title="Registry", starts_run=True)
DEMO = Group(title="Demo", starts_run=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The charm's options, validated.

    Raises:
        OptionError: An option has an invalid value.
    """

    recipe: str = option(TRAINING, "fast", one_of(*RECIPES), argument=True)
    """Named set of hyperparameters, with the accuracy that it reaches on the test images: notebook
    (that of the original notebook, about 0.875), quick (about 0.885, the fastest), fast (about 0.912,
    seconds), balanced (about 0.93) or accurate (about 0.94, minutes)."""

    epochs: int = option(TRAINING, 0, between(0, 1000), argument=True)
    """Number of epochs, that is, passes over the training images. 0 uses the recipe's value."""

    batch_size: int = option(TRAINING, 0, between(0, 60000), argument=True)
    """Batch size, in images. 0 uses the recipe's value."""

    learning_rate: float = option(TRAINING, 0.0, between(0, 1), argument=True)
    """Learning rate of the Adam optimizer. 0 uses the recipe's value."""

    seed: int = option(TRAINING, 42, between(0, 2**31 - 1), argument=True)
    """Random seed for training. On the same kind of machine, the same seed trains the same model."""

    workers: int = option(TRAINING, 1, between(1, 16), argument=True)
    """Number of pods that train one model together; each batch is split across them. More than one
    needs Kubeflow's Training Operator (TFJob) in the cluster."""

    training_image: str = option(TRAINING, "", or_empty(matching(_IMAGE, "a container image")))
    """Container image of the steps. If empty, the image that the pipelines were compiled with,
    docker.io/tensorflow/tensorflow."""

    train_cpu: str = option(TRAINING, "", or_empty(amount("100m", "1000")))
    """CPU limit of the step train, and of each trial of the action tune, in cores, such as 4 or 500m. If
    empty, 4."""

    train_memory: str = option(TRAINING, "", or_empty(amount("1Gi", "16Ti")))
    """Memory limit of the step train, and of each trial of the action tune, in bytes, such as 4Gi or 8G;
    Kubernetes kills a step that exceeds it. If empty, 4Gi."""

    train_gpu: int = option(TRAINING, 0, between(0, 64))
    """Number of GPUs (nvidia.com/gpu) for the step train, and for each trial of the action tune. They
    need a training-image with GPU support."""

    workspace_size: str = option(TRAINING, "", or_empty(amount("256Mi", "16Ti")))
    """Size of a volume that the steps of a run share, in bytes, such as 1Gi; it is created for each run
    and removed at its end. If empty, there is no volume, and steps exchange artifacts through object
    storage only."""

    storage_class: str = option(
        TRAINING, "", or_empty(matching(_OBJECT, "the name of a StorageClass"))
    )
    """StorageClass of the volume that workspace-size requests. If empty, the cluster's default. It has
    no effect without workspace-size."""

    data_path: str = option(
        DATA,
        "",
        or_empty(
            matching(rf"https?://\S+|{_S3}|/\S*", "a directory, http(s):// or s3://BUCKET/PREFIX")
        ),
        argument=True,
    )
    """Location of the four IDX files: a directory in the training image, an http(s):// address or
    s3://BUCKET/PREFIX. If empty, the files in the image are used if it has them; otherwise they are
    downloaded from the data set's authors."""

    max_drift: float = option(DATA, 0.1, between(0, 100), argument=True)
    """Maximum drift from the champion's data, as population stability index; data above it count as an
    anomaly, and production images above it as drifted. An index above 0.1 is unusual; one above 0.25
    means another distribution."""

    allow_anomalies: bool = option(DATA, False, argument=True)
    """Whether to train on data with anomalies, such as drift, missing classes or duplicates, and only
    report them. When false, the run fails and lists the anomalies."""

    min_accuracy: float = option(GATE, 0.85, between(0, 1), argument=True)
    """Minimum accuracy on the test images; the gate rejects a model below it."""

    min_recall: float = option(GATE, 0.5, between(0, 1), argument=True)
    """Minimum recall in every one of the ten classes; the gate rejects a model below it in any
    class."""

    promotion: str = option(GATE, "automatic", one_of("automatic", "manual"))
    """Who makes a model that passes the gate the champion. automatic: the run itself. manual: the model
    becomes a version in the registry and waits for the action promote."""

    train_on_change: bool = option(SCHEDULE, True)
    """Whether a changed configuration starts a run. A run of an earlier configuration that is still
    running is then terminated. When false, only actions, the schedule and the retrain-* options start
    runs."""

    schedule: str = option(SCHEDULE, "", or_empty(CRON))
    """When to train in addition: a cron expression with five fields (`0 3 * * 0` is Sundays at 3), or
    hourly, daily, weekly, monthly or yearly, in the time zone of Kubeflow Pipelines, usually UTC.
    Scheduled runs do not overlap, and those missed while the server was down are skipped. If empty,
    there is no schedule."""

    schedule_paused: bool = option(SCHEDULE, False)
    """Whether the schedule is paused: it is kept, but starts no runs."""

    retrain_on_data: bool = option(SCHEDULE, False)
    """Whether to start a run when the files under data-path, an s3:// or http(s):// address, have
    changed since the champion was trained. The charm checks this at each event, usually update-status.
    It does not check files in the image."""

    retrain_on_drift: bool = option(SCHEDULE, False)
    """Whether to start a run when the newest monitoring report shows that production images differ from
    the champion's data by more than max-drift, or that the champion is far less accurate on them; see
    monitor-data."""

    retrain_after: int = option(SCHEDULE, 0, between(0, 3650))
    """Age of the champion, in days, at which to start a run that may replace it. If it still serves
    after as many days again, another run starts. 0: never."""

    retrain_cooldown: int = option(SCHEDULE, 24, between(1, 8760))
    """Minimum time, in hours, between two runs that retrain-on-data, retrain-on-drift or retrain-after
    start, whatever the outcome of the first."""

    run_timeout: int = option(SCHEDULE, 360, between(0, 43200))
    """Time, in minutes, after which the charm terminates a run that has not ended. 0: never, in which
    case a run whose image cannot be pulled waits forever."""

    monitor_data: str = option(MONITORING, "", or_empty(matching(_S3, "s3://BUCKET/PREFIX")))
    """Location of production images, with or without labels, in the related object storage; see
    docs/how-to/monitor.md. If empty, production is not monitored."""

    monitor_schedule: str = option(MONITORING, "", or_empty(CRON))
    """When to compare the images under monitor-data with the champion's data: a cron expression, as
    for schedule. If empty, only when the action monitor is run."""

    # The pipeline needs 500 to tell drift from chance, and has memory for 100000.
    monitor_images: int = option(MONITORING, 10000, between(500, 100000))
    """Number of the newest images under monitor-data to compare. Set it to about as many as arrive
    between two monitoring runs: with more, old images mask new drift, and drift that is over is still
    reported."""

    serving: str = option(SERVING, "none", one_of("none", "kserve"))
    """How the champion is served: none (not at all), or kserve, which maintains a KServe
    InferenceService for it in the profile's namespace and updates it with each promotion and
    rollback."""

    canary_traffic: int = option(SERVING, 0, between(0, 100))
    """Percentage of requests that a new champion receives, while the version that last received all of
    them keeps the rest; needs KServe with Knative. 0 sends all requests to the champion: set it back to
    0 to end a canary."""

    profile: str = option(
        KUBEFLOW,
        "fashion-mnist",
        or_empty(matching(r"[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?", "a namespace")),
    )
    """Kubeflow profile in which runs are submitted. The charm creates it if it does not exist and
    grants itself the ClusterRole kubeflow-pipelines-edit in it; both need --trust. Set it to an empty
    value for a single-user Kubeflow Pipelines. A change trains the configuration again, in the new
    profile."""

    profile_owner: str = option(
        KUBEFLOW, "", or_empty(matching(r"[^\s'\"]{1,253}", "a user's name in Kubeflow"))
    )
    """Owner of the profile if the charm creates it: the name of a Kubeflow user, usually an e-mail
    address, who then sees the profile in the dashboard. If empty, the charm's own account owns it."""

    dashboard_url: str = option(
        KUBEFLOW, "", or_empty(matching(r"https?://\S+", "an http(s):// address"))
    )
    """Address of Kubeflow's dashboard in a browser, for the links (run-url) that actions return. If
    empty, they link to the API."""

    registry_bucket: str = option(
        REGISTRY, "mlpipeline", matching(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", "a bucket's name")
    )
    """Bucket of the model registry, in the related object storage."""

    registry_prefix: str = option(
        REGISTRY,
        "models/fashion-mnist",
        matching(r"[\w.\-]+(/[\w.\-]+)*", "a path like models/mine"),
    )
    """Path of the model registry in the bucket."""

    keep_versions: int = option(REGISTRY, 0, between(0, 100000), argument=True)
    """Number of the newest versions to keep in the registry, besides the champion and the one before
    it. 0 keeps all."""

    model_file: str = option(
        DEMO,
        "fashion_mnist.keras",
        matching(r"[\w\-][\w.\-]*\.keras", "a file name NAME.keras"),
        argument=True,
    )
    """File name of the Keras model in the registry."""

    image_number: int = option(DEMO, 0, between(0, 9999), argument=True)
    """Number of the test image for which each run records a prediction at its end."""

    def __post_init__(self):
        """Check every value, and combinations of options."""
        for field in dataclasses.fields(self):
            check, value = field.metadata["check"], getattr(self, field.name)
            if check and not check.accepts(value):
                raise OptionError(field.name, value, check.expected)
        if self.monitor_schedule and not self.monitor_data:
            raise OptionError("monitor_data", "", "s3://BUCKET/PREFIX if monitor-schedule is set")
        if self.serving == "kserve" and not self.profile:
            raise OptionError("serving", self.serving, "none if the option profile is empty")

    @property
    def timeout(self) -> datetime.timedelta:
        """Time after which a run is terminated; zero disables it."""
        return datetime.timedelta(minutes=self.run_timeout)

    @property
    def resources(self) -> Resources:
        """Resource limits of the steps that train."""
        return Resources(
            cpu_limit=self.train_cpu,
            memory_limit=self.train_memory,
            accelerators=self.train_gpu,
        )

    @property
    def registry(self) -> str:
        """Address of the model registry."""
        return f"s3://{self.registry_bucket}/{self.registry_prefix}"

    @property
    def arguments(self) -> dict[str, object]:
        """Arguments of the training pipelines that come from options."""
        arguments = {
            # Juju may pass an int for a float option; both must give the same fingerprint.
            field.name: type(field.default)(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.metadata["argument"]
        }
        if self.workspace_size:
            arguments["workspace_size"] = self.workspace_size
            arguments["storage_class"] = self.storage_class
        return {**arguments, "promote": self.promotion == "automatic", "registry": self.registry}

    @property
    def monitor_arguments(self) -> dict[str, object]:
        """Arguments of the monitoring pipeline that come from options."""
        return {
            "monitor_data": self.monitor_data,
            "max_images": self.monitor_images,
            "max_drift": float(self.max_drift),
            "registry": self.registry,
        }

    def model_uri(self, version: int) -> str:
        """Return the base path of a version's SavedModel for TensorFlow Serving."""
        return f"{self.registry}/{layout.serving(version)}"
