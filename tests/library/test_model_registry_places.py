"""The model registry: in a directory, on S3 servers with and without conditional writes.

MINIO and OLD_MINIO name the programs of a release of MinIO that honours conditions and of one that ignores
them; CLUSTER_KUBECONFIG names an administrator's kubeconfig of a cluster to try on.
"""

import contextlib
import datetime
import hashlib
import json
import threading

import obstore
import pytest

from fashion_mnist import kubernetes
from fashion_mnist.storage import open_registry, open_store
from model_registry import (
    ChampionMovedError,
    NoSuchModelError,
    Registry,
    RegistryContentError,
    RegistryError,
    UnsafeStoreError,
)
from model_registry import publisher as publisher_module
from sandbox import Sandbox
from tests import cluster
from tests import s3 as s3_servers
from tests.builders import manifest
from tests.library.publisher import publish
from tests.processes import Process
from tests.s3 import MINIO, OLD_MINIO

# Versions of any age may be removed.
NOW = datetime.timedelta(0)
pytestmark = pytest.mark.exhaustive
# Whatever was put, it was before then.
PAST = datetime.timedelta(seconds=-60)


@pytest.fixture(scope="module")
def minio(tmp_path_factory):
    """Run a MinIO server with an empty bucket, and yield its address."""
    with s3_servers.minio(MINIO, tmp_path_factory.mktemp("minio")) as url:
        yield url


@pytest.fixture(scope="module")
def old_minio(tmp_path_factory):
    """The address of a MinIO server that ignores conditions, with an empty bucket."""
    with s3_servers.minio(OLD_MINIO, tmp_path_factory.mktemp("old-minio")) as url:
        yield url


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The kubeconfig of an account in a real cluster that may only write ConfigMaps."""
    with cluster.editor("trainer-test-registry", tmp_path_factory.mktemp("kube")) as path:
        yield path


def skip_unless(condition, name, why, **options):
    return pytest.param(name, marks=pytest.mark.skipif(not condition, reason=why), **options)


NO_MINIO, NO_OLD_MINIO = "no MinIO: MINIO is not set", "no MinIO of 2021: OLD_MINIO is not set"
CONDITIONAL = "directory", "s3", "minio"
PLACES = [
    "directory",
    "s3",
    pytest.param("s3 that drops conditions", marks=pytest.mark.slow),
    skip_unless(MINIO, "minio", NO_MINIO),
    skip_unless(MINIO, "minio behind a proxy that drops conditions", NO_MINIO),
    skip_unless(OLD_MINIO, "minio of 2021", NO_OLD_MINIO),
    skip_unless(cluster.CLUSTER, "real cluster", "no cluster: CLUSTER_KUBECONFIG is not set"),
]


@pytest.fixture(params=PLACES)
def kind(request):
    """The kind of storage that a registry is in."""
    return request.param


@pytest.fixture
def place(kind, request, tmp_path, monkeypatch):
    """A registry's address and endpoint; KUBECONFIG names the cluster."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with contextlib.ExitStack() as stack:
        if kind == "directory":
            yield str(tmp_path / "registry"), ""
            return
        if kind != "minio":
            drops = kind != "s3"
            sandbox = stack.enter_context(
                Sandbox(tmp_path / "sandbox", execute=False, s3_without_conditional_writes=drops)
            )
            if drops:
                monkeypatch.setenv("KUBECONFIG", str(sandbox.kubeconfig))
        if kind == "real cluster":
            monkeypatch.setenv("KUBECONFIG", str(request.getfixturevalue("profile")))
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        if kind in ("s3", "s3 that drops conditions", "real cluster"):
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_key)
            yield "s3://mlpipeline/models/x", sandbox.s3_url
            return
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_servers.USER)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_servers.PASSWORD)
        url = request.getfixturevalue("old_minio" if kind == "minio of 2021" else "minio")
        if "proxy" in kind:
            url = stack.enter_context(s3_servers.Unconditional(url)).url
        prefix = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
        yield f"s3://mlpipeline/models/{prefix}", url


def before_creating(monkeypatch, call):
    """Call a function with the path before each write that creates an object exclusively."""
    put, replace = obstore.put, kubernetes.ConfigMaps.replace

    def put_after(store, path, *args, **kwargs):
        if kwargs.get("mode") == "create":
            call(path)
        return put(store, path, *args, **kwargs)

    def replace_after(self, config_map):
        call(json.loads(config_map.data.get("claim", "{}")).get("path", ""))
        return replace(self, config_map)

    monkeypatch.setattr(obstore, "put", put_after)
    monkeypatch.setattr(kubernetes.ConfigMaps, "replace", replace_after)


@pytest.fixture
def store(place):
    return open_store(*place)


@pytest.fixture
def registry(place):
    return open_registry(*place)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    (folder / "serving" / "variables").mkdir(parents=True)
    (folder / "serving" / "saved_model.pb").write_bytes(b"model")
    (folder / "serving" / "variables" / "data").write_bytes(b"weights")
    return folder


def test_empty_registry_has_no_versions(registry):
    assert registry.champion() is None
    assert registry.versions() == []
    assert registry.history() == []
    with pytest.raises(NoSuchModelError, match="there is no version 1"):
        registry.manifest(1)


def test_published_version_is_read_completely(registry, files, tmp_path):
    version = registry.publish("run-1", files, manifest("run-1"))
    fetched = registry.fetch(version, tmp_path / "back")
    assert (tmp_path / "back/serving/1/variables/data").read_bytes() == b"weights"
    assert (fetched.document["version"], fetched.run_id) == (1, "run-1")
    assert registry.versions() == [1]


def test_missing_file_is_named(registry, store, files, tmp_path):
    registry.publish("a", files, manifest("a"))
    obstore.delete(store, "1/serving/1/saved_model.pb")
    with pytest.raises(
        RegistryContentError, match=r"version 1: serving/1/saved_model\.pb is missing"
    ):
        registry.fetch(1, tmp_path / "back")


def test_empty_result_is_not_published(registry, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="is empty"):
        registry.publish("a", tmp_path / "nothing", manifest("a"))
    assert registry.versions() == []


def test_manifest_with_another_schema_is_rejected(registry, store):
    obstore.put(store, "1/manifest.json", json.dumps({"schema_version": 2}).encode())
    with pytest.raises(RegistryContentError, match="has schema_version 2"):
        registry.manifest(1)


def test_republishing_a_run_returns_the_same_version(registry, files):
    assert registry.publish("run-1", files, manifest("run-1")) == 1
    assert registry.publish("run-1", files, manifest("run-1")) == 1
    assert registry.publish("run-2", files, manifest("run-2")) == 2


def test_first_result_of_a_run_is_kept(registry):
    first = manifest("run-1")
    assert registry.write_result("run-1", first).document == first
    later = {**first, "verdict": {"status": "rejected", "reasons": []}}
    assert registry.write_result("run-1", later).document == first
    assert registry.result("run-1").accepted


def test_champion_moves_only_from_the_observed_sequence(registry, files):
    for run in ("a", "b"):
        registry.publish(run, files, manifest(run))
    registry.move_champion(1, after=0, reason="first")
    with pytest.raises(ChampionMovedError):
        registry.move_champion(2, after=0, reason="late")
    registry.move_champion(2, after=1, reason="better")
    champion = registry.champion()
    assert (champion.version, champion.sequence) == (2, 2)
    with pytest.raises(NoSuchModelError, match="there is no version 9"):
        registry.move_champion(9, after=2, reason="there is none")


def test_promotion_compares_again_if_the_champion_moved(registry, files):
    for run in ("a", "b"):
        registry.publish(run, files, manifest(run))
    requests = []

    def other_is_worse(champion):
        requests.append(champion and champion.version)
        if len(requests) == 1:
            registry.move_champion(2, after=0, reason="faster")
        return True

    assert registry.promote_if_better(1, other_is_worse, "why")
    assert requests == [None, 2]
    assert registry.champion().version == 1


def test_worse_version_is_not_promoted(registry, files):
    registry.publish("a", files, manifest("a"))
    assert not registry.promote_if_better(1, lambda _: False, "why")
    assert registry.champion() is None


def test_retried_step_keeps_an_operators_rollback(registry, files):
    # GIVEN a run's version that was promoted, and an operator who rolled back from it
    for run in ("a", "b"):
        registry.promote_if_better(registry.publish(run, files, manifest(run)), lambda _: True, run)
    registry.move_champion(1, after=2, reason="complaints", moved_by="rollback")
    # WHEN its publish step is retried THEN nothing is compared, and the champion stays
    version = registry.publish("b", files, manifest("b"))
    assert not registry.promote_if_better(version, lambda _: pytest.fail("it was judged"), "again")
    assert registry.champion().version == 1
    # AND while it is the champion, another attempt reports that
    assert registry.promote_if_better(1, lambda _: pytest.fail("it was judged"), "again")
    assert (registry.has_served(2), registry.has_served(3)) == (True, False)


MOVES = {
    "nobody moved it": ([], set()),
    "runs moved it": ([(1, "pipeline"), (2, "pipeline")], set()),
    "a rollback": ([(1, "pipeline"), (2, "pipeline"), (1, "rollback")], {2}),
    "a rollback that was taken back": (
        [(1, "pipeline"), (2, "pipeline"), (1, "rollback"), (2, "rollback")],
        {1},
    ),
    "one further back by hand": (
        [(1, "pipeline"), (2, "pipeline"), (3, "pipeline"), (2, "rollback"), (1, "promote")],
        {3},
    ),
    "what was rolled back from is promoted": (
        [(1, "pipeline"), (2, "pipeline"), (1, "rollback"), (2, "promote")],
        set(),
    ),
    "a run moved it since": (
        [(1, "pipeline"), (2, "pipeline"), (1, "rollback"), (3, "pipeline")],
        set(),
    ),
    "promotions by hand": ([(1, "promote"), (2, "promote"), (1, "promote")], set()),
    "nobody kept who": ([(1, None), (2, None), (1, None)], set()),
    "a rollback after moves of which nobody kept who": (
        [(1, None), (2, None), (1, "rollback")],
        {2},
    ),
    "the first move that is kept": ([(1, "rollback")], set()),
    "a version that is gone": ([(1, "pipeline"), (9, "pipeline"), (1, "rollback")], set()),
}


@pytest.mark.parametrize(("moves", "rolled_back"), MOVES.values(), ids=MOVES)
def test_moves_name_rolled_back_versions(registry, store, files, moves, rolled_back):
    for run in "abc":
        registry.publish(run, files, manifest(run))
    for number, (version, moved_by) in enumerate(moves, 1):
        move = {"version": version, **({"moved_by": moved_by} if moved_by else {})}
        obstore.put(store, f"champion/{number:08d}.json", json.dumps(move).encode())
    assert registry.rolled_back() == rolled_back


def test_altered_file_is_detected(registry, store, files, tmp_path):
    registry.publish("a", files, manifest("a"))
    obstore.put(store, "1/serving/1/saved_model.pb", b"another model")
    with pytest.raises(RegistryContentError, match="altered"):
        registry.fetch(1, tmp_path / "back")


def test_manifest_cannot_name_files_outside(registry, store, tmp_path):
    outside = {**manifest("a"), "files": {"../../evil": {"sha256": "x", "bytes": 1}}}
    obstore.put(store, "1/manifest.json", json.dumps(outside).encode())
    with pytest.raises(RegistryContentError, match="outside itself"):
        registry.fetch(1, tmp_path / "back")


def test_concurrent_publishers_make_one_version_each_and_one_champion(
    registry, store, files, monkeypatch
):
    # GIVEN six publishers that observe an empty registry before any of them writes
    versions, together, met = [], threading.Barrier(6), set()

    def wait_for_others(path):
        # Retried if another writer came first.
        if path in ("claims/00000001.json", "champion/00000001.json"):
            arrival = (path, threading.get_ident())
            if arrival not in met:
                met.add(arrival)
                together.wait(60)

    before_creating(monkeypatch, wait_for_others)

    def publish(run):
        version = registry.publish(run, files, manifest(run))
        registry.promote_if_better(version, lambda c: c is None or c.version < version, run)
        versions.append(version)

    threads = [threading.Thread(target=publish, args=(f"run-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # THEN each has a different version, and the moves lead up to the best
    assert sorted(versions) == [1, 2, 3, 4, 5, 6]
    assert registry.versions() == [1, 2, 3, 4, 5, 6]
    moves = [entry["path"] for entry in obstore.list(store, "champion").collect()]
    moved = [
        json.loads(bytes(obstore.get(store, path).bytes()))["version"] for path in sorted(moves)
    ]
    assert moved == sorted(set(moved))
    assert registry.champion().version == 6


def test_crash_before_the_manifest_leaves_an_unused_number(registry, store, files):
    # GIVEN a publisher that died after it took a number and wrote half of its files
    obstore.put(store, "claims/00000001.json", b'{"run_id": "dead"}')
    obstore.put(store, "1/serving/1/saved_model.pb", b"mod")
    # WHEN another publishes THEN it takes the next number, and the incomplete version is ignored
    assert registry.publish("alive", files, manifest("alive")) == 2
    assert registry.versions() == [2]


def test_second_attempt_completes_the_first(registry, store, files, tmp_path):
    # GIVEN a step that died after it took a number and put half of its files
    obstore.put(store, "claims/00000001.json", b'{"run_id": "run-1"}')
    obstore.put(store, "1/serving/1/saved_model.pb", b"model of then")
    # WHEN it is retried THEN it completes that version, and overwrites nothing
    assert registry.publish("run-1", files, manifest("run-1")) == 1
    registry.fetch(1, tmp_path / "back")
    assert (tmp_path / "back/serving/1/saved_model.pb").read_bytes() == b"model of then"
    assert (tmp_path / "back/serving/1/variables/data").read_bytes() == b"weights"


def test_complete_version_of_a_dead_step_is_not_repeated(registry, store, files, monkeypatch):
    registry.publish("run-1", files, manifest("run-1"))
    obstore.delete(store, "runs/run-1/version.json")
    monkeypatch.setattr(publisher_module, "ABANDONED", PAST)
    assert registry.publish("run-1", files, manifest("run-1")) == 1
    assert registry.versions() == [1]


def test_put_with_a_lost_response_belongs_to_the_writer(registry, files, monkeypatch):
    # GIVEN clients that repeat writes after a lost response, as obstore does
    def write_twice(write):
        def call(*args, **kwargs):
            write(*args, **kwargs)
            return write(*args, **kwargs)

        return call

    monkeypatch.setattr(obstore, "put", write_twice(obstore.put))
    for name in ("create", "replace"):
        write = getattr(kubernetes.ConfigMaps, name)
        monkeypatch.setattr(kubernetes.ConfigMaps, name, write_twice(write))
    # WHEN a run publishes and is promoted THEN its first put succeeds
    assert registry.publish("run-1", files, manifest("run-1")) == 1
    registry.move_champion(1, after=0, reason="why")
    assert registry.champion().sequence == 1


def test_leftovers_of_a_dead_step_are_collected_after_a_day(registry, store, files, monkeypatch):
    # GIVEN a version, and leftovers of steps that died before the manifest
    registry.publish("run-1", files, manifest("run-1"))
    for number in (2, 3):
        obstore.put(store, f"claims/{number:08d}.json", b'{"run_id": "dead"}')
    obstore.put(store, "2/serving/2/saved_model.pb", b"model")
    # WHEN the step may still be running THEN they stay
    assert registry.collect_garbage() == []
    # WHEN a day has passed THEN only they are removed
    monkeypatch.setattr(publisher_module, "ABANDONED", PAST)
    assert registry.collect_garbage(older_than=PAST) == [2]
    assert obstore.list(store, "2").collect() == []
    assert registry.versions() == [1]
    assert registry.collect_garbage(older_than=PAST) == []
    # AND another attempt of that run takes a new version
    assert registry.publish("dead", files, manifest("dead")) == 4


def test_step_ignores_its_collected_version(registry, files, monkeypatch):
    # GIVEN a step that sleeps for more than a day before it puts the manifest
    slept = []

    def sleep(path):
        if path == "1/manifest.json" and not slept:
            slept.append(path)
            assert registry.collect_garbage(older_than=PAST) == [1]

    before_creating(monkeypatch, sleep)
    # WHEN it continues THEN it fails, and the next attempt makes another version
    with pytest.raises(RegistryError, match="publish again"):
        registry.publish("run-1", files, manifest("run-1"))
    assert registry.publish("run-1", files, manifest("run-1")) == 2


def test_saved_model_is_stored_under_its_version(registry, store, files, tmp_path):
    for run in ("a", "b"):
        registry.publish(run, files, manifest(run))
    # TensorFlow Serving is given 2/serving as its base path
    names = {entry["path"] for entry in obstore.list(store, "2/serving").collect()}
    assert names == {"2/serving/2/saved_model.pb", "2/serving/2/variables/data"}
    registry.fetch(2, tmp_path / "back")
    assert (tmp_path / "back/serving/2/variables/data").read_bytes() == b"weights"


def test_shared_content_is_stored_once(registry, store):
    name = registry.put_blob(b"images")
    assert registry.put_blob(b"images") == name == hashlib.sha256(b"images").hexdigest()
    assert bytes(obstore.get(store, f"data/{name}").bytes()) == b"images"
    assert registry.get_blob(name) == b"images"
    assert registry.versions() == []


@pytest.fixture
def unconditional_servers(monkeypatch):
    """All servers ignore `If-None-Match: *`, as some do."""
    put = obstore.put
    monkeypatch.setattr(
        obstore, "put", lambda store, path, content, mode=None: put(store, path, content)
    )


@pytest.mark.parametrize("kind", ["directory", "s3"])
@pytest.mark.usefixtures("unconditional_servers")
def test_server_without_conditions_is_rejected_without_a_cluster(place, store, files):
    # GIVEN an S3 server that ignores conditions on puts
    registry = open_registry(*place)
    # WHEN a run publishes THEN the error names the server and the remedy
    with pytest.raises(UnsafeStoreError, match="ignores If-None-Match") as raised:
        registry.publish("run-1", files, manifest("run-1"))
    assert place[0] in str(raised.value)
    assert place[1] in str(raised.value)
    assert "MinIO RELEASE.2024-05-07 or later" in str(raised.value)
    # AND only the probe object exists
    assert [entry["path"] for entry in obstore.list(store).collect()] == ["probe.json"]


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_champion_is_not_moved_if_conditions_are_ignored_contrary_to_the_record(
    place, files, request
):
    open_registry(*place).publish("run-1", files, manifest("run-1"))
    request.getfixturevalue("unconditional_servers")
    registry = open_registry(*place)
    with pytest.raises(UnsafeStoreError, match="ignores If-None-Match"):
        registry.move_champion(1, after=0, reason="why")
    assert registry.champion() is None


@pytest.mark.parametrize("kind", ["directory", "s3", skip_unless(MINIO, "minio", NO_MINIO)])
def test_each_registry_probes_its_server_once(place, files, monkeypatch):
    open_registry(*place).publish("run-1", files, manifest("run-1"))
    registry, put, paths = open_registry(*place), obstore.put, []

    def counted(store, path, *args, **kwargs):
        paths.append(path)
        return put(store, path, *args, **kwargs)

    monkeypatch.setattr(obstore, "put", counted)
    registry.publish("run-2", files, manifest("run-2"))
    registry.promote_if_better(2, lambda _: True, "why")
    assert paths.count("probe.json") == 1


def test_registry_records_its_write_method(registry, store, kind):
    registry.check()
    record = json.loads(bytes(obstore.get(store, "writes.json").bytes()))
    method = "conditional" if kind in CONDITIONAL else "kubernetes"
    assert (record["schema_version"], record["method"]) == (1, method)


def test_staged_content_is_collected_after_a_day(registry, store):
    obstore.put(store, "pending/of-a-dead-step", b"model")
    registry.collect_garbage()
    assert obstore.list(store, "pending").collect()
    registry.collect_garbage(older_than=PAST)
    assert not obstore.list(store, "pending").collect()


# Retention -------------------------------------------------------------------------------------


@pytest.fixture
def six_versions(registry, files):
    """Six versions; the champion is 1, and was 3 before."""
    for run in "abcdef":
        registry.publish(run, files, manifest(run))
    for after, version in enumerate((2, 3, 1)):
        registry.move_champion(version, after=after, reason="for a test")


@pytest.mark.usefixtures("six_versions")
def test_retention_keeps_newest_champion_and_previous_champion(registry, store, tmp_path):
    assert registry.prune(0, older_than=NOW) == []
    assert registry.prune(2, older_than=NOW) == [2, 4]
    assert registry.versions() == [1, 3, 5, 6]
    assert obstore.list(store, "2").collect() == []
    for version in registry.versions():
        registry.fetch(version, tmp_path / str(version))
    assert registry.prune(2, older_than=NOW) == []
    assert registry.champion().version == 1


@pytest.mark.usefixtures("six_versions")
def test_retention_keeps_just_published_versions(registry):
    # GIVEN versions that another run, or an operator, may be about to promote
    assert registry.prune(1) == []
    # WHEN one is promoted THEN it is the champion
    assert registry.promote_if_better(4, lambda _: True, "the operator says so")
    # AND an interrupted removal is completed
    assert registry.prune(3, older_than=NOW) == [2, 3]
    assert registry.prune(1, older_than=datetime.timedelta(hours=1)) == []


def test_history_has_serving_times_after_many_moves(registry, store, files):
    # GIVEN a version that was champion first, before two others alternated
    for run in "abcd":
        registry.publish(run, files, manifest(run))
    registry.move_champion(1, after=0, reason="first")
    for after in range(1, 25):
        registry.move_champion(2 + after % 2, after=after, reason="turns")
    obstore.put(store, "removed/00000003.json", b"{}")
    # THEN it is told of it, nothing of one that never served, and one that goes is left out
    promoted_at = {version.number: version.promoted_at for version in registry.history(3)}
    assert list(promoted_at) == [4, 2, 1]
    assert promoted_at[1].tzinfo
    assert promoted_at[2] >= promoted_at[1]
    assert promoted_at[4] is None


@pytest.mark.usefixtures("six_versions")
def test_removed_version_does_not_return(registry, files, tmp_path):
    registry.prune(2, older_than=NOW)
    with pytest.raises(NoSuchModelError, match="there is no version 2"):
        registry.fetch(2, tmp_path / "back")
    with pytest.raises(NoSuchModelError, match="there is no version 2"):
        registry.move_champion(2, after=3, reason="too late")
    assert registry.publish("b", files, manifest("b")) == 2  # that run had its version
    assert registry.publish("g", files, manifest("g")) == 7


@pytest.mark.usefixtures("six_versions")
def test_version_promoted_during_removal_keeps_the_old_champion(registry, monkeypatch):
    # GIVEN one who removes version 4 between another's look at it and their move to it
    read = Registry.manifest

    def then_prune(self, version):
        result = read(self, version)
        monkeypatch.setattr(Registry, "manifest", read)
        assert registry.prune(2, older_than=NOW) == [2, 4]
        return result

    monkeypatch.setattr(Registry, "manifest", then_prune)
    # WHEN version 4 is promoted THEN that fails, and the champion stays
    with pytest.raises(NoSuchModelError, match="being removed"):
        registry.move_champion(4, after=3, reason="race")
    champion = registry.champion()
    assert (champion.version, champion.sequence) == (1, 4)
    # AND the next move follows
    registry.move_champion(6, after=4, reason="next")
    assert registry.champion().version == 6


@pytest.mark.usefixtures("six_versions")
def test_version_promoted_just_before_removal_stays(registry, monkeypatch):
    # GIVEN one who promotes version 4 between another's look at who serves and the tombstone
    promoted = []

    def promote_first(path):
        if path == "removed/00000004.json" and not promoted:
            promoted.append(path)
            registry.move_champion(4, after=3, reason="race")

    before_creating(monkeypatch, promote_first)
    # WHEN old versions are removed THEN it is not among them, and neither is the one before it
    assert registry.prune(2, older_than=NOW) == [2]
    assert registry.versions() == [1, 3, 4, 5, 6]
    assert registry.champion().version == 4
    # AND 3, an earlier champion, may be removed now
    assert registry.prune(2, older_than=NOW) == [3]


# Processes that die, and processes at once -----------------------------------------------------


def publisher(place, files, run, *, keep=1, dies_at=0, meeting=""):
    return Process(publish, *place, run, files, keep, dies_at, meeting)


def read_complete(registry, folder):
    """Fetch and check every valid version, and return the champion's number."""
    for version in registry.versions():
        registry.fetch(version, folder / str(version))
    champion = registry.champion()
    registry.fetch(champion.version, folder / "champion")
    return champion.version


def test_kill_at_any_write_leaves_one_version_of_a_run(
    place, kind, files, registry, store, tmp_path
):
    at, code = 0, -9
    while code == -9:
        at += 1
        # WHEN a publisher that removes nothing dies before a write, and is retried
        code, output = publisher(place, files, f"run-{at}", keep=0, dies_at=at).end(180)
        assert code in (-9, 0), output
        second_code, output = publisher(place, files, f"run-{at}", keep=0).end(180)
        assert second_code == 0, output
        # THEN each run has one complete version, which is the champion, and no number is lost
        assert read_complete(registry, tmp_path / str(at)) == at
        run_ids = [registry.manifest(version).run_id for version in registry.versions()]
        assert run_ids == [f"run-{n + 1}" for n in range(at)]
        prefixes = obstore.list_with_delimiter(store)["common_prefixes"]
        assert sum(path.strip("/").isdigit() for path in prefixes) == at
        assert len(obstore.list(store, "claims").collect()) == at
    # Two files, claim, manifest, version, move, each one write, or three: claim it, put it, and cancel
    # the claim. Before them the server is tried with one.
    assert at == (8 if kind in CONDITIONAL else 20)


def test_kill_during_retention_keeps_a_champion_and_is_completed(
    place, kind, files, registry, tmp_path
):
    for run in ("a", "b", "c"):
        version = registry.publish(run, files, manifest(run))
        registry.promote_if_better(version, lambda _: True, run)
    # The test above has seen to the writes that publish.
    first = 6 if kind in CONDITIONAL else 18
    writes, at, before = 99, first, 3
    while at < writes:
        at += 1
        # WHEN a publisher dies before a write THEN the champion is the old one or the new one
        code, output = publisher(place, files, f"run-{at}", dies_at=at).end(180)
        if code == 0:  # there was no such write
            writes = output
            break
        assert code == -9, output
        assert before <= read_complete(registry, tmp_path / f"after-{at}")
        # AND the step, run again, ends well: the champion, its predecessor, and nothing in between
        code, output = publisher(place, files, f"run-{at}").end(180)
        assert code == 0, output
        now = read_complete(registry, tmp_path / f"again-{at}")
        assert registry.manifest(now).run_id == f"run-{at}"
        assert registry.versions() == [before, now]
        before = now
    # One more to publish, the tombstone, put or at the second look found, and four deletions.
    assert at == (14 if kind in CONDITIONAL else 27)


def test_publishers_in_processes_make_one_version_each_and_one_champion(
    place, files, registry, tmp_path
):
    meeting = str(tmp_path / "meeting")
    running = [publisher(place, files, f"run-{n}", keep=0, meeting=meeting) for n in range(3)]
    for process in running:
        code, output = process.end(180)
        assert code == 0, output
    assert read_complete(registry, tmp_path / "all") == 3
    assert registry.versions() == [1, 2, 3]
    assert {registry.manifest(n).run_id for n in (1, 2, 3)} == {"run-0", "run-1", "run-2"}
