"""A stand-in for Juju's agent: it unpacks the charm and dispatches events with hook tools."""

import json
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.packed import base_root

FOLDER = "/var/lib/juju/agents/unit-trainer-0/charm"
TOOLS_FOLDER = "/var/lib/juju/tools/unit-trainer-0"
STATE = "/var/lib/juju/state.json"
TOOLS = (
    *("config-get", "is-leader", "relation-ids", "relation-list", "relation-get", "relation-set"),
    *("status-set", "status-get", "juju-log", "application-version-set", "network-get"),
    *("action-get", "action-set", "action-log", "action-fail", "goal-state", "unit-get"),
    *("state-get", "state-set", "state-delete", "resource-get", "juju-reboot"),
)
VERSIONS = ("2.9.53", "3.6.14", "4.0.15")


class Agent:
    """A unit trainer/0 of a packed charm.

    Args:
        root: of the file system, as base_root.build makes it.
        charm: the packed charm.
        version: Juju's.
    """

    def __init__(self, root: Path, charm: Path, version: str):
        self.root, self.version = root, version
        self.folder = root / FOLDER.lstrip("/")
        shutil.rmtree(root / "var", ignore_errors=True)
        base_root.unpack(charm, self.folder)
        tools = root / TOOLS_FOLDER.lstrip("/")
        tools.mkdir(parents=True)
        for name in TOOLS:
            shutil.copy(Path(__file__).with_name("hook_tool.py"), tools / name)
            (tools / name).chmod(0o755)
        # The tools are no part of the charm, so neither is what they import.
        shutil.copytree(Path(yaml.__file__).parent, tools / "yaml")
        options = yaml.safe_load((self.folder / "config.yaml").read_text())["options"]
        self.write(
            calls=[],
            config={name: option.get("default") for name, option in options.items()},
            leader=True,
            relations={},
            params={},
            results={},
            status=[],
            failure="",
        )

    def read(self) -> dict:
        """Return what Juju knows of the unit, and the hook tools' calls."""
        return json.loads((self.root / STATE.lstrip("/")).read_text())

    def write(self, **state) -> None:
        """Change what Juju knows."""
        path = self.root / STATE.lstrip("/")
        path.write_text(json.dumps({**(self.read() if path.exists() else {}), **state}))

    def start(self, event: str, **environment: str) -> subprocess.CompletedProcess:
        """Execute `dispatch`, with the environment that Juju's agent gives it."""
        return base_root.execute(
            self.root,
            "./dispatch",
            folder=FOLDER,
            PATH=f"{TOOLS_FOLDER}:/usr/sbin:/usr/bin:/sbin:/bin",
            LANG="C.UTF-8",
            TERM="tmux-256color",
            HOOK_STATE=STATE,
            CHARM_DIR=FOLDER,
            JUJU_CHARM_DIR=FOLDER,
            JUJU_DISPATCH_PATH=event,
            JUJU_VERSION=self.version,
            JUJU_UNIT_NAME="trainer/0",
            JUJU_MODEL_NAME="kubeflow",
            JUJU_MODEL_UUID="11111111-2222-4333-8444-555555555555",
            JUJU_AVAILABILITY_ZONE="",
            **environment,
        )

    def dispatch(self, event: str, **environment: str) -> dict:
        """Dispatch an event, and return what Juju knows afterwards."""
        completed = self.start(event, **environment)
        state = self.read()
        log = [" ".join(call) for call in state["calls"] if call[0] == "juju-log"]
        assert completed.returncode == 0, "\n".join([completed.stderr, *log[-3:]])
        return state
