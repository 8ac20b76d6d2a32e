"""Random events, faults and requests: each request ends in exactly one run.

`MACHINE_EXAMPLES=500 python -m pytest tests/unit/test_machine.py` runs longer; a failure prints the
steps that lead to it, and hypothesis its seed.
"""

import dataclasses
import datetime
import itertools
import json
import os
import random
import tempfile
import uuid
from pathlib import Path
from unittest import mock

import httpx
import obstore
import ops.testing
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sandbox import Sandbox
from tests.builders import PUSHGATEWAY, sdi, trainer
from tests.fakes.fault_proxy import FaultProxy

STEPS = 40
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "4"))
# The server's clock differs from the charm's, by which every run would have timed out.
QUIET = {"profile": "", "run-timeout": 0}
# Retraining is due daily, but the cooldown is longer.
INTERVAL = datetime.timedelta(hours=30)
TRIGGERED = {"retrain-after": 1, "retrain-cooldown": 30}
ACTIVE = {"PENDING", "RUNNING"}
# Examples have no deadline: nothing here depends on the machine's speed.
SLOW = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


class Trainer(RuleBasedStateMachine):
    """A trainer, its operator, and an unreliable server."""

    @initialize()
    def deploy(self):
        self.folder = tempfile.TemporaryDirectory()
        self.now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
        # The server orders runs of the same second by id, so ids must be reproducible.
        generator = random.Random(0)
        self.sandbox = Sandbox(
            Path(self.folder.name),
            execute=False,
            clock=lambda: self.now,
            ids=lambda: uuid.UUID(int=generator.getrandbits(128), version=4),
        )
        self.sandbox.start()
        self.proxy = FaultProxy(self.sandbox.api_url)
        self.proxy.__enter__()
        self.context = trainer()
        server = {"service-name": "127.0.0.1", "service-port": str(self.proxy.port)}
        host, port = self.sandbox.s3_url.removeprefix("http://").split(":")
        storage = {
            "access-key": self.sandbox.access_key,
            "secret-key": self.sandbox.secret_key,
            "namespace": None,
            "port": int(port),
            "secure": False,
            "service": host,
        }
        self.state = ops.testing.State(
            containers={PUSHGATEWAY},
            leader=True,
            config={**QUIET, **TRIGGERED},
            relations={
                sdi("kfp-api", "kfp-api", server),
                sdi("object-storage", "minio", storage),
            },
            model=ops.testing.Model(name="kubeflow", uuid="11111111-2222-4333-8444-555555555555"),
        )
        self.direct = httpx.Client(verify=False, trust_env=False)
        self.clock = mock.patch("reconciler.reconcile.utc_now", side_effect=lambda: self.now)
        self.clock.start()
        self.publish_champion()
        self.promised = set()  # runs that an action returned
        self.train_calls = 0
        self.configurations = 1

    def publish_champion(self):
        """Publish a champion from before the start; only its creation time matters."""
        store = self.sandbox.objects("models/fashion-mnist")
        manifest = {
            "schema_version": 1,
            "run_id": "before",
            "created_at": "2025-12-31T12:00:00Z",
            "metrics": {"test": {"accuracy": 0.9}},
            "verdict": {"status": "accepted", "reasons": []},
        }
        for path, content in (
            ("1/manifest.json", manifest),
            ("champion/00000001.json", {"version": 1, "run_id": "before"}),
        ):
            obstore.put(store, path, json.dumps(content).encode())

    def teardown(self):
        if hasattr(self, "sandbox"):
            self.clock.stop()
            self.proxy.__exit__()
            self.direct.close()
            self.sandbox.stop()
            self.folder.cleanup()

    # What happens -------------------------------------------------------------------------------

    def emit(self, event):
        self.state = self.context.run(event, self.state)

    @rule(seconds=st.integers(0, 5))
    def pass_time(self, seconds):
        self.now += datetime.timedelta(seconds=seconds)

    @rule(hours=st.sampled_from([6, 12, 24, 31]))
    def pass_hours(self, hours):
        self.now += datetime.timedelta(hours=hours)
        self.emit(self.context.on.update_status())

    @rule()
    def update_status(self):
        self.emit(self.context.on.update_status())

    @rule(
        epochs=st.sampled_from([0, 1, 2]),
        schedule=st.sampled_from(["", "@daily", "0 3 * * 0"]),
        paused=st.booleans(),
        train=st.sampled_from([True, True, False]),
        triggered=st.sampled_from([True, True, False]),
    )
    def configure(self, epochs, schedule, paused, train, triggered):
        config = {
            **QUIET,
            **(TRIGGERED if triggered else {}),
            "epochs": epochs,
            "schedule": schedule,
            "schedule-paused": paused,
            "train-on-change": train,
        }
        self.configurations += 1
        # Two runs of one second may cause an extra run: see the tests of `plan`.
        self.pass_time(1)
        self.state = dataclasses.replace(self.state, config=config)
        self.emit(self.context.on.config_changed())

    @rule()
    def train(self):
        self.train_calls += 1
        try:
            self.emit(self.context.on.action("train"))
        except ops.testing.ActionFailed as failed:
            assert failed.message
            self.state = failed.state or self.state
        else:
            self.promised.add(self.context.action_results["run-name"])

    @rule()
    def cancel(self):
        self.pass_time(1)  # users and pods are slow
        try:
            self.emit(self.context.on.action("cancel-run"))
        except ops.testing.ActionFailed as failed:
            assert failed.message

    @rule(leader=st.booleans())
    def change_leadership(self, leader):
        self.state = dataclasses.replace(self.state, leader=leader)
        if leader:
            self.emit(self.context.on.leader_elected())

    @rule(
        after=st.integers(1, 10),
        moment=st.sampled_from(["before", "after"]),
        fault=st.sampled_from(["cut", 503, 500, 429]),
        times=st.sampled_from([1, 2, 3, 100]),  # 100: the hook or the server died
    )
    def requests_fail(self, after, moment, fault, times):
        first = len(self.proxy.requests) + after
        lost = range(first, first + times)
        self.proxy.fault = lambda m, number, *_: fault if m == moment and number in lost else None

    @rule(data=st.data(), to=st.sampled_from(["RUNNING", "SUCCEEDED", "FAILED"]))
    def change_run_state(self, data, to):
        going = [run for run in self.runs() if run["state"] in {*ACTIVE, "CANCELING"}]
        if going:
            self.pass_time(1)
            run = data.draw(st.sampled_from(going))
            to = "FAILED" if run["state"] == "CANCELING" else to
            self.sandbox.set_run_state(run["run_id"], to)

    # What is true then ---------------------------------------------------------------------------

    @precondition(lambda self: hasattr(self, "state"))
    @rule()
    def settle(self):
        """Stop the faults, elect a leader, and send one more event."""
        self.proxy.fault = lambda *_: None
        self.state = dataclasses.replace(self.state, leader=True)
        self.emit(self.context.on.update_status())
        before = len(self.proxy.requests)
        self.emit(self.context.on.update_status())
        assert {method for method, _ in self.proxy.requests[before:]} == {"GET"}, (
            "no change is left"
        )
        self.check_runs()
        self.check_schedules()

    def check_runs(self):
        config_runs = [run for run in self.runs() if run["display_name"].startswith("config-")]
        active = [run for run in config_runs if run["state"] in ACTIVE]
        if self.state.config.get("train-on-change", True):
            epochs = self.state.config.get("epochs", 0)
            expected_runs = [
                run
                for run in config_runs
                if run["runtime_config"]["parameters"]["epochs"] == epochs
            ]
            assert expected_runs, "the configuration has a run"
            assert {run["run_id"] for run in active} <= {run["run_id"] for run in expected_runs}
            assert len(active) <= 1
            message = self.state.unit_status.message
            latest = max(run["created_at"] for run in self.runs())
            newest = [run for run in self.runs() if run["created_at"] == latest]
            # Another part's long remedy leaves room for the state only.
            expected = [(run["display_name"], f"run {run['state']}") for run in newest]
            assert any(text in message for texts in expected for text in texts), message

    def check_schedules(self):
        url = f"{self.sandbox.api_url}/apis/v2beta1/recurringruns"
        response = self.direct.get(url, params={"page_size": 100}).json()
        actual = [
            (row["trigger"]["cron_schedule"]["cron"], row["status"])
            for row in response.get("recurringRuns", [])
        ]
        cron = {"": "", "@daily": "0 0 0 * * *", "0 3 * * 0": "0 0 3 * * 0"}[
            self.state.config.get("schedule", "")
        ]
        status = "DISABLED" if self.state.config.get("schedule-paused") else "ENABLED"
        assert actual == ([(cron, status)] if cron else [])

    @invariant()
    def each_request_makes_one_run(self):
        if not hasattr(self, "state"):
            return
        names = [run["display_name"] for run in self.runs()]
        requested = [name for name in names if name.startswith("train-")]
        assert len(requested) == len(set(requested)) <= self.train_calls
        assert self.promised <= set(requested)
        assert sum(name.startswith("config-") for name in names) <= self.configurations

    @invariant()
    def triggered_runs_keep_the_cooldown(self):
        if not hasattr(self, "state"):
            return
        retrain_runs = [run for run in self.runs() if run["display_name"].startswith("retrain-")]
        assert len({run["display_name"] for run in retrain_runs}) == len(retrain_runs)
        created = sorted(
            datetime.datetime.fromisoformat(run["created_at"].replace("Z", "+00:00"))
            for run in retrain_runs
        )
        gaps = [later - earlier for earlier, later in itertools.pairwise(created)]
        assert all(gap >= INTERVAL for gap in gaps), gaps

    def runs(self):
        url = f"{self.sandbox.api_url}/apis/v2beta1/runs"
        response = self.direct.get(url, params={"page_size": 200})
        return response.raise_for_status().json().get("runs", [])


TestTrainer = pytest.mark.exhaustive(Trainer.TestCase)
TestTrainer.settings = SLOW
