"""The packed example, dispatched as Juju does, submits a run to the sandbox."""

from pathlib import Path

import pytest
import yaml

from sandbox import Sandbox
from tests.packed.agent import VERSIONS, Agent

CHARM = Path(__file__).parents[2] / "build" / "digits" / "digits-trainer_amd64.charm"

pytestmark = [
    pytest.mark.packed,
    pytest.mark.skipif(not CHARM.exists(), reason="not packed; make it with: make pack-examples"),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_submits_a_run(root, version, tmp_path):
    juju = Agent(root, CHARM, version)
    with Sandbox(tmp_path / "sandbox", execute=False) as sandbox:
        host, port = sandbox.api_url.removeprefix("http://").split(":")
        data = yaml.safe_dump({"service-name": host, "service-port": port})
        theirs = {"_supported_versions": "- v1\n", "data": data}
        juju.write(relations={"kfp-api:0": {"app": "kfp-api", "ours": {}, "theirs": theirs}})
        juju.dispatch("hooks/install")
        state = juju.dispatch("hooks/config-changed")
        assert state["status"][0] == "active", state["status"]
        assert sandbox.store.count("runs") == 1
