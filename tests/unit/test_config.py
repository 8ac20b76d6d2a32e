"""The charm's options and the action's parameters."""

import dataclasses
import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import RECIPES, TrainerConfig
from errors import OptionError
from kfp_ops import ObjectStorage, PipelineSpec
from reconciler import desired_state
from reconciler.requests import MonitorParams, TrainParams, TuneParams
from reconciler.triggers import Signals

ROOT = Path(__file__).parents[2]
NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
CHARMCRAFT = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
SPEC = PipelineSpec.load(ROOT / "src" / "pipelines" / "train.yaml")
IN_WORKSPACE = PipelineSpec.load(ROOT / "src" / "pipelines" / "train-workspace.yaml")
MONITOR = PipelineSpec.load(ROOT / "src" / "pipelines" / "monitor.yaml")
FIELDS = {field.name.replace("_", "-"): field for field in dataclasses.fields(TrainerConfig)}
# Limits without options; to change them, submit the pipeline with other arguments.
PIPELINES_OWN = {
    "code",
    "code_sha256",
    *(
        "max_duplicates",
        "max_agreement_drop",
        "confidence",
        "max_recall_drop",
        "max_int8_loss",
        "max_mean_shift",
    ),
}


def test_ops_reads_the_declared_default_of_each_option():
    declared = {
        name.replace("-", "_"): option["default"]
        for name, option in CHARMCRAFT["config"]["options"].items()
    }
    assert TrainerConfig(**declared) == TrainerConfig()


@pytest.mark.parametrize(("action", "kind"), [("train", TrainParams), ("monitor", MonitorParams)])
def test_action_declares_the_fields_of_its_dataclass(action, kind):
    declared = set(CHARMCRAFT["actions"][action]["params"])
    assert declared == {field.name.replace("_", "-") for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(
    ("action", "kind"), [("train", TrainParams), ("tune", TuneParams), ("monitor", MonitorParams)]
)
def test_parameter_that_overrides_an_option_has_its_type(action, kind):
    json_types = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
    params = CHARMCRAFT["actions"][action]["params"]
    overrides = {
        field.name.replace("_", "-"): field.type
        for field in dataclasses.fields(kind)
        if field.name.replace("_", "-") in FIELDS
    }
    assert overrides
    for name, annotation in overrides.items():
        assert annotation == f"{FIELDS[name].type} | None"
        assert params[name]["type"] == json_types[FIELDS[name].type]
        assert "default" not in params[name]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TrainerConfig)])
def test_option_described_as_starting_a_run_starts_one(name):
    # GIVEN another value of the option, and the options that it requires
    field = FIELDS[name.replace("_", "-")]
    before = TrainerConfig(workspace_size="1Gi", monitor_data="s3://data")
    good = {**GOOD, "monitor_schedule": ["@daily"]}
    values = [not field.default] if field.type == "bool" else good[name]
    changed = next(value for value in values if value not in ("", getattr(before, name)))
    # WHEN one replaces the other
    after = dataclasses.replace(before, **{name: changed})
    # THEN another run is desired if the description says so
    description = CHARMCRAFT["config"]["options"][name.replace("_", "-")]["description"]
    starts = configuration_run(before) != configuration_run(after)
    assert starts == ("A change starts a run." in " ".join(description.split()))


def configuration_run(config):
    storage = ObjectStorage(
        access_key="", secret_key="", service="minio", port=9000, namespace="kubeflow"
    )
    config = dataclasses.replace(config, train_on_change=True)
    *_, trainer = desired_state.training(config, storage, "k--t", {}, Signals(), NOON)
    return trainer.runs[0].name


def test_monitoring_arguments_match_the_pipelines_parameters():
    arguments = {**TrainerConfig().monitor_arguments, "s3_endpoint": "http://minio:9000"}
    MONITOR.check(arguments)
    assert set(MONITOR.parameters) - set(arguments) == {
        *("min_images", "max_accuracy_drop"),
        *("code", "code_sha256"),
    }
    assert MONITOR.parameters["max_drift"].default == TrainerConfig().max_drift
    assert MONITOR.parameters["max_images"].default == TrainerConfig().monitor_images


def test_monitoring_schedule_requires_monitor_data():
    TrainerConfig(monitor_schedule="@daily", monitor_data="s3://b/p")
    with pytest.raises(OptionError, match="monitor-data must be s3://BUCKET/PREFIX") as caught:
        TrainerConfig(monitor_schedule="@daily")
    assert caught.value.option == "monitor-data"


def test_every_pipeline_option_reaches_the_pipeline():
    run_parameters = {
        "s3_endpoint": "http://minio:9000",
        "reason": "action",
        "pipeline_version": "0a1b",
    }
    arguments = {**TrainerConfig().arguments, **run_parameters}
    SPEC.check(arguments)
    assert set(arguments) == set(SPEC.parameters) - PIPELINES_OWN
    assert all(SPEC.parameters[name].default is not None for name in PIPELINES_OWN)


def test_workspace_size_and_class_reach_the_workspace_pipeline():
    config = TrainerConfig(workspace_size="1Gi", storage_class="fast")
    run_parameters = {"s3_endpoint": "", "reason": "action", "pipeline_version": "0a1b"}
    arguments = {**config.arguments, **run_parameters}
    IN_WORKSPACE.check(arguments)
    assert set(arguments) == set(IN_WORKSPACE.parameters) - PIPELINES_OWN
    assert set(IN_WORKSPACE.parameters) - set(SPEC.parameters) == {
        "workspace_size",
        "storage_class",
    }


def test_resources_come_from_the_options():
    resources = TrainerConfig(train_cpu="8", train_memory="16Gi", train_gpu=1).resources
    assert (resources.cpu_limit, resources.memory_limit) == ("8", "16Gi")
    assert resources.accelerators == 1
    assert not TrainerConfig().resources


@pytest.mark.parametrize("name", sorted(set(SPEC.parameters) & set(TrainerConfig().arguments)))
def test_pipeline_defaults_match_the_options(name):
    if name == "registry":
        assert SPEC.parameters[name].default == ""  # without a charm there is no registry
    else:
        assert SPEC.parameters[name].default == TrainerConfig().arguments[name]


BAD = {
    "recipe": ["", "Fast", "slow"],
    "epochs": [-1, 1001],
    "batch_size": [-1, 60001],
    "learning_rate": [-0.1, 1.1, float("nan")],
    "seed": [-1, 2**31],
    "workers": [0, 17],
    "min_accuracy": [-0.01, 1.01, float("nan")],
    "min_recall": [-0.01, 1.01, float("nan")],
    "max_drift": [-0.1, 100.1, float("nan")],
    "promotion": ["", "auto", "Manual"],
    "keep_versions": [-1, 100001],
    "image_number": [-1, 10000],
    "retrain_after": [-1, 3651],
    "retrain_cooldown": [0, -1, 8761],
    "monitor_data": ["data", "/a", "http://h/x", "s3://", "s3://b/../c", "s3://b/./c", "s3://B"],
    "monitor_schedule": ["0 0 3 * * 0", "@never", "* * * *", "0 0 30 2 *"],
    "monitor_images": [499, 100001],
    "run_timeout": [-1, 43201],
    "serving": ["", "KServe", "yes"],
    "canary_traffic": [-1, 101],
    "data_path": ["data", "ftp://host/x", "s3://", "/a/../b", "http://"],
    "model_file": ["", "model.h5", "../x.keras", "a/b.keras", ".keras"],
    "training_image": ["UPPER", "a b", "-x", "image:"],
    "train_cpu": ["0", "99m", "1001", "-1", "four", "4 cores", "1,5", "1e3"],
    "train_memory": ["4", "4g", "4GB", "4 Gi", "1023Mi", "17Ti", "-4Gi", "4096m"],
    "train_gpu": [-1, 65],
    "workspace_size": ["0", "1", "255Mi", "17Ti", "1gb", "1Gi ", "{{$.pipeline_job_uuid}}"],
    "storage_class": ["Upper", "a b", "-a", "a.", "a..b", 254 * "a", "a\n"],
    "registry_bucket": ["", "a", "Upper", "a_b", "-ab"],
    "registry_prefix": ["", "/abs", "a//b", "a/", "a/../b", ".", "a/./b", "a b"],
    "schedule": [
        "0 0 3 * * 0",
        "* * * *",
        "60 * * * *",
        "0 0 * * 7",
        "0 0 * * 5-7",
        "0 0 30 2 *",
        "@never",
        "@reboot",
        "0 0 L * *",
        "0 0 ? * *",
        "0 0 * * 1#2",
        "soon",
    ],
    "profile": ["Upper", "-a", "a-", "a.b", "a/b", 64 * "a"],
    "profile_owner": ["a b", "a'b", 254 * "a"],
    "dashboard_url": ["kubeflow.local", "ftp://x", "javascript:alert(1)"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD.items() for value in values]
)
def test_bad_value_names_its_option_and_the_valid_values(field, value):
    with pytest.raises(OptionError, match="must be") as caught:
        TrainerConfig(**{field: value})
    assert caught.value.option == field.replace("_", "-")
    assert str(caught.value).startswith(caught.value.option)


GOOD = {
    "recipe": list(RECIPES),
    "epochs": [0, 1, 1000],
    "batch_size": [0, 60000],
    "learning_rate": [0, 0.001, 1],
    "seed": [0, 2**31 - 1],
    "workers": [1, 16],
    "min_accuracy": [0, 0.915, 1],
    "min_recall": [0, 0.8, 1],
    "max_drift": [0, 0.25, 100],
    "promotion": ["automatic", "manual"],
    "keep_versions": [0, 100000],
    "image_number": [0, 9999],
    "retrain_after": [0, 30, 3650],
    "retrain_cooldown": [1, 8760],
    "monitor_data": ["", "s3://bucket", "s3://bucket/a/b"],
    "monitor_schedule": [""],
    "monitor_images": [500, 10000, 100000],
    "serving": ["none", "kserve"],
    "canary_traffic": [0, 100],
    "run_timeout": [0, 43200],
    "data_path": ["", "http://host/x", "https://host", "s3://data", "s3://data/f/m", "/mnt/data"],
    "model_file": ["a.keras", "mnist-model_2.1.keras"],
    "training_image": [
        "",
        "python",
        "tensorflow/tensorflow:2.21.0",
        "h.io:5000/a/b@sha256:" + 64 * "0",
    ],
    "train_cpu": ["", "100m", "1", "1.5", "500m", "64"],
    "train_memory": ["", "1Gi", "4Gi", "4G", "1.5Gi", "4096Mi"],
    "train_gpu": [0, 1, 8],
    "workspace_size": ["", "256Mi", "1Gi", "1.5Gi", "10G", "1Ti"],
    "storage_class": ["", "standard", "microk8s-hostpath", "a.b-c", 253 * "a"],
    "registry_bucket": ["abc", "my.bucket-1"],
    "registry_prefix": ["a", "models/fashion-mnist"],
    "schedule": ["", "0 3 * * 0", "*/15 8-18 * * MON-FRI", "0 0 1,15 JAN *", "@daily", "@weekly"],
    "profile": ["", "fashion-mnist", "a", 63 * "a"],
    "profile_owner": ["", "user@example.com"],
    "dashboard_url": ["", "http://10.64.140.43.nip.io", "https://kubeflow.example.com/"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in GOOD.items() for value in values]
)
def test_good_values_are_accepted(field, value):
    config = TrainerConfig(**{field: value})
    assert getattr(config, field) == value
    (IN_WORKSPACE if config.workspace_size else SPEC).check({**config.arguments, "s3_endpoint": ""})


def test_good_and_bad_values_cover_all_options():
    tried = set(BAD) & set(GOOD)
    assert tried == {f.name for f in dataclasses.fields(TrainerConfig) if f.type != "bool"}


@given(text=st.text(), number=st.integers(), ratio=st.floats())
def test_any_value_gives_a_config_or_an_option_error(text, number, ratio):
    for field in dataclasses.fields(TrainerConfig):
        value = {"str": text, "int": number, "float": ratio, "bool": bool(number)}[str(field.type)]
        try:
            config = TrainerConfig(**{field.name: value})
        except OptionError as error:
            assert error.option == field.name.replace("_", "-")
        else:
            (IN_WORKSPACE if config.workspace_size else SPEC).check(
                {**config.arguments, "s3_endpoint": ""}
            )


def test_action_parameters_override_options():
    config = TrainerConfig(epochs=3, seed=1)
    params = TrainParams(epochs=0, recipe="notebook", learning_rate=0.01)
    changed = params.apply_to(config)
    assert (changed.epochs, changed.recipe, changed.learning_rate, changed.seed) == (
        0,
        "notebook",
        0.01,
        1,
    )
    assert TrainParams().apply_to(config) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field, values in BAD.items()
        for value in values
        if field in {f.name for f in dataclasses.fields(TrainParams)}
    ],
)
def test_bad_parameter_is_named(field, value):
    with pytest.raises(OptionError) as caught:
        TrainParams(**{field: value}).apply_to(TrainerConfig())
    assert caught.value.option == field.replace("_", "-")


def test_note_length_is_limited():
    TrainParams(note="x" * 1000)
    with pytest.raises(OptionError, match="note must be at most 1000"):
        TrainParams(note="x" * 1001)
