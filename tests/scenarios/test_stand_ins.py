"""The stand-in charms for kfp-api and object storage publish their options."""

import importlib.util
import sys
from pathlib import Path

import ops
import ops.testing
import pytest
import yaml

CHARMS = Path(__file__).parents[1] / "integration" / "charms"
OPTIONS = {
    "kfp-api": {"service-name": "sandbox.test", "service-port": 8888},
    "object-storage": {"service": "s3.test", "port": 9000, "access-key": "a", "secret-key": "b"},
}
SAID = {
    "kfp-api": {"service-name": "sandbox.test", "service-port": "8888"},
    "object-storage": {**OPTIONS["object-storage"], "secure": False, "namespace": None},
}


@pytest.fixture(params=sorted(OPTIONS))
def name(request):
    return request.param


@pytest.fixture
def ctx(name):
    path = CHARMS / name / "src" / "charm.py"
    spec = importlib.util.spec_from_file_location(f"stand_in_{name.replace('-', '_')}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    (charm,) = (value for value in vars(module).values() if isinstance(value, type))
    return ops.testing.Context(charm, charm_root=CHARMS / name)


@pytest.mark.parametrize("leader", [True, False])
def test_leader_publishes_the_options(ctx, name, leader):
    relation = ops.testing.Relation(name)
    state = ops.testing.State(leader=leader, relations={relation}, config=OPTIONS[name])
    out = ctx.run(ctx.on.relation_created(relation), state)
    bag = out.get_relation(relation.id).local_app_data
    assert out.unit_status == ops.ActiveStatus()
    if leader:
        assert bag["_supported_versions"] == "- v1\n"
        assert yaml.safe_load(bag["data"]) == SAID[name]
    else:
        assert not bag


def test_missing_host_blocks_and_publishes_nothing(ctx, name):
    relation = ops.testing.Relation(name)
    out = ctx.run(ctx.on.config_changed(), ops.testing.State(leader=True, relations={relation}))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert not out.get_relation(relation.id).local_app_data
