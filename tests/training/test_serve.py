"""The champion served on loopback by KServe's model server in a separate process."""

import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from fashion_mnist import data, evaluation
from fashion_mnist.model import export, recipes, training
from fashion_mnist.storage import open_registry
from model_registry import Registry
from tests.builders import manifest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not data.DEBIAN.is_dir(), reason="no images to train on: dataset-fashion-mnist is absent"
    ),
]


@dataclasses.dataclass(frozen=True)
class Serving:
    """A registry with two versions, and a server that started while it was empty."""

    url: str
    registry: Registry
    models: dict[int, Path]
    images: data.Dataset
    before: list[int]

    def promote(self, version):
        """Promote a version, and wait until it is served."""
        champion = self.registry.champion()
        after = champion.sequence if champion else 0
        self.registry.move_champion(version, after=after, reason="for a test")
        until(lambda: self.v1(self.images.test_images[:1]).headers.get("model-version"), version)

    def v1(self, images, **also):
        body = {"instances": images.tolist(), **also}
        return httpx.post(f"{self.url}/v1/models/fashion-mnist:predict", json=body, timeout=60)

    def v2(self, **tensor):
        tensor = {"name": "images", "datatype": "UINT8", **tensor}
        url = f"{self.url}/v2/models/fashion-mnist/infer"
        return httpx.post(url, json={"inputs": [tensor]}, timeout=60)


def until(read, expected, seconds=60):
    end = time.monotonic() + seconds
    while (value := read()) != str(expected):
        assert time.monotonic() < end, f"{value!r} and not {expected} after {seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    images = data.load()
    registry = open_registry(str(folder / "registry"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "training.serve", folder / "registry"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--port={port}", "--poll=0.2"], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        models = {}
        for version in (1, 2):
            trained = training.train(
                images.train_images[:20000],
                images.train_labels[:20000],
                recipes.resolve("quick", epochs=1),
                seed=version,
                log=lambda _: None,
            )
            files = models[version] = folder / f"model-{version}"
            export.export(trained.model, files, "model.keras", images.train_images)
            run = f"run-{version}"
            registry.publish(run, files, manifest(run))

        url = f"http://127.0.0.1:{port}"

        def live():
            assert server.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(httpx.TransportError):
                return str(httpx.get(f"{url}/v2/health/live").status_code)

        until(live, 200)
        here = Serving(url, registry, models, images, [])
        here.before.append(here.v1(images.test_images[:1]).status_code)
        here.promote(1)
        yield here
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0, (folder / "log").read_text()


def batches(images):
    return [images[at : at + 1000] for at in range(0, len(images), 1000)]


def test_server_without_a_champion_is_not_ready(serving):
    assert serving.before == [503]


@pytest.mark.parametrize("version", [2, 1])
def test_both_protocols_predict_as_the_library(serving, version):
    # GIVEN a promotion, and then a rollback
    serving.promote(version)
    images, labels = serving.images.test_images, serving.images.test_labels
    library = evaluation.evaluate(serving.models[version], images, labels)
    assert library.accuracy > 0.75

    v1, v2 = [], []
    for batch in batches(images):
        v1 += serving.v1(batch).json()["predictions"]
        response = serving.v2(shape=list(batch.shape), data=batch.ravel().tolist()).json()
        assert response["model_version"] == str(version)
        (output,) = response["outputs"]
        assert (output["name"], output["datatype"]) == ("probabilities", "FP32")
        v2.append(np.reshape(output["data"], output["shape"]))
    assert len(v1) == len(images) == 10_000
    for predictions in (np.array(v1), np.concatenate(v2)):
        assert np.array_equal(predictions.argmax(axis=1), library.predictions)
        assert np.abs(predictions - library.probabilities).max() < 1e-6


def test_two_versions_predict_differently(serving):
    images, labels = serving.images.test_images, serving.images.test_labels
    one, two = (evaluation.evaluate(serving.models[v], images, labels) for v in (1, 2))
    assert (one.predictions != two.predictions).sum() > 100


def test_unavailable_version_keeps_the_served_one(serving, tmp_path):
    # GIVEN a version whose file was altered after it was published
    broken = serving.registry.publish("run-3", serving.models[1], manifest("3"))
    root = Path(serving.models[1]).parent / "registry" / str(broken)
    (root / "serving" / str(broken) / "saved_model.pb").write_bytes(b"not a model")
    serving.promote(1)
    # WHEN it becomes the champion THEN the server keeps serving version 1
    champion = serving.registry.champion()
    serving.registry.move_champion(broken, after=champion.sequence, reason="for a test")
    log = root.parents[1] / "log"
    until(lambda: str("altered after it was published" in log.read_text()), True)
    response = serving.v1(serving.images.test_images[:1])
    assert (response.status_code, response.headers["model-version"]) == (200, "1")
    # AND follows again when a valid version is promoted
    serving.promote(2)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"not json", "Unrecognized request format"),
        (b"[1, 2]", "instances"),
        (b'{"images": []}', "instances"),
        (b'{"instances": 7}', "instances"),
        (b'{"instances": []}', "28, 28"),
        (json.dumps({"instances": np.zeros((1, 27, 28), int).tolist()}), "[1, 27, 28]"),
        (json.dumps({"instances": [[[0] * 28] * 28, [[0] * 28] * 27]}), "28 rows"),
        (json.dumps({"instances": np.full((1, 28, 28), 0.5).tolist()}), "must be integers"),
        (json.dumps({"instances": np.full((1, 28, 28), 256).tolist()}), "0 to 255"),
        (json.dumps({"instances": np.full((1, 28, 28), -1).tolist()}), "0 to 255"),
        (json.dumps({"instances": [[["a"] * 28] * 28]}), "must be integers"),
    ],
)
def test_v1_rejects_invalid_images(serving, body, message):
    url = f"{serving.url}/v1/models/fashion-mnist:predict"
    response = httpx.post(url, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"name": "pixels", "shape": [1, 28, 28], "data": [0] * 784}, "one tensor named images"),
        ({"datatype": "FP32", "shape": [1, 28, 28], "data": [0.5] * 784}, "FP32"),
        ({"shape": [1, 784], "data": [0] * 784}, "[1, 784]"),
        ({"shape": [2, 28, 28], "data": [0] * 784}, "cannot be read"),
        ({"shape": [1, 28, 28], "data": [300] * 784}, "0 to 255"),
        ({"shape": [1, 28, 28], "data": [-1] * 784}, "0 to 255"),
        ({"shape": [1, 28, 28], "data": [-0.5] * 784}, "must be integers"),
        ({"shape": [1, 28, 28], "data": ["a"] * 784}, "must be integers"),
        ({"shape": [1, 28, 28], "data": [[[0] * 28] * 28, [0]]}, "cannot be read"),
    ],
)
def test_v2_rejects_invalid_images(serving, tensor, message):
    response = serving.v2(**tensor)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]


def test_both_protocols_reject_normalised_images(serving):
    # GIVEN a normalised image, of which only 0 and 1 remain as integers
    image = serving.images.test_images[:1] / 255
    # WHEN it is sent as raw pixels
    responses = [serving.v1(image), serving.v2(shape=[1, 28, 28], data=image.ravel().tolist())]
    # THEN it is rejected, with the expected input
    assert [answer.status_code for answer in responses] == [400, 400]
    assert all("send raw pixels" in answer.json()["error"] for answer in responses)


def test_binary_and_json_tensors_predict_the_same(serving):
    # GIVEN the same image as bytes after the JSON, by the protocol's binary extension
    image = serving.images.test_images[:1]
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28]}
    tensor["parameters"] = {"binary_data_size": image.size}
    header = json.dumps({"inputs": [tensor]}).encode()
    response = httpx.post(
        f"{serving.url}/v2/models/fashion-mnist/infer",
        content=header + image.tobytes(),
        headers={
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(header)),
        },
    )
    assert response.status_code == 200, response.text
    numbers = serving.v2(shape=[1, 28, 28], data=image.ravel().tolist())
    assert response.json()["outputs"] == numbers.json()["outputs"]


def test_unknown_model_is_not_found(serving):
    url = f"{serving.url}/v1/models/another:predict"
    assert httpx.post(url, json={"instances": []}).status_code == 404


def test_instance_may_name_its_input(serving):
    image = serving.images.test_images[:1]
    url = f"{serving.url}/v1/models/fashion-mnist:predict"
    named = httpx.post(url, json={"instances": [{"images": image[0].tolist()}]})
    assert named.json() == serving.v1(image).json()


def test_metadata_comes_from_the_registry(serving):
    metadata = httpx.get(f"{serving.url}/v2/models/fashion-mnist").json()
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]


def test_metrics_include_latency_traffic_and_errors(serving):
    def value(line):
        lines = httpx.get(f"{serving.url}/metrics").text.splitlines()
        return next((float(line_.split()[-1]) for line_ in lines if line_.startswith(line)), 0.0)

    lines = {
        "asked": 'request_predict_seconds_count{model_name="fashion-mnist"}',
        "took": 'request_predict_seconds_sum{model_name="fashion-mnist"}',
        "good": 'fashion_mnist_responses_total{code="200"}',
        "bad": 'fashion_mnist_responses_total{code="400"}',
    }
    serving.promote(2)
    before = {name: value(line) for name, line in lines.items()}
    assert serving.v1(serving.images.test_images[:10]).status_code == 200
    assert serving.v2(shape=[1, 784], data=[0] * 784).status_code == 400
    after = {name: value(line) for name, line in lines.items()}
    assert after["asked"] == before["asked"] + 2
    assert after["took"] > before["took"]
    assert after["good"] > before["good"]
    assert after["bad"] == before["bad"] + 1
    assert value("fashion_mnist_served_version") == 2


def test_invalid_address_is_rejected():
    process = subprocess.run(
        [sys.executable, "-m", "training.serve", "ftp://somewhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "s3://BUCKET/PREFIX or a directory" in process.stderr
