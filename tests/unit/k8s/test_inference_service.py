"""The champion behind KServe: applied, followed, moved, removed."""

import base64
import dataclasses
import json

import ops
import pytest

from tests.fakes.kserve import ACCOUNT, KEYS, OWNED, PROFILE_SECRET, SECRET, SERVICE


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def request_lines(kubernetes, word):
    return [line for line, _ in kubernetes.requests if word in line]


def requests_for_owned(kubernetes):
    return [line for line, _ in kubernetes.requests if line.split()[1] in OWNED]


def without_serving(state):
    return dataclasses.replace(state, config={**state.config, "serving": "none"})


@pytest.mark.usefixtures("three_versions")
def test_champion_is_served_with_the_profiles_keys(ctx, kubernetes, on_kserve, sandbox):
    ctx.run(ctx.on.config_changed(), on_kserve)
    service = kubernetes.objects[SERVICE]
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert service["spec"]["predictor"] == {
        "serviceAccountName": "kubeflow--trainer",
        "model": {
            "modelFormat": {"name": "tensorflow", "version": "2"},
            "protocolVersion": "v1",
            "storageUri": "s3://mlpipeline/models/fashion-mnist/3/serving",
        },
    }
    secret = kubernetes.objects[SECRET]
    assert secret["data"] == {
        "AWS_ACCESS_KEY_ID": encoded("the-profiles-own"),
        "AWS_SECRET_ACCESS_KEY": encoded("the-profiles-secret"),
    }
    assert secret["metadata"]["annotations"] == {
        "serving.kserve.io/s3-endpoint": sandbox.s3_url.removeprefix("http://"),
        "serving.kserve.io/s3-usehttps": "0",
        "serving.kserve.io/s3-region": "us-east-1",
        "serving.kserve.io/s3-usevirtualbucket": "false",
    }
    assert kubernetes.objects[ACCOUNT]["secrets"] == [{"name": "kubeflow--trainer"}]
    # It is the newest, so that it is found first.
    ours = [
        line.split()[1] for line in request_lines(kubernetes, "PATCH") if line.split()[1] in OWNED
    ]
    assert ours == [ACCOUNT, SECRET, SERVICE]
    applied = {kind for line, kind in kubernetes.requests if line.startswith("PATCH")}
    assert applied == {"application/apply-patch+yaml"}


@pytest.mark.usefixtures("three_versions")
def test_keys_are_neither_logged_nor_in_the_service(ctx, kubernetes, on_kserve, sandbox):
    ctx.run(ctx.on.config_changed(), on_kserve)
    text = json.dumps([kubernetes.objects[SERVICE], kubernetes.objects[ACCOUNT]])
    text += "".join(log.message for log in ctx.juju_log)
    for key in (*KEYS.values(), *map(encoded, KEYS.values())):
        assert key not in text
    assert sandbox.secret_key not in json.dumps(kubernetes.objects)


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize(("percent", "expected"), [(0, None), (20, 20), (100, 100)])
def test_canary_gets_the_configured_traffic(ctx, kubernetes, on_kserve, percent, expected):
    config = {**on_kserve.config, "canary-traffic": percent}
    ctx.run(ctx.on.config_changed(), dataclasses.replace(on_kserve, config=config))
    predictor = kubernetes.objects[SERVICE]["spec"]["predictor"]
    assert predictor.get("canaryTrafficPercent") == expected


def test_nothing_is_served_without_a_champion(ctx, kubernetes, on_kserve):
    out = ctx.run(ctx.on.config_changed(), on_kserve)
    assert not OWNED & set(kubernetes.objects)
    assert isinstance(out.unit_status, ops.ActiveStatus)


@pytest.mark.usefixtures("three_versions")
def test_follower_only_reads_the_service(ctx, kubernetes, on_kserve, served):
    ctx.run(ctx.on.config_changed(), on_kserve)
    served()
    kubernetes.requests.clear()
    out = ctx.run(ctx.on.update_status(), dataclasses.replace(on_kserve, leader=False))
    assert out.unit_status.message.startswith("standby; ")
    assert requests_for_owned(kubernetes) == [f"GET {SERVICE}"]


def test_serving_requires_a_profile(ctx, configured):
    out = ctx.run(ctx.on.config_changed(), configured(serving="kserve"))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "serving must be none if the option profile is empty" in out.unit_status.message


@pytest.mark.usefixtures("three_versions")
def test_service_follows_promotion_and_rollback(ctx, kubernetes, on_kserve, served):
    uri = "s3://mlpipeline/models/fashion-mnist/{}/serving"

    def applied_version():
        return kubernetes.objects[SERVICE]["spec"]["predictor"]["model"]["storageUri"]

    state = ctx.run(ctx.on.config_changed(), on_kserve)
    served()
    for action, params, version in (("rollback", {}, 2), ("promote", {"version": 1}, 1)):
        # WHEN the champion moves, THEN the service follows, and is not ready yet
        state = ctx.run(ctx.on.action(action, params=params), state)
        assert applied_version() == uri.format(version)
        assert isinstance(state.unit_status, ops.WaitingStatus)
        assert f"KServe not ready: v{version} was just applied" in state.unit_status.message
        # AND with the next event KServe's status counts again
        state = ctx.run(ctx.on.update_status(), state)
        assert isinstance(state.unit_status, ops.ActiveStatus)
        assert (
            f"v{version} serves, accuracy 0.9{version}00, KServe ready" in state.unit_status.message
        )


NOT_READY = {"type": "Ready", "status": "False"}


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"conditions": None}, "no status yet"),
        (
            {"conditions": [{**NOT_READY, "reason": "RevisionMissing", "message": "not there"}]},
            "RevisionMissing: not there",
        ),
        ({"conditions": [{**NOT_READY, "reason": "PredictorNotReady"}]}, "PredictorNotReady"),
        (
            {
                "modelStatus": {
                    "transitionStatus": "BlockedByFailedLoad",
                    "lastFailureInfo": {"reason": "ModelLoadFailed", "message": "no such bucket"},
                }
            },
            "ModelLoadFailed: no such bucket",
        ),
        ({"modelStatus": {"transitionStatus": "InProgress"}}, "no status yet"),
    ],
)
def test_status_shows_kserves_reason_until_ready(
    ctx, kubernetes, on_kserve, served, status, message
):
    state = ctx.run(ctx.on.config_changed(), on_kserve)
    served(**status)
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    expected = f"v3 serves, accuracy 0.9300, KServe not ready: {message}"
    assert out.unit_status.message.startswith((f"{expected}; ", "v3 serves; "))
    assert len(out.unit_status.message) <= 120


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize(
    ("line", "code", "kind", "words"),
    [
        (f"GET {SERVICE}", 404, ops.BlockedStatus, "juju config trainer serving=none"),
        (f"PATCH {SERVICE}", 404, ops.BlockedStatus, "deploy kserve-controller"),
        (f"PATCH {SERVICE}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
        (f"PATCH {SERVICE}", 500, ops.WaitingStatus, "inferenceservice kubeflow--trainer in"),
        (f"GET {PROFILE_SECRET}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
        (f"PATCH {SECRET}", 503, ops.WaitingStatus, "retries at the next update-status"),
        (f"PATCH {ACCOUNT}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
    ],
)
def test_refused_serving_shows_in_the_status_and_training_continues(
    ctx, kubernetes, on_kserve, runs, line, code, kind, words
):
    kubernetes.refuse[line] = code
    out = ctx.run(ctx.on.config_changed(), on_kserve)
    assert isinstance(out.unit_status, kind)
    assert words in out.unit_status.message
    assert runs()


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize("secret", [None, {"data": {"accesskey": encoded("a")}}, {}])
def test_profile_without_keys_is_waiting(ctx, kubernetes, on_kserve, secret):
    del kubernetes.objects[PROFILE_SECRET]
    if secret is not None:
        kubernetes.objects[PROFILE_SECRET] = secret
    out = ctx.run(ctx.on.config_changed(), on_kserve)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "mlpipeline-minio-artifact in namespace team-a" in out.unit_status.message
    assert not OWNED & set(kubernetes.objects)


def test_service_is_removed_if_serving_is_off(ctx, kubernetes, serving):
    out = ctx.run(ctx.on.config_changed(), without_serving(serving))
    assert not OWNED & set(kubernetes.objects)
    assert PROFILE_SECRET in kubernetes.objects
    deleted = [line.split()[1] for line in request_lines(kubernetes, "DELETE")]
    assert deleted == [SERVICE, SECRET, ACCOUNT]
    assert "KServe" not in out.unit_status.message


def test_event_sends_one_request_if_nothing_is_served(ctx, kubernetes, serving):
    state = ctx.run(ctx.on.config_changed(), without_serving(serving))
    kubernetes.requests.clear()
    ctx.run(ctx.on.update_status(), state)
    assert requests_for_owned(kubernetes) == [f"GET {ACCOUNT}"]


def test_interrupted_removal_is_completed(ctx, kubernetes, serving):
    kubernetes.refuse[f"DELETE {SECRET}"] = 503
    out = ctx.run(ctx.on.config_changed(), without_serving(serving))
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert OWNED & set(kubernetes.objects) == {SECRET, ACCOUNT}
    kubernetes.refuse.clear()
    ctx.run(ctx.on.update_status(), out)
    assert not OWNED & set(kubernetes.objects)


def test_service_account_and_secret_are_removed_without_kserve(ctx, kubernetes, serving):
    kubernetes.refuse[f"DELETE {SERVICE}"] = 404
    out = ctx.run(ctx.on.config_changed(), without_serving(serving))
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert not {SECRET, ACCOUNT} & set(kubernetes.objects)


@pytest.mark.parametrize("endpoint", ["kfp-api", "object-storage"])
def test_service_outlives_the_relations(ctx, kubernetes, serving, endpoint):
    # A change of the relation must not remove the served model.
    (relation,) = serving.get_relations(endpoint)
    ctx.run(ctx.on.relation_broken(relation), serving)
    assert set(kubernetes.objects) > OWNED


def test_rollback_is_served_while_the_pipelines_api_is_unreachable(ctx, kubernetes, serving, proxy):
    # GIVEN a served champion, and an unreachable server
    proxy.fault = lambda *_: 503
    # WHEN the champion is rolled back
    ctx.run(ctx.on.action("rollback"), serving)
    # THEN the previous model is served, and the status shows the error
    model = kubernetes.objects[SERVICE]["spec"]["predictor"]["model"]
    assert model["storageUri"].endswith("/2/serving")
    assert ctx.action_results["champion"] == "2"
    assert "retries at the next update-status" in ctx.action_results["pending"]


def test_promotion_is_served_while_the_data_is_unreachable(ctx, kubernetes, serving):
    state = dataclasses.replace(
        serving, config={**serving.config, "retrain-on-data": True, "data-path": "s3://nobody/x"}
    )
    ctx.run(ctx.on.action("rollback"), state)
    model = kubernetes.objects[SERVICE]["spec"]["predictor"]["model"]
    assert model["storageUri"].endswith("/2/serving")


def test_service_is_removed_with_the_application(ctx, kubernetes, serving):
    # A bad option must not prevent removal.
    state = dataclasses.replace(serving, config={**serving.config, "image-number": 10000})
    ctx.run(ctx.on.remove(), dataclasses.replace(state, planned_units=0))
    assert not OWNED & set(kubernetes.objects)


def test_service_moves_with_the_profile(ctx, kubernetes, serving):
    kubernetes.objects[PROFILE_SECRET.replace("team-a", "team-b")] = kubernetes.objects[
        PROFILE_SECRET
    ]
    state = dataclasses.replace(serving, config={**serving.config, "profile": "team-b"})
    ctx.run(ctx.on.config_changed(), state)
    assert not OWNED & set(kubernetes.objects)
    assert {path.replace("team-a", "team-b") for path in OWNED} < set(kubernetes.objects)
