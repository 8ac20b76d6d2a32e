"""Metrics that the charm pushes, and the dashboard and alert rules that use them."""

import base64
import dataclasses
import json
import lzma
import re
from pathlib import Path

import ops
import ops.testing
import pytest
import yaml

from tests.builders import unrelated_state, with_pushgateway


def existing_metrics():
    """Return the names of the metrics of the charm and of the Pushgateway."""
    source = Path("src/reporting/metrics.py").read_text(encoding="utf-8")
    names = {f"fashion_mnist_trainer_{name}" for name in re.findall(r'gauge\(\s*"(\w+)"', source)}
    return names | {"push_time_seconds"}


def metrics_in(text):
    """Return the names of the metrics in a text."""
    return set(re.findall(r"\b(?:fashion_mnist_trainer_\w+|push_time_seconds)\b", text))


def test_runs_and_models_are_pushed(ctx, state, run_action, sandbox, runs, three_versions, gateway):
    # GIVEN a champion, a schedule, and a run that failed
    state = with_pushgateway(
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


def test_run_results_are_pushed_with_the_run_name(ctx, state, sandbox, runs, registry, gateway):
    state = with_pushgateway(state)
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


def test_run_that_reproduced_the_champion_has_no_verdict_metric(
    ctx, state, sandbox, runs, registry, three_versions, gateway
):
    # GIVEN a run without new data or settings, as the step evaluate reports it
    state = with_pushgateway(state)
    ctx.run(ctx.on.config_changed(), state)
    run = runs()[0]
    verdict = {"status": "rejected", "reasons": ["train on new data"], "unchanged": True}
    registry(run["run_id"], accuracy=0.93, verdict=verdict)
    sandbox.set_run_state(run["run_id"], "SUCCEEDED")
    # WHEN it has ended THEN no rejected model is counted
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert "reproduced the champion: train on new data" in out.unit_status.message
    names = {name for name, *_ in gateway[-1][2]}
    assert "fashion_mnist_trainer_run_accuracy" in names
    assert "fashion_mnist_trainer_run_accepted" not in names


@pytest.mark.parametrize(("version", "known"), [(3, True), (2, False)])
def test_monitoring_report_of_the_champion_is_pushed(
    ctx, state, run_action, sandbox, runs, registry, three_versions, gateway, version, known
):
    # GIVEN a monitoring run on the champion, or on the previous model
    options = {**state.config, "monitor-data": "s3://mlpipeline/production", "max-drift": 0.2}
    state = with_pushgateway(dataclasses.replace(state, config=options))
    run_id = run_action("monitor", state)["run-id"]
    report_fields = {
        "images": 1000,
        "drift": {"pixels": 0.3},
        "accuracy": 0.75,
        "recall": {"Bag": 0.5},
    }
    report_fields |= {"drifted": ["accuracy"]}
    when = {"created_at": "2026-02-01T00:00:00Z", "schema_version": 1}
    report = {"run_id": run_id, "version": version, **report_fields, **when}
    registry.put(f"monitoring/{run_id}/report.json", report)
    sandbox.set_run_state(run_id, "SUCCEEDED")

    ctx.run(ctx.on.update_status(), state)

    samples = gateway[-1][2]
    name = "fashion_mnist_trainer_production"
    expected = {
        (f"{name}_drift", ("part", "pixels")): 0.3,
        (f"{name}_recall", ("class", "Bag")): 0.5,
        (f"{name}_images",): 1000,
        (f"{name}_accuracy",): 0.75,
        (f"{name}_inaccurate",): 1,
        (f"{name}_checked_seconds",): 1769904000,
    }
    pushed = {key: value for key, value in samples.items() if key[0].startswith(name)}
    assert pushed == (expected if known else {})
    assert samples[("fashion_mnist_trainer_max_drift",)] == 0.2
    assert samples[("fashion_mnist_trainer_monitoring_failed",)] == 0


def test_problem_metric_keeps_earlier_metrics(ctx, gateway):
    ctx.run(ctx.on.config_changed(), with_pushgateway(unrelated_state(leader=True)))
    # POST keeps series of other names, PUT would delete them
    method, _, samples = gateway[-1]
    assert method == "POST"
    assert samples == {("fashion_mnist_trainer_problem",): 1}


def test_follower_deletes_its_metrics(ctx, state, gateway):
    ctx.run(ctx.on.update_status(), with_pushgateway(dataclasses.replace(state, leader=False)))
    assert gateway[-1][:2] == ("DELETE", "/metrics/job/trainer")


def test_dashboard_uses_existing_metrics(ctx, state):
    relation = ops.testing.Relation("grafana-dashboard", remote_app_name="grafana")
    state = dataclasses.replace(state, relations={*state.relations, relation})
    out = ctx.run(ctx.on.relation_created(relation), state)
    dashboards = json.loads(out.get_relation(relation.id).local_app_data["dashboards"])
    template = dashboards["templates"]["file:trainer"]
    assert template["charm"] == "fashion-mnist-trainer"
    dashboard = json.loads(lzma.decompress(base64.b64decode(template["content"])))
    # Each panel has a query, except for the one with the alerts
    queries = {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in dashboard["panels"]
    }
    assert [title for title, expressions in queries.items() if not expressions] == ["Alerts"]
    existing = existing_metrics()
    for expressions in queries.values():
        for query in expressions:
            assert (metrics := metrics_in(query))
            assert metrics <= existing
    metrics = metrics_in(json.dumps(dashboard))
    assert metrics >= {
        f"fashion_mnist_trainer_{name}" for name in ("run_state", "champion_version")
    }


def test_alert_rules_use_existing_metrics():
    document = yaml.safe_load(Path("src/prometheus_alert_rules/trainer.rules.yaml").read_text())
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    existing = existing_metrics()
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 9
    for rule in rules:
        assert (metrics := metrics_in(rule["expr"])), rule["alert"]
        assert metrics <= existing
        assert rule["annotations"]["summary"]
