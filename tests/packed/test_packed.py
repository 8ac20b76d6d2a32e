"""The packed charm, dispatched as Juju does, against the sandbox."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from sandbox import Sandbox

ROOT = Path(__file__).parents[2]
CHARM = Path(os.environ.get("CHARM_PATH", ROOT / "fashion-mnist-trainer_amd64.charm"))
TOOLS = [
    "config-get",
    "is-leader",
    "relation-ids",
    "relation-list",
    "relation-get",
    "relation-set",
    "status-set",
    "status-get",
    "juju-log",
    "action-get",
    "action-set",
    "action-log",
    "action-fail",
    "state-get",
    "state-set",
    "state-delete",
    "application-version-set",
    "network-get",
    "goal-state",
    "unit-get",
    "resource-get",
    "juju-reboot",
]
PYTHONS = [
    *sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10")),
    Path("/usr/bin/python3.10"),
]
PYTHON = next((path for path in PYTHONS if path.exists()), None)

pytestmark = [
    pytest.mark.packed,
    pytest.mark.skipif(not CHARM.exists(), reason="no packed charm; make one with: make pack"),
    pytest.mark.skipif(PYTHON is None, reason="no Python 3.10, the charm base's, on this machine"),
]


@pytest.fixture(scope="module")
def charm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    with zipfile.ZipFile(CHARM) as archive:
        archive.extractall(folder)
    for program in ("dispatch", "src/charm.py"):
        (folder / program).chmod(0o755)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        python.parent.mkdir(exist_ok=True)
        python.unlink(missing_ok=True)
        python.symlink_to(PYTHON)
    return folder


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path / "sandbox", execute=False) as sandbox:
        yield sandbox


@pytest.fixture(params=["2.9.53", "3.6.14", "4.0.15"])
def juju(request, charm, sandbox, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        shutil.copy(Path(__file__).with_name("hook_tool.py"), tools / name)
        text = (tools / name).read_text().replace("/usr/bin/env python3", sys.executable)
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    options = yaml.safe_load((charm / "config.yaml").read_text())["options"]
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
    state = {
        "calls": [],
        "config": {name: option["default"] for name, option in options.items()} | {"profile": ""},
        "leader": True,
        "relations": {
            f"{name}:{number}": {
                "app": app,
                "ours": {},
                "theirs": {"_supported_versions": "- v1\n", "data": yaml.safe_dump(data)},
            }
            for number, (name, app, data) in enumerate(
                (("kfp-api", "kfp-api", server), ("object-storage", "minio", storage))
            )
        },
        "params": {},
        "results": {},
        "status": [],
        "failure": "",
    }
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state))

    def dispatch(event, **environment):
        done = subprocess.run(
            ["./dispatch"],
            cwd=charm,
            capture_output=True,
            text=True,
            env={
                "PATH": f"{tools}:/usr/bin:/bin",
                "HOOK_STATE": str(path),
                "CHARM_DIR": str(charm),
                "JUJU_CHARM_DIR": str(charm),
                "JUJU_DISPATCH_PATH": event,
                "JUJU_VERSION": request.param,
                "JUJU_UNIT_NAME": "trainer/0",
                "JUJU_MODEL_NAME": "kubeflow",
                "JUJU_MODEL_UUID": "11111111-2222-4333-8444-555555555555",
                "JUJU_AVAILABILITY_ZONE": "",
                **environment,
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(path.read_text())

    dispatch.version = request.param
    dispatch.state = path
    return dispatch


def test_the_packed_charm_lives_through_a_deployment(juju, sandbox):
    juju("hooks/install")
    said = juju("hooks/config-changed")
    assert said["status"][0] == "active", said["status"]
    assert "PENDING" in said["status"][1]
    for event in ("hooks/leader-elected", "hooks/update-status", "hooks/upgrade-charm"):
        juju(event)
    relation = {
        "JUJU_RELATION": "kfp-api",
        "JUJU_RELATION_ID": "kfp-api:0",
        "JUJU_REMOTE_APP": "kfp-api",
    }
    said = juju("hooks/kfp-api-relation-created", **relation)
    said = juju("hooks/kfp-api-relation-changed", JUJU_REMOTE_UNIT="kfp-api/0", **relation)
    for each in said["relations"].values():
        assert each["ours"] == {"_supported_versions": "- v1\n"}
    assert sandbox.store.count("runs") == 1
    keys = json.dumps([said["calls"], said["status"]])
    assert sandbox.secret_key not in keys
    assert sandbox.access_key not in keys


def test_the_packed_charms_action_submits_one_run(juju, sandbox):
    state = json.loads(juju.state.read_text())
    juju.state.write_text(json.dumps({**state, "params": {"epochs": 3}}))
    number = "7"
    said = juju(
        "actions/train",
        JUJU_ACTION_NAME="train",
        JUJU_ACTION_UUID=number,
        JUJU_ACTION_TAG="action-7",
    )
    assert said["failure"] == ""
    run = sandbox.store.get("runs", said["results"]["run-id"])
    assert run["name"] == said["results"]["run-name"] == "train-11111111-7"
    assert json.loads(run["parameters"])["epochs"] == 3


def test_the_packed_charm_without_relations_says_the_command(juju):
    state = json.loads(juju.state.read_text())
    juju.state.write_text(json.dumps({**state, "relations": {}}))
    said = juju("hooks/config-changed")
    verb = "relate" if juju.version.startswith("2.") else "integrate"
    assert said["status"] == [
        "blocked",
        f"no relation kfp-api; add it with: juju {verb} trainer:kfp-api kfp-api:kfp-api",
    ]


def test_juju_is_told_the_projects_version(charm):
    said = (charm / "version").read_text().strip()
    assert f'\nversion = "{said}"\n' in (ROOT / "pyproject.toml").read_text()
