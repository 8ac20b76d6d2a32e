"""Train on several workers: a TFJob of Kubeflow's Training Operator or, without a cluster, processes.

The workers share no disk: they exchange data and result through object storage, under `work/RUN/` beside
the models, where both are deleted at the end. The pods of a TFJob have the image, resources and
credentials of the step. Without a cluster, as in the sandbox, the workers are processes of the step
with the same code, which share the memory and processors of one worker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import obstore

from fashion_mnist import kubernetes
from fashion_mnist.distributed import tfjob
from fashion_mnist.model import network, strategy, training
from fashion_mnist.model.checkpoints import Checkpoints
from fashion_mnist.model.recipes import Recipe
from fashion_mnist.model.strategy import WorkersError
from fashion_mnist.model.training import Trained
from fashion_mnist.storage import open_store, subaddress
from model_registry import layout

_TASK, _RESULT = "task.npz", "result.npz"


def train(
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    workers: int,
    registry: str,
    s3_endpoint: str,
    run_id: str,
    log: Callable[[str], None] = print,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train on one or several workers; for one, this is `training.train`.

    Args:
        images: uint8 (n, 28, 28).
        labels: uint8 (n,), 0 to 9.
        recipe: see `recipes`; each batch is split over the workers.
        seed: seed of weights, order and augmentation.
        workers: number of workers.
        registry: s3://bucket/prefix or a directory, through which workers exchange data and result.
        s3_endpoint: http(s)://host:port of the S3 server.
        run_id: id of the run.
        log: receives lines of progress.
        checkpoints: where one worker saves its state; several start from the beginning when retried.

    Raises:
        ValueError: There is no registry, or a batch cannot be split.
        WorkersError: A worker failed, the training did not end in time, or the cluster has no TFJob.
        RefusedError: The cluster refused the TFJob.
    """
    if workers == 1:
        return training.train(images, labels, recipe, seed=seed, log=log, checkpoints=checkpoints)
    if not registry:
        raise ValueError(
            "several workers need a registry to exchange data; set the parameter registry"
        )
    training.check(images, recipe, workers)
    # A random folder keeps a retried step apart from leftovers of the first attempt.
    address = f"{subaddress(registry, layout.work(run_id))}/{secrets.token_hex(4)}"
    store = open_store(address, s3_endpoint)
    environment = {"WORK_ADDRESS": address, "WORK_ENDPOINT": s3_endpoint}
    settings = {"recipe": dataclasses.asdict(recipe), "seed": seed}
    with _stop_on_sigterm(), _delete_afterwards(store):
        _put(store, _TASK, {"images": images, "labels": labels}, settings)
        if kubernetes.ACCOUNT.is_dir():
            cluster = kubernetes.Cluster.in_cluster()
            tfjob.follow(cluster, tfjob.start(cluster, workers, environment), log)
        else:
            log(f"no Kubernetes cluster: {workers} processes are the workers")
            run_processes(workers, environment, log)
        try:
            weights, result = _get(store, _RESULT)
        except FileNotFoundError as error:
            raise WorkersError("the workers ended without a result; train again") from error
    model = network.build(recipe, seed)
    model.set_weights([weights[f"w{index}"] for index in range(len(weights))])
    history = [training.Epoch(**epoch) for epoch in result["history"]]
    return Trained(model, history, result["seconds"])


def work() -> None:
    """Train as one of the workers in TF_CONFIG; the first writes the result.

    Raises:
        WorkersError: Another worker was lost.
    """
    store = open_store(os.environ["WORK_ADDRESS"], os.environ["WORK_ENDPOINT"])
    arrays, task_config = _get(store, _TASK)
    recipe = Recipe(**{**task_config["recipe"], "layers": tuple(task_config["recipe"]["layers"])})
    trained = training.train(arrays["images"], arrays["labels"], recipe, seed=task_config["seed"])
    if strategy.Worker.from_environment().is_chief:
        weights = {f"w{index}": weight for index, weight in enumerate(trained.model.get_weights())}
        history = [dataclasses.asdict(epoch) for epoch in trained.history]
        _put(store, _RESULT, weights, {"history": history, "seconds": trained.seconds})


# Without a cluster -----------------------------------------------------------------------------


def run_processes(workers: int, environment: Mapping[str, str], log: Callable[[str], None]) -> None:
    """Run the workers as processes on the loopback interface until all have ended.

    Args:
        workers: number of workers.
        environment: variables of the workers besides this process's.
        log: receives the output of the first worker.

    Raises:
        WorkersError: A worker failed, or they did not end in time. The others are killed.
    """
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(workers)
        ]
        hosts = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    # Workers need the whole path of this process: the code bundle has several packages.
    path = os.pathsep.join(filter(None, sys.path))
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(number) for number in range(workers)]
        running: list[subprocess.Popen[bytes]] = []
        try:
            for number, file in enumerate(logs):
                task = {"type": "worker", "index": number}
                tf_config = json.dumps({"cluster": {"worker": hosts}, "task": task})
                with file.open("wb") as out:
                    running.append(
                        subprocess.Popen(
                            [sys.executable, "-m", "fashion_mnist.distributed.workers"],
                            env={
                                **os.environ,
                                **environment,
                                "TF_CONFIG": tf_config,
                                "PYTHONPATH": path,
                            },
                            stdout=out,
                            stderr=subprocess.STDOUT,
                        )
                    )
            _wait(running, logs)
        finally:
            for process in running:
                process.kill()
                process.wait()
        log(logs[0].read_text(errors="replace"))


def _wait(running: list[subprocess.Popen[bytes]], logs: list[Path]) -> None:
    end = time.monotonic() + tfjob.TIMEOUT
    while True:
        codes = [process.poll() for process in running]
        for code, file in zip(codes, logs, strict=True):
            if code:
                output = file.read_text(errors="replace")[-2000:]
                raise WorkersError(f"a worker ended with {code}:\n{output}")
        if None not in codes:
            return
        if time.monotonic() > end:
            raise WorkersError(f"the workers did not end within {tfjob.TIMEOUT} s")
        time.sleep(0.1)


# Used by both ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _stop_on_sigterm() -> Generator[None]:
    """Stop the workers, too, on SIGTERM, which ends the step of a terminated run."""

    def terminate(*_: object) -> None:
        raise WorkersError("the run is terminated")

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _delete_afterwards(store: Any) -> Generator[None]:
    """Delete the exchanged files at the end."""
    try:
        yield
    finally:
        for name in (_TASK, _RESULT):
            with contextlib.suppress(FileNotFoundError):
                obstore.delete(store, name)


def _put(
    store: Any, name: str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    content = io.BytesIO()
    members: dict[str, Any] = {"metadata": np.array(json.dumps(metadata)), **arrays}
    np.savez(content, **members)
    obstore.put(store, name, content.getvalue())


def _get(store: Any, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    content = io.BytesIO(bytes(obstore.get(store, name).bytes()))
    with np.load(content, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    return arrays, json.loads(str(arrays.pop("metadata")))


if __name__ == "__main__":
    work()
