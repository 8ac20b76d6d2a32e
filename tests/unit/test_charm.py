"""The charm through Juju events: relations, units, errors in statuses and in actions."""

import dataclasses
import json

import ops
import ops.testing
import pytest
import yaml

from tests.builders import trainer, unrelated_state


def test_missing_relations_block_with_the_command(ctx):
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=True))
    assert out.unit_status == ops.BlockedStatus(
        "no relation kfp-api; add it with: juju integrate trainer:kfp-api kfp-api:kfp-api"
    )


def test_missing_object_storage_relation_blocks_with_the_command(ctx, kfp_api, runs):
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=True, relations={kfp_api}))
    assert out.unit_status == ops.BlockedStatus(
        "no relation object-storage; add it with: "
        "juju integrate trainer:object-storage minio:object-storage"
    )
    assert runs() == []


def test_commands_use_juju_2_syntax_under_juju_2():
    ctx = trainer(juju_version="2.9.53")
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=True))
    assert "juju relate trainer:kfp-api kfp-api:kfp-api" in out.unit_status.message


def test_leader_publishes_the_supported_interface_versions(ctx):
    # GIVEN relations without remote data
    relations = {ops.testing.Relation("kfp-api"), ops.testing.Relation("object-storage")}
    # WHEN an event is handled
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=True, relations=relations))
    # THEN both have the supported versions, and the charm waits
    for relation in out.relations:
        assert relation.local_app_data == {"_supported_versions": "- v1\n"}
    assert isinstance(out.unit_status, ops.WaitingStatus)


def test_follower_publishes_nothing(ctx):
    relation = ops.testing.Relation("kfp-api")
    out = ctx.run(ctx.on.config_changed(), unrelated_state(leader=False, relations={relation}))
    assert out.get_relation(relation.id).local_app_data == {}


@pytest.mark.parametrize(
    "data",
    [
        "{not yaml",
        "- a list",
        "just text",
        "service-name: kfp-api\n",
        "service-name: kfp-api\nservice-port: many\n",
        "service-name: kfp-api\nservice-port: 70000\n",
        "service-name: ''\nservice-port: 8888\n",
        "service-name: {a: 1}\nservice-port: 8888\n",
    ],
)
def test_wrong_kfp_api_data_blocks(ctx, state, kfp_api, data, runs):
    invalid = dataclasses.replace(kfp_api, remote_app_data={"data": data})
    out = ctx.run(
        ctx.on.relation_changed(invalid),
        dataclasses.replace(
            state, relations={invalid, *(r for r in state.relations if r is not kfp_api)}
        ),
    )
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "relation kfp-api: invalid data" in out.unit_status.message
    assert runs() == []


@pytest.mark.parametrize("missing", ["service", "port"])
def test_incomplete_object_storage_data_blocks_without_showing_a_secret(
    ctx, state, object_storage, missing, sandbox
):
    data = yaml.safe_load(object_storage.remote_app_data["data"])
    del data[missing]
    invalid = dataclasses.replace(object_storage, remote_app_data={"data": yaml.safe_dump(data)})
    relations = {invalid, *(r for r in state.relations if r is not object_storage)}
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, relations=relations))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert missing in out.unit_status.message
    assert sandbox.secret_key not in out.unit_status.message


@pytest.mark.parametrize("keys", [{}, {"access-key": "", "secret-key": ""}])
def test_object_storage_without_keys_is_waiting(ctx, state, object_storage, keys):
    data = yaml.safe_load(object_storage.remote_app_data["data"])
    data = {name: value for name, value in data.items() if not name.endswith("-key")} | keys
    related = dataclasses.replace(object_storage, remote_app_data={"data": yaml.safe_dump(data)})
    relations = {related, *(r for r in state.relations if r is not object_storage)}
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, relations=relations))
    assert out.unit_status == ops.WaitingStatus("relation object-storage: waiting for its keys")


@pytest.mark.parametrize("other_units", [{}, {"trainer_1": "active"}, {"trainer_1": "dying"}])
@pytest.mark.parametrize("leader", [True, False])
def test_leaving_unit_reports_its_removal(ctx, state, kfp_api, goal_state, other_units, leader):
    goal_state(trainer_0="dying", **other_units)
    out = ctx.run(ctx.on.relation_broken(kfp_api), dataclasses.replace(state, leader=leader))
    assert out.unit_status == ops.MaintenanceStatus("the unit is being removed")


def test_broken_relation_blocks(ctx, state, kfp_api):
    out = ctx.run(ctx.on.relation_broken(kfp_api), state)
    assert out.unit_status.name == "blocked"
    assert "no relation kfp-api" in out.unit_status.message


@pytest.mark.parametrize("action", ["train", "list-runs", "rollback"])
def test_action_with_a_bad_option_shows_the_command_that_fixes_it(ctx, configured, action):
    with pytest.raises(ops.testing.ActionFailed) as failed:
        ctx.run(ctx.on.action(action), configured(recipe="magic"))
    assert failed.value.message.startswith("recipe must be one of")
    assert failed.value.message.endswith("set it with: juju config trainer recipe=VALUE")


def test_failed_action_does_not_promise_a_retry(ctx, state, sandbox):
    sandbox.stop()
    for action in ("train", "list-runs"):
        with pytest.raises(ops.testing.ActionFailed) as failed:
            ctx.run(ctx.on.action(action), state)
        assert "run the action again: juju run trainer/leader list-runs" in failed.value.message
        assert "retries at" not in failed.value.message


@pytest.mark.parametrize(
    ("moment", "resource"),
    [("after", "/runs"), ("before", "/recurringruns")],
    ids=["lost", "later"],
)
def test_submitted_run_is_returned_despite_a_later_error(
    ctx, configured, proxy, runs, moment, resource
):
    # GIVEN a proxy that loses the response to the run, or a server that rejects schedules
    state = configured(schedule="@daily", train_on_change=False)
    failing = (moment, "POST", resource)
    proxy.fault = lambda when, _, method, path: (
        504 if (when, method, path[-len(resource) :]) == failing else None
    )
    # WHEN a run is requested, THEN it is returned
    ctx.run(ctx.on.action("train"), state)
    (run,) = runs()
    assert ctx.action_results["run-id"] == run["run_id"]


def test_unreachable_server_is_waiting(ctx, state, sandbox, runs):
    sandbox.stop()
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "retries at the next update-status" in out.unit_status.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, ops.WaitingStatus),
        (503, ops.WaitingStatus),
        (401, ops.BlockedStatus),
        (403, ops.BlockedStatus),
        (400, ops.BlockedStatus),
    ],
)
def test_server_refusal_shows_in_the_status(ctx, state, proxy, status, kind):
    proxy.fault = lambda *_: status
    out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, kind)
    assert str(status) in out.unit_status.message
    # The whole response is in the log.
    assert "made to fail" in "".join(log.message for log in ctx.juju_log)


def test_follower_submits_nothing_and_is_standby(ctx, state, runs):
    # GIVEN a follower, and no run
    follower = dataclasses.replace(state, leader=False)
    out = ctx.run(ctx.on.config_changed(), follower)
    assert runs() == []
    # WHEN the leader has submitted
    ctx.run(ctx.on.config_changed(), state)
    out = ctx.run(ctx.on.update_status(), follower)
    # THEN the follower shows no progress, which would become stale
    assert out.unit_status == ops.ActiveStatus("standby; the leader reports runs and models")
    assert len(runs()) == 1


def test_bad_option_blocks_and_submits_nothing(ctx, configured, runs):
    out = ctx.run(ctx.on.config_changed(), configured(epochs=-1))
    assert out.unit_status == ops.BlockedStatus(
        "epochs must be between 0 and 1000, not '-1'; set it with: juju config trainer epochs=VALUE"
    )
    assert runs() == []


def test_registry_texts_are_made_printable(ctx, state, run_action, runs, registry, sandbox):
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    registry(run["run_id"], accuracy=0.5, reasons=["a\x00b\ud800", "x" * 200_000])
    sandbox.set_run_state(run["run_id"], "SUCCEEDED")
    reasons = run_action("get-run")["verdict-reasons"]
    assert reasons.startswith("a\ufffdb\ufffd; xxx")
    assert len(reasons) < 1000


@pytest.mark.parametrize("action", ["train", "get-run", "cancel-run"])
def test_results_have_no_terminal_control_characters(ctx, configured, run_action, action):
    state = ctx.run(ctx.on.config_changed(), configured(dashboard_url="https://kubeflow/\x1b[2J"))
    url = run_action(action, state)["run-url"]
    assert url.startswith("https://kubeflow/\ufffd[2J/_/pipeline/#/runs/details/")


def test_results_are_truncated_to_jujus_limit(run_action, registry):
    # GIVEN versions whose lines exceed the limit of a program's argument
    result = {"metrics": {"test": {"accuracy": 0.9}}, "verdict": {"status": "", "reasons": []}}
    wide = {
        "schema_version": 1,
        "run_id": "\U0001f45f" * 256,
        "reason": "\U0001f45f" * 300,
        **result,
    }
    for version in range(1, 101):
        registry.put(f"{version}/manifest.json", wide)
    # WHEN they are listed, THEN the newest are returned, with an ellipsis
    results = run_action("list-models", limit=100)
    assert results["count"] == "100"
    assert results["models"].startswith("v100  0.9000  ")
    assert results["models"].endswith("\u2026")
    assert len(results["models"].encode()) < 128 * 1024


def test_storage_keys_are_not_shown(ctx, state, sandbox, runs):
    out = ctx.run(ctx.on.config_changed(), state)
    text = json.dumps(
        [
            runs(),
            [log.message for log in ctx.juju_log],
            out.unit_status.message,
            [dict(relation.local_app_data) for relation in out.relations],
        ]
    )
    assert sandbox.secret_key not in text
    assert sandbox.access_key not in text
