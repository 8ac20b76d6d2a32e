"""Relations to Canonical's observability stack."""

import dataclasses
import json
import socket

import ops
import ops.testing
import pytest

from tests.builders import pushgateway_of, trainer, with_pushgateway

LOKI = "http://loki-0.loki:3100/loki/api/v1/push"


def test_prometheus_gets_scrape_jobs_and_alert_rules(ctx, state):
    relation = ops.testing.Relation("metrics-endpoint", remote_app_name="prometheus")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    databag = out.get_relation(relation.id)
    (job,) = json.loads(databag.local_app_data["scrape_jobs"])
    assert job["static_configs"] == [{"targets": ["*:9091"]}]
    assert json.loads(databag.local_app_data["scrape_metadata"])["application"] == "trainer"
    assert databag.local_unit_data["prometheus_scrape_unit_name"] == "trainer/0"
    assert databag.local_unit_data["prometheus_scrape_unit_address"] == "192.0.2.0"
    rules = json.loads(databag.local_app_data["alert_rules"])["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} >= {"TrainingFailed", "ModelStale", "DataDrift"}
    for rule in rules:
        assert 'juju_application="trainer"' in rule["expr"]
        assert "%%" not in rule["expr"]
        assert rule["labels"]["juju_model"] == "kubeflow"
    # AND a second event changes nothing
    later = ctx.run(ctx.on.update_status(), out)
    assert later.get_relation(relation.id).local_app_data == databag.local_app_data


def test_follower_publishes_only_its_address(ctx, state):
    relation = ops.testing.Relation("metrics-endpoint", remote_app_name="prometheus")
    state = dataclasses.replace(state, leader=False, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    databag = out.get_relation(relation.id)
    assert databag.local_app_data == {}
    assert databag.local_unit_data["prometheus_scrape_unit_address"] == "192.0.2.0"


def test_unit_without_an_address_publishes_its_host_name(ctx, state):
    relation = ops.testing.Relation("metrics-endpoint", remote_app_name="prometheus")
    network = ops.testing.Network("metrics-endpoint", bind_addresses=[])
    state = dataclasses.replace(state, relations={*state.relations, relation}, networks={network})
    out = ctx.run(ctx.on.relation_created(relation), state)
    data = out.get_relation(relation.id).local_unit_data
    assert data["prometheus_scrape_unit_address"] == socket.getfqdn()


@pytest.mark.parametrize(("juju", "forwarded"), [("3.3.9", False), ("3.4.0", True)])
def test_workload_logs_are_forwarded_to_loki(state, gateway, juju, forwarded):
    ctx = trainer(juju_version=juju)
    relation = ops.testing.Relation(
        "logging",
        remote_app_name="loki",
        remote_units_data={0: {"endpoint": json.dumps({"url": LOKI})}, 1: {}, 2: {"endpoint": "x"}},
    )
    up = with_pushgateway(dataclasses.replace(state, relations={*state.relations, relation}))
    out = ctx.run(ctx.on.relation_changed(relation, remote_unit=0), up)
    targets = pushgateway_of(out).plan.log_targets
    assert set(targets) == ({"loki/0"} if forwarded else set())
    if forwarded:
        assert targets["loki/0"].location == LOKI
        assert targets["loki/0"].services == ["all"]
        assert targets["loki/0"].labels["juju_application"] == "trainer"
        # WHEN Loki is removed, THEN nothing is sent there
        out = ctx.run(ctx.on.relation_broken(out.get_relation(relation.id)), out)
        assert pushgateway_of(out).plan.log_targets["loki/0"].services == ["-all"]


def test_departed_loki_unit_receives_no_logs(state, gateway):
    def log_services(state):
        targets = pushgateway_of(state).plan.log_targets
        return {name: target.services for name, target in targets.items()}

    # GIVEN two units of Loki
    ctx = trainer(juju_version="3.6.0")
    units = {number: {"endpoint": json.dumps({"url": f"{LOKI}?{number}"})} for number in (0, 1)}
    relation = ops.testing.Relation("logging", remote_app_name="loki", remote_units_data=units)
    up = with_pushgateway(dataclasses.replace(state, relations={*state.relations, relation}))
    out = ctx.run(ctx.on.relation_changed(relation, remote_unit=1), up)
    assert log_services(out) == {"loki/0": ["all"], "loki/1": ["all"]}
    # WHEN one departs
    departed = dataclasses.replace(out.get_relation(relation.id), remote_units_data={0: units[0]})
    relations = {relation_ for relation_ in out.relations if relation_.id != departed.id}
    out = dataclasses.replace(out, relations={*relations, departed})
    out = ctx.run(ctx.on.relation_departed(departed, remote_unit=1, departing_unit=1), out)
    # THEN the log is sent only to the other
    assert log_services(out) == {"loki/0": ["all"], "loki/1": ["-all"]}
