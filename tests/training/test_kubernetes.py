"""Kubernetes' API from a step: discovery, rejections, retries."""

import json

import pytest
from werkzeug import Response

from fashion_mnist import kubernetes
from fashion_mnist.kubernetes import Cluster, ConfigMaps, RefusedError
from model_registry import ConfigMap, UnsafeStoreError

STORED = {
    "metadata": {"name": "a", "namespace": "team", "resourceVersion": "7"},
    "data": {"x": "1"},
}
WANTED = ConfigMap(namespace="team", name="a", data={"x": "1"}, resource_version="6")


@pytest.fixture
def cluster(httpserver):
    return Cluster(httpserver.url_for("").rstrip("/"), "team", lambda: "token")


def respond_with(httpserver, *responses):
    """Let the API server send these responses in turn, and repeat the last one."""
    remaining = list(responses)

    def answer(_):
        status, body = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return Response(json.dumps(body), status, content_type="application/json")

    httpserver.expect_request("/api/v1/namespaces/team/configmaps/a").respond_with_handler(answer)
    httpserver.expect_request("/api/v1/namespaces/team/configmaps").respond_with_handler(answer)


def test_temporarily_unreachable_api_server_is_retried(httpserver, cluster):
    respond_with(httpserver, (503, {"message": "etcd is away"}), (429, {}), (200, STORED))
    pauses = []
    config_maps = ConfigMaps(cluster, pauses.append)
    assert config_maps.get("team", "a").resource_version == "7"
    assert len(pauses) == 2


def test_unreachable_api_server_is_reported(cluster, httpserver):
    respond_with(httpserver, (500, {"message": "etcd is away"}))
    seconds = iter(range(0, 10_000, 100))
    config_maps = ConfigMaps(cluster, lambda _: None, lambda: next(seconds))
    with pytest.raises(RefusedError, match="500 etcd is away"):
        config_maps.replace(WANTED)


@pytest.mark.parametrize("status", [401, 403])
def test_missing_permission_names_the_command_that_grants_it(cluster, httpserver, status):
    respond_with(httpserver, (status, {"message": "configmaps is forbidden"}))
    with pytest.raises(UnsafeStoreError, match=r"in namespace team.*kubeflow-edit.*is forbidden"):
        ConfigMaps(cluster).create(WANTED)


def test_invalid_request_is_not_retried(cluster, httpserver):
    respond_with(httpserver, (422, {"message": "is invalid"}))
    with pytest.raises(RefusedError, match="422 is invalid") as refused:
        ConfigMaps(cluster, lambda _: pytest.fail("it waited")).replace(WANTED)
    assert not refused.value.is_temporary


def test_no_cluster_is_none(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert ConfigMaps.find() is None


def test_in_cluster_configuration_comes_first(monkeypatch, tmp_path):
    # GIVEN a pod with a ServiceAccount, and a KUBECONFIG in its image
    monkeypatch.setattr(kubernetes, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("KUBECONFIG", "elsewhere")
    (tmp_path / "namespace").write_text("team\n")
    monkeypatch.setattr(kubernetes.ssl, "create_default_context", lambda **_: None)
    assert ConfigMaps.find().namespace == "team"


@pytest.mark.parametrize(
    "document",
    [
        "apiVersion: v1\nkind: Config\n",
        "{}",
        json.dumps({"current-context": "a", "contexts": []}),
        json.dumps(
            {
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
                "users": [{"name": "u", "user": {"client-certificate": "mine.crt"}}],
            }
        ),
    ],
)
def test_malformed_kubeconfig_is_reported(tmp_path, document):
    path = tmp_path / "kubeconfig"
    path.write_text(document)
    with pytest.raises(ValueError, match="kubectl config view --raw --flatten --output=json"):
        Cluster.from_kubeconfig(path)
