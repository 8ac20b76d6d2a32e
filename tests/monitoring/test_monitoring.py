"""The charm's metrics, alert rules and dashboard in a real Prometheus fed by a real Pushgateway."""

import contextlib
import dataclasses
import datetime
import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

import model_registry
from config import TrainerConfig
from errors import ModelRegistryError
from kfp_ops import Run, RunState
from kfp_ops.kubernetes import RunIssue
from model_registry import Champion, Manifest, MonitoringReport
from reconciler.snapshot import Snapshot
from reporting import metrics
from workload import observability, pushgateway
from workload.observability import Topology

PROGRAMS = ("prometheus", "prometheus-pushgateway", "promtool")
pytestmark = [
    pytest.mark.slow,
    *(
        pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed")
        for name in PROGRAMS
    ),
]

TOPOLOGY = Topology(
    model="kubeflow", model_uuid="1" * 8, application="trainer", charm="fashion-mnist-trainer"
)
OLD = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)
NOW = datetime.datetime.now(datetime.timezone.utc)
GOOD = Champion(
    version=3,
    manifest=Manifest(
        run_id="r3",
        accuracy=0.93,
        accepted=True,
        created_at=NOW,
        loss=0.2,
        recalls={"Shirt": 0.8, "Bag": 0.99},
    ),
)
PRODUCTION = MonitoringReport(
    run_id="m1",
    version=3,
    images=1000,
    drift={"pixels": 0.15, "predictions": 0.01},
    created_at=NOW,
    accuracy=0.9,
    recalls={"Shirt": 0.7},
)
FINE = Snapshot(
    config=TrainerConfig(max_drift=0.2),
    report=PRODUCTION,
    monitor=Run(run_id="m1", display_name="m1", state=RunState.SUCCEEDED),
    latest=Run(
        run_id="r3",
        display_name="config-3",
        state=RunState.SUCCEEDED,
        created_at=NOW,
        finished_at=NOW + datetime.timedelta(seconds=90),
    ),
    # Above the default of max-drift, below what it is set to here
    result=dataclasses.replace(GOOD.manifest, drift={"train": 0.12}),
    champion=GOOD,
    schedule=True,
)


def run(state, name="r4"):
    return Run(run_id=name, display_name=name, state=state, created_at=NOW)


def cancelled(after):
    """Return a snapshot whose newest run was cancelled this long after its start."""
    ended_run = dataclasses.replace(run(RunState.CANCELED), begun_at=NOW, finished_at=NOW + after)
    return dataclasses.replace(
        FINE, latest=ended_run, config=TrainerConfig(max_drift=0.2, run_timeout=60)
    )


def rejected(name):
    result = Manifest(run_id=name, accuracy=0.8, accepted=False)
    return dataclasses.replace(FINE, latest=run(RunState.SUCCEEDED, name), result=result)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def until(true, description, seconds=60):
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, f"{description} did not come within {seconds} s"
        time.sleep(0.1)
    return value


@contextlib.contextmanager
def running(command, ready, log):
    """Start the program and wait until it responds; stop it afterwards."""

    def answers():
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(ready, trust_env=False).status_code == 200

    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as program,
    ):
        try:
            until(answers, command[0])
            yield
        finally:
            program.terminate()


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(observability.alert_rules(TOPOLOGY)))
    return path


class Monitoring:
    def __init__(self, url):
        self._http = httpx.Client(base_url=f"{url}/api/v1", trust_env=False)

    def query(self, expression):
        response = self._http.get("/query", params={"query": expression})
        assert response.status_code == 200, f"{expression}: {response.text}"
        return response.json()["data"]["result"]

    def alerts(self):
        alerts = self._http.get("/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in alerts}

    def show(self, snapshot):
        """Push the metrics of a snapshot, and wait until they are scraped."""
        mark = time.time()
        is_complete = not snapshot.problem
        pushgateway.push("trainer", metrics.exposition(snapshot), is_complete=is_complete)
        until(
            lambda: any(float(row["value"][1]) >= mark for row in self.query("push_time_seconds")),
            "the metrics",
        )


@pytest.fixture
def monitoring(tmp_path, rules, monkeypatch):
    gateway, prometheus = (f"127.0.0.1:{free_port()}" for _ in range(2))
    monkeypatch.setattr(pushgateway, "URL", f"http://{gateway}")
    job = {
        "job_name": "trainer",
        # As the charm prometheus-k8s labels what it scrapes.
        "static_configs": [{"targets": [gateway], "labels": TOPOLOGY.labels}],
    }
    config = {
        "global": {
            "scrape_interval": "200ms",
            "scrape_timeout": "200ms",
            "evaluation_interval": "200ms",
        },
        "rule_files": [str(rules)],
        "scrape_configs": [job],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    first = running(
        ["prometheus-pushgateway", f"--web.listen-address={gateway}"],
        f"http://{gateway}/-/ready",
        tmp_path / "gateway.log",
    )
    second = running(
        [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yaml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address={prometheus}",
        ],
        f"http://{prometheus}/-/ready",
        tmp_path / "prometheus.log",
    )
    with first, second:
        yield Monitoring(f"http://{prometheus}")


def test_promtool_accepts_the_rules(rules):
    subprocess.run(["promtool", "check", "rules", rules], check=True)


@pytest.mark.parametrize(
    ("alert", "state", "snapshot"),
    [
        ("TrainingFailed", "firing", dataclasses.replace(FINE, latest=run(RunState.FAILED))),
        ("TrainingFailed", "firing", cancelled(datetime.timedelta(hours=1))),
        (
            "TrainingStuck",
            "pending",
            dataclasses.replace(
                FINE,
                latest=run(RunState.RUNNING),
                pod_issue=RunIssue(step="train", pod="p", reason="ImagePullBackOff"),
            ),
        ),
        ("TrainingStuck", "pending", dataclasses.replace(FINE, latest=run(RunState.CANCELING))),
        (
            "ModelStale",
            "firing",
            dataclasses.replace(
                FINE,
                champion=dataclasses.replace(
                    GOOD, manifest=dataclasses.replace(GOOD.manifest, created_at=OLD)
                ),
            ),
        ),
        (
            "DataDrift",
            "firing",
            dataclasses.replace(
                FINE, result=dataclasses.replace(GOOD.manifest, drift={"test": 0.21})
            ),
        ),
        (
            "ProductionDrift",
            "firing",
            dataclasses.replace(FINE, config=TrainerConfig(max_drift=0.14)),
        ),
        (
            "ProductionInaccurate",
            "firing",
            dataclasses.replace(FINE, report=dataclasses.replace(PRODUCTION, is_inaccurate=True)),
        ),
        ("MonitoringFailed", "firing", dataclasses.replace(FINE, monitor=run(RunState.FAILED))),
        (
            "TrainerProblem",
            "pending",
            Snapshot(problem=ModelRegistryError(model_registry.RegistryError("no way"))),
        ),
    ],
)
def test_each_alert_fires_and_resolves(monitoring, alert, state, snapshot):
    # GIVEN a healthy trainer
    monitoring.show(FINE)
    until(lambda: not monitoring.alerts(), "the end of TrainerSilent")
    monitoring.show(FINE)
    assert monitoring.alerts() == {}
    # WHEN something is wrong, THEN only that alert fires
    monitoring.show(snapshot)
    alerts = until(monitoring.alerts, alert)
    assert set(alerts) == {alert}
    assert alerts[alert]["state"] == state
    assert alerts[alert]["labels"]["juju_application"] == "trainer"
    assert "{{" not in str(alerts[alert]["annotations"])
    # WHEN the trainer is healthy again, THEN it resolves
    monitoring.show(FINE)
    until(lambda: not monitoring.alerts(), "the end of the alert")


def test_cancelled_run_raises_no_alert(monitoring):
    monitoring.show(cancelled(datetime.timedelta(minutes=5)))
    until(lambda: not monitoring.alerts(), "the end of TrainerSilent")
    monitoring.show(cancelled(datetime.timedelta(minutes=6)))
    assert monitoring.alerts() == {}


def test_trainer_without_metrics_raises_an_alert(monitoring):
    # GIVEN an empty Pushgateway, as after a restart, THEN the alert fires with its labels
    alerts = until(monitoring.alerts, "TrainerSilent")
    assert set(alerts) == {"TrainerSilent"}
    assert alerts["TrainerSilent"]["state"] == "pending"
    assert alerts["TrainerSilent"]["labels"].items() >= TOPOLOGY.labels.items()
    assert "juju status trainer" in alerts["TrainerSilent"]["annotations"]["description"]
    # WHEN the trainer pushes, THEN it resolves
    monitoring.show(FINE)
    until(lambda: not monitoring.alerts(), "the end of the alert")


def test_three_rejected_candidates_raise_an_alert_until_one_is_accepted(monitoring):
    for name in ("a", "b"):
        monitoring.show(rejected(name))
    until(lambda: not monitoring.alerts(), "the end of TrainerSilent")
    monitoring.show(rejected("b"))
    assert monitoring.alerts() == {}
    monitoring.show(rejected("c"))
    assert set(until(monitoring.alerts, "CandidatesRejected")) == {"CandidatesRejected"}
    monitoring.show(FINE)
    until(lambda: not monitoring.alerts(), "the end of the alert")


def test_runs_that_reproduce_the_champion_raise_no_alert(monitoring):
    # GIVEN a schedule without new data: each run reproduces the champion
    def healthy_again(name):
        result = dataclasses.replace(GOOD.manifest, run_id=name, accepted=False, unchanged=True)
        return dataclasses.replace(FINE, latest=run(RunState.SUCCEEDED, name), result=result)

    # WHEN there are enough for an alert THEN none fires, and their accuracy is shown
    for name in ("a", "b", "c", "d"):
        monitoring.show(healthy_again(name))
    until(lambda: not monitoring.alerts(), "the end of TrainerSilent")
    monitoring.show(healthy_again("e"))
    assert monitoring.alerts() == {}
    assert monitoring.query("fashion_mnist_trainer_run_accuracy")
    assert monitoring.query("fashion_mnist_trainer_run_accepted") == []


def test_metrics_keep_their_last_value_during_an_outage(monitoring):
    # GIVEN a trainer whose newest run failed
    monitoring.show(dataclasses.replace(FINE, latest=run(RunState.FAILED)))
    until(monitoring.alerts, "TrainingFailed")
    # WHEN the server is unreachable, THEN the alert and the champion's metrics stay
    monitoring.show(Snapshot(problem=ModelRegistryError(model_registry.RegistryError("no way"))))
    until(lambda: "TrainerProblem" in monitoring.alerts(), "TrainerProblem")
    assert set(monitoring.alerts()) == {"TrainingFailed", "TrainerProblem"}
    (accuracy,) = monitoring.query("fashion_mnist_trainer_champion_accuracy")
    assert float(accuracy["value"][1]) == 0.93
    # WHEN the server is reachable again, THEN stale metrics are removed
    monitoring.show(dataclasses.replace(FINE, champion=None))
    until(lambda: not monitoring.alerts(), "the end of the alerts")
    assert monitoring.query("fashion_mnist_trainer_champion_accuracy") == []


def test_alert_with_a_delay_fires_after_it(rules, tmp_path):
    labels = 'juju_model="kubeflow", juju_model_uuid="11111111", juju_application="trainer"'

    def case(alert, minutes, *series):
        fires = {
            "eval_time": f"{minutes}m",
            "alertname": alert,
            "exp_alerts": [
                {
                    "exp_labels": {"severity": "warning", **TOPOLOGY.labels, **extra},
                    "exp_annotations": note(alert),
                }
                for extra in [{}]
            ],
        }
        quiet = {"eval_time": f"{minutes - 2}m", "alertname": alert, "exp_alerts": []}
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series],
            "alert_rule_test": [quiet, fires],
        }

    def note(alert):
        (group,) = yaml.safe_load(rules.read_text())["groups"]
        (rule,) = [rule for rule in group["rules"] if rule["alert"] == alert]
        return {
            name: text.replace("{{ $labels.juju_application }}", "trainer")
            for name, text in rule["annotations"].items()
        }

    name = "fashion_mnist_trainer_"
    tests = [
        case("TrainerProblem", 16, (f"{name}problem{{{labels}}}", "1x20")),
        case(
            "TrainingStuck",
            16,
            (f"{name}run_trouble{{{labels}}}", "1x20"),
            (f'{name}run_state{{state="RUNNING", {labels}}}', "1x20"),
        ),
        case("TrainerSilent", 61, (f"push_time_seconds{{{labels}}}", "0x70")),
        # No metrics of this trainer, only of others.
        case("TrainerSilent", 15, ('push_time_seconds{juju_application="other"}', "0+60x20")),
    ]
    path = tmp_path / "tests.yaml"
    document = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}
    path.write_text(yaml.safe_dump(document))
    process = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr


def test_every_dashboard_query_returns_data(monitoring):
    trouble = RunIssue(step="train", pod="p", reason="ImagePullBackOff")
    monitoring.show(dataclasses.replace(FINE, pod_issue=trouble))
    dashboard = json.loads(Path("src/grafana_dashboards/trainer.json").read_text())
    queries = [
        target["expr"].replace("$juju_model", "kubeflow").replace("$juju_application", "trainer")
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    assert len(queries) >= 10
    for query in queries:
        assert not re.search(r"\$\w", query)
        assert monitoring.query(query), query
