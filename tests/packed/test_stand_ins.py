"""The packed stand-ins, dispatched as Juju does, publish what their options say."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

CHARMS = Path(__file__).parents[1] / "integration" / "charms"
PYTHON = next(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"), shutil.which("python3.10"))
TOOLS = (
    "config-get is-leader relation-ids relation-list relation-get relation-set status-set juju-log"
)

pytestmark = [
    pytest.mark.packed,
    pytest.mark.skipif(PYTHON is None, reason="no Python 3.10, the charms' base's"),
]


@pytest.fixture(params=["kfp-api", "object-storage"])
def stand_in(request, tmp_path):
    packed = CHARMS / request.param / f"{request.param}-stand-in_amd64.charm"
    if not packed.exists():
        pytest.skip("not packed; make it with: make pack-stand-ins")
    folder = tmp_path / "charm"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    for program in ("dispatch", "src/charm.py"):
        (folder / program).chmod(0o755)
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.unlink(missing_ok=True)
    python.symlink_to(PYTHON)
    return request.param, folder


@pytest.mark.parametrize("version", ["2.9.53", "3.6.14", "4.0.15"])
def test_it_publishes_its_options(stand_in, version, tmp_path):
    name, folder = stand_in
    # GIVEN the options with hosts, and a relation
    options = yaml.safe_load((folder / "config.yaml").read_text())["options"]
    config = {key: each["default"] for key, each in options.items()}
    config["service" if name == "object-storage" else "service-name"] = "host.test"
    state = tmp_path / "state.json"
    relation = {"app": "other", "ours": {}, "theirs": {}}
    state.write_text(
        json.dumps(
            {
                "calls": [],
                "config": config,
                "leader": True,
                "relations": {f"{name}:0": relation},
                "status": [],
            }
        )
    )
    tools = tmp_path / "tools"
    tools.mkdir()
    text = (Path(__file__).parent / "hook_tool.py").read_text()
    for tool in TOOLS.split():
        (tools / tool).write_text(text.replace("/usr/bin/env python3", sys.executable))
        (tools / tool).chmod(0o755)
    # WHEN Juju dispatches a hook
    done = subprocess.run(
        ["./dispatch"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOOK_STATE": str(state),
            "JUJU_CHARM_DIR": str(folder),
            "JUJU_DISPATCH_PATH": "hooks/config-changed",
            "JUJU_VERSION": version,
            "JUJU_UNIT_NAME": "trainer/0",
            "JUJU_MODEL_NAME": "kubeflow",
            "JUJU_MODEL_UUID": "11111111-2222-4333-8444-555555555555",
        },
    )
    # THEN the relation has it
    assert done.returncode == 0, done.stdout + done.stderr
    after = json.loads(state.read_text())
    assert after["status"][0] == "active"
    said = after["relations"][f"{name}:0"]["ours"]
    assert said["_supported_versions"] == "- v1\n"
    assert "host.test" in yaml.safe_load(said["data"]).values()
