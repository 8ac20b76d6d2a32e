"""The packed example, dispatched as Juju does, submits runs to the sandbox."""

from pathlib import Path

import pytest

from sandbox import Sandbox
from tests.packed.agent import VERSIONS, Agent

CHARM = Path(__file__).parents[2] / "build" / "digits" / "digits-trainer_amd64.charm"

pytestmark = [
    pytest.mark.packed,
    pytest.mark.skipif(not CHARM.exists(), reason="not packed; make it with: make pack-examples"),
]


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path / "sandbox", execute=False) as sandbox:
        yield sandbox


@pytest.fixture
def version():
    return VERSIONS[-1]


@pytest.fixture
def juju(root, sandbox, version):
    juju = Agent(root, CHARM, version)
    databags = sandbox.databags()
    relations = {
        "kfp-api:0": {"app": "kfp-api", "ours": {}, "theirs": databags["kfp-api"]},
        "object-storage:1": {"app": "minio", "ours": {}, "theirs": databags["object-storage"]},
    }
    config = {**juju.read()["config"], "schedule": "daily"}
    juju.write(relations=relations, config=config)
    juju.dispatch("hooks/install")
    return juju


@pytest.mark.parametrize("version", VERSIONS)
def test_configuration_and_schedule_exist_once(juju, sandbox):
    for event in ("hooks/config-changed", "hooks/update-status"):
        state = juju.dispatch(event)
        assert state["status"][0] == "active", state["status"]
        assert "PENDING" in state["status"][1]
    assert sandbox.store.count("runs") == 1
    assert sandbox.store.count("recurring_runs") == 1
    for relation in state["relations"].values():
        assert relation["ours"] == {"_supported_versions": "- v1\n"}


def test_train_submits_a_run_and_removal_deletes_the_schedule(juju, sandbox):
    state = juju.dispatch("actions/train", JUJU_ACTION_NAME="train", JUJU_ACTION_UUID="2")
    assert state["failure"] == ""
    assert sandbox.store.get("runs", state["results"]["run-id"])
    assert sandbox.store.count("runs") == 2
    assert sandbox.store.count("recurring_runs") == 1
    juju.dispatch(
        "hooks/kfp-api-relation-broken",
        JUJU_RELATION="kfp-api",
        JUJU_RELATION_ID="kfp-api:0",
        JUJU_REMOTE_APP="kfp-api",
    )
    assert sandbox.store.count("recurring_runs") == 0
