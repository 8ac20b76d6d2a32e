"""The charm's options and the action's parameters."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import RECIPES, OptionError, TrainerConfig, TrainParams
from cron import six_fields
from kfp_ops import PipelineSpec

ROOT = Path(__file__).parents[2]
CHARMCRAFT = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
SPEC = PipelineSpec.load(ROOT / "src" / "pipelines" / "train.yaml")
FIELDS = {field.name.replace("_", "-"): field for field in dataclasses.fields(TrainerConfig)}
# Limits whose defaults serve; who wants others submits the pipeline with them.
PIPELINES_OWN = {
    *("max_duplicates", "max_agreement_drop", "confidence", "max_recall_drop"),
}


def test_charmcraft_and_the_dataclass_have_the_same_options_and_defaults():
    declared = {
        name: option.get("default") for name, option in CHARMCRAFT["config"]["options"].items()
    }
    assert declared == {name: field.default for name, field in FIELDS.items()}


def test_the_declared_types_are_those_of_the_dataclass():
    kinds = {"string": "str", "int": "int", "float": "float", "boolean": "bool"}
    declared = {
        name: kinds[option["type"]] for name, option in CHARMCRAFT["config"]["options"].items()
    }
    assert declared == {name: field.type for name, field in FIELDS.items()}


def test_the_action_declares_what_the_dataclass_takes():
    declared = set(CHARMCRAFT["actions"]["train"]["params"])
    assert declared == {field.name.replace("_", "-") for field in dataclasses.fields(TrainParams)}


def test_every_option_but_the_charms_own_reaches_the_pipeline():
    arguments = {**TrainerConfig().arguments, "s3_endpoint": "http://minio:9000"}
    SPEC.check(arguments)
    assert set(arguments) == set(SPEC.parameters) - PIPELINES_OWN
    assert all(SPEC.parameters[name].default is not None for name in PIPELINES_OWN)


@pytest.mark.parametrize("name", sorted(set(SPEC.parameters) & set(TrainerConfig().arguments)))
def test_the_pipelines_defaults_are_the_charms(name):
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
    "min_accuracy": [-0.01, 1.01, float("nan")],
    "min_recall": [-0.01, 1.01, float("nan")],
    "max_drift": [-0.1, 100.1, float("nan")],
    "promotion": ["", "auto", "Manual"],
    "keep_versions": [-1, 100001],
    "image_number": [-1, 10000],
    "run_timeout": [-1, 43201],
    "serving": ["", "KServe", "yes"],
    "canary_traffic": [-1, 101],
    "data_path": ["data", "ftp://host/x", "s3://", "/a/../b", "http://"],
    "model_file": ["", "model.h5", "../x.keras", "a/b.keras", ".keras"],
    "training_image": ["UPPER", "a b", "-x", "image:"],
    "registry_bucket": ["", "a", "Upper", "a_b", "-ab"],
    "registry_prefix": ["", "/abs", "a//b", "a/", "a/../b", "a b"],
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
def test_a_bad_value_names_its_option_and_what_it_takes(field, value):
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
    "min_accuracy": [0, 0.915, 1],
    "min_recall": [0, 0.8, 1],
    "max_drift": [0, 0.25, 100],
    "promotion": ["automatic", "manual"],
    "keep_versions": [0, 100000],
    "image_number": [0, 9999],
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
def test_good_values_are_taken(field, value):
    config = TrainerConfig(**{field: value})
    assert getattr(config, field) == value
    SPEC.check({**config.arguments, "s3_endpoint": ""})


def test_all_options_are_tried_above():
    tried = set(BAD) & set(GOOD)
    assert tried == {f.name for f in dataclasses.fields(TrainerConfig) if f.type != "bool"}


@given(text=st.text(), number=st.integers(), ratio=st.floats())
def test_whatever_is_given_the_answer_is_a_config_or_an_option_error(text, number, ratio):
    for field in dataclasses.fields(TrainerConfig):
        value = {"str": text, "int": number, "float": ratio, "bool": bool(number)}[str(field.type)]
        try:
            config = TrainerConfig(**{field.name: value})
        except OptionError as error:
            assert error.option == field.name.replace("_", "-")
        else:
            SPEC.check({**config.arguments, "s3_endpoint": ""})


def test_parameters_of_the_action_go_over_the_options():
    config = TrainerConfig(epochs=3, seed=1)
    params = TrainParams(epochs=0, recipe="notebook", learning_rate=0.01)
    changed = params.over(config)
    assert (changed.epochs, changed.recipe, changed.learning_rate, changed.seed) == (
        0,
        "notebook",
        0.01,
        1,
    )
    assert TrainParams().over(config) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field, values in BAD.items()
        for value in values
        if field in {f.name for f in dataclasses.fields(TrainParams)}
    ],
)
def test_a_bad_parameter_names_itself(field, value):
    with pytest.raises(OptionError) as caught:
        TrainParams(**{field: value}).over(TrainerConfig())
    assert caught.value.option == field.replace("_", "-")


def test_a_note_is_bounded():
    TrainParams(note="x" * 1000)
    with pytest.raises(OptionError, match="note must be at most 1000"):
        TrainParams(note="x" * 1001)


@pytest.mark.parametrize(
    ("written", "six"),
    [
        ("0 3 * * 0", "0 0 3 * * 0"),
        ("  */15   8-18 * *  MON-FRI ", "0 */15 8-18 * * MON-FRI"),
        ("@hourly", "0 0 * * * *"),
        ("@daily", "0 0 0 * * *"),
        ("0 0 */7 * *", "0 0 0 */7 * *"),
        ("0 0 * * */7", "0 0 0 * * */7"),
    ],
)
def test_cron_gets_its_seconds(written, six):
    assert six_fields(written) == six
