"""Whatever a remote application publishes is read or raises a RelationDataError without keys."""

import httpx
import ops
import ops.testing
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kfp_ops import (
    Client,
    KfpApi,
    KfpApiRequirer,
    ObjectStorageRequirer,
    RelationDataError,
    TrainedModelRequirer,
    UnreachableError,
)
from tests.fuzz import fuzz

STORAGE = {
    "access-key": "a",
    "secret-key": "s",
    "namespace": None,
    "port": 1,
    "secure": False,
    "service": "127.0.0.1",
}
KFP_API = {"service-name": "127.0.0.1", "service-port": "1"}


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("ml-pipeline.kubeflow", "kubeflow"),
        ("ml-pipeline.kubeflow.svc.cluster.local", "kubeflow"),
        ("kfp-api", ""),
        ("10.152.183.7", ""),
        ("fd00::7", ""),
    ],
)
def test_namespace_of_kubeflow_pipelines_comes_from_its_service(name, namespace):
    assert KfpApi(service_name=name, service_port=8888).namespace == namespace


class Reader(ops.CharmBase):
    """A charm that reads its relations."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.kfp_api = KfpApiRequirer(self)
        self.object_storage = ObjectStorageRequirer(self)
        self.model_relation = TrainedModelRequirer(self)


@pytest.fixture(scope="module")
def context():
    interfaces = {
        "kfp-api": "k8s-service",
        "object-storage": "object-storage",
        "trained-model": "trained_model",
    }
    requires = {name: {"interface": interface} for name, interface in interfaces.items()}
    return ops.testing.Context(Reader, meta={"name": "reader", "requires": requires})


def read(context, endpoint, **databag):
    """Return the requirer's data."""
    relation = ops.testing.Relation(endpoint, remote_app_name="other", remote_app_data=databag)
    state = ops.testing.State(relations={relation})
    with context(context.on.update_status(), state) as manager:
        charm = manager.charm
        readers = (charm.kfp_api, charm.object_storage, charm.model_relation)
        return next(reader for reader in readers if reader.relation_name == endpoint).get()


def storage(context, **changed):
    data = {**STORAGE, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return read(context, "object-storage", data=yaml.safe_dump(data))


@pytest.mark.parametrize(
    "host",
    [
        "foo bar", "[", "a@b:c", "☃", "h:1:2", "a\tb", "a\n", "a" * 64, "a." * 127, "a..b", "-a", "a-",
        "a/b", "a?", "1.2.3.4.5", "foo.123", "0xff", "xn--a", "[::1]", "fe80::1%eth0", "\u0661", ".",
    ],
)  # fmt: skip
def test_invalid_host_is_rejected(context, host):
    with pytest.raises(RelationDataError, match="service is neither a DNS name nor an IP address"):
        storage(context, service=host)
    with pytest.raises(RelationDataError, match="service-name is neither"):
        read(context, "kfp-api", data=yaml.safe_dump({**KFP_API, "service-name": host}))


@pytest.mark.parametrize(
    ("host", "namespace", "url"),
    [
        ("minio", "kubeflow", "http://minio.kubeflow:1"),
        ("minio", None, "http://minio:1"),
        ("minio", "", "http://minio:1"),
        ("S3.my_host.example.com.", None, "http://S3.my_host.example.com.:1"),
        ("10.1.2.3", None, "http://10.1.2.3:1"),
        ("0xcafe-a", None, "http://0xcafe-a:1"),
        ("fd00::1", None, "http://[fd00::1]:1"),
    ],
)
def test_hosts_make_an_address(context, host, namespace, url):
    assert storage(context, service=host, namespace=namespace).url == url
    data = yaml.safe_dump({**KFP_API, "service-name": host})
    assert httpx.URL(read(context, "kfp-api", data=data).url).port == 1


@pytest.mark.parametrize(
    ("service", "namespace"),
    [
        ("minio", "a b"),
        ("minio", "A"),
        ("minio", "a.b"),
        ("minio", 5),
        ("minio", "5"),
        ("::1", "a"),
    ],
)
def test_invalid_namespace_is_rejected(context, service, namespace):
    with pytest.raises(RelationDataError):
        storage(context, service=service, namespace=namespace)


@pytest.mark.parametrize("key", ["access_key", "secret_key"])
@pytest.mark.parametrize("value", ["hidden\n", "hidden\x00", "hidden word", "hiddén", "\thidden"])
def test_unsendable_key_is_rejected_without_showing_it(context, key, value):
    with pytest.raises(RelationDataError) as caught:
        storage(context, **{key: value})
    assert key.replace("_", "-") in str(caught.value)
    assert "hidd" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        "port: 2020-99-99",
        "!!int x",
        "!!int ''",
        "!!bool x",
        "!!timestamp x",
        "2020-01-01T00:00:00+99:99",
        "0001-01-01T00:00:00+14:00",
        "9" * 5000,
        "[" * 1000,
        "{a: " * 5000,
        "&a {<<: *a}",
        "[1]",
        "\x00",
    ],
)
@pytest.mark.parametrize("endpoint", ["kfp-api", "object-storage"])
def test_invalid_yaml_object_is_rejected(context, endpoint, data):
    with pytest.raises(RelationDataError, match=f"relation {endpoint}: invalid data"):
        read(context, endpoint, data=data)


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        '{"name": "n", "version": 1e999, "uri": "u", "format": "f", "accuracy": 1}',
        '{"name": "n", "version": 1, "uri": "u", "format": "f", "accuracy": 1' + "0" * 400 + "}",
        '{"name": "\\ud800", "version": 1, "uri": "u", "format": "f", "accuracy": 1}',
        '{"name": "n", "version": "' + "x" * 5000 + '", "uri": "u", "format": "f", "accuracy": 1}',
    ],
)
def test_invalid_model_is_rejected_with_a_short_message(context, data):
    with pytest.raises(RelationDataError, match="invalid data") as caught:
        read(context, "trained-model", model=data)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("endpoint", ["kfp-api", "object-storage", "trained-model"])
def test_unknown_application_is_not_read(context, endpoint, monkeypatch):
    # As in relation-broken, where Juju may not say whose relation it was.
    databag = {"data": yaml.safe_dump({**STORAGE, **KFP_API}), "model": "{}"}
    original = ops.Relation.__init__

    def init(relation, *args, **kwargs):
        original(relation, *args, **kwargs)
        relation.app = None

    monkeypatch.setattr(ops.Relation, "__init__", init)
    assert read(context, endpoint, **databag) is None


@fuzz(200)
@given(host=st.text(max_size=12) | st.from_regex(r"\A[a-z0-9.:@%\[\]xn\-]{1,12}\Z"))
@example(host="xn--a")
def test_accepted_address_never_breaks_the_client(context, host):
    # GIVEN any name that the relation accepts
    try:
        connection = read(
            context, "kfp-api", data=yaml.safe_dump({**KFP_API, "service-name": host})
        )
    except RelationDataError:
        return
    # WHEN a client calls an address without a server, THEN it is unreachable
    with Client(connection.url, timeout=1) as client, pytest.raises(UnreachableError):
        client.get_run("r")
