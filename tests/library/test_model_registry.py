"""Objects that are created once: by conditional puts, or through a ConfigMap without them.

Most tests take a directory that ignores conditions, too: it answers sooner than an S3 server.
"""

import contextlib
import json
import os
import threading

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from fashion_mnist import kubernetes
from model_registry import ConfigMap, UnsafeStoreError, Writes, config_map_name
from sandbox import Sandbox
from tests.s3 import Unconditional

LARGE = os.urandom(200_000)
PATH, CONTENT, OTHER = "champion/00000001.json", b'{"version": 1}', b'{"version": 2}'


class Killed(BaseException):
    """Ends the process at this point."""


class Faults:
    """Kill the process before or after the nth write, and repeat writes whose responses are lost."""

    def __init__(self, monkeypatch):
        self.number, self.kill_at, self.is_after = 0, 0, False
        self.before = {}
        for owner, name in (
            *((obstore, name) for name in ("put", "copy", "delete")),
            *((kubernetes.ConfigMaps, name) for name in ("create", "replace")),
        ):
            monkeypatch.setattr(owner, name, self._faulty(getattr(owner, name)))

    def plan(self, kill_at=0, *, is_after=False):
        self.number, self.kill_at, self.is_after = 0, kill_at, is_after

    def _faulty(self, write):
        def call(*args, **kwargs):
            self.number += 1
            is_last = self.number == self.kill_at
            if is_last and not self.is_after:
                raise Killed
            target = args[1] if isinstance(args[1], str) else ""
            if action := self.before.pop((write.__name__, target), None):
                action()
            response = write(*args, **kwargs)
            if is_last:
                raise Killed
            return response

        return call


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    with Sandbox(
        tmp_path / "sandbox", execute=False, s3_without_conditional_writes=True
    ) as sandbox:
        monkeypatch.setenv("KUBECONFIG", str(sandbox.kubeconfig))
        yield sandbox


@pytest.fixture(autouse=True)
def unconditional(monkeypatch):
    """Directories ignore conditions on puts."""
    put = obstore.put

    def ignore_conditions(store, path, content, mode=None):
        if isinstance(store, LocalStore):
            return put(store, path, content)
        return put(store, path, content, mode=mode)

    monkeypatch.setattr(obstore, "put", ignore_conditions)


@pytest.fixture
def open_store(tmp_path):
    """Return the store of a registry by its name."""
    return lambda name: LocalStore(tmp_path / "stores" / name, mkdir=True)


@pytest.fixture
def store(sandbox, open_store):
    return open_store("x")


@pytest.fixture
def faults(unconditional, monkeypatch):
    return Faults(monkeypatch)


@pytest.fixture
def cluster(sandbox):
    return kubernetes.ConfigMaps.find()


@pytest.fixture
def claim(store, cluster):
    """Return the pending put in the ConfigMap."""

    def read():
        config_map = cluster.get("kubeflow", config_map_name(store))
        return json.loads(config_map.data.get("claim", "{}"))

    return read


def open_writes(store):
    return Writes(store, location="here", connect=kubernetes.ConfigMaps.find)


def read(store, path):
    return bytes(obstore.get(store, path).bytes())


def listed(store):
    return sorted(entry["path"] for entry in obstore.list(store).collect())


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
def test_object_is_put_once(store, claim, content):
    writes = open_writes(store)
    assert writes.create(PATH, content)
    assert not writes.create(PATH, OTHER)
    assert not open_writes(store).create(PATH, OTHER)
    assert read(store, PATH) == content
    # AND no temporary objects remain
    assert claim() == {}
    assert listed(store) == [PATH, "probe.json", "writes.json"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
def test_next_writer_completes_an_interrupted_write(sandbox, open_store, faults, content, is_after):
    kill_at, was_killed = 0, True
    while was_killed:
        kill_at += 1
        store = open_store(str(kill_at))
        faults.plan(kill_at, is_after=is_after)
        was_killed = False
        try:
            open_writes(store).create(PATH, content)
        except Killed:
            was_killed = True
        # WHEN another writer puts another object THEN it completes the claimed one
        faults.plan()
        writes = open_writes(store)
        writes.create("another.json", OTHER)
        first = read(store, PATH) if PATH in listed(store) else None
        assert first in (None, content)
        # AND a third writer puts the object, unless the first one's counts
        assert writes.create(PATH, b"third") is (first is None)
        assert read(store, PATH) == (first or b"third")
        assert json.loads(read(store, "writes.json"))["method"] == "kubernetes"
    # The probe, twice; the record and the object: claim it, put it, cancel the claim; one to see that the
    # ConfigMap can be written. What is large is staged before, and that removed after.
    assert kill_at == 2 + 3 + 1 + (5 if content is LARGE else 3) + 1


def test_concurrent_writers_agree_on_method_and_objects(store):
    wins, together = [], threading.Barrier(5)

    def write(number):
        writes = open_writes(store)
        together.wait(60)
        for path in range(6):
            # Every second object is staged.
            content = bytes([number]) * (1 if path % 2 else 70_000)
            if writes.create(f"claims/{path}", content):
                wins.append((path, content))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # THEN each object has one winner, whose content it has
    assert sorted(path for path, _ in wins) == list(range(6))
    assert all(read(store, f"claims/{path}") == content for path, content in wins)
    assert not obstore.list(store, "pending").collect()


def test_replacement_with_a_lost_response_belongs_to_the_writer(store, faults, monkeypatch):
    # GIVEN a client that repeats requests without a response
    for name in ("create", "replace"):
        write = getattr(kubernetes.ConfigMaps, name)

        def twice(self, config_map, write=write):
            write(self, config_map)
            return write(self, config_map)

        monkeypatch.setattr(kubernetes.ConfigMaps, name, twice)
    writes = open_writes(store)
    for path, content in ((PATH, CONTENT), ("7/model.keras", LARGE)):
        writes.create(path, content)
        assert read(store, path) == content
        assert not writes.create(path, OTHER)


def test_paused_writer_puts_the_content_of_its_claim(store, faults):
    # GIVEN a writer that pauses between its claim and its put, while others write
    other = open_writes(store)
    faults.before["put", PATH] = lambda: [other.create(PATH, OTHER), other.create("b", OTHER)]
    # THEN its claim counts for all of them
    assert open_writes(store).create(PATH, CONTENT)
    assert read(store, PATH) == CONTENT
    assert not other.create(PATH, OTHER)


def test_next_writer_does_not_restore_a_deleted_object(store, faults, claim):
    writes = open_writes(store)
    writes.check()
    # GIVEN a writer that died before its put
    faults.plan(3)
    with pytest.raises(Killed):
        open_writes(store).create(PATH, CONTENT)
    faults.plan()
    assert claim()["path"] == PATH
    # WHEN the object is deleted THEN the next writer does not complete the claim
    writes.delete([PATH, "gone"])
    assert writes.create("another.json", OTHER)
    assert PATH not in listed(store)


def test_claim_with_collected_content_is_void(store, faults, claim):
    # GIVEN a writer that died after its claim, and whose content was collected
    open_writes(store).check()
    faults.plan(4)
    with pytest.raises(Killed):
        open_writes(store).create(PATH, LARGE)
    faults.plan()
    obstore.delete(store, claim()["staged"])
    # THEN the next writer's claim counts
    assert open_writes(store).create(PATH, OTHER)
    assert read(store, PATH) == OTHER


def test_deleted_config_map_is_recreated(store, sandbox, cluster, monkeypatch):
    writes = open_writes(store)
    writes.create(PATH, CONTENT)
    monkeypatch.setattr(cluster, "get", lambda *_: None)
    with contextlib.closing(sandbox._config_maps._database.cursor()) as cursor:
        cursor.execute("DELETE FROM config_maps")
    assert writes.create("another.json", OTHER)
    assert not writes.create(PATH, OTHER)
    assert read(store, PATH) == CONTENT


def test_wiped_registry_does_not_receive_pending_objects(store, faults):
    # GIVEN a writer that died before its put, and a bucket that was emptied since
    faults.plan(8)
    old = open_writes(store)
    with pytest.raises(Killed):
        old.create(PATH, CONTENT)
    faults.plan()
    for path in listed(store):
        obstore.delete(store, path)
    # WHEN a new registry starts at the same address THEN it is empty
    assert open_writes(store).create("another.json", OTHER)
    assert listed(store) == ["another.json", "probe.json", "writes.json"]
    # AND a writer of the old registry does not write to the new one
    with pytest.raises(UnsafeStoreError, match="belongs to another registry"):
        old.create(PATH, CONTENT)


def test_conditional_puts_do_not_write_a_kubernetes_registry(store, monkeypatch):
    open_writes(store).create(PATH, CONTENT)
    put, modes = obstore.put, []

    def seen(store, path, content, **kwargs):
        modes.append(kwargs.get("mode"))
        return put(store, path, content, **kwargs)

    monkeypatch.setattr(obstore, "put", seen)
    open_writes(store).create("another.json", CONTENT)
    assert modes == [None]


def test_kubernetes_does_not_write_a_conditional_registry(tmp_path):
    def connect():
        pytest.fail("it asked for a cluster")

    with Sandbox(tmp_path / "conditional", execute=False) as sandbox:
        store = sandbox.objects("models/x")
        assert Writes(store, connect=connect).create(PATH, CONTENT)
        assert not Writes(store, connect=connect).create(PATH, OTHER)
        assert json.loads(read(store, "writes.json")) == {
            "schema_version": 1,
            "method": "conditional",
        }


def test_recorded_method_needs_one_call(store, monkeypatch):
    open_writes(store).check()
    calls = []
    for name in ("get", "put", "head", "delete", "list"):
        call = getattr(obstore, name)

        def counted(*args, call=call, **kwargs):
            calls.append(args[1])
            return call(*args, **kwargs)

        monkeypatch.setattr(obstore, name, counted)
    assert open_writes(store).method().namespace == "kubeflow"
    assert calls == ["writes.json"]


@pytest.mark.parametrize("status", [400, 405, 501])
def test_server_that_rejects_conditional_writes_uses_kubernetes(sandbox, status):
    with Unconditional(sandbox.s3_url, sandbox.access_key, sandbox.secret_key) as proxy:
        proxy.answer = status
        store = S3Store(
            "mlpipeline",
            prefix="models/x",
            endpoint=proxy.url,
            access_key_id=sandbox.access_key,
            secret_access_key=sandbox.secret_key,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
        # With obstore's ten retries of a 501 this would take minutes.
        assert open_writes(store).create(PATH, CONTENT)
        assert not open_writes(store).create(PATH, OTHER)
        assert proxy.dropped == 1


def test_unreachable_server_is_not_taken_for_one_without_conditional_writes(sandbox):
    with Unconditional(sandbox.s3_url, sandbox.access_key, sandbox.secret_key) as proxy:
        url = proxy.url
    store = S3Store(
        "mlpipeline",
        endpoint=url,
        access_key_id="a",
        secret_access_key="b",
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    with pytest.raises(BaseError):
        open_writes(store).method()


@pytest.mark.parametrize(
    "record",
    [
        b"not JSON",
        b"[]",
        b"{}",
        b'{"schema_version": 2, "method": "conditional"}',
        b'{"schema_version": 1, "method": "prayer"}',
        b'{"schema_version": 1, "method": "kubernetes", "namespace": 3}',
        b'{"schema_version": 1, "method": "kubernetes", "namespace": "a", "config_map": "b"}',
    ],
)
def test_unknown_record_is_rejected(store, record):
    obstore.put(store, "writes.json", record)
    with pytest.raises(UnsafeStoreError, match="names no method that this release supports"):
        open_writes(store).create(PATH, CONTENT)


def test_unreadable_claim_is_rejected(store, cluster):
    writes = open_writes(store)
    writes.check()
    config_map = cluster.get("kubeflow", config_map_name(store))
    data = {**config_map.data, "claim": "{"}
    changed = ConfigMap(
        namespace="kubeflow",
        name=config_map.name,
        data=data,
        resource_version=config_map.resource_version,
    )
    assert cluster.replace(changed)
    with pytest.raises(UnsafeStoreError, match="has no readable claim"):
        writes.create(PATH, CONTENT)


def test_missing_cluster_names_the_remedy(store):
    with pytest.raises(UnsafeStoreError, match=r"no Kubernetes: use MinIO RELEASE\.2024-05-07"):
        Writes(store).check()
    open_writes(store).check()
    with pytest.raises(UnsafeStoreError, match="writing through Kubernetes"):
        Writes(store).create(PATH, CONTENT)


def test_object_on_s3_is_uploaded_once_and_copied(sandbox):
    writes = open_writes(sandbox.objects("models/x"))
    for path, content in ((PATH, CONTENT), ("7/model.keras", LARGE)):
        assert writes.create(path, content)
        assert not writes.create(path, OTHER)
        assert read(sandbox.objects("models/x"), path) == content


def test_each_registry_has_its_config_map(sandbox):
    stores = [sandbox.objects(prefix) for prefix in ("", "a", "b")]
    assert len({config_map_name(store) for store in stores}) == 3
    assert config_map_name(stores[1]) == config_map_name(sandbox.objects("a"))
