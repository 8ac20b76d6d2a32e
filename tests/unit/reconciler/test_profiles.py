"""Multi-user Kubeflow: the profile, its RoleBinding and the token."""

import dataclasses
import datetime
import re

import ops
import pytest

PROFILE = "/apis/kubeflow.org/v1/profiles/team-a"
NAMESPACE = "/api/v1/namespaces/team-a"
BINDING = (
    "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/rolebindings/kubeflow--trainer-pipelines"
)
ROLEBINDINGS = "GET /apis/rbac.authorization.k8s.io/v1/rolebindings"
TOKEN = "/api/v1/namespaces/kubeflow/serviceaccounts/trainer/token"


def test_profile_is_created_bound_and_used_with_a_token(ctx, kubernetes, in_profile, proxy):
    # GIVEN a multi-user server that records and refuses requests
    requests = []

    def refuse(moment, _number, _method, path):
        requests.append(path)
        return 403 if moment == "before" else None

    proxy.fault = refuse
    # WHEN the profile option names a missing profile
    out = ctx.run(ctx.on.config_changed(), in_profile)

    # THEN it is created for the charm's account, which is bound in it
    account = "system:serviceaccount:kubeflow:trainer"
    assert kubernetes.objects[PROFILE]["spec"] == {"owner": {"kind": "User", "name": account}}
    binding = kubernetes.objects[BINDING]
    assert binding["roleRef"]["name"] == "kubeflow-pipelines-edit"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "trainer", "namespace": "kubeflow"}
    ]
    # AND requests carry token and namespace; the status shows what to grant
    assert proxy.headers[-1]["authorization"] == "Bearer token for pipelines.kubeflow.org"
    assert "namespace=team-a" in requests[0]
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "kubeflow-pipelines-edit" in out.unit_status.message


def test_objects_are_applied_server_side(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    patches = [kind for line, kind in kubernetes.requests if line.startswith("PATCH")]
    assert patches == ["application/apply-patch+yaml"] * 2


def test_existing_profile_is_not_changed(ctx, kubernetes, in_profile):
    profile = {"spec": {"owner": {"kind": "User", "name": "anna@example.com"}}}
    kubernetes.objects |= {PROFILE: profile, NAMESPACE: {}}
    ctx.run(ctx.on.config_changed(), in_profile)
    assert kubernetes.objects[PROFILE] == profile
    assert BINDING in kubernetes.objects


def test_new_profile_has_the_configured_owner(ctx, kubernetes, configured):
    state = configured(profile="team-a", profile_owner="anna@example.com")
    ctx.run(ctx.on.config_changed(), state)
    assert kubernetes.objects[PROFILE]["spec"]["owner"]["name"] == "anna@example.com"


def test_missing_namespace_is_waiting(ctx, kubernetes, in_profile, proxy):
    # GIVEN a slow profile controller
    kubernetes.controller = False
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "namespace team-a" in out.unit_status.message
    assert not proxy.requests

    # WHEN the namespace is terminating, THEN the charm still waits
    kubernetes.objects[NAMESPACE] = {"status": {"phase": "Terminating"}}
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.WaitingStatus)

    # WHEN the namespace is active, THEN the charm continues
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
def test_kubernetes_refusal_shows_the_next_command(
    ctx, kubernetes, in_profile, proxy, line, code, kind, words
):
    kubernetes.refuse[line] = code
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, kind)
    assert words in out.unit_status.message
    assert not proxy.requests


def test_unreachable_kubernetes_is_waiting(ctx, kubernetes, in_profile, httpserver):
    httpserver.clear()
    httpserver.expect_request(re.compile("/api.*")).respond_with_data("<html>", 502)
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "status 502" in out.unit_status.message
    httpserver.stop()
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert "cannot reach Kubernetes" in out.unit_status.message
    httpserver.start()


def test_absent_kubernetes_is_waiting(ctx, in_profile, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "cannot connect to Kubernetes" in out.unit_status.message


def test_follower_changes_nothing(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.update_status(), dataclasses.replace(in_profile, leader=False))
    assert [line for line, _ in kubernetes.requests] == [f"POST {TOKEN}"]


def test_token_is_not_logged(ctx, kubernetes, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    assert not [log for log in ctx.juju_log if "token for pipelines" in log.message]


@pytest.mark.parametrize(("age", "request_count"), [(0, 1), (545, 2)])
def test_token_is_renewed_shortly_before_it_expires(
    ctx, kubernetes, in_profile, age, request_count
):
    kubernetes.token_age = datetime.timedelta(seconds=age)
    state = dataclasses.replace(in_profile, leader=False)
    ctx.run(ctx.on.update_status(), state)
    tokens = [line for line, _ in kubernetes.requests if line == f"POST {TOKEN}"]
    assert len(tokens) >= request_count
    assert (len(tokens) == 1) == (request_count == 1)
