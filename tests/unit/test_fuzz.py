"""No option or parameter value makes a hook raise an exception."""

import dataclasses
from pathlib import Path

import ops.testing
import pytest
import yaml
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from config import TrainerConfig
from errors import OptionError
from sandbox import Sandbox
from tests.builders import trainer, unrelated_state
from tests.fuzz import fuzz

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.exhaustive
CHARMCRAFT = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
OPTIONS = CHARMCRAFT["config"]["options"]
ACTIONS = {
    name: {key: parameter["type"] for key, parameter in action.get("params", {}).items()}
    for name, action in CHARMCRAFT["actions"].items()
}
REQUIRED = {name: action.get("required", []) for name, action in CHARMCRAFT["actions"].items()}
# Juju's limits: 64-bit numbers, and text without surrogates.
# Parameters of train that are not options.
OF_THE_RUN = {"note", "wait", "timeout"}
SUBMIT = {"train", "monitor"}
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.from_regex(r"\A[a-z0-9./:@*,\- ]{0,40}\Z"),
    st.sampled_from(
        [
            "",
            "x" * 5000,
            "0 3 * * 0",
            "*/0 * * * *",
            "0-99999999999 * * * *",
            "@daily",
            "s3://b/../c",
            "s3://b/./c",
            ".",
            "a/./b",
            "http://[",
            "https://h:99999/",
            "a\x00b",
            "a\nb",
            "{{$.pipeline_job_uuid}}",
            "$(id)",
            "fast",
            "\u0661",
        ]
    ),
)
NUMBERS = st.one_of(st.integers(-3, 100), st.integers(-(2**63), 2**63 - 1))
KINDS = {
    "string": TEXT,
    "int": NUMBERS,
    "integer": NUMBERS,
    "float": st.one_of(st.floats(-1, 2), st.floats()),
    "number": st.one_of(st.floats(-1, 2), st.floats(), NUMBERS),
    "boolean": st.booleans(),
}
CONFIGS = st.fixed_dictionaries(
    {}, optional={name: KINDS[option["type"]] for name, option in OPTIONS.items()}
)


def relations_to(api_port, s3_port, access_key="a", secret_key="s", **fields):
    """Return both relations to servers on loopback, with further fields of object storage."""
    api = {"service-name": "127.0.0.1", "service-port": str(api_port)}
    storage = {
        "access-key": access_key,
        "secret-key": secret_key,
        "namespace": None,
        "port": s3_port,
        "secure": False,
        "service": "127.0.0.1",
        **fields,
    }
    return {
        ops.testing.Relation(
            endpoint,
            remote_app_name="other",
            remote_app_data={"_supported_versions": "- v1\n", "data": yaml.safe_dump(data)},
        )
        for endpoint, data in (("kfp-api", api), ("object-storage", storage))
    }


@pytest.fixture(scope="module")
def closed_ports():
    """Relations to closed ports: only the typed values matter."""
    return relations_to(1, 1)


@pytest.fixture(scope="module")
def context():
    return trainer()


def state(relations, config):
    return unrelated_state(
        leader=True,
        # A profile needs Kubernetes; tests/unit/reconciler/test_profiles.py has it.
        config={"profile": "", **config},
        relations=relations,
        model=ops.testing.Model(name="kubeflow", uuid="11111111-2222-4333-8444-555555555555"),
    )


def rejected_option(config):
    """Return the option that a configuration is rejected for, or None."""
    try:
        TrainerConfig(**{name.replace("-", "_"): value for name, value in config.items()})
    except OptionError as error:
        return error.option
    return None


@fuzz(60)
@given(config=CONFIGS)
@example(config={"schedule": "*/0 * * * *"})
@example(config={"learning-rate": float("nan")})
@example(config={"training-image": "a\n"})
def test_any_invalid_option_is_named_in_the_status(context, closed_ports, config):
    config = {name: value for name, value in config.items() if name != "profile"}
    option = rejected_option(config)
    out = context.run(context.on.config_changed(), state(closed_ports, config))
    event(f"refused: {option}")
    if option:
        assert isinstance(out.unit_status, ops.testing.BlockedStatus)
        assert out.unit_status.message.startswith(f"{option} must be ")
        assert out.unit_status.message.endswith(f"juju config trainer {option}=VALUE")
    else:
        # Nothing listens at the address: the request was sent.
        assert isinstance(out.unit_status, ops.testing.WaitingStatus)
    assert len(out.unit_status.message) < 1000
    out.unit_status.message.encode()


@fuzz(60)
@given(profile=TEXT, owner=TEXT)
@example(profile="a", owner="'")
def test_any_profile_is_rejected_or_requested(context, closed_ports, profile, owner):
    option = rejected_option({"profile": profile, "profile-owner": owner})
    out = context.run(
        context.on.config_changed(),
        state(closed_ports, {"profile": profile, "profile-owner": owner}),
    )
    if option:
        assert out.unit_status.message.startswith(f"{option} must be ")
    else:
        # There is no Kubernetes here.
        assert isinstance(out.unit_status, (ops.testing.WaitingStatus, ops.testing.BlockedStatus))


@st.composite
def requests(draw):
    """An action with parameters of the declared types, as Juju lets through."""
    name = draw(st.sampled_from(sorted(ACTIONS)))
    kinds = {key: KINDS[kind] for key, kind in ACTIONS[name].items()}
    required = {key: kinds.pop(key) for key in REQUIRED[name]}
    return name, draw(st.fixed_dictionaries(required, optional=kinds))


@fuzz(80)
@given(action=requests())
@example(action=("get-run", {"run-id": "../x"}))
@example(action=("train", {"note": "n" * 1001}))
@example(action=("promote", {"version": -1}))
def test_any_action_returns_or_fails_with_a_message(context, closed_ports, action):
    name, params = action
    before = state(closed_ports, {"monitor-data": "s3://mlpipeline/production"})
    try:
        context.run(context.on.action(name, params=params), before)
    except ops.testing.ActionFailed as failed:
        event(f"{name} failed")
        assert failed.message
        assert len(failed.message) < 1000
        rejected = [key for key in params if failed.message.startswith(f"{key} must be ")]
        if not rejected:
            # The values are valid, and nothing listens at the address; there is no schedule.
            why = ("Kubeflow Pipelines", "object storage", "there is no schedule")
            assert any(words in failed.message for words in why)
            if name in SUBMIT:
                assert (
                    rejected_option({k: v for k, v in params.items() if k not in OF_THE_RUN})
                    is None
                )
    else:
        pytest.fail(f"{name} had nobody to ask")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Relations to running servers."""
    with Sandbox(tmp_path_factory.mktemp("sandbox"), execute=False) as sandbox:
        api_port, s3_port = (
            int(url.rsplit(":", 1)[1]) for url in (sandbox.api_url, sandbox.s3_url)
        )
        yield relations_to(api_port, s3_port, sandbox.access_key, sandbox.secret_key)


@st.composite
def one_option(draw):
    name = draw(st.sampled_from(sorted(set(OPTIONS) - {"profile"})))
    return {name: draw(KINDS[OPTIONS[name]["type"]])}


@fuzz(15)
@given(config=one_option(), note=TEXT)
@example(config={"dashboard-url": "https://h:99999/\u202e"}, note="a\x00b")
@example(config={"registry-prefix": "\u0661"}, note="")
def test_accepted_options_are_submitted(context, servers, config, note):
    assume(rejected_option(config) is None)
    out = context.run(context.on.config_changed(), state(servers, config))
    # A missing bucket makes the unit wait.
    assert isinstance(out.unit_status, (ops.testing.ActiveStatus, ops.testing.WaitingStatus))
    assume(len(note) <= 1000)
    context.run(context.on.action("train", params={"note": note}), state(servers, config))
    assert context.action_results["run-name"].startswith("train-")


@fuzz(40)
@given(
    host=st.sampled_from(["127.0.0.1", "s3.invalid"]) | st.from_regex(r"\A[a-z0-9.:x\-]{1,8}\Z"),
    namespace=st.none() | TEXT,
    key=TEXT | st.from_regex(r"\A[!-~]{1,9}\Z"),
)
@example(host="a", namespace="0x1", key="k")
@example(host="xn--a", namespace=None, key="k")
@example(host="foo bar", namespace=None, key="k")
@example(host="127.0.0.1", namespace=None, key="k\n")
@example(host="127.0.0.1", namespace=None, key="k\x00")
def test_any_object_storage_data_is_rejected_or_used(context, servers, host, namespace, key):
    api = next(relation for relation in servers if relation.endpoint == "kfp-api")
    relations = relations_to(1, 1, key, key, service=host, namespace=namespace)
    storage = next(relation for relation in relations if relation.endpoint == "object-storage")
    out = context.run(context.on.update_status(), state({api, storage}, {}))
    kinds = (ops.testing.BlockedStatus, ops.testing.WaitingStatus)
    assert isinstance(out.unit_status, kinds)
    assert "object" in out.unit_status.message


def test_fuzzing_covers_every_option_and_action():
    assert {option["type"] for option in OPTIONS.values()} <= set(KINDS)
    assert {kind for params in ACTIONS.values() for kind in params.values()} <= set(KINDS)
    assert {field.name.replace("_", "-") for field in dataclasses.fields(TrainerConfig)} == set(
        OPTIONS
    )
