"""A charm, a Kubeflow Pipelines stand-in that executes nothing, and a proxy that makes trouble."""

import dataclasses
import datetime
import http.server
import itertools
import json
import os
import random
import re
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import obstore
import ops.testing
import pytest
import yaml
from werkzeug import Response

from charm import FashionMnistTrainerCharm
from sandbox import Sandbox

# Read once: each Context would read it again.
CHARMCRAFT = yaml.safe_load((Path(__file__).parents[2] / "charmcraft.yaml").read_text())
# To make a client of httpx's own takes longer than a request, for the certificates that it reads.
HTTP = httpx.Client(verify=False, trust_env=False, timeout=30)


def trainer(**options):
    """A charm to send events to, as Juju would find it in charmcraft.yaml."""
    return ops.testing.Context(
        FashionMnistTrainerCharm, meta=CHARMCRAFT, app_name="trainer", **options
    )


class FaultProxy:
    """Forwards HTTP to one address, keeps a list of what came by, and fails where it is told to.

    `trouble` is asked for each request, before and after it is forwarded, as (moment, number,
    method, path). It returns None to let it pass, "cut" to close the connection without an answer,
    or a status code to answer with.
    """

    def __init__(self, upstream: str):
        self.upstream = upstream
        self.seen: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.trouble: Callable[[str, int, str, str], object] = lambda *_: None
        proxy = self
        # One for all requests: to make one takes longer than a request.
        self._client = httpx.Client(verify=False, trust_env=False, timeout=30)

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                proxy.seen.append((self.command, self.path))
                proxy.headers.append({k.lower(): v for k, v in self.headers.items()})
                number = len(proxy.seen)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.fails("before", number):
                    return
                answer = proxy._client.request(
                    self.command,
                    proxy.upstream + self.path,
                    headers={k: v for k, v in self.headers.items() if k.lower() != "host"},
                    content=body,
                )
                if not self.fails("after", number):
                    self.say(answer.status_code, answer.content)

            def fails(self, moment, number):
                how = proxy.trouble(moment, number, self.command, self.path)
                if how == "cut":
                    self.close_connection = True
                elif isinstance(how, int):
                    self.say(how, b'{"code": 13, "message": "made to fail"}')
                return how is not None

            def say(self, status, content):
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = do_PUT = answer

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._client.close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]


@pytest.fixture
def ago():
    """How far the server's clock is behind; parametrize it."""
    return datetime.timedelta()


@pytest.fixture
def sandbox(tmp_path, ago):
    def clock():
        return datetime.datetime.now(datetime.timezone.utc) - ago

    # The server orders what was made in the same second by id, and a test makes much in one.
    numbers = itertools.count(1)

    def ids():
        return uuid.UUID(int=next(numbers) << 108 | random.getrandbits(108), version=4)

    with Sandbox(tmp_path / "sandbox", execute=False, clock=clock, ids=ids) as sandbox:
        yield sandbox


@pytest.fixture
def proxy(sandbox):
    with FaultProxy(sandbox.api_url) as proxy:
        yield proxy


class Kubernetes:
    """As much of a kube-apiserver as the charm talks to: it keeps what is applied, and says no.

    `refuse` maps "METHOD /path" to the status that it gets; `controller` says whether a profile's
    namespace comes into being with it, as Kubeflow's profile controller sees to.
    """

    def __init__(self, server):
        self.objects: dict[str, dict] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse: dict[str, int] = {}
        self.controller = True
        self.status: dict[str, dict] = {}  # what a controller says of an object, by path
        self.token_age = datetime.timedelta()  # a token is this much nearer its end
        self.lists: dict[str, list[dict]] = {}  # pods, events and the like by path
        self.logs: dict[str, str] = {}  # by pod
        self.logs_asked: list[dict] = []
        self.url = server.url_for("")
        server.expect_request(re.compile("/api.*")).respond_with_handler(self._answer)

    def _answer(self, request):
        line = f"{request.method} {request.path}"
        self.requests.append((line, request.headers.get("content-type", "")))
        if line in self.refuse:
            return self._status(self.refuse[line], "made to refuse")
        if request.path.endswith("/token"):
            spec = request.get_json()["spec"]
            token = f"token for {','.join(spec['audiences'])}"
            life = datetime.timedelta(seconds=spec["expirationSeconds"])
            expires = datetime.datetime.now(datetime.timezone.utc) - self.token_age + life
            stamp = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
            status = {"token": token, "expirationTimestamp": stamp}
            return self._json({"spec": spec, "status": status}, 201)
        if request.path.endswith(("/pods", "/events")) or request.path in self.lists:
            return self._list(request)
        if request.path.endswith("/workflows"):
            return self._status(404, "no such kind")
        if request.path.endswith("/rolebindings"):
            _, _, name = request.args["fieldSelector"].partition("=")
            rows = [
                row for path, row in self.objects.items() if path.endswith(f"/rolebindings/{name}")
            ]
            return self._json({"metadata": {}, "items": rows})
        if request.path.endswith("/log"):
            self.logs_asked.append(dict(request.args))
            text = self.logs.get(request.path.split("/")[-2])
            return self._status(400, "no log") if text is None else Response(text)
        if request.method == "PATCH":
            self.objects[request.path] = yaml.safe_load(request.data)
            if "/profiles/" in request.path and self.controller:
                namespace = request.path.rsplit("/", 1)[1]
                self.objects[f"/api/v1/namespaces/{namespace}"] = {"status": {"phase": "Active"}}
        folder, _, name = request.path.rpartition("/")
        if request.method == "DELETE" and folder in self.lists:
            rows = self.lists[folder]
            self.lists[folder] = [row for row in rows if row["metadata"]["name"] != name]
            return self._json({})
        if request.path not in self.objects:
            return self._status(404, "not found")
        if request.method == "DELETE":
            return self._json(self.objects.pop(request.path))
        status = self.status.get(request.path)
        return self._json({**self.objects[request.path], **({"status": status} if status else {})})

    def _list(self, request):
        """Those with the label, or of the object, that is asked for."""
        selector = request.args.get("labelSelector", "")
        wanted = set(re.sub(r".*?(=| in \((.*)\))", r"\2", selector).split(",")) - {""}
        fields = dict(f.split("=") for f in request.args.get("fieldSelector", "").split(",") if f)
        rows = [
            row
            for row in self.lists.get(request.path, [])
            if (not wanted or wanted & set(row["metadata"].get("labels", {}).values()))
            and fields.get("type") in (None, row.get("type"))
            and fields.get("involvedObject.name")
            in (None, row.get("involvedObject", {}).get("name"))
        ]
        return self._json({"metadata": {}, "items": rows})

    def _json(self, body, status=200):
        return Response(json.dumps(body), status, content_type="application/json")

    def _status(self, code, message):
        if code == 404 and message != "not found":
            return Response("404 page not found", code, content_type="text/plain")
        return self._json({"kind": "Status", "code": code, "message": message}, code)


@pytest.fixture
def kubernetes(httpserver, tmp_path, monkeypatch):
    """A Kubernetes API that the charm finds as it would out of a cluster."""
    kubernetes = Kubernetes(httpserver)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": kubernetes.url}}],
        "users": [{"name": "test", "user": {"token": "the-charms-own"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return kubernetes


SINCE = "2026-01-01 00:00:00Z"


@pytest.fixture(autouse=True)
def goal_state(tmp_path_factory, monkeypatch):
    """Juju's tool of that name, which ops.testing does not stand for; called, it is given the units."""
    folder = tmp_path_factory.mktemp("tools")

    def are(**units):
        told = {
            name.replace("_", "/"): {"status": status, "since": SINCE}
            for name, status in units.items()
        }
        (folder / "told").write_text(json.dumps({"units": told, "relations": {}}))

    are(trainer_0="active")
    (folder / "goal-state").write_text(f"#!/bin/sh\ncat {folder}/told\n")
    (folder / "goal-state").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return are


@pytest.fixture
def ctx():
    return trainer()


# Most tests are not about the workload: its container has not come up.
PUSHGATEWAY = ops.testing.Container("pushgateway", can_connect=False)


def sdi(endpoint, remote, data):
    """A relation whose other side has published this in the Serialized Data Interface."""
    return ops.testing.Relation(
        endpoint,
        remote_app_name=remote,
        remote_app_data={"_supported_versions": "- v1\n", "data": yaml.safe_dump(data)},
    )


@pytest.fixture
def kfp_api(proxy):
    return sdi("kfp-api", "kfp-api", {"service-name": "127.0.0.1", "service-port": str(proxy.port)})


@pytest.fixture
def object_storage(sandbox):
    host, port = sandbox.s3_url.removeprefix("http://").split(":")
    return sdi(
        "object-storage",
        "minio",
        {
            "access-key": sandbox.access_key,
            "secret-key": sandbox.secret_key,
            "namespace": None,
            "port": int(port),
            "secure": False,
            "service": host,
        },
    )


@pytest.fixture
def state(kfp_api, object_storage):
    """The leader of a related trainer of a single-user server, in a model called kubeflow."""
    return ops.testing.State(
        containers={PUSHGATEWAY},
        leader=True,
        config={"profile": ""},
        relations={kfp_api, object_storage},
        model=ops.testing.Model(name="kubeflow", uuid="11111111-2222-4333-8444-555555555555"),
    )


def unrelated_state(**what):
    """A trainer of which nothing is so but what is said."""
    return ops.testing.State(containers={PUSHGATEWAY}, **what)


@pytest.fixture
def runs(sandbox):
    """All runs that the stand-in holds, newest first, asked directly."""

    def ask():
        answer = HTTP.get(
            f"{sandbox.api_url}/apis/v2beta1/runs",
            params={"page_size": 200, "sort_by": "created_at desc"},
        )
        return answer.raise_for_status().json().get("runs", [])

    return ask


@pytest.fixture
def schedules(sandbox):
    """All recurring runs that the stand-in holds, asked directly."""

    def ask():
        url = f"{sandbox.api_url}/apis/v2beta1/recurringruns"
        answer = HTTP.get(url, params={"page_size": 100})
        return answer.raise_for_status().json().get("recurringRuns", [])

    return ask


@pytest.fixture
def configured(state):
    """The same trainer with other options."""

    def change(**config):
        options = {name.replace("_", "-"): value for name, value in config.items()}
        return dataclasses.replace(state, config={**state.config, **options})

    return change


@pytest.fixture
def registry(sandbox):
    """The model registry as the pipeline would write it."""
    store = sandbox.objects("models/fashion-mnist")

    def put(path, data):
        obstore.put(store, path, json.dumps(data).encode())

    def write(
        run_id, *, accuracy, version=None, reasons=("accuracy is fine",), drift=(), data=(), **more
    ):
        manifest = {
            "schema_version": 1,
            "created_at": "2026-01-01T00:00:00Z",
            "data": {"drift": dict(drift), "test_images": "images", **dict(data)},
            "run_id": run_id,
            "metrics": {"test": {"accuracy": accuracy, "loss": 0.3}, "recall": {"Shirt": 0.8}},
            "verdict": {
                "status": "accepted" if version else "rejected",
                "reasons": list(reasons),
            },
            **more,
        }
        put(f"runs/{run_id}/manifest.json", manifest)
        if version:
            put(f"claims/{version:08d}.json", {"run_id": run_id})
            put(f"{version}/manifest.json", {**manifest, "version": version})
            put(
                f"{version}/predictions.json",
                {
                    "classes": ["Shirt", "Bag"],
                    "label": [0, 1],
                    "predicted": [0, version % 2],
                    "confidence": [0.9, 0.75],
                },
            )
            put(f"champion/{version:08d}.json", {"version": version, "run_id": run_id})
            # Two images: one all dark, one whose first rows are not.
            images = bytes(784), bytes(range(256)) + bytes(784 - 256)
            obstore.put(store, "data/images", bytes(16) + b"".join(images))

    write.put = put
    write.store = store
    return write


@pytest.fixture
def run_action(ctx, state):
    """Run an action; returns its results, or raises what it failed with."""

    def run(name, state=state, **params):
        params = {name.replace("_", "-"): value for name, value in params.items()}
        ctx.run(ctx.on.action(name, params=params), state)
        return dict(ctx.action_results)

    return run


@pytest.fixture
def three_versions(registry):
    """Three versions, each of which became the champion, and a number that came to nothing."""
    for version, accuracy in ((1, 0.91), (2, 0.92), (3, 0.93)):
        registry(f"run-{version}", accuracy=accuracy, version=version)
    registry.put("claims/00000004.json", {"run_id": "died"})
