"""Training on many workers: real processes and real collective communication, and a TFJob's making."""

import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import obstore
import pytest

from fashion_mnist import data, recipes, training
from fashion_mnist import workers as many
from fashion_mnist.storage import open_store
from fashion_mnist.training import Place, WorkersError

# All that keeps something of its own while it trains: statistics, seeds, random changes.
RECIPE = dataclasses.replace(
    recipes.RECIPES["quick"],
    layers=("stem 4", "flatten", "dropout 20", "bn-dense 64"),
    batch_size=50,
    augment=True,
)
POD = {
    "metadata": {"name": "train-1", "uid": "11111111-2222"},
    "spec": {
        "serviceAccountName": "default-editor",
        "imagePullSecrets": [{"name": "regcred"}],
        "containers": [
            {"name": "wait", "image": "argoexec"},
            {
                "name": "main",
                "image": "registry.local/tensorflow:2",
                "resources": {"limits": {"cpu": "4", "memory": "4Gi"}},
                "env": [
                    {
                        "name": "AWS_SECRET_ACCESS_KEY",
                        "valueFrom": {"secretKeyRef": {"name": "minio", "key": "secretkey"}},
                    },
                    {"name": "KFP_POD_NAME", "value": "train-1"},
                ],
            },
        ],
    },
}


@pytest.fixture(scope="module")
def images(toy):
    return data.load(str(toy))


def accuracy(model, images):
    logits = model.predict(images.test_images, batch_size=1000, verbose=0)
    return float((logits.argmax(axis=1) == images.test_labels).mean())


def split(images, registry, *, workers=2, log=print):
    """Train on the images by many workers."""
    return many.train(
        images.train_images,
        images.train_labels,
        RECIPE,
        seed=3,
        workers=workers,
        registry=str(registry),
        s3_endpoint="",
        run_id="r1",
        log=log,
    )


def test_two_workers_train_what_one_does_and_leave_nothing_behind(images, tmp_path):
    one = training.train(images.train_images, images.train_labels, RECIPE, seed=3)
    said = []
    two = split(images, tmp_path, log=said.append)
    # Each normalises its half of a batch by itself; the first step's loss is of the same weights.
    assert accuracy(two.model, images) == pytest.approx(accuracy(one.model, images), abs=0.02)
    assert len(two.history) == RECIPE.epochs
    assert two.history[-1].loss == pytest.approx(one.history[-1].loss, abs=0.1)
    assert "2 processes are the workers" in said[0]
    assert "Epoch 3/3" in said[-1]
    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == []


@pytest.mark.slow
@pytest.mark.skipif(not data.DEBIAN.is_dir(), reason="no dataset-fashion-mnist is installed")
def test_two_workers_train_fast_as_well_as_one_on_the_real_images(tmp_path):
    real, recipe = data.load(), recipes.RECIPES["fast"]

    def trained(count, seed):
        made = many.train(
            real.train_images,
            real.train_labels,
            recipe,
            seed=seed,
            workers=count,
            registry=str(tmp_path),
            s3_endpoint="",
            run_id=f"{count}-{seed}",
        )
        return accuracy(made.model, real)

    one = [trained(1, seed) for seed in (1, 2, 3)]
    two = [trained(2, seed) for seed in (1, 2)]
    print("one worker", one, "two workers", two)
    spread = max(one) - min(one)
    assert abs(np.mean(two) - np.mean(one)) <= max(spread, 0.005)
    assert min(two) > 0.9


def pair(store_path):
    """Two workers in processes of their own."""
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        hosts = [f"127.0.0.1:{each.getsockname()[1]}" for each in (a, b)]
    return [
        subprocess.Popen(
            [sys.executable, "-u", "-m", "fashion_mnist.workers"],
            env={
                **os.environ,
                "WORK_ADDRESS": str(store_path),
                "WORK_ENDPOINT": "",
                "PYTHONPATH": str(Path(many.__file__).parents[1]),
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": number}}
                ),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in (0, 1)
    ]


def task(store_path, images, recipe):
    """Leave the workers a task, as the step does."""
    content = io.BytesIO()
    said = json.dumps({"recipe": dataclasses.asdict(recipe), "seed": 1})
    np.savez(content, said=said, images=images.train_images, labels=images.train_labels)
    obstore.put(open_store(str(store_path)), "task.npz", content.getvalue())


@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_killed_worker_ends_the_other_with_an_error(images, tmp_path, killed):
    # GIVEN two workers in the middle of a training that takes for ever
    task(tmp_path, images, dataclasses.replace(RECIPE, epochs=100000))
    both = pair(tmp_path)
    try:
        for line in both[1 - killed].stdout:
            if line.startswith("Epoch 2/"):
                break
        # WHEN one is killed
        both[killed].send_signal(signal.SIGKILL)
        # THEN the other ends by itself, and says why
        rest, _ = both[1 - killed].communicate(timeout=120)
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert both[1 - killed].returncode not in (0, -signal.SIGKILL)
    assert not (tmp_path / "result.npz").exists()
    if killed == 1:
        assert "WorkersError: worker 0 of 2 lost the others" in rest


def test_a_worker_that_fails_ends_them_all_and_the_step_says_why(tmp_path):
    # GIVEN workers for whom there is no task
    environment = {"WORK_ADDRESS": str(tmp_path), "WORK_ENDPOINT": ""}
    with pytest.raises(WorkersError, match=r"a worker ended with 1:\n(.*\n)*.*task.npz"):
        many.processes(2, environment, print)


def test_a_step_whose_workers_fail_leaves_nothing_behind(images, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkersError, match="a worker ended with 1"):
        split(images, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_workers_that_leave_no_model_are_an_error(images, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(WorkersError, match="left no model"):
        split(images, tmp_path)


def test_a_run_that_is_terminated_ends_its_workers(images, tmp_path, monkeypatch):
    # GIVEN workers that never end, of which one tells the step to
    forever = tmp_path / "forever"
    forever.write_text(
        f"#!/bin/sh\nmkdir {tmp_path}/told 2>/dev/null && kill -TERM $PPID; exec sleep 600\n"
    )
    forever.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(forever))
    # WHEN the step is told to end, THEN it does, and they with it
    with pytest.raises(WorkersError, match="the run is terminated"):
        split(images, tmp_path / "registry")
    assert [path for path in (tmp_path / "registry").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"registry": ""}, "share data through the registry"),
        ({"workers": 51}, "a batch of 50 cannot be split over 51 workers"),
    ],
)
def test_what_cannot_be_split_or_shared_is_refused_at_once(images, tmp_path, change, message):
    how = {"registry": tmp_path, **change}
    with pytest.raises(ValueError, match=message):
        split(images, **how)


def test_workers_alone_are_understood(monkeypatch):
    assert Place.here() == Place(0, 1)
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert Place.here() == Place(1, 2)
    assert not Place.here().is_chief
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"ps": ["a:1"]}, "task": {}}))
    with pytest.raises(ValueError, match="names ps; this trains with workers only"):
        Place.here()


# The TFJob -------------------------------------------------------------------------------------


def test_the_tfjobs_workers_are_like_the_step_and_go_with_it():
    job = many.tfjob(POD, name="train-1", workers=3, environment={"WORK_ADDRESS": "s3://b/p"})
    replicas = job["spec"]["tfReplicaSpecs"]["Worker"]
    (container,) = replicas["template"]["spec"]["containers"]
    assert replicas["replicas"] == 3
    assert job["metadata"]["ownerReferences"][0]["uid"] == "11111111-2222"
    assert container["image"] == "registry.local/tensorflow:2"
    assert container["resources"] == {"limits": {"cpu": "4", "memory": "4Gi"}}
    assert replicas["template"]["spec"]["serviceAccountName"] == "default-editor"
    assert replicas["template"]["spec"]["imagePullSecrets"] == [{"name": "regcred"}]
    # AND the keys are references
    assert [each["name"] for each in container["env"]] == ["AWS_SECRET_ACCESS_KEY", "WORK_ADDRESS"]
    assert "value" not in container["env"][0]


def test_the_workers_command_unpacks_the_package_and_starts_it(tmp_path):
    job = many.tfjob(POD, name="train-1", workers=2, environment={})
    (container,) = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    environment = {
        "PATH": os.environ["PATH"],
        "PACKAGE": many.package(),
        "PYTHONPATH": str(tmp_path / "package.zip"),
        "BOOTSTRAP": f'exec {sys.executable} "$@"',
    }
    done = subprocess.run(container["command"], env=environment, capture_output=True, text=True)
    assert f"{tmp_path}/package.zip/fashion_mnist/workers.py" in done.stderr
    assert "KeyError: 'WORK_ADDRESS'" in done.stderr


class Operator:
    """The API server with a TFJob that goes through these conditions, one a look."""

    def __init__(self, httpserver, *looks):
        self.looks = list(looks)
        self.calls = []
        self.log = []
        httpserver.expect_request("/api/v1/namespaces/team/pods").respond_with_json(
            {"items": [{"metadata": {"name": "train-x-worker-0"}}]}
        )
        httpserver.expect_request(
            "/api/v1/namespaces/team/pods/train-x-worker-0/log"
        ).respond_with_data("out of memory")
        path = "/apis/kubeflow.org/v1/namespaces/team/tfjobs/train-x"
        httpserver.expect_request(path).respond_with_handler(self.answer)
        self.cluster = many.Cluster(httpserver.url_for("").rstrip("/"), "team", lambda: "token")

    def answer(self, request):
        from werkzeug import Response

        self.calls.append((request.method, request.headers["authorization"]))
        if request.method == "DELETE":
            return Response("{}")
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, int):
            return Response(json.dumps({"message": "made to refuse"}), look)
        conditions = [{"type": kind, "status": "True", "message": "so"} for kind in look]
        return Response(json.dumps({"status": {"conditions": conditions}}))

    def follow(self):
        clock = iter(range(0, 10**9, 1000))
        many.follow(self.cluster, "train-x", self.log.append, lambda _: None, lambda: next(clock))


@pytest.mark.filterwarnings("ignore")
def test_a_tfjob_is_followed_to_its_success_and_removed(httpserver):
    operator = Operator(httpserver, [], 503, ["Created"], ["Created", "Running"], ["Succeeded"])
    operator.follow()
    assert operator.calls[-1] == ("DELETE", "Bearer token")
    said = "\n".join(operator.log)
    assert "503 made to refuse" in said
    assert said.index("Created") < said.index("Running") < said.index("Succeeded")


@pytest.mark.parametrize(
    ("looks", "message"),
    [
        ([["Created", "Failed"]], "TFJob train-x failed; its workers' logs are above"),
        ([["Created"]], "did not end within 6600 s"),
        ([404], "404 made to refuse"),
    ],
)
def test_a_tfjob_that_does_not_succeed_is_an_error_and_removed(httpserver, looks, message):
    operator = Operator(httpserver, *looks)
    with pytest.raises(WorkersError, match=message):
        operator.follow()
    assert operator.calls[-1][0] == "DELETE"
    assert ("out of memory" in "".join(operator.log)) == (
        "Failed" in looks[0] if looks != [404] else False
    )


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "install Kubeflow's Training Operator"), (403, "tfjobs is forbidden")],
)
def test_a_cluster_that_takes_no_tfjob_says_what_to_do(httpserver, monkeypatch, status, message):
    httpserver.expect_request("/api/v1/namespaces/team/pods/train-1").respond_with_json(POD)
    monkeypatch.setenv("KFP_POD_NAME", "train-1")
    httpserver.expect_request("/apis/kubeflow.org/v1/namespaces/team/tfjobs").respond_with_json(
        {"message": "tfjobs is forbidden"}, status
    )
    monkeypatch.setenv("BOOTSTRAP", 'exec "$0" "$@"')
    cluster = many.Cluster(httpserver.url_for("").rstrip("/"), "team", lambda: "token")
    with pytest.raises(WorkersError, match=message):
        many.start(cluster, 2, {})
