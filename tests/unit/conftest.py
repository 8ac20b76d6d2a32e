"""A charm, a sandbox that executes nothing, and a proxy before it that can fail requests."""

import base64
import dataclasses
import datetime
import itertools
import json
import os
import random
import re
import uuid

import httpx
import obstore
import ops.testing
import pytest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug import Response

from sandbox import Sandbox
from tests.builders import PUSHGATEWAY, sdi, trainer
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.kserve import KEYS, PROFILE_SECRET, SERVICE
from workload import pushgateway


@pytest.fixture
def ago():
    """How far the server's clock is behind; override it by parametrizing."""
    return datetime.timedelta()


@pytest.fixture
def sandbox(tmp_path, ago):
    def clock():
        return datetime.datetime.now(datetime.timezone.utc) - ago

    # The server orders objects created in the same second by id.
    numbers = itertools.count(1)

    def ids():
        return uuid.UUID(int=next(numbers) << 108 | random.getrandbits(108), version=4)

    with Sandbox(tmp_path / "sandbox", execute=False, clock=clock, ids=ids) as sandbox:
        yield sandbox


@pytest.fixture
def proxy(sandbox):
    with FaultProxy(sandbox.api_url) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def goal_state(tmp_path_factory, monkeypatch):
    """Set the units that goal-state lists; ops.testing has no stand-in for that hook tool."""
    folder = tmp_path_factory.mktemp("tools")

    def set_units(**statuses):
        units = {
            name.replace("_", "/"): {"status": status, "since": "2026-01-01 00:00:00Z"}
            for name, status in statuses.items()
        }
        (folder / "units").write_text(json.dumps({"units": units, "relations": {}}))

    set_units(trainer_0="active")
    (folder / "goal-state").write_text(f"#!/bin/sh\ncat {folder}/units\n")
    (folder / "goal-state").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return set_units


@pytest.fixture
def ctx():
    return trainer()


@pytest.fixture
def kfp_api(proxy):
    return sdi("kfp-api", "kfp-api", {"service-name": "127.0.0.1", "service-port": str(proxy.port)})


@pytest.fixture
def object_storage(sandbox):
    return ops.testing.Relation(
        "object-storage",
        remote_app_name="minio",
        remote_app_data=sandbox.databags()["object-storage"],
    )


@pytest.fixture
def state(kfp_api, object_storage):
    """A leader with all relations to a single-user server, in a model named kubeflow."""
    return ops.testing.State(
        containers={PUSHGATEWAY},
        leader=True,
        config={"profile": ""},
        relations={kfp_api, object_storage},
        model=ops.testing.Model(name="kubeflow", uuid="11111111-2222-4333-8444-555555555555"),
    )


@pytest.fixture(scope="session")
def http_client():
    """An HTTP client for all tests: creating one takes longer than a request."""
    with httpx.Client(verify=False, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def runs(sandbox, http_client):
    """Return all runs on the server, newest first."""

    def list_runs():
        response = http_client.get(
            f"{sandbox.api_url}/apis/v2beta1/runs",
            params={"page_size": 200, "sort_by": "created_at desc"},
        )
        return response.raise_for_status().json().get("runs", [])

    return list_runs


@pytest.fixture
def schedules(sandbox, http_client):
    """Return all recurring runs on the server."""

    def list_schedules():
        url = f"{sandbox.api_url}/apis/v2beta1/recurringruns"
        response = http_client.get(url, params={"page_size": 100})
        return response.raise_for_status().json().get("recurringRuns", [])

    return list_schedules


@pytest.fixture
def configured(state):
    """Return `state` with other options."""

    def configure(**config):
        options = {name.replace("_", "-"): value for name, value in config.items()}
        return dataclasses.replace(state, config={**state.config, **options})

    return configure


@pytest.fixture
def registry(sandbox):
    """Write a run's results, and a version, into the registry as the pipeline does."""
    store = sandbox.objects("models/fashion-mnist")

    def put(path, data):
        obstore.put(store, path, json.dumps(data).encode())

    def write(
        run_id,
        *,
        accuracy,
        version=None,
        reasons=("accuracy is fine",),
        drift=(),
        data=(),
        **fields,
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
            **fields,
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
            # Two images: a black one, and one with bright first rows.
            images = bytes(784), bytes(range(256)) + bytes(784 - 256)
            obstore.put(store, "data/images", bytes(16) + b"".join(images))

    write.put = put
    write.store = store
    return write


@pytest.fixture
def run_action(ctx, state):
    """Run an action and return its results, or raise ActionFailed."""

    def run(name, state=state, **params):
        params = {name.replace("_", "-"): value for name, value in params.items()}
        ctx.run(ctx.on.action(name, params=params), state)
        return dict(ctx.action_results)

    return run


@pytest.fixture
def three_versions(registry):
    """Publish versions 1 to 3, each champion in turn, and reserve 4 for a run that died."""
    for version, accuracy in ((1, 0.91), (2, 0.92), (3, 0.93)):
        registry(f"run-{version}", accuracy=accuracy, version=version)
    registry.put("claims/00000004.json", {"run_id": "died"})


@pytest.fixture
def on_kserve(configured, kubernetes):
    """The state of a trainer that serves with KServe, in a profile with keys of object storage."""
    kubernetes.objects[PROFILE_SECRET] = {
        "metadata": {"name": "mlpipeline-minio-artifact"},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in KEYS.items()},
    }
    return configured(profile="team-a", serving="kserve")


@pytest.fixture
def served(kubernetes, httpserver):
    """Report the service as ready, and respond to its predict requests."""

    def respond(*, version=3, path=None, response=None, code=200, **status):
        ready = {"type": "Ready", "status": "True"}
        kubernetes.status[SERVICE] = {
            "conditions": [{"type": "PredictorReady", "status": "True"}, ready],
            "modelStatus": {"transitionStatus": "UpToDate"},
            "address": {"url": httpserver.url_for("")},
            **status,
        }
        path = path or f"/v1/models/kubeflow--trainer/versions/{version}:predict"
        response = {"predictions": [[0.25, 0.75]]} if response is None else response
        body = response if isinstance(response, str) else json.dumps(response)
        httpserver.expect_request(path, method="POST").respond_with_data(body, code)

    return respond


@pytest.fixture
def serving(ctx, on_kserve, three_versions):
    """The state of a trainer whose champion KServe serves."""
    return ctx.run(ctx.on.config_changed(), on_kserve)


@pytest.fixture
def gateway(monkeypatch, httpserver):
    """Requests to a fake Pushgateway: method, path and samples of each."""
    pushes = []

    def take(request):
        families = text_string_to_metric_families(request.data.decode())
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
        pushes.append((request.method, request.path, samples))
        return Response("")

    httpserver.expect_request(re.compile("/metrics/.*")).respond_with_handler(take)
    monkeypatch.setattr(pushgateway, "URL", httpserver.url_for("").rstrip("/"))
    return pushes
