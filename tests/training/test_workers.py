"""Training on many workers: real processes and real collective communication."""

import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import obstore
import pytest

from fashion_mnist import data
from fashion_mnist.distributed import workers as many
from fashion_mnist.model import recipes, training
from fashion_mnist.model.strategy import Worker, WorkersError
from fashion_mnist.storage import open_store

# All that keeps something of its own while it trains: statistics, seeds, random changes.
RECIPE = dataclasses.replace(
    recipes.RECIPES["quick"],
    layers=("stem 4", "flatten", "dropout 20", "bn-dense 64"),
    batch_size=50,
    augment=True,
)


@pytest.fixture(scope="module")
def images(toy):
    return data.load(str(toy))


def accuracy(model, images):
    logits = model.predict(images.test_images, batch_size=1000, verbose=0)
    return float((logits.argmax(axis=1) == images.test_labels).mean())


def train_on_workers(images, registry, *, workers=2, log=print):
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


def test_two_workers_match_one_and_leave_nothing_behind(images, tmp_path):
    single = training.train(images.train_images, images.train_labels, RECIPE, seed=3)
    messages = []
    split_training = train_on_workers(images, tmp_path, log=messages.append)
    # Each normalises its half of a batch by itself; the first step's loss is of the same weights.
    assert accuracy(split_training.model, images) == pytest.approx(
        accuracy(single.model, images), abs=0.02
    )
    assert len(split_training.history) == RECIPE.epochs
    assert split_training.history[-1].loss == pytest.approx(single.history[-1].loss, abs=0.1)
    assert "2 processes are the workers" in messages[0]
    assert "Epoch 3/3" in messages[-1]
    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == []


@pytest.mark.slow
@pytest.mark.skipif(not data.DEBIAN.is_dir(), reason="no dataset-fashion-mnist is installed")
def test_two_workers_match_one_on_the_real_images(tmp_path):
    real, recipe = data.load(), recipes.RECIPES["fast"]

    def trained(count, seed):
        trained_model = many.train(
            real.train_images,
            real.train_labels,
            recipe,
            seed=seed,
            workers=count,
            registry=str(tmp_path),
            s3_endpoint="",
            run_id=f"{count}-{seed}",
        )
        return accuracy(trained_model.model, real)

    single = [trained(1, seed) for seed in (1, 2, 3)]
    double = [trained(2, seed) for seed in (1, 2)]
    print("one worker", single, "two workers", double)
    spread = max(single) - min(single)
    assert abs(np.mean(double) - np.mean(single)) <= max(spread, 0.005)
    assert min(double) > 0.9


def two_workers(store_path):
    """Two workers in separate processes."""
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        hosts = [f"127.0.0.1:{socket_.getsockname()[1]}" for socket_ in (a, b)]
    return [
        subprocess.Popen(
            [sys.executable, "-u", "-m", "fashion_mnist.distributed.workers"],
            env={
                **os.environ,
                "WORK_ADDRESS": str(store_path),
                "WORK_ENDPOINT": "",
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


def write_task(store_path, images, recipe):
    """Write the workers' task as the step does."""
    content = io.BytesIO()
    settings = json.dumps({"recipe": dataclasses.asdict(recipe), "seed": 1})
    np.savez(content, metadata=settings, images=images.train_images, labels=images.train_labels)
    obstore.put(open_store(str(store_path)), "task.npz", content.getvalue())


@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_killed_worker_ends_the_other_with_an_error(images, tmp_path, killed):
    # GIVEN two workers in an endless training
    write_task(tmp_path, images, dataclasses.replace(RECIPE, epochs=100000))
    both = two_workers(tmp_path)
    try:
        messages = []
        for line in both[1 - killed].stdout:
            messages.append(line)
            if line.startswith("Epoch 2/"):
                break
        assert messages[-1].startswith("Epoch 2/"), "".join(messages)
        # WHEN one is killed
        both[killed].send_signal(signal.SIGKILL)
        # THEN the other ends with the reason
        rest, _ = both[1 - killed].communicate(timeout=120)
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert both[1 - killed].returncode not in (0, -signal.SIGKILL)
    assert not (tmp_path / "result.npz").exists()
    if killed == 1:
        assert "WorkersError: worker 0 of 2 lost the others" in rest


def test_failed_worker_ends_all_and_the_step_reports_why(tmp_path):
    # GIVEN workers without a task
    environment = {"WORK_ADDRESS": str(tmp_path), "WORK_ENDPOINT": ""}
    with pytest.raises(WorkersError, match=r"a worker ended with 1:\n(.*\n)*.*task.npz"):
        many.run_processes(2, environment, print)


def test_failed_step_leaves_nothing_behind(images, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkersError, match="a worker ended with 1"):
        train_on_workers(images, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_workers_without_a_model_are_an_error(images, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(WorkersError, match="ended without a result"):
        train_on_workers(images, tmp_path)


def test_terminated_run_ends_its_workers(images, tmp_path, monkeypatch):
    # GIVEN workers that never end, of which one sends SIGTERM to the step
    forever = tmp_path / "forever"
    forever.write_text(
        f"#!/bin/sh\nmkdir {tmp_path}/told 2>/dev/null && kill -TERM $PPID; exec sleep 600\n"
    )
    forever.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(forever))
    # WHEN the step is terminated, THEN it ends, and its workers with it
    with pytest.raises(WorkersError, match="the run is terminated"):
        train_on_workers(images, tmp_path / "registry")
    assert [path for path in (tmp_path / "registry").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"registry": ""}, "need a registry to exchange data"),
        ({"workers": 51}, "a batch of 50 cannot be split over 51 workers"),
    ],
)
def test_unusable_worker_settings_are_rejected_at_once(images, tmp_path, change, message):
    options = {"registry": tmp_path, **change}
    with pytest.raises(ValueError, match=message):
        train_on_workers(images, **options)


def test_worker_reads_tf_config(monkeypatch):
    assert Worker.from_environment() == Worker(0, 1)
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert Worker.from_environment() == Worker(1, 2)
    assert not Worker.from_environment().is_chief
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"ps": ["a:1"]}, "task": {}}))
    with pytest.raises(ValueError, match="has tasks ps; only workers are supported"):
        Worker.from_environment()
