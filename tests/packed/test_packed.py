"""The packed charm, dispatched as Juju does, against the sandbox."""

import json
import os
import zipfile
from pathlib import Path

import pytest
import yaml

from sandbox import Sandbox
from tests.packed.agent import VERSIONS, Agent

ROOT = Path(__file__).parents[2]
CHARM = Path(os.environ.get("CHARM_PATH", ROOT / "fashion-mnist-trainer_amd64.charm"))
LINK = "venv/bin/python"

pytestmark = [
    pytest.mark.packed,
    pytest.mark.skipif(not CHARM.exists(), reason="no packed charm; make one with: make pack"),
]


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path / "sandbox", execute=False) as sandbox:
        yield sandbox


@pytest.fixture(params=VERSIONS)
def juju(request, root):
    return Agent(root, CHARM, request.param)


@pytest.fixture
def related(juju, sandbox):
    api, s3 = (url.removeprefix("http://").split(":") for url in (sandbox.api_url, sandbox.s3_url))
    storage = {
        "access-key": sandbox.access_key,
        "secret-key": sandbox.secret_key,
        "namespace": None,
        "port": int(s3[1]),
        "secure": False,
        "service": s3[0],
    }
    server = {"service-name": api[0], "service-port": api[1]}
    relations = {
        f"{name}:{number}": {
            "app": app,
            "ours": {},
            "theirs": {"_supported_versions": "- v1\n", "data": yaml.safe_dump(data)},
        }
        for number, (name, app, data) in enumerate(
            (("kfp-api", "kfp-api", server), ("object-storage", "minio", storage))
        )
    }
    relations["peers:2"] = {"app": "trainer", "ours": {}, "theirs": {}}
    juju.write(relations=relations, config=juju.read()["config"] | {"profile": ""})
    return juju


def test_deployment_submits_one_run(related, sandbox):
    related.dispatch("hooks/install")
    state = related.dispatch("hooks/config-changed")
    assert state["status"][0] == "active", state["status"]
    assert "PENDING" in state["status"][1]
    for event in ("hooks/leader-elected", "hooks/update-status", "hooks/upgrade-charm"):
        related.dispatch(event)
    relation = {
        "JUJU_RELATION": "kfp-api",
        "JUJU_RELATION_ID": "kfp-api:0",
        "JUJU_REMOTE_APP": "kfp-api",
    }
    state = related.dispatch("hooks/kfp-api-relation-created", **relation)
    state = related.dispatch(
        "hooks/kfp-api-relation-changed", JUJU_REMOTE_UNIT="kfp-api/0", **relation
    )
    for endpoint in ("kfp-api:0", "object-storage:1"):
        assert state["relations"][endpoint]["ours"] == {"_supported_versions": "- v1\n"}
    assert sandbox.store.count("runs") == 1
    written = json.dumps([state["calls"], state["status"]])
    assert sandbox.secret_key not in written
    assert sandbox.access_key not in written


def test_action_submits_one_run(related, sandbox):
    related.write(params={"epochs": 3})
    state = related.dispatch(
        "actions/train",
        JUJU_ACTION_NAME="train",
        JUJU_ACTION_UUID="7",
        JUJU_ACTION_TAG="action-7",
    )
    assert state["failure"] == ""
    run = sandbox.store.get("runs", state["results"]["run-id"])
    assert run["name"] == state["results"]["run-name"] == "train-11111111-7"
    assert json.loads(run["parameters"])["epochs"] == 3


def test_unrelated_charm_names_the_command(juju):
    state = juju.dispatch("hooks/config-changed")
    verb = "relate" if juju.version.startswith("2.") else "integrate"
    assert state["status"] == [
        "blocked",
        f"no relation kfp-api; add it with: juju {verb} trainer:kfp-api kfp-api:kfp-api",
    ]


def test_archive_has_no_interpreter_tests_or_bytecode():
    with zipfile.ZipFile(CHARM) as archive:
        names = archive.namelist()
    # With a link the tests above would not show that `dispatch` creates it.
    assert LINK not in names
    assert not [name for name in names if "/tests/" in name or name.endswith(".pyc")]
    # Of the workspace's packages the archive has the sources in lib/, and nothing of the environment.
    lib = {name.split("/")[1] for name in names if name.startswith("lib/")}
    assert lib == {"kfp_ops", "model_registry"}
    assert not [name for name in names if "egg-info" in name or "__editable__" in name]
    absent = ("fashion_mnist", "kfp", "model_registry", "pytest", "sandbox", "tensorflow")
    packages = {name.split("/")[4] for name in names if "/site-packages/" in name}
    assert not [name for name in packages if name.startswith(absent)]
    # Licences of what is packed stay.
    assert any(name.endswith("LICENSE") for name in names if "dist-info" in name)


@pytest.mark.parametrize("leftover", [None, "/nowhere/python3"], ids=["cut off before", "broken"])
def test_start_after_a_broken_start(root, leftover):
    # GIVEN a start that was interrupted before its rename, or a dangling link
    juju = Agent(root, CHARM, "3.6.14")
    link = juju.folder / LINK
    link.with_name("python.new").symlink_to("/usr/bin/python3")
    if leftover:
        link.symlink_to(leftover)
    # WHEN Juju starts the charm, twice
    for _ in range(2):
        juju.dispatch("hooks/update-status")
        # THEN the base's Python runs it, and no leftovers remain
        assert link.readlink() == Path("/usr/bin/python3")
        assert not link.with_name("python.new").is_symlink()


def test_start_without_python_fails_with_its_reason(root):
    juju = Agent(root, CHARM, "3.6.14")
    python = root / "usr/bin/python3"
    python.rename(root / "usr/bin/hidden")
    try:
        completed = juju.start("hooks/install")
    finally:
        (root / "usr/bin/hidden").rename(python)
    assert completed.returncode != 0
    assert "venv/bin/python: not found" in completed.stderr


def test_charm_version_is_the_projects():
    with zipfile.ZipFile(CHARM) as archive:
        version = archive.read("version").decode().strip()
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
