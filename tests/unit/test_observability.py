"""What the charm tells monitoring, Kubeflow's dashboard and charms that serve."""

import base64
import dataclasses
import datetime
import json
import lzma
import re
import socket
from pathlib import Path

import ops
import ops.testing
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from werkzeug import Response

from kfp_ops import RelationDataError, TrainedModel, TrainedModelRequirer
from tests.builders import PUSHGATEWAY, trainer, unrelated_state
from workload import pushgateway

LOKI = "http://loki-0.loki:3100/loki/api/v1/push"


@pytest.fixture
def gateway(monkeypatch, httpserver):
    """What a Pushgateway was given last: (method, path, samples)."""
    got = []

    def take(request):
        families = text_string_to_metric_families(request.data.decode())
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
        got.append((request.method, request.path, samples))
        return Response("")

    httpserver.expect_request(re.compile("/metrics/.*")).respond_with_handler(take)
    monkeypatch.setattr(pushgateway, "URL", httpserver.url_for("").rstrip("/"))
    return got


def metrics_made():
    """The names of the metrics that the charm makes, and the Pushgateway of itself."""
    source = Path("src/reporting/metrics.py").read_text(encoding="utf-8")
    ours = {f"fashion_mnist_trainer_{name}" for name in re.findall(r'gauge\(\s*"(\w+)"', source)}
    return ours | {"push_time_seconds"}


def metrics_in(text):
    """The names of the metrics that a text speaks of."""
    return set(re.findall(r"\b(?:fashion_mnist_trainer_\w+|push_time_seconds)\b", text))


def with_container(state, **more):
    container = ops.testing.Container("pushgateway", can_connect=True, **more)
    return dataclasses.replace(state, containers={container})


def container_of(state):
    return state.get_container("pushgateway")


@pytest.mark.parametrize(
    "error", [ops.pebble.TimeoutError("too slow"), ops.pebble.ProtocolError("no answer")]
)
def test_a_pebble_that_does_not_do_it_is_asked_again_later(ctx, state, gateway, error, monkeypatch):
    def replan(_):
        raise error

    monkeypatch.setattr(ops.Container, "replan", replan)
    up = with_container(state)
    ctx.run(ctx.on.pebble_ready(container_of(up)), up)
    assert any(f"no pushgateway yet: {error}" in log.message for log in ctx.juju_log)


@pytest.fixture
def broken(monkeypatch):
    """A workload whose program ends at its start; `broken.append` of anything mends it."""
    mended = []
    task = ops.pebble.Task(
        ops.pebble.TaskID("1"),
        *("start", 'Start service "pushgateway"', "Error", ["no such\x07 file"]),
        *(ops.pebble.TaskProgress("", 1, 1), datetime.datetime.now(), None),
    )
    change = ops.pebble.Change(
        ops.pebble.ChangeID("1"),
        *("replan", "Replan", "Error", [task], True, "exited quickly with code 1"),
        *(datetime.datetime.now(), None),
    )
    replan = ops.Container.replan

    def fail(container):
        if not mended:
            raise ops.pebble.ChangeError("exited quickly with code 1", change)
        replan(container)

    monkeypatch.setattr(ops.Container, "replan", fail)
    return mended


def test_a_pushgateway_that_does_not_start_is_told_until_it_does(ctx, state, gateway, broken, runs):
    # GIVEN a program that ends at its start
    up = with_container(state)
    out = ctx.run(ctx.on.pebble_ready(container_of(up)), up)
    # THEN training goes on, and the status says so and why, with what to do
    assert len(runs()) == 1
    for event in (ctx.on.update_status(), ctx.on.config_changed()):
        out = ctx.run(event, out)
        assert isinstance(out.unit_status, ops.WaitingStatus)
        assert re.fullmatch(
            r"run PENDING; the Pushgateway does not run: exited "
            r".*; see: juju debug-log --include trainer",
            out.unit_status.message,
        )
    # WHEN it can run again, THEN the next event starts it
    broken.append("with another image")
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert "Pushgateway" not in out.unit_status.message
    assert container_of(out).service_statuses["pushgateway"] is ops.pebble.ServiceStatus.ACTIVE


def test_a_pushgateway_that_does_not_start_hides_no_problem(ctx, gateway, broken):
    up = with_container(unrelated_state(leader=True))
    out = ctx.run(ctx.on.pebble_ready(container_of(up)), up)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "no relation kfp-api; add it with: juju" in out.unit_status.message
    assert "the Pushgateway does not run; " in out.unit_status.message


def test_a_pushgateway_that_ended_is_started_again(ctx, state, gateway):
    up = with_container(state)
    out = ctx.run(ctx.on.pebble_ready(container_of(up)), up)
    ended = {"pushgateway": ops.pebble.ServiceStatus.ERROR}
    out = dataclasses.replace(
        out, containers={dataclasses.replace(container_of(out), service_statuses=ended)}
    )
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert container_of(out).service_statuses["pushgateway"] is ops.pebble.ServiceStatus.ACTIVE


def test_the_pushgateway_runs_with_a_health_check(ctx, state, gateway):
    up = with_container(state)
    out = ctx.run(ctx.on.pebble_ready(container_of(up)), up)
    plan = container_of(out).plan
    service = plan.services["pushgateway"]
    assert service.command == "/bin/pushgateway --web.listen-address=:9091"
    assert service.startup == "enabled"
    assert container_of(out).service_statuses["pushgateway"] is ops.pebble.ServiceStatus.ACTIVE
    assert plan.checks["ready"].http == {"url": f"{pushgateway.URL}/-/ready"}


def test_runs_and_models_are_pushed(ctx, state, run_action, sandbox, runs, three_versions, gateway):
    # GIVEN a champion, a schedule, and a run that failed
    state = with_container(
        dataclasses.replace(state, config={**state.config, "schedule": "@daily"})
    )
    ctx.run(ctx.on.config_changed(), state)
    sandbox.set_run_state(runs()[0]["run_id"], "FAILED")

    ctx.run(ctx.on.update_status(), state)

    method, path, samples = gateway[-1]
    assert (method, path) == ("PUT", "/metrics/job/trainer")

    def value(name, **labels):
        return samples[(f"fashion_mnist_trainer_{name}", *sorted(labels.items()))]

    assert value("run_state", state="FAILED") == 1
    assert value("run_state", state="RUNNING") == 0
    assert value("champion_version") == 3
    assert value("champion_accuracy") == pytest.approx(0.93)
    assert value("champion_loss") == 0.3
    assert value("champion_recall", **{"class": "Shirt"}) == 0.8
    assert value("champion_created_seconds") == 1767225600
    assert value("schedule_enabled") == 1
    assert value("problem") == 0
    assert value("run_duration_seconds") >= 0


def test_what_came_of_a_run_is_pushed_with_its_name(ctx, state, sandbox, runs, registry, gateway):
    state = with_container(state)
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    registry(run["run_id"], accuracy=0.8, drift={"train": 0.3})
    sandbox.set_run_state(run["run_id"], "SUCCEEDED")
    ctx.run(ctx.on.update_status(), state)
    samples = gateway[-1][2]
    labels = (("run_id", run["run_id"]), ("run_name", run["display_name"]))
    assert samples[("fashion_mnist_trainer_run_accuracy", *labels)] == 0.8
    assert samples[("fashion_mnist_trainer_run_loss", *labels)] == 0.3
    assert samples[("fashion_mnist_trainer_run_recall", ("class", "Shirt"), *labels)] == 0.8
    assert samples[("fashion_mnist_trainer_run_accepted", *labels)] == 0
    assert samples[("fashion_mnist_trainer_data_drift", ("part", "train"))] == 0.3


def test_a_run_that_made_the_champion_again_has_no_verdict_to_alert_of(
    ctx, state, sandbox, runs, registry, three_versions, gateway
):
    # GIVEN a run without new data or settings, as the step evaluate tells of it
    state = with_container(state)
    ctx.run(ctx.on.config_changed(), state)
    run = runs()[0]
    verdict = {"status": "rejected", "reasons": ["train on new data"], "unchanged": True}
    registry(run["run_id"], accuracy=0.93, verdict=verdict)
    sandbox.set_run_state(run["run_id"], "SUCCEEDED")
    # WHEN it has ended THEN all is well, and no rejected model is counted
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert "made the same model again: train on new data" in out.unit_status.message
    names = {name for name, *_ in gateway[-1][2]}
    assert "fashion_mnist_trainer_run_accuracy" in names
    assert "fashion_mnist_trainer_run_accepted" not in names


@pytest.mark.parametrize(("version", "known"), [(3, True), (2, False)])
def test_what_monitoring_saw_of_the_model_that_serves_is_pushed(
    ctx, state, run_action, sandbox, runs, registry, three_versions, gateway, version, known
):
    # GIVEN a monitoring run on the champion, or on the model before
    options = {**state.config, "monitor-data": "s3://mlpipeline/production", "max-drift": 0.2}
    state = with_container(dataclasses.replace(state, config=options))
    run_id = run_action("monitor", state)["run-id"]
    seen = {"images": 1000, "drift": {"pixels": 0.3}, "accuracy": 0.75, "recall": {"Bag": 0.5}}
    seen |= {"drifted": ["accuracy"]}
    when = {"created_at": "2026-02-01T00:00:00Z", "schema_version": 1}
    report = {"run_id": run_id, "version": version, **seen, **when}
    registry.put(f"monitoring/{run_id}/report.json", report)
    sandbox.set_run_state(run_id, "SUCCEEDED")

    ctx.run(ctx.on.update_status(), state)

    samples = gateway[-1][2]
    name = "fashion_mnist_trainer_production"
    told = {
        (f"{name}_drift", ("part", "pixels")): 0.3,
        (f"{name}_recall", ("class", "Bag")): 0.5,
        (f"{name}_images",): 1000,
        (f"{name}_accuracy",): 0.75,
        (f"{name}_inaccurate",): 1,
        (f"{name}_checked_seconds",): 1769904000,
    }
    pushed = {key: value for key, value in samples.items() if key[0].startswith(name)}
    assert pushed == (told if known else {})
    assert samples[("fashion_mnist_trainer_max_drift",)] == 0.2
    assert samples[("fashion_mnist_trainer_monitoring_failed",)] == 0


def test_a_problem_is_pushed_beside_what_was_seen_before(ctx, gateway):
    ctx.run(ctx.on.config_changed(), with_container(unrelated_state(leader=True)))
    # POST leaves series of other names as they are, PUT would take them away
    method, _, samples = gateway[-1]
    assert method == "POST"
    assert samples == {("fashion_mnist_trainer_problem",): 1}


def test_a_unit_that_does_not_lead_takes_its_metrics_away(ctx, state, gateway):
    ctx.run(ctx.on.update_status(), with_container(dataclasses.replace(state, leader=False)))
    assert gateway[-1][:2] == ("DELETE", "/metrics/job/trainer")


def test_a_gateway_that_does_not_answer_keeps_nothing_from_going_on(ctx, state, monkeypatch, runs):
    monkeypatch.setattr(pushgateway, "URL", "http://127.0.0.1:1")
    out = ctx.run(ctx.on.config_changed(), with_container(state))
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert len(runs()) == 1
    assert any("metrics were not pushed" in log.message for log in ctx.juju_log)


# Canonical's observability stack ---------------------------------------------------------------------


def test_prometheus_is_told_where_and_what_to_look_for(ctx, state):
    relation = ops.testing.Relation("metrics-endpoint", remote_app_name="prometheus")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    ours = out.get_relation(relation.id)
    (job,) = json.loads(ours.local_app_data["scrape_jobs"])
    assert job["static_configs"] == [{"targets": ["*:9091"]}]
    assert json.loads(ours.local_app_data["scrape_metadata"])["application"] == "trainer"
    assert ours.local_unit_data["prometheus_scrape_unit_name"] == "trainer/0"
    assert ours.local_unit_data["prometheus_scrape_unit_address"] == "192.0.2.0"
    rules = json.loads(ours.local_app_data["alert_rules"])["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} >= {"TrainingFailed", "ModelStale", "DataDrift"}
    for rule in rules:
        assert 'juju_application="trainer"' in rule["expr"]
        assert "%%" not in rule["expr"]
        assert rule["labels"]["juju_model"] == "kubeflow"
    # AND a second event writes nothing anew
    again = ctx.run(ctx.on.update_status(), out)
    assert again.get_relation(relation.id).local_app_data == ours.local_app_data


def test_other_units_tell_their_address_alone(ctx, state):
    relation = ops.testing.Relation("metrics-endpoint", remote_app_name="prometheus")
    state = dataclasses.replace(state, leader=False, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    ours = out.get_relation(relation.id)
    assert ours.local_app_data == {}
    assert ours.local_unit_data["prometheus_scrape_unit_address"] == "192.0.2.0"


def test_a_unit_without_an_address_yet_tells_its_name(ctx, state):
    relation = ops.testing.Relation("metrics-endpoint", remote_app_name="prometheus")
    nowhere = ops.testing.Network("metrics-endpoint", bind_addresses=[])
    state = dataclasses.replace(state, relations={*state.relations, relation}, networks={nowhere})
    out = ctx.run(ctx.on.relation_created(relation), state)
    data = out.get_relation(relation.id).local_unit_data
    assert data["prometheus_scrape_unit_address"] == socket.getfqdn()


def test_grafana_gets_a_dashboard_that_shows_metrics_that_there_are(ctx, state):
    relation = ops.testing.Relation("grafana-dashboard", remote_app_name="grafana")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    told = json.loads(out.get_relation(relation.id).local_app_data["dashboards"])
    template = told["templates"]["file:trainer"]
    assert template["charm"] == "fashion-mnist-trainer"
    dashboard = json.loads(lzma.decompress(base64.b64decode(template["content"])))
    # Each panel asks for something, but the one with the alerts
    queries = {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in dashboard["panels"]
    }
    assert [title for title, asked in queries.items() if not asked] == ["Alerts"]
    made = metrics_made()
    for asked in queries.values():
        for query in asked:
            assert (shown := metrics_in(query))
            assert shown <= made
    shown = metrics_in(json.dumps(dashboard))
    assert shown >= {f"fashion_mnist_trainer_{name}" for name in ("run_state", "champion_version")}


def test_alert_rules_speak_of_metrics_that_there_are():
    document = yaml.safe_load(Path("src/prometheus_alert_rules/trainer.rules.yaml").read_text())
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    made = metrics_made()
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 9
    for rule in rules:
        assert (asked := metrics_in(rule["expr"])), rule["alert"]
        assert asked <= made
        assert rule["annotations"]["summary"]


@pytest.mark.parametrize(("juju", "forwarded"), [("3.3.9", False), ("3.4.0", True)])
def test_the_workloads_log_goes_to_loki(state, gateway, juju, forwarded):
    ctx = trainer(juju_version=juju)
    relation = ops.testing.Relation(
        "logging",
        remote_app_name="loki",
        remote_units_data={0: {"endpoint": json.dumps({"url": LOKI})}, 1: {}, 2: {"endpoint": "x"}},
    )
    up = with_container(dataclasses.replace(state, relations={*state.relations, relation}))
    out = ctx.run(ctx.on.relation_changed(relation, remote_unit=0), up)
    targets = container_of(out).plan.log_targets
    assert set(targets) == ({"loki/0"} if forwarded else set())
    if forwarded:
        assert targets["loki/0"].location == LOKI
        assert targets["loki/0"].services == ["all"]
        assert targets["loki/0"].labels["juju_application"] == "trainer"
        # WHEN Loki goes, THEN nothing is sent there any more
        out = ctx.run(ctx.on.relation_broken(out.get_relation(relation.id)), out)
        assert container_of(out).plan.log_targets["loki/0"].services == ["-all"]


def test_a_loki_that_leaves_others_behind_gets_no_log_any_more(state, gateway):
    def sent(state):
        targets = container_of(state).plan.log_targets
        return {name: target.services for name, target in targets.items()}

    # GIVEN two units of Loki
    ctx = trainer(juju_version="3.6.0")
    units = {number: {"endpoint": json.dumps({"url": f"{LOKI}?{number}"})} for number in (0, 1)}
    relation = ops.testing.Relation("logging", remote_app_name="loki", remote_units_data=units)
    up = with_container(dataclasses.replace(state, relations={*state.relations, relation}))
    out = ctx.run(ctx.on.relation_changed(relation, remote_unit=1), up)
    assert sent(out) == {"loki/0": ["all"], "loki/1": ["all"]}
    # WHEN one departs
    left = dataclasses.replace(out.get_relation(relation.id), remote_units_data={0: units[0]})
    others = {each for each in out.relations if each.id != left.id}
    out = dataclasses.replace(out, relations={*others, left})
    out = ctx.run(ctx.on.relation_departed(left, remote_unit=1, departing_unit=1), out)
    # THEN the log goes to the other alone
    assert sent(out) == {"loki/0": ["all"], "loki/1": ["-all"]}


# Kubeflow's dashboard and charms that serve ------------------------------------------------------


def test_the_dashboard_gets_a_link_to_the_experiment(ctx, state, runs):
    relation = ops.testing.Relation("dashboard-links", remote_app_name="kubeflow-dashboard")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    (link,) = json.loads(out.get_relation(relation.id).local_app_data["dashboard_links"])
    assert link["link"] == f"/pipeline/#/experiments/details/{runs()[0]['experiment_id']}"
    assert (link["location"], link["type"]) == ("menu", "item")


def test_the_link_stays_while_the_server_is_away(ctx, state, proxy):
    # GIVEN a dashboard with a link
    relation = ops.testing.Relation("dashboard-links", remote_app_name="kubeflow-dashboard")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    state = ctx.run(ctx.on.relation_created(relation), state)
    told = state.get_relation(relation.id).local_app_data
    # WHEN the server answers nothing, THEN the dashboard is not woken
    proxy.fault = lambda *_: 503
    state = ctx.run(ctx.on.update_status(), state)
    assert state.get_relation(relation.id).local_app_data == told


class Server(ops.CharmBase):
    """A charm that would serve the model."""

    def __init__(self, framework):
        super().__init__(framework)
        self.model_relation = TrainedModelRequirer(self)
        framework.observe(self.on.update_status, self._on_update)

    def _on_update(self, _):
        self.unit.status = ops.ActiveStatus(repr(self.model_relation.get()))


@pytest.fixture
def serve():
    """What a charm reads that requires a trained model."""
    meta = {"name": "server", "requires": {"trained-model": {"interface": "trained_model"}}}
    ctx = ops.testing.Context(Server, meta=meta)

    def read(data):
        relations = set()
        if data is not None:
            relations = {ops.testing.Relation("trained-model", remote_app_data=data)}
        return ctx.run(ctx.on.update_status(), ops.testing.State(relations=relations))

    return read


def test_a_charm_that_serves_reads_the_champion_and_each_move_of_it(
    ctx, state, run_action, three_versions, serve
):
    relation = ops.testing.Relation("trained-model", remote_app_name="server")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    told = out.get_relation(relation.id).local_app_data
    read = serve(told).unit_status.message
    assert read == repr(TrainedModel(**json.loads(told["model"])))
    assert "version=3" in read
    assert "uri='s3://mlpipeline/models/fashion-mnist/3/serving'" in read
    assert "'shape': [-1, 28, 28]" in read
    # WHEN an operator goes back, THEN the relation tells
    out = ctx.run(ctx.on.action("rollback"), out)
    told = out.get_relation(relation.id).local_app_data
    assert json.loads(told["model"])["version"] == 2


def test_a_move_of_the_champion_is_told_while_the_pipelines_api_is_away(
    ctx, state, three_versions, proxy
):
    relation = ops.testing.Relation("trained-model", remote_app_name="server")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    state = ctx.run(ctx.on.relation_created(relation), state)
    proxy.fault = lambda *_: 503
    out = ctx.run(ctx.on.action("rollback"), state)
    told = out.get_relation(relation.id).local_app_data
    assert json.loads(told["model"])["version"] == 2


def test_a_model_that_is_in_another_registry_is_not_told_any_more(
    ctx, state, three_versions, proxy
):
    # GIVEN a charm that knows of the champion
    relation = ops.testing.Relation("trained-model", remote_app_name="server")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    state = ctx.run(ctx.on.relation_created(relation), state)
    assert state.get_relation(relation.id).local_app_data["model"]
    # WHEN the options name a registry without one, which is not known at first
    other = {**state.config, "registry-prefix": "models/other"}
    state = dataclasses.replace(state, config=other)
    proxy.fault = lambda *_: 503
    state = ctx.run(ctx.on.config_changed(), state)
    assert state.get_relation(relation.id).local_app_data["model"]
    # THEN it hears of none, once that is seen
    proxy.fault = lambda *_: None
    state = ctx.run(ctx.on.update_status(), state)
    assert "model" not in state.get_relation(relation.id).local_app_data


def test_without_a_champion_nothing_is_told(ctx, state, serve):
    relation = ops.testing.Relation("trained-model", remote_app_name="server")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    assert out.get_relation(relation.id).local_app_data == {}
    assert serve({}).unit_status.message == "None"
    assert serve(None).unit_status.message == "None"


@pytest.mark.parametrize("said", ["{", "[]", "null", '{"name": "m", "version": "three"}'])
def test_a_model_that_is_none_is_an_error_with_the_relation_in_it(serve, said):
    with pytest.raises(ops.testing.errors.UncaughtCharmError) as raised:
        serve({"model": said})
    assert isinstance(raised.value.__cause__, RelationDataError)
    assert "relation trained-model" in str(raised.value.__cause__)


def test_no_secret_is_in_what_is_told(ctx, state, sandbox, three_versions):
    # GIVEN all there is to tell, a champion too
    names = ["metrics-endpoint", "grafana-dashboard", "dashboard-links", "trained-model"]
    relations = {ops.testing.Relation(name) for name in names}
    state = dataclasses.replace(state, relations={*state.relations, *relations})
    out = ctx.run(ctx.on.config_changed(), state)
    for relation in relations:
        told = out.get_relation(relation.id)
        assert told.local_app_data, relation.endpoint
        said = f"{told.local_app_data} {told.local_unit_data}"
        assert sandbox.secret_key not in said
        assert sandbox.access_key not in said


def test_a_container_that_has_not_come_up_is_left_alone(ctx, state):
    out = ctx.run(ctx.on.config_changed(), state)
    assert container_of(out) == PUSHGATEWAY
