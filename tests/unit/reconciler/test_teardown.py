"""Leaving: schedules, rights and runs when a relation, a profile or the application goes."""

import dataclasses
import json
import re
from urllib.parse import unquote

import ops
import ops.testing
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from tests.builders import sdi

PROFILE = "/apis/kubeflow.org/v1/profiles/team-a"
BINDING = (
    "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/rolebindings/kubeflow--trainer-pipelines"
)
ROLEBINDINGS = "GET /apis/rbac.authorization.k8s.io/v1/rolebindings"


@pytest.mark.parametrize("storage", [True, False])
def test_broken_relation_deletes_the_schedule(ctx, configured, kfp_api, schedules, storage):
    # GIVEN a schedule, with or without the relation to object storage
    state = configured(schedule="@daily")
    ctx.run(ctx.on.config_changed(), state)
    assert len(schedules()) == 1
    if not storage:
        state = dataclasses.replace(state, relations={kfp_api})
    # WHEN the relation breaks on a follower, THEN the schedule stays
    other = dataclasses.replace(state, leader=False)
    ctx.run(ctx.on.relation_broken(kfp_api), other)
    assert len(schedules()) == 1
    # WHEN it breaks on the leader, THEN the schedule is deleted, even with bad options
    invalid = dataclasses.replace(state, config={**state.config, "image-number": 10000})
    ctx.run(ctx.on.relation_broken(kfp_api), invalid)
    assert schedules() == []
    # AND a new relation restores it
    if storage:
        ctx.run(ctx.on.relation_changed(kfp_api), state)
        assert len(schedules()) == 1


@pytest.mark.parametrize(("other", "remaining"), [("active", 1), ("dying", 0)])
def test_schedule_stays_while_other_units_remain(
    ctx, configured, kfp_api, schedules, goal_state, other, remaining
):
    # GIVEN a leader that is removed alone, or with the application
    state = configured(schedule="@daily")
    ctx.run(ctx.on.config_changed(), state)
    goal_state(trainer_0="dying", trainer_1=other)
    # WHEN its relations break, as on each removed unit
    ctx.run(ctx.on.relation_broken(kfp_api), state)
    # THEN the schedule stays while the application does
    assert len(schedules()) == remaining


def test_failed_schedule_deletion_is_logged(ctx, configured, kfp_api, proxy, schedules):
    state = configured(schedule="@daily")
    ctx.run(ctx.on.config_changed(), state)
    proxy.fault = lambda *_: 503
    ctx.run(ctx.on.relation_broken(kfp_api), state)
    assert len(schedules()) == 1
    assert any("cannot delete schedules" in log.message for log in ctx.juju_log)


def test_former_profile_keeps_neither_schedule_nor_role_binding(
    ctx, kubernetes, in_profile, configured, proxy
):
    ctx.run(ctx.on.config_changed(), in_profile)
    assert BINDING in kubernetes.objects
    before = len(proxy.requests)
    ctx.run(ctx.on.config_changed(), configured(profile="team-b"))
    paths = [path for _, path in proxy.requests[before:] if "namespace=team-a" in path]
    for experiment in ("-trainer%22", "-trainer.monitor%22"):
        assert any(experiment in path for path in paths), "the schedules there are looked for"
    assert BINDING not in kubernetes.objects
    assert BINDING.replace("team-a", "team-b") in kubernetes.objects


@pytest.fixture
def pipelines():
    """A scripted server for Kubeflow Pipelines."""
    with HTTPServer() as server:
        yield server


def test_configuration_run_is_terminated_in_a_former_profile(
    ctx, kubernetes, configured, kfp_api, pipelines
):
    # GIVEN a multi-user server with runs in two profiles
    terminated = []
    api = "/apis/v2beta1"

    def runs(request):
        team = request.args["experiment_id"]
        rows = [
            {"run_id": f"{team} {name}", "display_name": name, "state": "RUNNING"}
            for name in ("config-1", "train-2", "my config-3")
        ]
        return Response(json.dumps({"runs": rows}), content_type="application/json")

    def experiments(request):
        rows = [{"experiment_id": request.args["namespace"]}]
        monitoring = ".monitor" in request.args["filter"]
        response = {} if monitoring else {"experiments": rows}
        return Response(json.dumps(response), content_type="application/json")

    def end(request):
        terminated.append(unquote(request.path.split("/")[-1]))
        return Response("{}", content_type="application/json")

    pipelines.expect_request(f"{api}/experiments").respond_with_handler(experiments)
    pipelines.expect_request(f"{api}/runs", method="GET").respond_with_handler(runs)
    pipelines.expect_request(f"{api}/recurringruns").respond_with_json({})
    pipelines.expect_request(re.compile(f"{api}/runs/.*:terminate")).respond_with_handler(end)
    server = {"service-name": "127.0.0.1", "service-port": str(pipelines.port)}
    before, after = (
        dataclasses.replace(
            state,
            relations={
                sdi("kfp-api", "kfp-api", server) if relation is kfp_api else relation
                for relation in state.relations
            },
        )
        for state in (
            configured(profile=team, train_on_change=False) for team in ("team-a", "team-b")
        )
    )
    ctx.run(ctx.on.config_changed(), before)
    assert terminated == []
    # WHEN the profile option changes
    ctx.run(ctx.on.config_changed(), after)
    # THEN only the former profile's configuration run is terminated
    assert terminated == ["team-a config-1:terminate"]


def test_refusal_in_a_former_profile_does_not_block(ctx, kubernetes, in_profile, configured):
    ctx.run(ctx.on.config_changed(), in_profile)
    kubernetes.refuse[f"DELETE {BINDING}"] = 403
    out = ctx.run(ctx.on.config_changed(), configured(profile="team-b"))
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert any("cannot clean up a former profile" in log.message for log in ctx.juju_log)


def test_last_unit_deletes_the_role_binding_and_keeps_the_profile(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    last = dataclasses.replace(in_profile, planned_units=0)
    ctx.run(ctx.on.remove(), last)
    assert BINDING not in kubernetes.objects
    assert PROFILE in kubernetes.objects
    # A second removal finds nothing, and succeeds.
    ctx.run(ctx.on.remove(), last)


@pytest.mark.parametrize("change", [{"planned_units": 1}, {"planned_units": 0, "leader": False}])
def test_only_the_last_unit_deletes_the_role_binding(ctx, kubernetes, in_profile, change):
    ctx.run(ctx.on.config_changed(), in_profile)
    ctx.run(ctx.on.remove(), dataclasses.replace(in_profile, **change))
    assert BINDING in kubernetes.objects


def test_removal_continues_if_kubernetes_refuses(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    kubernetes.refuse[f"DELETE {BINDING}"] = 403
    ctx.run(ctx.on.remove(), dataclasses.replace(in_profile, planned_units=0))
    assert any("made to refuse" in log.message for log in ctx.juju_log)


@pytest.mark.parametrize("is_told", [True, False])
def test_role_binding_is_deleted_after_a_change_to_single_user(
    ctx, kubernetes, in_profile, is_told
):
    # GIVEN a trainer in a profile
    peers = ops.testing.PeerRelation("peers")
    state = dataclasses.replace(in_profile, relations={*in_profile.relations, peers})
    state = ctx.run(ctx.on.config_changed(), state)
    assert BINDING in kubernetes.objects
    # WHEN the option is emptied, with or without an event before the removal
    single = dataclasses.replace(state, config={**state.config, "profile": ""})
    if is_told:
        # AND Kubernetes is unreachable at first
        kubernetes.refuse[ROLEBINDINGS] = 503
        single = ctx.run(ctx.on.config_changed(), single)
        assert isinstance(single.unit_status, ops.ActiveStatus)
        assert BINDING in kubernetes.objects
        del kubernetes.refuse[ROLEBINDINGS]
        single = ctx.run(ctx.on.update_status(), single)
    else:
        ctx.run(ctx.on.remove(), dataclasses.replace(single, planned_units=0))
    # THEN the RoleBinding there is deleted
    assert BINDING not in kubernetes.objects
    # AND RoleBindings are not listed any more
    before = len(kubernetes.requests)
    if is_told:
        ctx.run(ctx.on.update_status(), single)
    assert not [line for line, _ in kubernetes.requests[before:] if line == ROLEBINDINGS]


def test_single_user_trainer_does_not_list_role_bindings(ctx, kubernetes, state):
    peers = ops.testing.PeerRelation("peers")
    state = dataclasses.replace(state, relations={*state.relations, peers})
    ctx.run(ctx.on.config_changed(), state)
    assert ROLEBINDINGS not in [line for line, _ in kubernetes.requests]


def test_former_profile_stays_bound_until_its_scheduled_run_ends(
    ctx, kubernetes, configured, proxy, sandbox, schedules, runs
):
    # GIVEN a schedule in a profile, with an active run
    ctx.run(ctx.on.config_changed(), configured(profile="team-a", schedule="@daily"))
    (schedule,) = schedules()
    experiment = schedule["experiment_id"]
    row = sandbox.store.get("recurring_runs", schedule["recurring_run_id"])
    passed_on = ("namespace", "pipeline_id", "version_id", "spec", "parameters")
    run = sandbox.store.add_run(
        **{name: row[name] for name in passed_on},
        pipeline_root="",
        service_account="",
        experiment_id=experiment,
        name="of the schedule",
        recurring_run_id=row["id"],
    )
    # WHEN the profile changes, THEN the schedule is disabled, and the RoleBinding stays until the run ends
    moved = configured(profile="team-b")
    ctx.run(ctx.on.config_changed(), moved)
    assert BINDING in kubernetes.objects
    assert [schedule_row["status"] for schedule_row in schedules()] == ["DISABLED"]
    sandbox.set_run_state(run["id"], "SUCCEEDED")
    ctx.run(ctx.on.update_status(), moved)
    assert BINDING not in kubernetes.objects
    assert schedules() == []
