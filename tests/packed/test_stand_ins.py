"""The packed stand-ins, dispatched as Juju does, publish what their options say."""

from pathlib import Path

import pytest
import yaml

from tests.packed.agent import VERSIONS, Agent

CHARMS = Path(__file__).parents[1] / "integration" / "charms"

pytestmark = pytest.mark.packed


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["kfp-api", "object-storage"])
def test_publishes_its_options(root, name, version):
    charm = CHARMS / name / f"{name}-stand-in_amd64.charm"
    if not charm.exists():
        pytest.skip("not packed; make it with: make pack-stand-ins")
    juju = Agent(root, charm, version)
    juju.dispatch("hooks/install")
    # GIVEN hosts in the options, and a relation
    host = "service" if name == "object-storage" else "service-name"
    relations = {f"{name}:0": {"app": "other", "ours": {}, "theirs": {}}}
    juju.write(config=juju.read()["config"] | {host: "host.test"}, relations=relations)
    # WHEN Juju dispatches a hook
    state = juju.dispatch("hooks/config-changed")
    # THEN the options are published
    assert state["status"][0] == "active"
    published = state["relations"][f"{name}:0"]["ours"]
    assert published["_supported_versions"] == "- v1\n"
    assert "host.test" in yaml.safe_load(published["data"]).values()
