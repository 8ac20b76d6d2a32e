"""Object storage: unreachable servers, refusals, and writes without conditional requests."""

import dataclasses
import json
import re

import obstore
import ops
import ops.testing
import pytest
import yaml

from fashion_mnist.storage import open_registry
from k8s.config_maps import ConfigMaps
from sandbox import Sandbox


def test_object_storage_requests_bypass_the_model_proxy(ctx, state, three_versions, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    out = ctx.run(ctx.on.config_changed(), state)
    assert "v3 serves, accuracy 0.9300" in out.unit_status.message


@pytest.fixture
def unconditional_servers(monkeypatch):
    """All S3 servers ignore conditions on puts."""
    put = obstore.put
    monkeypatch.setattr(
        obstore, "put", lambda store, path, content, mode=None: put(store, path, content)
    )


@pytest.mark.parametrize(("action", "params"), [("promote", {"version": 1}), ("rollback", {})])
def test_champion_cannot_move_without_conditional_writes_or_kubernetes(
    run_action, three_versions, request, monkeypatch, action, params
):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    request.getfixturevalue("unconditional_servers")
    with pytest.raises(ops.testing.ActionFailed, match="ignores If-None-Match") as failed:
        run_action(action, **params)
    assert "MinIO RELEASE.2024-05-07 or later" in failed.value.message
    assert run_action("list-models")["champion"] == "3"


@pytest.mark.usefixtures("unconditional_servers")
def test_no_run_is_submitted_without_conditional_writes_or_kubernetes(
    ctx, state, runs, monkeypatch
):
    # GIVEN an S3 server without conditional writes, and no Kubernetes
    monkeypatch.delenv("KUBECONFIG", raising=False)
    # WHEN the relations are added THEN the status shows it, without truncation by Juju
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert out.unit_status.message == (
        "object storage ignores If-None-Match, and there is no Kubernetes; use MinIO "
        "RELEASE.2024-05-07 or later, or Amazon S3"
    )
    assert len(out.unit_status.message) <= 120
    assert runs() == []


class TestThroughKubernetes:
    """An S3 server without conditional writes, beside a cluster."""

    @pytest.fixture
    def sandbox(self, tmp_path, monkeypatch):
        with Sandbox(
            tmp_path / "sandbox", execute=False, s3_without_conditional_writes=True
        ) as sandbox:
            monkeypatch.setenv("KUBECONFIG", str(sandbox.kubeconfig))
            yield sandbox

    @pytest.fixture
    def steps(self, sandbox, monkeypatch):
        """The registry, as the pipeline's steps write it."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_key)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        return open_registry("s3://mlpipeline/models/fashion-mnist", sandbox.s3_url)

    def test_charm_and_steps_move_the_champion(self, ctx, state, run_action, three_versions, steps):
        # GIVEN the leader with the relation
        out = ctx.run(ctx.on.config_changed(), state)
        assert isinstance(out.unit_status, ops.ActiveStatus)
        # WHEN the champion is moved THEN the steps see it, and can move it
        assert run_action("promote", version=1)["champion"] == "1"
        assert run_action("rollback")["champion"] == "3"
        assert steps.champion().sequence == 5
        steps.move_champion(2, after=5, reason="better")
        assert run_action("list-models")["champion"] == "2"

    def test_promote_fails_if_a_step_moves_the_champion_first(
        self, run_action, three_versions, steps, monkeypatch
    ):
        # GIVEN a step that moves the champion between the charm's observation and its move
        replace, moves = ConfigMaps.replace, []

        def late(self, config_map):
            if "champion/" in config_map.data.get("claim", "") and not moves:
                moves.append(steps.move_champion(2, after=3, reason="better"))
            return replace(self, config_map)

        monkeypatch.setattr(ConfigMaps, "replace", late)
        with pytest.raises(ops.testing.ActionFailed, match="another writer moved"):
            run_action("promote", version=1)
        assert run_action("list-models")["champion"] == "2"

    def test_run_in_another_namespace_is_not_submitted(self, ctx, state, runs):
        ctx.run(ctx.on.config_changed(), state)
        (run,) = runs()
        # WHEN runs are in another namespace than the registry's
        model = dataclasses.replace(state.model, name="another")
        out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, model=model))
        # THEN the status shows it, with the remedy
        assert out.unit_status == ops.BlockedStatus(
            "the registry is in namespace kubeflow, runs in another; use another: "
            "juju config trainer registry-prefix=VALUE"
        )
        assert len(out.unit_status.message) <= 120
        assert run["run_id"] in {row["run_id"] for row in runs()}
        assert len(runs()) == 1

    def test_missing_permissions_show_the_command_that_grants_them(self, ctx, state, runs, sandbox):
        # GIVEN an invalid token
        kubeconfig = json.loads(sandbox.kubeconfig.read_text())
        kubeconfig["users"][0]["user"]["token"] = "another"
        sandbox.kubeconfig.write_text(json.dumps(kubeconfig))
        out = ctx.run(ctx.on.config_changed(), state)
        assert out.unit_status == ops.BlockedStatus(
            "no permission to write ConfigMaps in kubeflow; allow it with: juju trust "
            "trainer --scope=cluster"
        )
        assert len(out.unit_status.message) <= 120
        assert runs() == []

    def test_unreachable_api_server_is_waiting(self, ctx, state, runs, sandbox):
        kubeconfig = json.loads(sandbox.kubeconfig.read_text())
        kubeconfig["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
        sandbox.kubeconfig.write_text(json.dumps(kubeconfig))
        out = ctx.run(ctx.on.config_changed(), state)
        assert isinstance(out.unit_status, ops.WaitingStatus)
        assert "cannot reach Kubernetes" in out.unit_status.message
        assert runs() == []


def test_promote_probes_conditional_writes_once(run_action, three_versions, monkeypatch):
    put, paths = obstore.put, []

    def counted(store, path, *args, **kwargs):
        paths.append(path)
        return put(store, path, *args, **kwargs)

    run_action("promote", version=1)
    monkeypatch.setattr(obstore, "put", counted)
    run_action("list-models")
    assert paths == []
    run_action("rollback")
    assert paths == ["probe.json", "champion/00000005.json"]


@pytest.mark.parametrize(
    ("action", "params"), [("promote", {"version": 1}), ("rollback", {}), ("list-models", {})]
)
def test_unreachable_registry_fails_the_action(state, run_action, object_storage, action, params):
    data = yaml.safe_load(object_storage.remote_app_data["data"]) | {"port": 1}
    unreachable = dataclasses.replace(
        object_storage,
        remote_app_data={**object_storage.remote_app_data, "data": yaml.safe_dump(data)},
    )
    relations = [relation for relation in state.relations if relation.endpoint != "object-storage"]
    with pytest.raises(ops.testing.ActionFailed, match=r"object storage .* cannot be read"):
        run_action(
            action, state=dataclasses.replace(state, relations=[*relations, unreachable]), **params
        )


MANIFEST = {
    "schema_version": 1,
    "run_id": "x",
    "metrics": {"test": {"accuracy": 0.9}},
    "verdict": {"status": "accepted", "reasons": []},
}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"schema_version": 2},
        {"schema_version": 1, "run_id": "x", "metrics": {}, "verdict": {}},
        {"schema_version": 1, "run_id": "x", "metrics": [], "verdict": []},
        ["a list"],
        {**MANIFEST, "created_at": "2026-01-01T00:00:00"},
        {**MANIFEST, "created_at": "0001-01-01T00:00:00+14:00"},
        {**MANIFEST, "metrics": {"test": {"accuracy": "x" * 5000}}},
        {**MANIFEST, "metrics": {"test": {"accuracy": 10**400}}},
        {**MANIFEST, "schema_version": "\ud800" * 5000},
    ],
    ids=lambda content: str(content)[:40],
)
def test_invalid_manifest_blocks_and_training_continues(ctx, configured, registry, content, runs):
    registry.put("3/manifest.json", content)
    registry.put("champion/00000001.json", {"version": 3})
    out = ctx.run(ctx.on.config_changed(), configured(retrain_after=1))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert len(out.unit_status.message.encode()) < 500
    assert len(runs()) == 1  # training does not depend on it


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"9" * 5000])
def test_invalid_json_object_is_named(ctx, state, registry, content):
    obstore.put(registry.store, "champion/00000001.json", content)
    out = ctx.run(ctx.on.config_changed(), state)
    assert "champion/00000001.json is not a JSON object" in out.unit_status.message


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (404, "NoSuchBucket", ops.BlockedStatus, "option registry-bucket"),
        (403, "AccessDenied", ops.BlockedStatus, "relation object-storage"),
        (403, "SignatureDoesNotMatch", ops.BlockedStatus, "relation object-storage"),
        (503, "SlowDown", ops.WaitingStatus, "retries at the next update-status"),
    ],
)
def test_object_storage_refusal_shows_the_remedy(
    ctx, state, object_storage, httpserver, runs, status, code, kind, message
):
    # GIVEN an S3 server with this error
    httpserver.expect_request(re.compile(".*")).respond_with_data(
        f"<?xml version='1.0'?>\n<Error><Code>{code}</Code></Error>", status=status
    )
    address = yaml.safe_load(object_storage.remote_app_data["data"]) | {"port": httpserver.port}
    data = {**object_storage.remote_app_data, "data": yaml.safe_dump(address)}
    relation_ = dataclasses.replace(object_storage, remote_app_data=data)
    relations = {
        relation_ if relation is object_storage else relation for relation in state.relations
    }
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, relations=relations))
    # THEN the status shows it, and no run is submitted, as it could not fetch its code
    assert isinstance(out.unit_status, kind)
    assert message in out.unit_status.message
    assert runs() == []


@pytest.mark.parametrize("pointer", [{}, {"version": 7}, {"version": "../../x"}, {"version": None}])
def test_champion_without_a_version_blocks(ctx, state, registry, pointer):
    registry.put("champion/00000001.json", pointer)
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "champion/00000001.json names" in out.unit_status.message


@pytest.fixture
def without_storage(object_storage):
    """Return a state with unreachable object storage."""
    data = yaml.safe_load(object_storage.remote_app_data["data"])
    unreachable = {"data": yaml.safe_dump({**data, "port": 1})}

    def take(state):
        relation = dataclasses.replace(object_storage, remote_app_data=unreachable)
        relations = (r for r in state.relations if r.endpoint != "object-storage")
        return dataclasses.replace(state, relations={relation, *relations})

    return take


def test_no_run_is_submitted_without_object_storage(ctx, state, without_storage, runs):
    out = ctx.run(ctx.on.config_changed(), without_storage(state))
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "object storage" in out.unit_status.message
    assert runs() == []
    # WHEN it is reachable again THEN the next event submits the run
    ctx.run(ctx.on.update_status(), state)
    assert len(runs()) == 1


@pytest.mark.parametrize("option", ["schedule", "monitor-schedule"])
def test_schedules_and_runs_stop_while_the_registry_is_unwritable(
    ctx, state, sandbox, runs, schedules, option
):
    # GIVEN a schedule, and a configuration run
    config = {"schedule": "0 3 * * 0", option: "0 3 * * 0", "monitor-data": "s3://b/production"}
    state = dataclasses.replace(state, config={**state.config, **config})
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    before = {schedule["recurring_run_id"] for schedule in schedules()}
    # AND a registry that is written through another namespace than the runs'
    record = {"method": "kubernetes", "namespace": "old", "config_map": "c", "id": "i"}
    content = json.dumps({"schema_version": 1, **record}).encode()
    obstore.put(sandbox.objects("models/fashion-mnist"), "writes.json", content)
    # WHEN the schedule is paused
    paused = dataclasses.replace(state, config={**state.config, "schedule-paused": True})
    out = ctx.run(ctx.on.config_changed(), paused)
    # THEN it is disabled, and the status names the error
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "the registry is in namespace old" in out.unit_status.message
    assert "DISABLED" in {schedule["status"] for schedule in schedules()}
    # WHEN the configuration changes
    changed = dataclasses.replace(state, config={**state.config, "epochs": 3})
    ctx.run(ctx.on.config_changed(), changed)
    # THEN the run is terminated, and nothing is submitted or scheduled in its place
    (ended_run,) = runs()
    assert (ended_run["run_id"], ended_run["state"]) == (run["run_id"], "CANCELING")
    assert {schedule["recurring_run_id"] for schedule in schedules()} == before
