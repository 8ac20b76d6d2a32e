"""The integration tests' scenarios, in a model of ops.testing with the sandbox."""

import functools
import importlib.util
import sys
from pathlib import Path

import ops.testing
import pytest

import kfp_ops
from charm import FashionMnistTrainerCharm
from sandbox import Sandbox

INTEGRATION = Path(__file__).parents[1] / "integration"


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


deployment = load("deployment", INTEGRATION / "deployment.py")
scenarios = load("scenarios", INTEGRATION / "scenarios.py")


def finish_runs(sandbox):
    for run in sandbox.store.select("runs", "state = 'PENDING'"):
        sandbox.set_run_state(run["id"], "SUCCEEDED")


class Simulated:
    """A model of one trainer: each change sends Juju's events to each unit."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.config = {}
        self.relations = {}
        self.options = {}
        self.found = {}
        self.leader = 0
        self.pods = {}
        self.refreshed = 0

    def deploy(self, charm, app, *, config=None, resources=None, trust=False):
        if app != scenarios.APP:
            self.options[app] = (charm, config)
            return
        assert trust
        assert resources
        self.config = dict(config)
        self.scale(app, 1)

    def integrate(self, one, other):
        app = other.partition(":")[0]
        path, config = self.options[app]
        module = load(f"simulated_{app.replace('-', '_')}", path / "src" / "charm.py")
        (charm,) = (value for value in vars(module).values() if isinstance(value, type))
        relation = ops.testing.Relation(app)
        ctx = ops.testing.Context(charm, charm_root=path)
        state = ops.testing.State(leader=True, relations={relation}, config=config)
        bag = (
            ctx.run(ctx.on.relation_created(relation), state)
            .get_relation(relation.id)
            .local_app_data
        )
        self.relations[app] = ops.testing.Relation(
            app, remote_app_name=app, remote_app_data=dict(bag)
        )
        self._send("config_changed")

    def configure(self, app, **options):
        self.config |= options
        self._send("config_changed")

    def run_action(self, unit, action, **params):
        ctx = self._ctx(int(unit.partition("/")[2]))
        ctx.run(ctx.on.action(action, params=params), self._state(unit))
        return dict(ctx.action_results)

    def units(self, app):
        return list(self.found.values())

    def wait(self, until, minutes):
        for _ in range(5):
            if until():
                return
            finish_runs(self.sandbox)
            self._send("update_status")
        raise TimeoutError(self.found)

    def scale(self, app, units):
        self.found = {f"{app}/{number}": None for number in range(units)}
        self._send("config_changed")

    def pod(self, unit):
        return f"uid-{self.pods.get(unit, 0)}"

    def revision(self, app):
        return self.refreshed

    def kill(self, unit):
        self.pods[unit] = self.pods.get(unit, 0) + 1
        self.leader = 1 - self.leader
        self._send("leader_elected", "config_changed")

    def refresh(self, app, charm, resources):
        self.refreshed += 1
        self._send("upgrade_charm", "config_changed")

    def remove(self, app):
        self._send("remove")
        self.found = {}

    def _ctx(self, number):
        return ops.testing.Context(FashionMnistTrainerCharm, app_name="trainer", unit_id=number)

    def _state(self, unit):
        return ops.testing.State(
            leader=unit.endswith(f"/{self.leader}"),
            config=self.config,
            containers={ops.testing.Container("pushgateway", can_connect=False)},
            relations=set(self.relations.values()),
            planned_units=len(self.found),
            model=ops.testing.Model(name="kubeflow", uuid="11111111-2222-4333-8444-555555555555"),
        )

    def _send(self, *events):
        for number, unit in enumerate(self.found):
            state = self._state(unit)
            for event in events:
                ctx = self._ctx(number)
                out = ctx.run(getattr(ctx.on, event)(), state)
            status = out.unit_status
            self.found[unit] = deployment.Unit(
                name=unit,
                status=status.name,
                message=status.message,
                leader=state.leader,
                idle=True,
            )


@pytest.fixture
def deployed(tmp_path, monkeypatch):
    with Sandbox(tmp_path, execute=False) as sandbox:

        def pause(_):
            finish_runs(sandbox)

        monkeypatch.setattr(kfp_ops, "follow", functools.partial(kfp_ops.follow, pause=pause))
        yield Simulated(sandbox)


def test_scenarios_pass_in_sequence(deployed):
    api, s3 = (
        url.removeprefix("http://").split(":")
        for url in (deployed.sandbox.api_url, deployed.sandbox.s3_url)
    )
    kit = scenarios.Kit(
        trainer=Path("trainer.charm"),
        stand_ins={app: INTEGRATION / "charms" / app for app in ("kfp-api", "object-storage")},
        options={
            "kfp-api": {"service-name": api[0], "service-port": int(api[1])},
            "object-storage": {
                "service": s3[0],
                "port": int(s3[1]),
                "access-key": deployed.sandbox.access_key,
                "secret-key": deployed.sandbox.secret_key,
            },
        },
    )
    scenarios.deployment_becomes_active(deployed, kit)
    scenarios.train_action_submits_a_run(deployed)
    scenarios.changed_option_submits_one_run(deployed)
    scenarios.one_of_two_units_is_leader(deployed)
    scenarios.leader_pod_is_replaced(deployed)
    scenarios.refresh_submits_no_run(deployed, kit)
    scenarios.application_is_removed(deployed)
