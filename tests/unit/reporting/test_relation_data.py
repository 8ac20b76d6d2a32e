"""Data for Kubeflow's dashboard and for charms that serve the model."""

import dataclasses
import json

import ops
import ops.testing
import pytest

from kfp_ops import RelationDataError, TrainedModel, TrainedModelRequirer


def test_dashboard_link_opens_the_experiment(ctx, state, runs):
    relation = ops.testing.Relation("dashboard-links", remote_app_name="kubeflow-dashboard")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    (link,) = json.loads(out.get_relation(relation.id).local_app_data["dashboard_links"])
    assert link["link"] == f"/pipeline/#/experiments/details/{runs()[0]['experiment_id']}"
    assert (link["location"], link["type"]) == ("menu", "item")


def test_dashboard_link_stays_while_the_server_is_unreachable(ctx, state, proxy):
    # GIVEN a dashboard with a link
    relation = ops.testing.Relation("dashboard-links", remote_app_name="kubeflow-dashboard")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    state = ctx.run(ctx.on.relation_created(relation), state)
    data = state.get_relation(relation.id).local_app_data
    # WHEN the server is unreachable, THEN the dashboard's data does not change
    proxy.fault = lambda *_: 503
    state = ctx.run(ctx.on.update_status(), state)
    assert state.get_relation(relation.id).local_app_data == data


class Server(ops.CharmBase):
    """A charm that requires the model to serve it."""

    def __init__(self, framework):
        super().__init__(framework)
        self.model_relation = TrainedModelRequirer(self)
        framework.observe(self.on.update_status, self._on_update)

    def _on_update(self, _):
        self.unit.status = ops.ActiveStatus(repr(self.model_relation.get()))


@pytest.fixture
def read_model():
    """Return the state of a charm that reads these relation data."""
    meta = {"name": "server", "requires": {"trained-model": {"interface": "trained_model"}}}
    ctx = ops.testing.Context(Server, meta=meta)

    def read(data):
        relations = set()
        if data is not None:
            relations = {ops.testing.Relation("trained-model", remote_app_data=data)}
        return ctx.run(ctx.on.update_status(), ops.testing.State(relations=relations))

    return read


def test_requirer_reads_the_champion_and_its_moves(
    ctx, state, run_action, three_versions, read_model
):
    relation = ops.testing.Relation("trained-model", remote_app_name="server")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    data = out.get_relation(relation.id).local_app_data
    read = read_model(data).unit_status.message
    assert read == repr(TrainedModel(**json.loads(data["model"])))
    assert "version=3" in read
    assert "uri='s3://mlpipeline/models/fashion-mnist/3/serving'" in read
    assert "'shape': [-1, 28, 28]" in read
    # WHEN an operator rolls back, THEN the relation data changes
    out = ctx.run(ctx.on.action("rollback"), out)
    data = out.get_relation(relation.id).local_app_data
    assert json.loads(data["model"])["version"] == 2


def test_champion_is_published_while_the_pipelines_api_is_unreachable(
    ctx, state, three_versions, proxy
):
    relation = ops.testing.Relation("trained-model", remote_app_name="server")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    state = ctx.run(ctx.on.relation_created(relation), state)
    proxy.fault = lambda *_: 503
    out = ctx.run(ctx.on.action("rollback"), state)
    data = out.get_relation(relation.id).local_app_data
    assert json.loads(data["model"])["version"] == 2


def test_model_is_withdrawn_after_a_change_of_registry(ctx, state, three_versions, proxy):
    # GIVEN a relation with the champion
    relation = ops.testing.Relation("trained-model", remote_app_name="server")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    state = ctx.run(ctx.on.relation_created(relation), state)
    assert state.get_relation(relation.id).local_app_data["model"]
    # WHEN the registry changes to an empty one, and the server is unreachable first
    other = {**state.config, "registry-prefix": "models/other"}
    state = dataclasses.replace(state, config=other)
    proxy.fault = lambda *_: 503
    state = ctx.run(ctx.on.config_changed(), state)
    assert state.get_relation(relation.id).local_app_data["model"]
    # THEN the model is withdrawn once the server is reachable
    proxy.fault = lambda *_: None
    state = ctx.run(ctx.on.update_status(), state)
    assert "model" not in state.get_relation(relation.id).local_app_data


def test_no_model_is_published_without_a_champion(ctx, state, read_model):
    relation = ops.testing.Relation("trained-model", remote_app_name="server")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    assert out.get_relation(relation.id).local_app_data == {}
    assert read_model({}).unit_status.message == "None"
    assert read_model(None).unit_status.message == "None"


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"name": "m", "version": "three"}'])
def test_requirer_rejects_invalid_data_with_the_relation_name(read_model, content):
    with pytest.raises(ops.testing.errors.UncaughtCharmError) as raised:
        read_model({"model": content})
    assert isinstance(raised.value.__cause__, RelationDataError)
    assert "relation trained-model" in str(raised.value.__cause__)


def test_relation_data_contains_no_secret(ctx, state, sandbox, three_versions):
    # GIVEN all relations and a champion
    names = ["metrics-endpoint", "grafana-dashboard", "dashboard-links", "trained-model"]
    relations = {ops.testing.Relation(name) for name in names}
    state = dataclasses.replace(state, relations={*state.relations, *relations})
    out = ctx.run(ctx.on.config_changed(), state)
    for relation in relations:
        databags = out.get_relation(relation.id)
        assert databags.local_app_data, relation.endpoint
        text = f"{databags.local_app_data} {databags.local_unit_data}"
        assert sandbox.secret_key not in text
        assert sandbox.access_key not in text
