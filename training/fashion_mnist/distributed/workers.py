"""Training on many workers: a TFJob of Kubeflow's Training Operator, or processes without a cluster.

The workers share no disk: what they train on and what the first of them made travels through object
storage, under `work/RUN/` beside the models, and is removed at the end. They run in the step's own
image, with its resources and its way to the keys. Without a cluster, as in the sandbox, they are
processes of the step: the same code, and as much memory and processor as one.
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
    """Train on this many workers; on one it is `training.train`.

    Args:
        images: uint8 (n, 28, 28).
        labels: uint8 (n,), 0 to 9.
        recipe: see `recipes`; a batch is split over the workers.
        seed: of weights, order and augmentation.
        workers: how many.
        registry: s3://bucket/prefix or a directory, under which data and result travel.
        s3_endpoint: of the S3 server.
        run_id: the run's.
        log: given lines on what goes on.
        checkpoints: where one worker keeps its state; many begin anew when they are tried again.

    Raises:
        ValueError: there is no registry, or the batch cannot be split.
        WorkersError: a worker failed, the time is up, or the cluster knows no TFJob.
        RefusedError: the cluster refuses the TFJob.
    """
    if workers == 1:
        return training.train(images, labels, recipe, seed=seed, log=log, checkpoints=checkpoints)
    if not registry:
        raise ValueError("many workers share data through the registry, and none is given")
    training.check(images, recipe, workers)
    # A step that is tried again does not meet what is left of the first.
    address = f"{subaddress(registry, layout.work(run_id))}/{secrets.token_hex(4)}"
    store = open_store(address, s3_endpoint)
    environment = {"WORK_ADDRESS": address, "WORK_ENDPOINT": s3_endpoint}
    settings = {"recipe": dataclasses.asdict(recipe), "seed": seed}
    with _ended_by_sigterm(), _cleared(store):
        _put(store, _TASK, {"images": images, "labels": labels}, settings)
        if kubernetes.ACCOUNT.is_dir():
            cluster = kubernetes.Cluster.in_cluster()
            tfjob.follow(cluster, tfjob.start(cluster, workers, environment), log)
        else:
            log(f"there is no cluster here: {workers} processes are the workers")
            processes(workers, environment, log)
        try:
            weights, result = _get(store, _RESULT)
        except FileNotFoundError as error:
            raise WorkersError("the workers ended and left no model; train again") from error
    model = network.build(recipe, seed)
    model.set_weights([weights[f"w{index}"] for index in range(len(weights))])
    history = [training.Epoch(**epoch) for epoch in result["history"]]
    return Trained(model, history, result["seconds"])


def work() -> None:
    """Be one of the workers, which TF_CONFIG names; the first one leaves the result.

    Raises:
        WorkersError: another worker was lost.
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


def processes(workers: int, environment: Mapping[str, str], log: Callable[[str], None]) -> None:
    """Run the workers as processes on this machine, on loopback, to their end.

    Raises:
        WorkersError: one of them failed, which ends the others, or the time is up.
    """
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(workers)
        ]
        hosts = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    # They import from where this process does: the code bundle holds more than this package.
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
    end = time.monotonic() + tfjob.DEADLINE
    while True:
        codes = [process.poll() for process in running]
        for code, file in zip(codes, logs, strict=True):
            if code:
                output = file.read_text(errors="replace")[-2000:]
                raise WorkersError(f"a worker ended with {code}:\n{output}")
        if None not in codes:
            return
        if time.monotonic() > end:
            raise WorkersError(f"the workers did not end within {tfjob.DEADLINE} s")
        time.sleep(0.1)


# Common to both --------------------------------------------------------------------------------


@contextlib.contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """While the workers run SIGTERM, which a run that is terminated gets, ends them too."""

    def terminate(*_: object) -> None:
        raise WorkersError("the run is terminated")

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _cleared(store: Any) -> Generator[None]:
    """Nothing stays of what travelled through the store."""
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
    members: dict[str, Any] = {"said": np.array(json.dumps(metadata)), **arrays}
    np.savez(content, **members)
    obstore.put(store, name, content.getvalue())


def _get(store: Any, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    content = io.BytesIO(bytes(obstore.get(store, name).bytes()))
    with np.load(content, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    return arrays, json.loads(str(arrays.pop("said")))


if __name__ == "__main__":
    work()
