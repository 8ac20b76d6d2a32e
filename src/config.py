"""The charm's options, checked.

The names are those in charmcraft.yaml with underscores for dashes; `load_config` of
ops fills them. A bad value is an OptionError, which names the option and what it takes.
"""

from __future__ import annotations

import dataclasses
import datetime
import re

from errors import OptionError
from kfp_ops import Resources, quantity
from model_registry import layout

RECIPES = ("notebook", "quick", "fast", "balanced", "accurate")
PROMOTIONS = ("automatic", "manual")
SERVINGS = ("none", "kserve")
_IMAGE = r"[a-z0-9]([\w.\-]*[a-z0-9])?(:\d+)?(/[\w.\-]+)*(:[\w.\-]{1,128})?(@sha256:[0-9a-f]{64})?"
_CRON = "empty, five cron fields like '0 3 * * 0' (Sunday is 0) or hourly, daily, weekly"
_OBJECT = r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9\-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9\-]*[a-z0-9])?)*"
_OBJECTS = r"s3://[a-z0-9.\-]+(/\S*)?"
_DATA = rf"https?://\S+|{_OBJECTS}|/\S*"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """What `juju config` says.

    Attributes:
        recipe: how to train: one of RECIPES.
        epochs, batch_size, learning_rate: 0 leaves the recipe's own value.
        seed: of every random choice in training.
        workers: on how many pods a model is trained.
        min_accuracy: a model with less accuracy on the test set (0 to 1) is rejected.
        min_recall: a model with less recall in one of the classes (0 to 1) is rejected.
        max_drift: population stability index above which data are an anomaly.
        allow_anomalies: whether data with anomalies are trained on, and the anomalies reported.
        promotion: automatic, or manual: an accepted model waits for the action promote.
        keep_versions: how many of the newest versions stay in the registry; 0: all.
        data_path: where the four IDX files are; empty finds them by itself.
        model_file: file name of the Keras model in the registry.
        image_number: which test image (0 to 9999) a run predicts at its end.
        profile: the Kubeflow profile, and so the namespace, of the runs; empty: single-user server.
        profile_owner: who owns the profile if the charm creates it; empty: the charm's account.
        training_image: container image of the steps; empty leaves the compiled one.
        cpu, memory: limits of the step that trains, as Kubernetes writes them; empty leaves the
            compiled ones.
        gpu: how many GPUs it gets.
        workspace_size: of a volume that the steps of a run share, as Kubernetes writes it; empty:
            none.
        storage_class: which provides that volume; empty: the cluster's default.
        train_on_change: whether a new configuration is trained without being asked.
        schedule: when to train besides: cron with five fields, or daily and the like; empty: never.
        schedule_paused: keeps the schedule without letting it submit runs.
        retrain_on_data: whether new data under the same address start a run.
        retrain_on_drift: whether production images that drifted start a run.
        retrain_after: days of the model's age after which a run starts, and so on; 0: never.
        retrain_interval: hours that lie at least between two such runs.
        monitor_data: where images from production lie; empty: nowhere.
        monitor_schedule: when to look at them: like schedule.
        monitor_images: how many of the newest are looked at.
        run_timeout: minutes after which a run that still goes on is terminated; 0: never.
        serving: kserve lets KServe serve the champion in the profile; none: nobody.
        canary_traffic: percent of requests that a new champion gets at first; 0: all.
        registry_bucket, registry_prefix: where the models are kept in object storage.
        dashboard_url: Kubeflow's address in a browser, for links; empty links to the API.
    """

    recipe: str = "fast"
    epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    seed: int = 42
    workers: int = 1
    min_accuracy: float = 0.85
    min_recall: float = 0.5
    max_drift: float = 0.1
    allow_anomalies: bool = False
    promotion: str = "automatic"
    keep_versions: int = 0
    data_path: str = ""
    model_file: str = "fashion_mnist.keras"
    image_number: int = 0
    profile: str = "fashion-mnist"
    profile_owner: str = ""
    training_image: str = ""
    cpu: str = ""
    memory: str = ""
    gpu: int = 0
    workspace_size: str = ""
    storage_class: str = ""
    train_on_change: bool = True
    schedule: str = ""
    schedule_paused: bool = False
    retrain_on_data: bool = False
    retrain_on_drift: bool = False
    retrain_after: int = 0
    retrain_interval: int = 24
    monitor_data: str = ""
    monitor_schedule: str = ""
    monitor_images: int = 10000
    run_timeout: int = 360
    serving: str = "none"
    canary_traffic: int = 0
    registry_bucket: str = "mlpipeline"
    registry_prefix: str = "models/fashion-mnist"
    dashboard_url: str = ""

    def __post_init__(self):
        """Check every value; raises OptionError for the first that cannot be."""
        if self.recipe not in RECIPES:
            raise OptionError("recipe", self.recipe, f"one of {', '.join(RECIPES)}")
        self._check_range("epochs", 0, 1000)
        self._check_range("batch_size", 0, 60000)
        self._check_range("learning_rate", 0, 1)
        self._check_range("seed", 0, 2**31 - 1)
        self._check_range("workers", 1, 16)
        self._check_range("min_accuracy", 0, 1)
        self._check_range("min_recall", 0, 1)
        self._check_range("max_drift", 0, 100)
        if self.promotion not in PROMOTIONS:
            raise OptionError("promotion", self.promotion, f"one of {', '.join(PROMOTIONS)}")
        self._check_range("keep_versions", 0, 100000)
        self._check_range("image_number", 0, 9999)
        self._check_range("retrain_after", 0, 3650)
        self._check_range("retrain_interval", 1, 8760)
        self._check_range("run_timeout", 0, 43200)
        self._check_pattern(
            "data_path", _DATA, "empty, http(s)://, s3://BUCKET/PREFIX or a directory"
        )
        self._check_cron("schedule")
        self._check_cron("monitor_schedule")
        # The pipeline needs 500 to tell drift from chance, and has the memory for so many.
        self._check_range("monitor_images", 500, 100000)
        self._check_pattern("monitor_data", _OBJECTS, "empty or s3://BUCKET/PREFIX")
        if self.monitor_schedule and not self.monitor_data:
            raise OptionError("monitor_data", "", "s3://BUCKET/PREFIX where there is a schedule")
        self._check_pattern("model_file", r"[\w\-][\w.\-]*\.keras", "a file name NAME.keras")
        if self.profile:
            self._check_pattern(
                "profile", r"[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?", "empty or a namespace"
            )
        self._check_pattern(
            "profile_owner", r"[^\s'\"]{1,253}", "empty or a user's name in Kubeflow"
        )
        self._check_pattern("training_image", _IMAGE, "empty or a container image")
        self._check_quantity("cpu", "100m", "1k", "empty or cores like 4 or 500m, 100m to 1000")
        self._check_quantity("memory", "1Gi", "16Ti", "empty or a size like 4Gi, 1Gi to 16Ti")
        self._check_range("gpu", 0, 64)
        self._check_quantity(
            "workspace_size", "256Mi", "16Ti", "empty or a size like 1Gi, 256Mi to 16Ti"
        )
        self._check_pattern("storage_class", _OBJECT, "empty or the name of a StorageClass")
        if self.serving not in SERVINGS:
            raise OptionError("serving", self.serving, f"one of {', '.join(SERVINGS)}")
        if self.serving == "kserve" and not self.profile:
            raise OptionError("serving", self.serving, "none where the option profile is empty")
        self._check_range("canary_traffic", 0, 100)
        self._check_pattern(
            "registry_bucket", r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", "a bucket's name"
        )
        self._check_pattern("registry_prefix", r"[\w.\-]+(/[\w.\-]+)*", "a path like models/mine")
        self._check_pattern("dashboard_url", r"https?://\S+", "empty or an http(s):// address")

    @property
    def timeout(self) -> datetime.timedelta:
        """After which a run is terminated; zero: never."""
        return datetime.timedelta(minutes=self.run_timeout)

    @property
    def resources(self) -> Resources:
        """What the step that trains may use."""
        return Resources(cpu_limit=self.cpu, memory_limit=self.memory, accelerators=self.gpu)

    @property
    def arguments(self) -> dict[str, object]:
        """The pipeline's arguments that options decide."""
        volume: dict[str, object] = {
            "workspace_size": self.workspace_size,
            "storage_class": self.storage_class,
        }
        return {
            **(volume if self.workspace_size else {}),
            "data_path": self.data_path,
            "model_file": self.model_file,
            "image_number": self.image_number,
            "recipe": self.recipe,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": float(self.learning_rate),
            "seed": self.seed,
            "workers": self.workers,
            "min_accuracy": float(self.min_accuracy),
            "min_recall": float(self.min_recall),
            "max_drift": float(self.max_drift),
            "allow_anomalies": self.allow_anomalies,
            "promote": self.promotion == "automatic",
            "keep_versions": self.keep_versions,
            "registry": f"s3://{self.registry_bucket}/{self.registry_prefix}",
        }

    def model_uri(self, version: int) -> str:
        """Return the base path of a version's SavedModel for TensorFlow Serving."""
        return f"{self.arguments['registry']}/{layout.serving(version)}"

    @property
    def monitor_arguments(self) -> dict[str, object]:
        """The monitoring pipeline's arguments that options decide."""
        return {
            "monitor_data": self.monitor_data,
            "max_images": self.monitor_images,
            "max_drift": float(self.max_drift),
            "registry": self.arguments["registry"],
        }

    def _check_cron(self, field: str) -> None:
        value = getattr(self, field)
        if not value:
            return
        # Imported here, since most have no schedule.
        from cron import six_fields

        try:
            six_fields(value)
        except ValueError as error:
            raise OptionError(field, value, _CRON) from error

    def _check_range(self, field: str, low: float, high: float) -> None:
        value = getattr(self, field)
        if not low <= value <= high:
            raise OptionError(field, value, f"between {low} and {high}")

    def _check_quantity(self, field: str, low: str, high: str, expected: str) -> None:
        value = getattr(self, field)
        if not value:
            return
        try:
            is_within = quantity(low) <= quantity(value) <= quantity(high)
        except ValueError as error:
            raise OptionError(field, value, expected) from error
        if not is_within:
            raise OptionError(field, value, expected)

    def _check_pattern(self, field: str, pattern: str, expected: str) -> None:
        value = getattr(self, field)
        may_be_empty = type(self).__dataclass_fields__[field].default == ""
        if value == "" and may_be_empty:
            return
        if not re.fullmatch(pattern, value) or {".", ".."} & set(value.split("/")):
            raise OptionError(field, value, expected)
