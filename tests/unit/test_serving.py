"""The champion behind KServe: applied, followed, moved, removed, and asked."""

import base64
import dataclasses
import io
import json
import random
import struct
import zlib

import ops
import pytest
from PIL import Image

PROFILE = "/api/v1/namespaces/team-a"
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/team-a/inferenceservices/kubeflow--trainer"
ACCOUNT = f"{PROFILE}/serviceaccounts/kubeflow--trainer"
SECRET = f"{PROFILE}/secrets/kubeflow--trainer"
PROFILES_SECRET = f"{PROFILE}/secrets/mlpipeline-minio-artifact"
OURS = {SERVICE, ACCOUNT, SECRET}
KEYS = {"accesskey": "the-profiles-own", "secretkey": "the-profiles-secret"}


def encoded(text):
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def on_kserve(configured, kubernetes):
    """A trainer whose champion KServe is to serve, in a profile with the keys of object storage."""
    kubernetes.objects[PROFILES_SECRET] = {
        "metadata": {"name": "mlpipeline-minio-artifact"},
        "data": {key: encoded(value) for key, value in KEYS.items()},
    }
    return configured(profile="team-a", serving="kserve")


@pytest.fixture
def served(kubernetes, httpserver):
    """Let KServe say that the service is ready, and answer in its name."""

    def say(*, version=3, path=None, answer=None, code=200, **status):
        ready = {"type": "Ready", "status": "True"}
        kubernetes.status[SERVICE] = {
            "conditions": [{"type": "PredictorReady", "status": "True"}, ready],
            "modelStatus": {"transitionStatus": "UpToDate"},
            "address": {"url": httpserver.url_for("")},
            **status,
        }
        path = path or f"/v1/models/kubeflow--trainer/versions/{version}:predict"
        answer = {"predictions": [[0.25, 0.75]]} if answer is None else answer
        body = answer if isinstance(answer, str) else json.dumps(answer)
        httpserver.expect_request(path, method="POST").respond_with_data(body, code)

    return say


def lines(kubernetes, word):
    return [line for line, _ in kubernetes.requests if word in line]


def asked_of_ours(kubernetes):
    return [line for line, _ in kubernetes.requests if line.split()[1] in OURS]


def off(state):
    return dataclasses.replace(state, config={**state.config, "serving": "none"})


# What is applied ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("three_versions")
def test_the_champion_is_put_behind_kserve_with_the_profiles_keys(
    ctx, kubernetes, on_kserve, sandbox
):
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
    # It is the first to come, so that whatever is there is found by it.
    ours = [line.split()[1] for line in lines(kubernetes, "PATCH") if line.split()[1] in OURS]
    assert ours == [ACCOUNT, SECRET, SERVICE]
    applied = {kind for line, kind in kubernetes.requests if line.startswith("PATCH")}
    assert applied == {"application/apply-patch+yaml"}


@pytest.mark.usefixtures("three_versions")
def test_no_key_is_in_the_log_or_in_the_service(ctx, kubernetes, on_kserve, sandbox):
    ctx.run(ctx.on.config_changed(), on_kserve)
    told = json.dumps([kubernetes.objects[SERVICE], kubernetes.objects[ACCOUNT]])
    told += "".join(log.message for log in ctx.juju_log)
    for key in (*KEYS.values(), *map(encoded, KEYS.values())):
        assert key not in told
    assert sandbox.secret_key not in json.dumps(kubernetes.objects)


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize(("percent", "expected"), [(0, None), (20, 20), (100, 100)])
def test_a_canary_gets_its_share(ctx, kubernetes, on_kserve, percent, expected):
    config = {**on_kserve.config, "canary-traffic": percent}
    ctx.run(ctx.on.config_changed(), dataclasses.replace(on_kserve, config=config))
    predictor = kubernetes.objects[SERVICE]["spec"]["predictor"]
    assert predictor.get("canaryTrafficPercent") == expected


def test_without_a_champion_there_is_nothing_to_serve(ctx, kubernetes, on_kserve):
    out = ctx.run(ctx.on.config_changed(), on_kserve)
    assert not OURS & set(kubernetes.objects)
    assert isinstance(out.unit_status, ops.ActiveStatus)


@pytest.mark.usefixtures("three_versions")
def test_a_unit_that_does_not_lead_only_looks(ctx, kubernetes, on_kserve, served):
    ctx.run(ctx.on.config_changed(), on_kserve)
    served()
    kubernetes.requests.clear()
    out = ctx.run(ctx.on.update_status(), dataclasses.replace(on_kserve, leader=False))
    assert out.unit_status.message.startswith("standby; ")
    assert asked_of_ours(kubernetes) == [f"GET {SERVICE}"]


def test_serving_needs_a_profile(ctx, configured):
    out = ctx.run(ctx.on.config_changed(), configured(serving="kserve"))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "serving must be none where the option profile is empty" in out.unit_status.message


# What becomes of it ------------------------------------------------------------------------------


@pytest.mark.usefixtures("three_versions")
def test_promotion_and_rollback_move_it(ctx, kubernetes, on_kserve, served):
    uri = "s3://mlpipeline/models/fashion-mnist/{}/serving"

    def serves():
        return kubernetes.objects[SERVICE]["spec"]["predictor"]["model"]["storageUri"]

    state = ctx.run(ctx.on.config_changed(), on_kserve)
    served()
    for action, params, version in (("rollback", {}, 2), ("promote", {"version": 1}, 1)):
        # WHEN the champion moves, THEN the service does, which is not what was ready before
        state = ctx.run(ctx.on.action(action, params=params), state)
        assert serves() == uri.format(version)
        assert isinstance(state.unit_status, ops.WaitingStatus)
        assert f"KServe not ready: v{version} was just put there" in state.unit_status.message
        # AND with the next event KServe's word counts again
        state = ctx.run(ctx.on.update_status(), state)
        assert isinstance(state.unit_status, ops.ActiveStatus)
        assert (
            f"v{version} serves, accuracy 0.9{version}00, KServe ready" in state.unit_status.message
        )


NOT_READY = {"type": "Ready", "status": "False"}


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"conditions": None}, "no word of it yet"),
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
        ({"modelStatus": {"transitionStatus": "InProgress"}}, "no word of it yet"),
    ],
)
def test_until_it_is_ready_the_status_has_kserves_reason(
    ctx, kubernetes, on_kserve, served, status, says
):
    state = ctx.run(ctx.on.config_changed(), on_kserve)
    served(**status)
    out = ctx.run(ctx.on.update_status(), state)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    shown = f"v3 serves, accuracy 0.9300, KServe not ready: {says}"
    assert out.unit_status.message.startswith((f"{shown}; ", "v3 serves; "))
    assert len(out.unit_status.message) <= 120


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize(
    ("line", "code", "kind", "words"),
    [
        (f"GET {SERVICE}", 404, ops.BlockedStatus, "juju config trainer serving=none"),
        (f"PATCH {SERVICE}", 404, ops.BlockedStatus, "deploy kserve-controller"),
        (f"PATCH {SERVICE}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
        (f"PATCH {SERVICE}", 500, ops.WaitingStatus, "inferenceservice kubeflow--trainer in"),
        (f"GET {PROFILES_SECRET}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
        (f"PATCH {SECRET}", 503, ops.WaitingStatus, "retries at the next update-status"),
        (f"PATCH {ACCOUNT}", 403, ops.BlockedStatus, "juju trust trainer --scope=cluster"),
    ],
)
def test_what_kubernetes_refuses_is_a_status_and_stops_no_training(
    ctx, kubernetes, on_kserve, runs, line, code, kind, words
):
    kubernetes.refuse[line] = code
    out = ctx.run(ctx.on.config_changed(), on_kserve)
    assert isinstance(out.unit_status, kind)
    assert words in out.unit_status.message
    assert runs()


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize("secret", [None, {"data": {"accesskey": encoded("a")}}, {}])
def test_a_profile_without_keys_is_waited_for(ctx, kubernetes, on_kserve, secret):
    del kubernetes.objects[PROFILES_SECRET]
    if secret is not None:
        kubernetes.objects[PROFILES_SECRET] = secret
    out = ctx.run(ctx.on.config_changed(), on_kserve)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "mlpipeline-minio-artifact in namespace team-a" in out.unit_status.message
    assert not OURS & set(kubernetes.objects)


# Removal -----------------------------------------------------------------------------------------


@pytest.fixture
def serving(ctx, on_kserve, three_versions):
    """The trainer once its champion is behind KServe."""
    return ctx.run(ctx.on.config_changed(), on_kserve)


def test_turned_off_it_is_taken_away(ctx, kubernetes, serving):
    out = ctx.run(ctx.on.config_changed(), off(serving))
    assert not OURS & set(kubernetes.objects)
    assert PROFILES_SECRET in kubernetes.objects
    deleted = [line.split()[1] for line in lines(kubernetes, "DELETE")]
    assert deleted == [SERVICE, SECRET, ACCOUNT]
    assert "KServe" not in out.unit_status.message


def test_where_nothing_serves_an_event_asks_once(ctx, kubernetes, serving):
    state = ctx.run(ctx.on.config_changed(), off(serving))
    kubernetes.requests.clear()
    ctx.run(ctx.on.update_status(), state)
    assert asked_of_ours(kubernetes) == [f"GET {ACCOUNT}"]


def test_a_removal_that_was_cut_off_is_finished(ctx, kubernetes, serving):
    kubernetes.refuse[f"DELETE {SECRET}"] = 503
    out = ctx.run(ctx.on.config_changed(), off(serving))
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert OURS & set(kubernetes.objects) == {SECRET, ACCOUNT}
    kubernetes.refuse.clear()
    ctx.run(ctx.on.update_status(), out)
    assert not OURS & set(kubernetes.objects)


def test_it_is_taken_away_where_kserve_is_gone(ctx, kubernetes, serving):
    kubernetes.refuse[f"DELETE {SERVICE}"] = 404
    out = ctx.run(ctx.on.config_changed(), off(serving))
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert not {SECRET, ACCOUNT} & set(kubernetes.objects)


@pytest.mark.parametrize("endpoint", ["kfp-api", "object-storage"])
def test_it_outlives_the_relations(ctx, kubernetes, serving, endpoint):
    # Whoever relates to another server must not lose what answers in production.
    (relation,) = serving.get_relations(endpoint)
    ctx.run(ctx.on.relation_broken(relation), serving)
    assert set(kubernetes.objects) > OURS


def test_a_rollback_is_served_while_the_pipelines_api_is_away(ctx, kubernetes, serving, proxy):
    # GIVEN a champion that is served, and a server that answers nothing
    proxy.trouble = lambda *_: 503
    # WHEN it is rolled back
    ctx.run(ctx.on.action("rollback"), serving)
    # THEN the model before is served, and what is left to do is told
    model = kubernetes.objects[SERVICE]["spec"]["predictor"]["model"]
    assert model["storageUri"].endswith("/2/serving")
    assert ctx.action_results["champion"] == "2"
    assert "retries at the next update-status" in ctx.action_results["pending"]


def test_a_promotion_is_served_while_the_data_cannot_be_looked_at(ctx, kubernetes, serving):
    state = dataclasses.replace(
        serving, config={**serving.config, "retrain-on-data": True, "data-path": "s3://nobody/x"}
    )
    ctx.run(ctx.on.action("rollback"), state)
    model = kubernetes.objects[SERVICE]["spec"]["predictor"]["model"]
    assert model["storageUri"].endswith("/2/serving")


def test_it_goes_with_the_application(ctx, kubernetes, serving):
    # An option that cannot be is no reason to leave something behind.
    state = dataclasses.replace(serving, config={**serving.config, "image-number": 10000})
    ctx.run(ctx.on.remove(), dataclasses.replace(state, planned_units=0))
    assert not OURS & set(kubernetes.objects)


def test_it_moves_with_the_profile(ctx, kubernetes, serving):
    kubernetes.objects[PROFILES_SECRET.replace("team-a", "team-b")] = kubernetes.objects[
        PROFILES_SECRET
    ]
    state = dataclasses.replace(serving, config={**serving.config, "profile": "team-b"})
    ctx.run(ctx.on.config_changed(), state)
    assert not OURS & set(kubernetes.objects)
    assert {path.replace("team-a", "team-b") for path in OURS} < set(kubernetes.objects)


# The action predict ------------------------------------------------------------------------------


def test_predict_asks_the_model_that_is_served(run_action, serving, served, httpserver):
    served()
    assert run_action("predict", state=serving, image_number=1) == {
        "version": "3",
        "served-by": "kserve",
        "image-number": "1",
        "prediction": "Bag",
        "confidence": "0.7500",
        "actual": "Bag",
    }
    # It was given the raw pixels of that very image.
    asked = [request for request, _ in httpserver.log if ":predict" in request.path]
    ((image,),) = [request.get_json()["instances"] for request in asked]
    assert [len(row) for row in image] == [28] * 28
    assert [pixel for row in image for pixel in row] == [*range(256), *[0] * 528]


def test_predict_asks_whoever_has_traffic_while_a_canary_has_a_part(
    run_action, ctx, serving, served
):
    config = {**serving.config, "canary-traffic": 20}
    state = ctx.run(ctx.on.config_changed(), dataclasses.replace(serving, config=config))
    served(path="/v1/models/kubeflow--trainer:predict")
    told = run_action("predict", state=state)
    assert (told["served-by"], told["canary-traffic"]) == ("kserve", "20")
    out = ctx.run(ctx.on.update_status(), state)
    assert "KServe ready with 20 % of requests" in out.unit_status.message


@pytest.mark.parametrize("params", [{}, {"version": 2}])
def test_predict_tells_the_published_answer_where_nothing_else_answers(
    run_action, serving, served, params
):
    if params:
        served()  # but a version that is named is told as it was published
    assert run_action("predict", state=serving, **params)["served-by"] == "registry"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"code": 503, "answer": "no healthy upstream"}, "answers 503: no healthy upstream"),
        ({"code": 404, "answer": {"error": "Servable not found"}}, "Servable not found"),
        ({"code": 403, "answer": "RBAC: access denied"}, "RBAC: access denied"),
        ({"answer": "<html>"}, "answers no probabilities"),
        ({"answer": {"predictions": [["a", "b"]]}}, "answers no probabilities"),
        ({"answer": {"predictions": []}}, "answers no probabilities"),
        ({"answer": [1]}, "answers no probabilities"),
        ({"answer": {"predictions": [[0.1] * 9]}}, "9 classes"),
        ({"address": {"url": "http://127.0.0.1:1"}}, "cannot be reached"),
        ({"address": {"url": "http://["}}, "cannot be reached"),
        ({"address": None}, "cannot be reached"),
    ],
)
def test_a_served_model_that_does_not_answer_fails_the_action(
    run_action, serving, served, how, says
):
    served(**how)
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", state=serving)
    assert says in failed.value.message
    assert "predict version=N" in failed.value.message


@pytest.mark.parametrize(
    ("data", "image", "says"),
    [
        ({}, 0, "version 3 kept no test images"),
        ({"test_images": "absent"}, 0, "version 3 kept no test images"),
        ({"test_images": "images"}, 2, "knows the images 0 to 1"),
    ],
)
def test_test_images_that_are_not_there_are_told(
    run_action, serving, served, registry, data, image, says
):
    served()
    manifest = {
        "schema_version": 1,
        "run_id": "run-3",
        "metrics": {"test": {"accuracy": 0.93}},
        "verdict": {"status": "accepted", "reasons": []},
        "data": data,
    }
    registry.put("3/manifest.json", manifest)
    with pytest.raises(ops.testing.ActionFailed, match=says):
        run_action("predict", state=serving, image_number=image)


def test_predict_says_when_kubernetes_cannot_be_asked(run_action, serving, kubernetes):
    kubernetes.refuse[f"GET {SERVICE}"] = 403
    with pytest.raises(ops.testing.ActionFailed, match="juju trust"):
        run_action("predict", state=serving)


# An image of the operator's own ------------------------------------------------------------------------


def picture(mode="RGB", size=(28, 28)):
    """One of random pixels: not two channels or rows are the same."""
    image = Image.frombytes("RGB", size, random.Random(7).randbytes(3 * size[0] * size[1]))
    return image.convert(mode)


def png(image, **how):
    """The image as the action is given it."""
    content = io.BytesIO()
    image.save(content, "png", **how)
    return base64.b64encode(content.getvalue()).decode()


def chunk(kind, data):
    return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))


def made(*chunks):
    """A PNG file of these chunks, as the action is given it."""
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def header(bits=8, kind=0, interlaced=0):
    return chunk(b"IHDR", struct.pack("!2I5B", 28, 28, bits, kind, 0, 0, interlaced))


def data(raw):
    return chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_predict_asks_the_served_model_about_an_own_image(
    run_action, serving, served, httpserver, mode
):
    served()
    image = picture(mode)
    assert run_action("predict", state=serving, image=png(image)) == {
        "version": "3",
        "served-by": "kserve",
        "prediction": "Bag",
        "confidence": "0.7500",
    }
    # It was given the grey levels that Pillow makes of it.
    (asked,) = [request for request, _ in httpserver.log if ":predict" in request.path]
    (rows,) = asked.get_json()["instances"]
    assert [len(row) for row in rows] == [28] * 28
    assert bytes(level for row in rows for level in row) == image.convert("L").tobytes()


def test_lines_in_the_base64_do_not_matter(run_action, serving, served):
    served()
    text = png(picture())
    lines = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    assert run_action("predict", state=serving, image=lines)["prediction"] == "Bag"


WHOLE = png(picture())
WITH_TRANSPARENT_GREY = made(header(), chunk(b"tRNS", b"\0\7"), data(bytes(29 * 28)))


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"image": "boot.png"}, "image must be base64 of a PNG file, not 'boot.png'"),
        ({"image": "\u00e9"}, "image must be base64 of a PNG file, not"),
        ({"image": ""}, "image must be base64 of a PNG file that can be read (EOFError"),
        ({"image": encoded("GIF89a, a picture")}, "image must be base64 of a PNG file that can be"),
        ({"image": WHOLE[: len(WHOLE) // 8 * 4]}, "image must be base64 of a PNG file that can be"),
        ({"image": made(data(bytes(29 * 28)))}, "image must be base64 of a PNG file that can be"),
        (
            {"image": made(header(), chunk(b"IDAT", b"not packed"), chunk(b"IEND", b""))},
            "image must be base64 of a PNG file that can be",
        ),
        (
            {
                "image": made(
                    header(kind=3), chunk(b"PLTE", bytes(3)), data(bytes([0, 9] * 14 * 29))
                )
            },
            "image must be base64 of a PNG file that can be",
        ),
        (
            {"image": made(header(interlaced=1), data(bytes(7)))},
            "image must be base64 of a PNG file that can be",
        ),
        ({"image": made(header(), data(bytes(29)))}, "image must be 784 pixels, not '28 pixels'"),
        (
            {"image": made(header(), data(bytes(29 * 700_000)))},
            "must be 784 pixels, not '812 pixels'",
        ),
        ({"image": "A" * 40_000}, "image must be at most 32768 characters, not '40000 characters'"),
        (
            {"image": png(picture(size=(32, 28)))},
            "image must be a PNG file of 28 x 28 pixels, not '32 x 28'",
        ),
        ({"image": png(picture("I;16"))}, "image must be a PNG file of 8 bits a channel"),
        ({"image": png(picture("RGBA"))}, "image must be a PNG file without transparency"),
        ({"image": png(picture("LA"))}, "image must be a PNG file without transparency"),
        ({"image": WITH_TRANSPARENT_GREY}, "image must be a PNG file without transparency"),
        ({"image": WHOLE, "image_number": 0}, "image-number must be left out where image is given"),
        ({"image": WHOLE, "version": 2}, "version must be left out where image is given"),
    ],
)
def test_an_own_image_that_cannot_be_is_refused(
    run_action, serving, served, httpserver, params, says
):
    served()
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", state=serving, **params)
    assert says in failed.value.message
    assert failed.value.message.endswith("; nothing was done; correct it and run the action again")
    assert len(failed.value.message) < 400
    assert not [request for request, _ in httpserver.log if ":predict" in request.path]


def test_only_a_served_model_sees_an_own_image(run_action, serving, three_versions):
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", state=off(serving), image=WHOLE)
    assert failed.value.message == (
        "no model is served that can be asked about an image; enable serving with: "
        "juju config trainer serving=kserve"
    )


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        (False, "KServe does not serve v3 yet: RevisionMissing"),
        (True, "KServe does not serve a model yet: none is there"),
    ],
)
def test_an_own_image_waits_for_the_served_model(
    run_action, kubernetes, serving, served, gone, says
):
    served(conditions=[{**NOT_READY, "reason": "RevisionMissing"}])
    if gone:
        del kubernetes.objects[SERVICE]
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", state=serving, image=WHOLE)
    assert failed.value.message == f"{says}; wait until it does: juju status trainer"


def test_a_served_model_without_names_of_classes_is_told(run_action, serving, served, registry):
    served()
    registry.put("3/predictions.json", {"classes": 1, "label": [0]})
    with pytest.raises(ops.testing.ActionFailed, match=r"predictions\.json is not complete"):
        run_action("predict", state=serving, image=WHOLE)
