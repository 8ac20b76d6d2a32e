"""The trainer in a multi-user Kubeflow: its profile, its rights, its token."""

import dataclasses
import datetime
import json
import re
from urllib.parse import unquote

import ops
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from tests.builders import sdi

PROFILE = "/apis/kubeflow.org/v1/profiles/team-a"
NAMESPACE = "/api/v1/namespaces/team-a"
BINDING = (
    "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/rolebindings/kubeflow--trainer-pipelines"
)
ROLEBINDINGS = "GET /apis/rbac.authorization.k8s.io/v1/rolebindings"
TOKEN = "/api/v1/namespaces/kubeflow/serviceaccounts/trainer/token"


@pytest.fixture
def in_profile(configured):
    return configured(profile="team-a")


def test_the_profile_is_created_bound_and_used_with_a_token(ctx, kubernetes, in_profile, proxy):
    # GIVEN a multi-user server that writes down what comes, and refuses it
    asked = []

    def refuse(moment, _number, _method, path):
        asked.append(path)
        return 403 if moment == "before" else None

    proxy.fault = refuse
    # WHEN the leader is given a profile that is not there
    out = ctx.run(ctx.on.config_changed(), in_profile)

    # THEN it is created for the charm's account, and the charm's account is bound in it
    account = "system:serviceaccount:kubeflow:trainer"
    assert kubernetes.objects[PROFILE]["spec"] == {"owner": {"kind": "User", "name": account}}
    binding = kubernetes.objects[BINDING]
    assert binding["roleRef"]["name"] == "kubeflow-pipelines-edit"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "trainer", "namespace": "kubeflow"}
    ]
    # AND what Kubeflow is asked carries the token and the namespace; a refusal says what to grant
    assert proxy.headers[-1]["authorization"] == "Bearer token for pipelines.kubeflow.org"
    assert "namespace=team-a" in asked[0]
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "kubeflow-pipelines-edit" in out.unit_status.message


def test_what_is_applied_is_applied_on_the_server(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    patches = [kind for line, kind in kubernetes.requests if line.startswith("PATCH")]
    assert patches == ["application/apply-patch+yaml"] * 2


def test_a_profile_that_is_there_is_left_as_it_is(ctx, kubernetes, in_profile):
    theirs = {"spec": {"owner": {"kind": "User", "name": "anna@example.com"}}}
    kubernetes.objects |= {PROFILE: theirs, NAMESPACE: {}}
    ctx.run(ctx.on.config_changed(), in_profile)
    assert kubernetes.objects[PROFILE] == theirs
    assert BINDING in kubernetes.objects


def test_a_new_profile_gets_the_owner_that_is_configured(ctx, kubernetes, configured):
    state = configured(profile="team-a", profile_owner="anna@example.com")
    ctx.run(ctx.on.config_changed(), state)
    assert kubernetes.objects[PROFILE]["spec"]["owner"]["name"] == "anna@example.com"


def test_the_namespace_is_waited_for(ctx, kubernetes, in_profile, proxy):
    # GIVEN a profile controller that takes its time
    kubernetes.controller = False
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "namespace team-a" in out.unit_status.message
    assert not proxy.requests

    # WHEN it is there, and going away again, THEN the charm still waits
    kubernetes.objects[NAMESPACE] = {"status": {"phase": "Terminating"}}
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.WaitingStatus)

    # WHEN it is there to stay, THEN the charm goes on
    kubernetes.objects[NAMESPACE] = {"status": {"phase": "Active"}}
    ctx.run(ctx.on.update_status(), out)
    assert proxy.requests


@pytest.mark.parametrize(
    ("line", "code", "kind", "words"),
    [
        (f"GET {PROFILE}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
        (f"PATCH {PROFILE}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
        (f"PATCH {BINDING}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
        (f"POST {TOKEN}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
        (f"POST {TOKEN}", 500, ops.WaitingStatus, "Kubernetes: token"),
        (f"GET {PROFILE}", 404, ops.BlockedStatus, "juju config trainer profile="),
        (f"PATCH {PROFILE}", 404, ops.BlockedStatus, "deploy kubeflow-profiles"),
    ],
)
def test_what_kubernetes_refuses_is_a_status_with_the_next_step(
    ctx, kubernetes, in_profile, proxy, line, code, kind, words
):
    kubernetes.refuse[line] = code
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, kind)
    assert words in out.unit_status.message
    assert not proxy.requests


def test_an_unreachable_kubernetes_is_waited_for(ctx, kubernetes, in_profile, httpserver):
    httpserver.clear()
    httpserver.expect_request(re.compile("/api.*")).respond_with_data("<html>", 502)
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "status 502" in out.unit_status.message
    httpserver.stop()
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert "cannot reach Kubernetes" in out.unit_status.message
    httpserver.start()


def test_no_kubernetes_at_all_is_waited_for(ctx, in_profile, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "no way to Kubernetes" in out.unit_status.message


def test_other_units_change_nothing(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.update_status(), dataclasses.replace(in_profile, leader=False))
    assert [line for line, _ in kubernetes.requests] == [f"POST {TOKEN}"]


def test_the_token_is_in_no_log(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    assert not [log for log in ctx.juju_log if "token for pipelines" in log.message]


@pytest.mark.parametrize(("age", "asked"), [(0, 1), (545, 2)])
def test_a_token_is_kept_until_shortly_before_its_end(ctx, kubernetes, in_profile, age, asked):
    kubernetes.token_age = datetime.timedelta(seconds=age)
    state = dataclasses.replace(in_profile, leader=False)
    ctx.run(ctx.on.update_status(), state)
    tokens = [line for line, _ in kubernetes.requests if line == f"POST {TOKEN}"]
    assert len(tokens) >= asked
    assert (len(tokens) == 1) == (asked == 1)


# Another profile -------------------------------------------------------------------------------------


def test_a_profile_that_is_left_keeps_neither_schedule_nor_rights(
    ctx, kubernetes, in_profile, configured, proxy
):
    ctx.run(ctx.on.config_changed(), in_profile)
    assert BINDING in kubernetes.objects
    before = len(proxy.requests)
    ctx.run(ctx.on.config_changed(), configured(profile="team-b"))
    asked = [path for _, path in proxy.requests[before:] if "namespace=team-a" in path]
    for experiment in ("-trainer%22", "-trainer.monitor%22"):
        assert any(experiment in path for path in asked), "the schedules there are looked for"
    assert BINDING not in kubernetes.objects
    assert BINDING.replace("team-a", "team-b") in kubernetes.objects


@pytest.fixture
def pipelines():
    """A server beside Kubernetes' that is told what to answer."""
    with HTTPServer() as server:
        yield server


def test_the_configurations_run_ends_in_a_profile_that_is_left(
    ctx, kubernetes, configured, kfp_api, pipelines
):
    # GIVEN a multi-user server, which keeps each profile's apart, with runs in both
    ended = []
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
        answer = {} if monitoring else {"experiments": rows}
        return Response(json.dumps(answer), content_type="application/json")

    def end(request):
        ended.append(unquote(request.path.split("/")[-1]))
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
                sdi("kfp-api", "kfp-api", server) if each is kfp_api else each
                for each in state.relations
            },
        )
        for state in (
            configured(profile=team, train_on_change=False) for team in ("team-a", "team-b")
        )
    )
    ctx.run(ctx.on.config_changed(), before)
    assert ended == []
    # WHEN the former one is left
    ctx.run(ctx.on.config_changed(), after)
    # THEN its configuration's run ends, and no other
    assert ended == ["team-a config-1:terminate"]


def test_a_former_profile_that_refuses_keeps_nothing_from_going_on(
    ctx, kubernetes, in_profile, configured
):
    ctx.run(ctx.on.config_changed(), in_profile)
    kubernetes.refuse[f"DELETE {BINDING}"] = 403
    out = ctx.run(ctx.on.config_changed(), configured(profile="team-b"))
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert any("left in another profile" in log.message for log in ctx.juju_log)


# Removal ---------------------------------------------------------------------------------------------


def test_the_last_unit_takes_its_rights_back_and_leaves_the_profile(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    last = dataclasses.replace(in_profile, planned_units=0)
    ctx.run(ctx.on.remove(), last)
    assert BINDING not in kubernetes.objects
    assert PROFILE in kubernetes.objects
    # A second time there is nothing to take back, and that is fine.
    ctx.run(ctx.on.remove(), last)


@pytest.mark.parametrize("change", [{"planned_units": 1}, {"planned_units": 0, "leader": False}])
def test_a_unit_that_is_not_the_last_leaves_them(ctx, kubernetes, in_profile, change):
    ctx.run(ctx.on.config_changed(), in_profile)
    ctx.run(ctx.on.remove(), dataclasses.replace(in_profile, **change))
    assert BINDING in kubernetes.objects


def test_removal_goes_on_where_kubernetes_refuses(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    kubernetes.refuse[f"DELETE {BINDING}"] = 403
    ctx.run(ctx.on.remove(), dataclasses.replace(in_profile, planned_units=0))
    assert any("made to refuse" in log.message for log in ctx.juju_log)


@pytest.mark.parametrize("is_told", [True, False])
def test_what_was_left_in_a_profile_goes_also_where_there_is_none_any_more(
    ctx, kubernetes, in_profile, is_told
):
    # GIVEN a trainer that worked in a profile
    peers = ops.testing.PeerRelation("peers")
    state = dataclasses.replace(in_profile, relations={*in_profile.relations, peers})
    state = ctx.run(ctx.on.config_changed(), state)
    assert BINDING in kubernetes.objects
    # WHEN the option is emptied, or the application goes before it hears of that
    single = dataclasses.replace(state, config={**state.config, "profile": ""})
    if is_told:
        # AND at first Kubernetes is away
        kubernetes.refuse[ROLEBINDINGS] = 503
        single = ctx.run(ctx.on.config_changed(), single)
        assert isinstance(single.unit_status, ops.ActiveStatus)
        assert BINDING in kubernetes.objects
        del kubernetes.refuse[ROLEBINDINGS]
        single = ctx.run(ctx.on.update_status(), single)
    else:
        ctx.run(ctx.on.remove(), dataclasses.replace(single, planned_units=0))
    # THEN its rights there are taken back
    assert BINDING not in kubernetes.objects
    # AND nothing is looked for any more
    before = len(kubernetes.requests)
    if is_told:
        ctx.run(ctx.on.update_status(), single)
    assert not [line for line, _ in kubernetes.requests[before:] if line == ROLEBINDINGS]


def test_a_single_user_trainer_asks_kubernetes_for_no_profiles(ctx, kubernetes, state):
    peers = ops.testing.PeerRelation("peers")
    state = dataclasses.replace(state, relations={*state.relations, peers})
    ctx.run(ctx.on.config_changed(), state)
    assert ROLEBINDINGS not in [line for line, _ in kubernetes.requests]


def test_a_profile_that_is_left_is_bound_until_the_run_of_its_schedule_has_ended(
    ctx, kubernetes, configured, proxy, sandbox, schedules, runs
):
    # GIVEN a schedule in a profile, of which a run goes on
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
    # WHEN another profile is named, THEN the schedule rests, and the rights stay for its run's end
    moved = configured(profile="team-b")
    ctx.run(ctx.on.config_changed(), moved)
    assert BINDING in kubernetes.objects
    assert [each["status"] for each in schedules()] == ["DISABLED"]
    sandbox.set_run_state(run["id"], "SUCCEEDED")
    ctx.run(ctx.on.update_status(), moved)
    assert BINDING not in kubernetes.objects
    assert schedules() == []
