"""Actions on models: list-models, predict from the registry, promote, rollback."""

import dataclasses
import json
import math
import re

import obstore
import ops
import ops.testing
import pytest
import yaml

from fashion_mnist.storage import open_registry
from tests.builders import sdi
from tests.fakes.fault_proxy import FaultProxy


def test_list_models_lists_newest_first_and_marks_the_champion(run_action, three_versions):
    results = run_action("list-models", limit=2)
    assert results["count"] == "2"
    assert results["champion"] == "3"
    assert [re.split(" {2,}", line) for line in results["models"].splitlines()] == [
        ["v3", "0.9300", "Shirt 0.8000", "-", "2026-01-01T00:00:00+00:00", "run-3", "serves"],
        ["v2", "0.9200", "Shirt 0.8000", "-", "2026-01-01T00:00:00+00:00", "run-2"],
    ]


def test_list_models_sends_no_requests_for_removed_versions(
    run_action, three_versions, registry, object_storage, state
):
    # GIVEN the claims of versions that are not there any more,
    def count_requests():
        requests.clear()
        run_action("list-models", state=watched)
        return len(requests)

    requests = []
    data = yaml.safe_load(object_storage.remote_app_data["data"])
    with FaultProxy(f"http://{data['service']}:{data['port']}") as proxy:
        requests = proxy.requests
        relation = sdi("object-storage", "minio", {**data, "port": proxy.port})
        relations = {
            other_relation
            for other_relation in state.relations
            if other_relation is not object_storage
        }
        watched = dataclasses.replace(state, relations={relation, *relations})
        before = count_requests()
        for number in range(100, 130):
            registry.put(f"claims/{number:08d}.json", {"run_id": "gone"})
        # WHEN models are listed, THEN no more is asked for than before
        assert count_requests() == before


def test_list_models_shows_reasons_and_serving_times(run_action, registry, three_versions):
    # GIVEN a model that was trained for a reason, and moves of the champion forth and back
    registry("run-5", accuracy=0.94, version=5, reason="new data")
    run_action("rollback")
    # THEN the list tells why, and since when and from when they served
    lines = run_action("list-models", limit=3)["models"].splitlines()
    assert "  new data  " in lines[0]
    assert re.search(r"  serves since 20\d\d-\d\d-\d\dT[\d:]+\+00:00$", lines[1])
    run_action("promote", version=5)
    lines = run_action("list-models", limit=3)["models"].splitlines()
    assert re.search(r"  serves since 20", lines[0])
    assert re.search(r"  served from 20", lines[1])


@pytest.mark.parametrize("moved", ["yesterday", 5])
def test_list_models_rejects_a_move_without_a_valid_time(
    run_action, registry, three_versions, moved
):
    registry.put("champion/00000006.json", {"version": 3, "run_id": "r", "moved_at": moved})
    with pytest.raises(ops.testing.ActionFailed, match=r"champion/00000006\.json"):
        run_action("list-models")


def test_list_models_is_empty_without_models(run_action):
    assert run_action("list-models") == {"count": "0", "models": ""}


def test_predict_returns_the_published_prediction_and_label(run_action, three_versions):
    assert run_action("predict", image_number=1) == {
        "version": "3",
        "served-by": "registry",
        "image-number": "1",
        "prediction": "Bag",
        "confidence": "0.7500",
        "actual": "Bag",
    }
    results = run_action("predict", image_number=1, version=2)
    assert (results["version"], results["prediction"], results["actual"]) == ("2", "Shirt", "Bag")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_number": 10000}, "image-number must be between 0 and 9999"),
        (
            {"image_number": 2},
            "version 3 has predictions for images 0 to 1; see: juju run trainer/leader",
        ),
        ({"version": 0}, "version must be a number from list-models"),
        ({"version": 4}, "version 4 has no predictions"),
    ],
)
def test_predict_rejects_an_unknown_version_or_image(run_action, three_versions, params, message):
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action("predict", **params)
    assert message in failed.value.message


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"classes": [], "label": [0], "predicted": [0], "confidence": [1]},
        {"label": 1},
        {"classes": ["a"], "label": [0], "predicted": [math.inf], "confidence": [1]},
    ],
)
def test_predict_rejects_incomplete_predictions(run_action, three_versions, registry, content):
    registry.put("3/predictions.json", content)
    with pytest.raises(ops.testing.ActionFailed, match=r"malformed predictions"):
        run_action("predict")


def test_predict_without_a_champion_fails(run_action):
    with pytest.raises(ops.testing.ActionFailed, match="no model serves yet"):
        run_action("predict")


def test_promote_moves_the_champion_and_updates_the_status(ctx, state, run_action, three_versions):
    results = run_action("promote", version=1, reason="it is smaller")
    assert results == {"champion": "1", "accuracy": "0.9100", "run-id": "run-1"}
    out = ctx.run(ctx.on.update_status(), state)
    assert "v1 serves, accuracy 0.9100" in out.unit_status.message
    # AND repeating it changes nothing
    assert run_action("promote", version=1)["champion"] == "1"


def test_rollback_alternates_between_the_last_two_champions(run_action, three_versions):
    assert run_action("rollback")["champion"] == "2"
    assert run_action("rollback")["champion"] == "3"
    assert run_action("promote", version=1)["champion"] == "1"
    assert run_action("rollback")["champion"] == "3"


def test_pipeline_step_sees_the_charms_champion_moves(
    run_action, three_versions, sandbox, monkeypatch
):
    # GIVEN the package that the pipeline's steps use
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_key)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    step_registry = open_registry("s3://mlpipeline/models/fashion-mnist", sandbox.s3_url)
    # WHEN the charm moves the champion, THEN a step sees it, and moves it on from there
    run_action("promote", version=1)
    champion = step_registry.champion()
    assert (champion.version, champion.sequence) == (1, 4)
    assert step_registry.rolled_back() == set()
    step_registry.move_champion(2, after=champion.sequence, reason="a step")
    assert run_action("list-models")["champion"] == "2"
    # AND it sees from which version an operator rolled back, until it is promoted again
    assert run_action("rollback")["champion"] == "1"
    assert step_registry.rolled_back() == {2}
    run_action("promote", version=2)
    assert step_registry.rolled_back() == set()


def test_promote_fails_if_another_writer_moves_the_champion_first(
    run_action, three_versions, sandbox, registry, monkeypatch
):
    # GIVEN another writer that moves the champion between the charm's observation and its move
    put = obstore.put

    def move_first(store, path, *args, **kwargs):
        if path.startswith("champion/"):
            put(store, path, json.dumps({"version": 2, "run_id": "run-2"}).encode())
        return put(store, path, *args, **kwargs)

    monkeypatch.setattr(obstore, "put", move_first)
    # WHEN the charm moves it, THEN that fails, and the other move counts
    with pytest.raises(ops.testing.ActionFailed, match="another writer moved"):
        run_action("promote", version=1)
    assert run_action("list-models")["champion"] == "2"


def test_promote_of_a_version_removed_meanwhile_keeps_the_champion(
    run_action, three_versions, registry, monkeypatch
):
    # GIVEN a step that removes version 1 between the charm's observation and its move
    put = obstore.put

    def remove_first(store, path, *args, **kwargs):
        if path.startswith("champion/"):
            monkeypatch.setattr(obstore, "put", put)
            registry.put("removed/00000001.json", {"version": 1})
            obstore.delete(store, "1/manifest.json")
        return put(store, path, *args, **kwargs)

    monkeypatch.setattr(obstore, "put", remove_first)
    # WHEN the charm promotes it THEN that fails, and the champion stays
    with pytest.raises(ops.testing.ActionFailed, match="version 1 is being removed"):
        run_action("promote", version=1)
    assert run_action("list-models")["champion"] == "3"


@pytest.mark.parametrize(
    ("action", "params", "words"),
    [
        (
            "promote",
            {"version": 9},
            "there is no version 9; see: juju run trainer/leader list-models",
        ),
        ("promote", {"version": 0}, "version must be"),
        ("promote", {"version": 1, "reason": ""}, "reason must be"),
        ("rollback", {"reason": 1001 * "x"}, "reason must be"),
        ("list-models", {"limit": 0}, "limit must be"),
    ],
)
def test_model_action_rejects_bad_parameters(run_action, three_versions, action, params, words):
    with pytest.raises(ops.testing.ActionFailed) as failed:
        run_action(action, **params)
    assert words in failed.value.message
    assert run_action("list-models")["champion"] == "3"


def test_rollback_without_a_previous_champion_fails(run_action, registry):
    with pytest.raises(ops.testing.ActionFailed, match="no other version has served"):
        run_action("rollback")
    registry("run-1", accuracy=0.9, version=1)
    with pytest.raises(ops.testing.ActionFailed, match="no other version has served"):
        run_action("rollback")


@pytest.mark.parametrize(("action", "params"), [("promote", {"version": 1}), ("rollback", {})])
def test_follower_cannot_move_the_champion(state, run_action, three_versions, action, params):
    with pytest.raises(ops.testing.ActionFailed, match="only the leader"):
        run_action(action, state=dataclasses.replace(state, leader=False), **params)
    assert run_action("list-models")["champion"] == "3"


def test_move_to_a_removed_version_is_ignored(ctx, state, run_action, registry):
    registry("one", accuracy=0.91, version=9)
    registry("two", accuracy=0.92, version=10)
    registry.put("removed/00000003.json", {"version": 3})
    registry.put("champion/00000011.json", {"version": 3})
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status.message.startswith("v10 serves, accuracy 0.9200; ")
    assert run_action("rollback")["champion"] == "9"
    out = ctx.run(ctx.on.update_status(), state)
    assert out.unit_status.message.startswith("v9 serves, accuracy 0.9100; ")
