"""The sandbox's ConfigMaps behave as a real kube-apiserver's (CLUSTER_KUBECONFIG names one)."""

import concurrent.futures
import json
import stat

import httpx
import pytest

from fashion_mnist import kubernetes
from model_registry import ConfigMap
from sandbox import Sandbox, User
from tests import cluster as clusters

PATH = "/api/v1/namespaces/{namespace}/configmaps"


class Api:
    """A Kubernetes API with the rights of a kubeconfig."""

    def __init__(self, kubeconfig):
        document = json.loads(kubeconfig.read_text())
        self.token = document["users"][0]["user"]["token"]
        self.url = document["clusters"][0]["cluster"]["server"].rstrip("/")
        self.namespace = document["contexts"][0]["context"]["namespace"]
        self._client = httpx.Client(verify=False, trust_env=False, timeout=30)

    def call(self, method, path="", body=None, *, token=None, namespace=None):
        url = self.url + PATH.format(namespace=namespace or self.namespace) + path
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        return self._client.request(method, url, json=body, headers=headers)

    def create(self, name, **data):
        response = self.call("POST", body=config_map(name, **data))
        assert response.status_code == 201, response.text
        return response.json()


def config_map(name, *, version=None, **data):
    metadata = {"name": name, **({"resourceVersion": version} if version else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(
        tmp_path / "sandbox", execute=False, s3_without_conditional_writes=True
    ) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with clusters.editor("trainer-test-configmaps", tmp_path_factory.mktemp("kube")) as path:
        yield path


@pytest.fixture(
    params=[
        "sandbox",
        pytest.param(
            "real",
            marks=pytest.mark.skipif(
                not clusters.CLUSTER, reason="no cluster: CLUSTER_KUBECONFIG is not set"
            ),
        ),
    ]
)
def api(request):
    """The sandbox's API, and a real one; ConfigMaps of earlier tests are deleted."""
    if request.param == "sandbox":
        return Api(request.getfixturevalue("sandbox").kubeconfig)
    api = Api(request.getfixturevalue("real"))
    for name in ("a", "b"):
        api.call("DELETE", f"/{name}")
    return api


def refusal(response):
    status = response.json()
    assert status["kind"] == "Status"
    assert status["code"] == response.status_code
    return response.status_code, status.get("reason")


def test_config_map_is_created_read_and_replaced(api):
    created = api.create("a", x="1")
    assert created["data"] == {"x": "1"}
    assert created["metadata"]["namespace"] == api.namespace
    version = created["metadata"]["resourceVersion"]
    replaced = api.call("PUT", "/a", config_map("a", version=version, x="2")).json()
    assert replaced["metadata"]["resourceVersion"] != version
    assert replaced["metadata"]["uid"] == created["metadata"]["uid"]
    stored = api.call("GET", "/a").json()
    assert (stored["data"], stored["metadata"]["resourceVersion"]) == (
        {"x": "2"},
        replaced["metadata"]["resourceVersion"],
    )


def test_unchanged_replacement_keeps_the_version(api):
    version = api.create("a", x="1")["metadata"]["resourceVersion"]
    for expected_version in (version, None):
        response = api.call("PUT", "/a", config_map("a", version=expected_version, x="1"))
        assert response.status_code == 200
        assert response.json()["metadata"]["resourceVersion"] == version


def test_old_version_is_a_conflict(api):
    version = api.create("a", x="1")["metadata"]["resourceVersion"]
    assert api.call("PUT", "/a", config_map("a", version=version, x="2")).status_code == 200
    response = api.call("PUT", "/a", config_map("a", version=version, x="3"))
    assert refusal(response) == (409, "Conflict")
    # AND so is the same content with an old version
    response = api.call("PUT", "/a", config_map("a", version=version, x="2"))
    assert refusal(response) == (409, "Conflict")
    # AND without a version it is replaced whatever it is
    assert api.call("PUT", "/a", config_map("a", x="4")).json()["data"] == {"x": "4"}


def test_existing_config_map_is_not_created(api):
    api.create("a", x="1")
    response = api.call("POST", body=config_map("a", x="2"))
    assert refusal(response) == (409, "AlreadyExists")


REFUSED = {
    "not there": ("GET", "/b", None, {}),
    "not there to be replaced": ("PUT", "/b", config_map("b", x="1"), {}),
    "of an old one that is gone": ("PUT", "/b", config_map("b", version="1", x="1"), {}),
    "with a version to be created": ("POST", "", config_map("b", version="1", x="1"), {}),
    "under another name": ("PUT", "/b", config_map("c", x="1"), {}),
    "name": ("POST", "", config_map("No_Name", x="1"), {}),
    "no name": ("POST", "", config_map("", x="1"), {}),
    "key": ("POST", "", config_map("b", **{"no key": "1"}), {}),
    "too large": ("POST", "", config_map("b", x="x" * (1024 * 1024 + 1)), {}),
    "value that is no text": ("POST", "", config_map("b", x=1), {}),
    "another kind": ("POST", "", {"apiVersion": "v1", "kind": "Secret", "metadata": {}}, {}),
    "no such token": ("GET", "/b", None, {"token": "another"}),
}
ANSWERS = {
    "not there": (404, "NotFound"),
    "not there to be replaced": (404, "NotFound"),
    "of an old one that is gone": (404, "NotFound"),
    "with a version to be created": (500, None),
    "under another name": (400, "BadRequest"),
    "name": (422, "Invalid"),
    "no name": (422, "Invalid"),
    "key": (422, "Invalid"),
    "too large": (422, "Invalid"),
    "value that is no text": (400, "BadRequest"),
    "another kind": (400, "BadRequest"),
    "no such token": (401, "Unauthorized"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rejections_match_the_api_servers(api, case):
    method, path, body, headers = REFUSED[case]
    assert refusal(api.call(method, path, body, **headers)) == ANSWERS[case]


def test_other_objects_are_forbidden(api):
    api.namespace = "kube-system" if api.namespace.startswith("trainer") else api.namespace
    response = api._client.get(
        f"{api.url}/api/v1/namespaces/{api.namespace}/secrets",
        headers={"authorization": f"Bearer {api.token}"},
    )
    assert refusal(response) == (403, "Forbidden")


def test_concurrent_writers_lose_no_update(api):
    api.create("a", n="0")

    def add(_):
        while True:
            stored = api.call("GET", "/a").json()
            count = str(int(stored["data"]["n"]) + 1)
            version = stored["metadata"]["resourceVersion"]
            response = api.call("PUT", "/a", config_map("a", version=version, n=count))
            if response.status_code == 200:
                return
            assert response.status_code == 409

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        list(pool.map(add, range(20)))
    assert api.call("GET", "/a").json()["data"] == {"n": "20"}


def test_config_maps_persist_and_the_kubeconfig_is_private(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    config_map = ConfigMap(namespace="kubeflow", name="a", data={"x": "1"})
    for _ in range(2):
        with Sandbox(tmp_path, execute=False, s3_without_conditional_writes=True) as sandbox:
            assert stat.S_IMODE(sandbox.kubeconfig.stat().st_mode) == 0o600
            monkeypatch.setenv("KUBECONFIG", str(sandbox.kubeconfig))
            config_maps = kubernetes.ConfigMaps.find()
            stored = config_maps.get("kubeflow", "a") or config_maps.create(config_map)
            assert stored.data == {"x": "1"}
    assert config_maps.namespace == "kubeflow"


def test_profiles_of_a_multi_user_server_are_its_namespaces(tmp_path):
    users = [User("anna", "token", {"anna": "edit", "team": "view"})]
    with Sandbox(
        tmp_path, execute=False, users=users, s3_without_conditional_writes=True
    ) as sandbox:
        api = Api(sandbox.kubeconfig)
        for namespace in ("anna", "team"):
            response = api.call("POST", body=config_map("a"), namespace=namespace)
            assert response.status_code == 201
        response = api.call("POST", body=config_map("a"), namespace="bob")
        assert refusal(response) == (404, "NotFound")
