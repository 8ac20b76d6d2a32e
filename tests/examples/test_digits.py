"""The example's charm on the sandbox, on a single-user server and on one with profiles."""

import dataclasses
import functools
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import ops
import ops.testing
import pytest
import yaml

import kfp_ops
from sandbox import User

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
BINDING = (
    "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/rolebindings/kubeflow--digits-pipelines"
)
ACCOUNT = "system:serviceaccount:kubeflow:digits"


@pytest.fixture(scope="module")
def charm():
    # The charm's modules are not on the path, where the trainer's have the same names.
    for name, module in (("digits", "digits"), ("digits_charm", "charm")):
        spec = importlib.util.spec_from_file_location(name, EXAMPLE / "src" / f"{module}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    yield sys.modules["digits_charm"].DigitsCharm
    del sys.modules["digits"], sys.modules["digits_charm"]


@pytest.fixture
def ctx(charm):
    return ops.testing.Context(charm, app_name="digits", charm_root=EXAMPLE)


@pytest.fixture
def users():
    """None for a single-user server."""


@pytest.fixture
def execute():
    """Whether the sandbox executes runs."""
    return False


@pytest.fixture
def kfp_sandbox_options(users, execute):
    return {"users": users, "execute": execute}


@pytest.fixture
def relations(kfp_sandbox_databags):
    return {
        name: ops.testing.Relation(name, remote_app_data=data)
        for name, data in kfp_sandbox_databags.items()
    }


@pytest.fixture
def kfp_api(relations):
    return relations["kfp-api"]


@pytest.fixture
def state(relations):
    return ops.testing.State(
        leader=True,
        relations=set(relations.values()),
        model=ops.testing.Model(name="kubeflow", uuid="11111111-2222-4333-8444-555555555555"),
    )


@pytest.fixture
def configured(state):
    def change(**config):
        return dataclasses.replace(state, config=config)

    return change


@pytest.fixture
def runs(kfp_sandbox):
    return lambda: kfp_sandbox.store.select("runs")


@pytest.fixture
def schedules(kfp_sandbox):
    return lambda: kfp_sandbox.store.select("recurring_runs")


def cron(schedule):
    return json.loads(schedule["trigger"])["cron_schedule"]["cron"]


def test_charm_is_short():
    assert len((EXAMPLE / "src" / "charm.py").read_text().splitlines()) < 120


def test_compiled_pipeline_matches_its_source(tmp_path):
    compiled = EXAMPLE / "src" / "pipelines" / "digits.yaml"
    program = (
        "import pipeline; "
        f"pipeline.compiler.Compiler().compile(pipeline.digits, {str(tmp_path / 'made.yaml')!r})"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=EXAMPLE, check=True)
    documents = list(yaml.safe_load_all((tmp_path / "made.yaml").read_text()))
    assert documents == list(yaml.safe_load_all(compiled.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("execute", [True])
def test_configuration_makes_one_run_with_its_accuracy_in_the_status(ctx, state, kfp_sandbox, runs):
    # WHEN several events have the same configuration
    for event in (ctx.on.config_changed(), ctx.on.update_status(), ctx.on.leader_elected()):
        out = ctx.run(event, state)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    # THEN there is one run, and it trains on scikit-learn's digits
    url = f"{kfp_sandbox.api_url}/apis/v2beta1/runs"
    end = time.monotonic() + 300
    while True:
        (run,) = httpx.get(url, trust_env=False).json()["runs"]
        if run["state"] in ("SUCCEEDED", "FAILED"):
            break
        assert time.monotonic() < end, run
        time.sleep(0.5)
    assert run["state"] == "SUCCEEDED", kfp_sandbox.run_log(run["run_id"]).read_text()
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert f"run {run['display_name']} SUCCEEDED, accuracy 0.99" in out.unit_status.message


def test_new_configuration_replaces_the_run(ctx, state, configured, runs):
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.config_changed(), configured(regularization=2.0))
    assert sorted(run["state"] for run in runs()) == ["CANCELING", "PENDING"]


def test_schedule_follows_the_option(ctx, state, configured, schedules):
    ctx.run(ctx.on.config_changed(), configured(schedule="daily"))
    (daily,) = schedules()
    assert cron(daily) == "0 0 0 * * *"
    ctx.run(ctx.on.config_changed(), configured(schedule="0 3 * * 1"))
    (weekly,) = schedules()
    assert cron(weekly) == "0 0 3 * * 1"
    ctx.run(ctx.on.config_changed(), state)
    assert schedules() == []


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED"])
def test_train_waits_for_its_run(ctx, state, kfp_sandbox, runs, monkeypatch, end):
    def pause(_):
        kfp_sandbox.set_run_state(next(r["id"] for r in runs() if "train-" in r["name"]), end)

    monkeypatch.setattr(kfp_ops, "follow", functools.partial(kfp_ops.follow, pause=pause))
    event = ctx.on.action("train", params={"wait": True})
    if end == "FAILED":
        with pytest.raises(ops.testing.ActionFailed, match="is FAILED"):
            ctx.run(event, state)
    else:
        ctx.run(event, state)
    assert end in ctx.action_results["status"]
    assert any(line.endswith(end) for line in ctx.action_logs)
    assert len(runs()) == 2


def test_train_without_wait_returns_the_submitted_run(ctx, state, runs):
    ctx.run(ctx.on.action("train"), state)
    assert ctx.action_results["run-id"] in {run["id"] for run in runs()}


def test_train_on_another_unit_names_the_leader(ctx, state, runs):
    with pytest.raises(ops.testing.ActionFailed, match="juju run digits/leader train"):
        ctx.run(ctx.on.action("train"), dataclasses.replace(state, leader=False))
    assert runs() == []


@pytest.mark.parametrize("phase", ["Pending", "Failed"])
def test_status_shows_the_reason_of_a_failed_or_stuck_run(
    ctx, state, kfp_sandbox, runs, kubernetes, phase
):
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    waiting = {"reason": "ImagePullBackOff", "message": "no such tag"}
    main = {"name": "main", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    pod = {
        "metadata": {
            "name": "digits-1",
            "labels": {"pipeline/runid": run["id"]},
            "annotations": {"workflows.argoproj.io/node-name": "digits-x.root.train.executor"},
        },
        "status": {"phase": phase, "containerStatuses": [{**main, "state": {"waiting": waiting}}]},
    }
    if phase == "Failed":
        kfp_sandbox.set_run_state(run["id"], "FAILED")
        pod["status"] = {"phase": phase, "reason": "Evicted", "message": "low on memory"}
    kubernetes.lists["/api/v1/namespaces/kubeflow/pods"] = [pod]
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    reason = "Evicted: low on memory" if phase == "Failed" else "ImagePullBackOff: no such tag"
    assert f"step train: {reason}" in out.unit_status.message


@pytest.mark.parametrize(
    ("config", "remedy"),
    [
        ({"regularization": 0.0}, "juju config digits regularization=1.0"),
        ({"regularization": -1.0}, "juju config digits regularization=1.0"),
        ({"schedule": "sometimes"}, "juju config digits schedule=daily"),
    ],
)
def test_bad_option_is_shown_with_the_remedy(ctx, configured, config, remedy):
    out = ctx.run(ctx.on.config_changed(), configured(**config))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert remedy in out.unit_status.message


def test_missing_relations_are_named(ctx, state, kfp_api):
    out = ctx.run(ctx.on.config_changed(), ops.testing.State(leader=True))
    assert out.unit_status == ops.BlockedStatus("integrate with kfp-api, or wait for its data")
    state = dataclasses.replace(state, relations={kfp_api})
    out = ctx.run(ctx.on.config_changed(), state)
    assert out.unit_status == ops.BlockedStatus(
        "integrate with object-storage, or wait for its data"
    )


def test_unreachable_server_is_waiting(ctx, state, kfp_sandbox):
    kfp_sandbox.stop()
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.WaitingStatus)


def test_removed_relation_deletes_schedule_and_terminates_runs(
    ctx, configured, kfp_api, runs, schedules
):
    state = ctx.run(ctx.on.config_changed(), configured(schedule="daily"))
    ctx.run(ctx.on.relation_broken(state.get_relation(kfp_api.id)), state)
    assert schedules() == []
    assert [run["state"] for run in runs()] == ["CANCELING"]


@pytest.mark.parametrize(
    "users",
    [[User(name=ACCOUNT, token="token for pipelines.kubeflow.org", roles={"team-a": "edit"})]],
)
class TestMultiUser:
    @pytest.fixture
    def in_profile(self, configured):
        return configured(profile="team-a", schedule="daily")

    def test_profile_is_created_and_bound_and_its_run_submitted(
        self, ctx, in_profile, kubernetes, runs, schedules
    ):
        out = ctx.run(ctx.on.config_changed(), in_profile)
        assert isinstance(out.unit_status, ops.ActiveStatus), out.unit_status
        owner = kubernetes.objects["/apis/kubeflow.org/v1/profiles/team-a"]["spec"]["owner"]
        assert owner == {"kind": "User", "name": ACCOUNT}
        assert BINDING in kubernetes.objects
        assert [row["namespace"] for row in (*runs(), *schedules())] == ["team-a"] * 2

    def test_application_without_trust_is_blocked(self, ctx, in_profile, kubernetes, runs):
        kubernetes.refuse["GET /apis/kubeflow.org/v1/profiles/team-a"] = 403
        out = ctx.run(ctx.on.config_changed(), in_profile)
        assert isinstance(out.unit_status, ops.BlockedStatus)
        assert "profile team-a" in out.unit_status.message
        assert runs() == []

    def test_removal_deletes_schedule_runs_and_role_binding(
        self, ctx, in_profile, kfp_api, kubernetes, runs, schedules
    ):
        state = ctx.run(ctx.on.config_changed(), in_profile)
        ctx.run(ctx.on.relation_broken(state.get_relation(kfp_api.id)), state)
        ctx.run(ctx.on.remove(), dataclasses.replace(state, planned_units=0))
        assert schedules() == []
        assert [run["state"] for run in runs()] == ["CANCELING"]
        assert BINDING not in kubernetes.objects
        assert "/apis/kubeflow.org/v1/profiles/team-a" in kubernetes.objects
