"""The registry checks what it reads, and moves the champion for operators; in a directory."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore

from model_registry import (
    ChampionMove,
    Manifest,
    MonitoringReport,
    NoSuchModelError,
    Registry,
    RegistryContentError,
    RegistryElsewhereError,
    RegistryError,
    S3Options,
    layout,
    open_store,
)
from tests.builders import manifest

LIB = Path(__file__).parents[2] / "lib"
REPORT = {"schema_version": 1, "run_id": "m", "version": 1, "images": 10, "drift": {"pixels": 0.1}}


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "registry", mkdir=True)


@pytest.fixture
def registry(store):
    return Registry(store, location="here")


@pytest.fixture
def put(store):
    return lambda path, document: obstore.put(store, path, json.dumps(document).encode())


@pytest.fixture
def three_versions(put):
    """Three versions, promoted in turn; only the last has predictions."""
    for version in (1, 2, 3):
        put(layout.manifest(version), manifest(f"run-{version}", data={"test_images": "images"}))
        put(layout.move(version), {"version": version, "moved_by": "pipeline"})
    put(
        "3/predictions.json",
        {
            "classes": ["Shirt", "Bag"],
            "label": [0, 1],
            "predicted": [1, 1],
            "confidence": [0.9, 0.75],
        },
    )


@pytest.mark.parametrize("module", ["errors", "layout", "schema"])
def test_values_are_imported_without_obstore(module):
    program = f"import sys, model_registry.{module}; print('obstore' in sys.modules)"
    command = [sys.executable, "-c", program]
    completed = subprocess.run(command, cwd=LIB, capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "False"


def test_every_public_name_is_exported():
    import model_registry

    for name in model_registry.__all__:
        assert getattr(model_registry, name)
    assert set(model_registry.__all__) <= set(dir(model_registry))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        model_registry.nothing  # noqa: B018


# Schema ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"schema_version": "\ud800" * 5000},
        {"metrics": {}},
        {"metrics": []},
        {"verdict": []},
        {"verdict": {"status": "accepted", "reasons": None}},
        {"metrics": {"test": {"accuracy": "x" * 5000}}},
        {"metrics": {"test": {"accuracy": 10**400}}},
        {"metrics": {"test": {"accuracy": 0.9}, "recall": [0.5]}},
        {"data": {"drift": {"train": "much"}}},
        {"data": ["a list"]},
        {"created_at": "2026-01-01T00:00:00"},
        {"created_at": "0001-01-01T00:00:00+14:00"},
        {"files": {"model": {"sha256": "x"}}},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_malformed_manifest_is_rejected(registry, put, changes):
    put("7/manifest.json", {**manifest("r"), **changes})
    with pytest.raises(RegistryContentError, match=r"in 7/manifest\.json") as caught:
        registry.manifest(7)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "changes",
    [{"schema_version": 2}, {"version": "one"}, {"drift": [1]}, {"images": None}],
    ids=str,
)
def test_malformed_report_is_rejected(registry, put, changes):
    put("monitoring/m/report.json", {**REPORT, **changes})
    with pytest.raises(RegistryContentError, match=r"report.* in monitoring/m/report\.json"):
        registry.report("m")


def test_report_is_written_once_and_read(registry):
    assert registry.report("m") is None
    report = {**REPORT, "accuracy": 0.5, "recall": {"Bag": 0.4}, "drifted": ["accuracy"]}
    assert registry.write_report("m", report).document == report
    assert registry.write_report("m", {**report, "images": 11}).images == 10
    assert registry.report("m") == MonitoringReport(
        run_id="m",
        version=1,
        images=10,
        drift={"pixels": 0.1},
        accuracy=0.5,
        recalls={"Bag": 0.4},
        is_inaccurate=True,
    )


def test_malformed_result_is_not_written(registry, store):
    with pytest.raises(RegistryContentError, match="malformed manifest"):
        registry.write_result("r", {"schema_version": 1, "run_id": "r"})
    assert not obstore.list(store, "runs").collect()


def test_texts_are_printable_and_the_document_unchanged():
    document = manifest("a\x00b\ud800", reason="two\nlines", data={"etags": {"f": '"x"'}})
    document["verdict"]["reasons"] = ["x" * 1000]
    parsed = Manifest.parse(document)
    assert (parsed.run_id, parsed.reason) == ("a\ufffdb\ufffd", "two lines")
    assert parsed.reasons == ("x" * 299 + "\u2026",)
    assert parsed.etags == {"f": '"x"'}
    assert parsed.document == document


@pytest.mark.parametrize("version", [None, "7", True, "../../x"])
def test_move_without_a_version_is_rejected(version):
    with pytest.raises(RegistryContentError, match=r"champion/00000001\.json names"):
        ChampionMove.parse({"version": version}, "champion/00000001.json")


@pytest.mark.parametrize("moved_at", ["yesterday", 5])
def test_move_without_a_valid_time_is_rejected(registry, put, three_versions, moved_at):
    put("champion/00000004.json", {"version": 1, "moved_at": moved_at})
    with pytest.raises(RegistryContentError, match=r"champion/00000004\.json"):
        registry.champion()


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"9" * 5000, b"[]"]
)
def test_invalid_json_object_is_rejected(registry, store, content):
    obstore.put(store, "champion/00000001.json", content)
    with pytest.raises(RegistryContentError, match=r"champion/00000001\.json is not a JSON object"):
        registry.champion()


def test_non_numeric_version_of_a_run_is_rejected(registry, put, tmp_path):
    put("runs/r/version.json", {"version": "one"})
    with pytest.raises(RegistryContentError, match="names no version"):
        registry.publish("r", tmp_path, manifest("r"))


# The champion ----------------------------------------------------------------------------------


def test_move_to_an_absent_version_is_rejected(registry, put, three_versions):
    put("champion/00000004.json", {"version": 9})
    with pytest.raises(RegistryContentError, match="names a version that does not exist, in here"):
        registry.champion()
    # WHEN that version was removed THEN the move before it counts
    put("removed/00000009.json", {"version": 9})
    assert (registry.champion().version, registry.champion().sequence) == (3, 4)


def test_operator_promotes_and_rolls_back(registry, three_versions):
    champion = registry.promote(1, "it is smaller")
    assert (champion.version, champion.sequence) == (1, 4)
    # AND repeating it changes nothing
    assert registry.promote(1, "again").sequence == 4
    assert registry.rollback("complaints").version == 3
    assert registry.rolled_back() == {1}
    assert registry.rollback("taken back").version == 1
    assert registry.champion().sequence == 6


def test_operators_move_records_who_and_why(registry, store, three_versions):
    registry.rollback("complaints")
    move = json.loads(bytes(obstore.get(store, "champion/00000004.json").bytes()))
    assert move.pop("moved_at").endswith("Z")
    assert move == {
        "version": 2,
        "run_id": "run-2",
        "moved_by": "rollback",
        "reason": "complaints",
    }


def test_absent_version_is_not_promoted(registry, put):
    for move in (lambda: registry.promote(9, "why"), lambda: registry.rollback("why")):
        with pytest.raises(NoSuchModelError):
            move()
    # AND there is no previous champion after only one version
    put("1/manifest.json", manifest())
    assert registry.promote(1, "first").sequence == 1
    with pytest.raises(NoSuchModelError, match="no other version has served"):
        registry.rollback("why")


def test_first_champion_after_removed_ones_follows_their_moves(registry, put):
    # GIVEN only moves to removed versions
    put("champion/00000001.json", {"version": 8})
    put("removed/00000008.json", {"version": 8})
    put("9/manifest.json", manifest())
    assert registry.champion() is None
    # THEN the next move is no conflict
    assert registry.promote(9, "why").sequence == 2


def test_old_moves_are_removed(registry, put, store, three_versions):
    for sequence in range(4, 106):
        put(layout.move(sequence), {"version": 1 + sequence % 2})
    registry.promote(3, "why")
    moves = sorted(entry["path"] for entry in obstore.list(store, "champion").collect())
    assert moves[0] == "champion/00000006.json"
    assert len(moves) == 101


# Predictions and test images -------------------------------------------------------------------


def test_predictions_and_test_images_are_read(registry, store, three_versions):
    images = bytes(784), bytes(range(256)) + bytes(784 - 256)
    obstore.put(store, "data/images", bytes(16) + b"".join(images))
    prediction = registry.prediction(3, 0)
    assert (prediction.predicted, prediction.actual, prediction.confidence) == ("Bag", "Shirt", 0.9)
    assert registry.classes(3) == ["Shirt", "Bag"]
    image = registry.test_image(3, 1)
    assert (image.pixels, image.actual, list(image.classes)) == (images[1], "Bag", ["Shirt", "Bag"])


def test_absent_predictions_are_reported(registry, put, three_versions):
    with pytest.raises(NoSuchModelError, match="version 3 has predictions for images 0 to 1"):
        registry.prediction(3, 2)
    with pytest.raises(NoSuchModelError, match="version 2 has no predictions"):
        registry.classes(2)
    with pytest.raises(NoSuchModelError, match="version 3 has no test images"):
        registry.test_image(3, 0)
    put("3/manifest.json", manifest())
    with pytest.raises(NoSuchModelError, match="version 3 has no test images"):
        registry.test_image(3, 0)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"classes": 1, "label": [0]},
        {"classes": [], "label": [0], "predicted": [0], "confidence": [1]},
        {"classes": ["a"], "label": [0], "predicted": [float("inf")], "confidence": [1]},
        {"classes": ["a"], "label": [0, 0], "predicted": [0], "confidence": [1]},
    ],
    ids=str,
)
def test_malformed_predictions_are_rejected(registry, put, document):
    put("3/predictions.json", document)
    with pytest.raises(
        RegistryContentError, match=r"malformed predictions: .*, in 3/predictions\.json"
    ):
        registry.prediction(3, 0)


# Blobs, code, and how the registry is written --------------------------------------------------


def test_missing_or_altered_blob_is_reported(registry, store):
    name = registry.put_blob(b"images")
    obstore.put(store, f"data/{name}", b"others")
    with pytest.raises(RegistryContentError, match=f"data/{name} was altered .* restore it"):
        registry.get_blob(name)
    obstore.delete(store, f"data/{name}")
    with pytest.raises(RegistryContentError, match=f"data/{name} is missing; restore"):
        registry.get_blob(name)


def test_code_is_read_only_if_missing(registry, store):
    digest = hashlib.sha256(b"code").hexdigest()
    registry.put_code(digest, lambda: b"code")
    registry.put_code(digest, lambda: pytest.fail("it was read"))
    assert bytes(obstore.get(store, f"code/{digest}").bytes()) == b"code"


def test_registry_of_another_namespace_is_not_safe(registry, put, store):
    registry.ensure_safe("kubeflow")
    record = {"method": "kubernetes", "namespace": "old", "config_map": "c", "id": "i"}
    put("writes.json", {"schema_version": 1, **record})
    other_registry = Registry(store)
    other_registry.ensure_safe("old")
    with pytest.raises(RegistryElsewhereError, match="is in namespace old, runs in new"):
        other_registry.ensure_safe("new")


def test_unreachable_server_is_reported_with_its_location():
    options = S3Options(
        endpoint="http://127.0.0.1:1",
        access_key="a",
        secret_key="b",
        region="us-east-1",
        retries=0,
        proxied=False,
    )
    registry = Registry(open_store("s3://bucket/models", options), location="over there")
    with pytest.raises(RegistryError, match="object storage over there cannot be read: "):
        registry.champion()
    with pytest.raises(RegistryError, match="object storage over there cannot be written: "):
        registry.ensure_safe("kubeflow")
