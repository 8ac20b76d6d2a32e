"""The model registry, on a directory and on an S3 server."""

import json
import threading

import obstore
import pytest

from fashion_mnist.registry import LostRaceError, Registry, RegistryError
from fashion_mnist.storage import open_store
from sandbox import Sandbox


@pytest.fixture(params=["directory", "s3"])
def store(request, tmp_path, monkeypatch):
    if request.param == "directory":
        yield open_store(str(tmp_path / "registry"))
        return
    with Sandbox(tmp_path / "sandbox", execute=False) as sandbox:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_key)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield open_store("s3://mlpipeline/models/x", sandbox.s3_url)


@pytest.fixture
def registry(store):
    return Registry(store)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"model")
    (folder / "variables" / "data").write_bytes(b"weights")
    return folder


def manifest(run):
    return {"schema_version": 1, "run_id": run}


def test_an_empty_registry_has_nothing(registry):
    assert registry.champion() is None
    assert registry.versions() == []
    with pytest.raises(RegistryError, match="is not there"):
        registry.manifest(1)


def test_a_published_version_comes_back_whole(registry, files, tmp_path):
    version = registry.publish("run-1", files, manifest("run-1"))
    said = registry.fetch(version, tmp_path / "back")
    assert (tmp_path / "back" / "variables" / "data").read_bytes() == b"weights"
    assert (said["version"], said["run_id"]) == (1, "run-1")
    assert registry.versions() == [1]


def test_publishing_a_run_again_gives_the_same_version(registry, files):
    assert registry.publish("run-1", files, manifest("run-1")) == 1
    assert registry.publish("run-1", files, manifest("run-1")) == 1
    assert registry.publish("run-2", files, manifest("run-2")) == 2


def test_the_first_result_of_a_run_stays(registry):
    first = {**manifest("run-1"), "verdict": "accepted"}
    assert registry.write_result("run-1", first) == first
    assert registry.write_result("run-1", {**first, "verdict": "rejected"}) == first


def test_the_champion_moves_only_from_where_it_was_seen(registry, files):
    for run in ("a", "b"):
        registry.publish(run, files, manifest(run))
    registry.move_champion(1, after=0, reason="first")
    with pytest.raises(LostRaceError):
        registry.move_champion(2, after=0, reason="late")
    registry.move_champion(2, after=1, reason="better")
    champion = registry.champion()
    assert (champion.version, champion.sequence) == (2, 2)
    with pytest.raises(RegistryError, match="is not there"):
        registry.move_champion(9, after=2, reason="there is none")


def test_promotion_asks_again_when_the_champion_moved(registry, files):
    for run in ("a", "b"):
        registry.publish(run, files, manifest(run))
    asked = []

    def better(champion):
        asked.append(champion and champion.version)
        if len(asked) == 1:
            registry.move_champion(2, after=0, reason="faster")
        return True

    assert registry.promote(1, better, "why")
    assert asked == [None, 2]
    assert registry.champion().version == 1


def test_a_worse_version_is_not_promoted(registry, files):
    registry.publish("a", files, manifest("a"))
    assert not registry.promote(1, lambda _: False, "why")
    assert registry.champion() is None


def test_an_altered_file_is_noticed(registry, store, files, tmp_path):
    registry.publish("a", files, manifest("a"))
    obstore.put(store, "1/saved_model.pb", b"another model")
    with pytest.raises(RegistryError, match="altered"):
        registry.fetch(1, tmp_path / "back")


def test_a_manifest_cannot_name_files_outside(registry, store, tmp_path):
    outside = {**manifest("a"), "files": {"../../evil": {"sha256": "x", "bytes": 1}}}
    obstore.put(store, "1/manifest.json", json.dumps(outside).encode())
    with pytest.raises(RegistryError, match="outside itself"):
        registry.fetch(1, tmp_path / "back")


def test_many_publishers_at_once_make_a_version_each_and_one_champion(registry, files):
    versions = []

    def publish(run):
        version = registry.publish(run, files, manifest(run))
        registry.promote(version, lambda c: c is None or c.version < version, run)
        versions.append(version)

    threads = [threading.Thread(target=publish, args=(f"run-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == [1, 2, 3, 4, 5, 6]
    assert registry.versions() == [1, 2, 3, 4, 5, 6]
    assert registry.champion().version == 6


def test_a_crash_before_the_manifest_leaves_an_unused_number(registry, store, files):
    # GIVEN a publisher that died after it took a number and wrote half of its files
    obstore.put(store, "claims/00000001.json", b'{"run_id": "dead"}')
    obstore.put(store, "1/saved_model.pb", b"mod")
    # WHEN another publishes THEN it takes the next number, and the half version does not count
    assert registry.publish("alive", files, manifest("alive")) == 2
    assert registry.versions() == [2]
