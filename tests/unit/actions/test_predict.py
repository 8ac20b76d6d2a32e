"""The action predict with a served model."""

import dataclasses

import ops
import pytest

from tests.fakes.kserve import SERVICE


def test_predict_sends_the_test_image_to_the_served_model(run_action, serving, served, httpserver):
    served()
    assert run_action("predict", state=serving, image_number=1) == {
        "version": "3",
        "served-by": "kserve",
        "image-number": "1",
        "prediction": "Bag",
        "confidence": "0.7500",
        "actual": "Bag",
    }
    # It received the raw pixels of that image.
    requests = [request for request, _ in httpserver.log if ":predict" in request.path]
    ((image,),) = [request.get_json()["instances"] for request in requests]
    assert [len(row) for row in image] == [28] * 28
    assert [pixel for row in image for pixel in row] == [*range(256), *[0] * 528]


def test_predict_uses_the_unversioned_path_during_a_canary(run_action, ctx, serving, served):
    config = {**serving.config, "canary-traffic": 20}
    state = ctx.run(ctx.on.config_changed(), dataclasses.replace(serving, config=config))
    served(path="/v1/models/kubeflow--trainer:predict")
    results = run_action("predict", state=state)
    assert (results["served-by"], results["canary-traffic"]) == ("kserve", "20")
    out = ctx.run(ctx.on.update_status(), state)
    assert "KServe ready with 20 % of requests" in out.unit_status.message


@pytest.mark.parametrize("params", [{}, {"version": 2}])
def test_predict_falls_back_to_the_published_prediction(run_action, serving, served, params):
    if params:
        served()  # but a given version returns its published prediction
    assert run_action("predict", state=serving, **params)["served-by"] == "registry"


@pytest.mark.parametrize(
    ("response_options", "message"),
    [
        ({"code": 503, "response": "no healthy upstream"}, "returned 503: no healthy upstream"),
        ({"code": 404, "response": {"error": "Servable not found"}}, "Servable not found"),
        ({"code": 403, "response": "RBAC: access denied"}, "RBAC: access denied"),
        ({"response": "<html>"}, "returned no probabilities"),
        ({"response": {"predictions": [["a", "b"]]}}, "returned no probabilities"),
        ({"response": {"predictions": []}}, "returned no probabilities"),
        ({"response": [1]}, "returned no probabilities"),
        ({"response": {"predictions": [[0.1] * 9]}}, "9 probabilities for 2 classes"),
        ({"address": {"url": "http://127.0.0.1:1"}}, "cannot be reached"),
        ({"address": {"url": "http://["}}, "cannot be reached"),
        ({"address": None}, "cannot be reached"),
    ],
)
def test_predict_fails_if_the_served_model_does_not_respond(
    run_action, serving, served, response_options, message
):
    served(**response_options)
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", state=serving)
    assert message in failed.value.message
    assert "predict version=N" in failed.value.message


@pytest.mark.parametrize(
    ("data", "image", "message"),
    [
        ({}, 0, "version 3 has no test images"),
        ({"test_images": "absent"}, 0, "version 3 has no test images"),
        ({"test_images": "images"}, 2, "has predictions for images 0 to 1"),
    ],
)
def test_predict_fails_without_the_test_image(
    run_action, serving, served, registry, data, image, message
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
    with pytest.raises(ops.testing.ActionFailed, match=message):
        run_action("predict", state=serving, image_number=image)


def test_predict_names_missing_kubernetes_permissions(run_action, serving, kubernetes):
    kubernetes.refuse[f"GET {SERVICE}"] = 403
    with pytest.raises(ops.testing.ActionFailed, match="juju trust"):
        run_action("predict", state=serving)
