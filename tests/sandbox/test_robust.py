"""The sandbox under load, with concurrent clients, and as a program."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kfp_ops import Client, ConflictError, RequestError
from sandbox import Sandbox

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "src" / "pipelines" / "train.yaml").read_text()


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path / "state", execute=False) as sandbox:
        yield sandbox


def experiment_of(client):
    version = client.upload_version(client.create_pipeline("p").pipeline_id, "v", SPEC)
    return version, client.create_experiment("e").experiment_id


def test_thousand_queued_runs_are_listed_quickly(tmp_path):
    # GIVEN a thousand pending runs, stored as the API does
    with Sandbox(tmp_path, execute=False) as sandbox, Client(sandbox.api_url) as client:
        version, experiment_id = experiment_of(client)
        first = client.create_run(
            name="run 0", experiment_id=experiment_id, version=version, parameters={}
        )
        (row,) = sandbox.store.select("runs")
        for number in range(1, 1000):
            sandbox.store.add(
                "runs",
                **{k: v for k, v in row.items() if k not in ("id", "name")},
                name=f"run {number}",
            )
        # WHEN a client lists them, THEN the response is fast
        began = time.monotonic()
        assert client.find_run(experiment_id, "run 0").run_id == first.run_id
        assert client.find_run(experiment_id, "run 999").display_name == "run 999"
        assert len(client.list_runs(experiment_id, limit=10)) == 10
        client.terminate_run(first.run_id)
        assert time.monotonic() - began < 3
    # AND a restart finds all of them
    with Sandbox(tmp_path, execute=False) as sandbox:
        assert sandbox.store.count("runs", "state = 'PENDING'") == 999


def test_queue_is_processed_in_order(tmp_path, monkeypatch):
    # GIVEN a hundred runs in a queue, and processes of runs that do nothing
    started, start = [], subprocess.Popen

    def do_nothing(program, **options):
        started.append(Path(program[3]).name)
        return start(["true"], **options)

    monkeypatch.setattr(subprocess, "Popen", do_nothing)
    with Sandbox(tmp_path, execute=False) as sandbox, Client(sandbox.api_url) as client:
        version, experiment_id = experiment_of(client)
        client.create_run(name="r", experiment_id=experiment_id, version=version, parameters={})
        (row,) = sandbox.store.select("runs")
        for _ in range(99):
            sandbox.store.add("runs", **{k: v for k, v in row.items() if k != "id"})
        expected = [run["id"] for run in sandbox.store.select("runs")]
    # WHEN four run at a time
    with Sandbox(tmp_path, limit=4) as sandbox:
        end = time.monotonic() + 60
        while sandbox.store.count("runs", "state = 'SUCCEEDED'") < 100:
            assert time.monotonic() < end
            time.sleep(0.05)
    # THEN each is started once, the oldest first within concurrency
    assert sorted(started) == sorted(expected)
    assert all(abs(expected.index(run) - at) < 8 for at, run in enumerate(started))


def test_one_of_two_concurrent_creations_succeeds(sandbox):
    barrier = threading.Barrier(8)

    def create(_):
        with Client(sandbox.api_url) as client:
            barrier.wait()
            try:
                return client.create_experiment("mine").experiment_id
            except ConflictError:
                return None

    with ThreadPoolExecutor(8) as pool:
        run_ids = [run_id for run_id in pool.map(create, range(8)) if run_id]
    assert len(run_ids) == 1


def test_concurrent_clients_lose_nothing_and_terminate_once(sandbox):
    with Client(sandbox.api_url) as client:
        version, experiment_id = experiment_of(client)

    def submit(number):
        with Client(sandbox.api_url) as client:
            return client.create_run(
                name=f"run {number}", experiment_id=experiment_id, version=version, parameters={}
            ).run_id

    def terminate(run_id):
        with Client(sandbox.api_url) as client:
            try:
                client.terminate_run(run_id)
            except RequestError:
                return False
            return True

    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(submit, range(40)))
        assert sandbox.store.count("runs") == len(set(ids)) == 40
        assert sum(pool.map(terminate, [ids[0]] * 10)) == 1
    (history,) = [
        [entry["state"] for entry in json.loads(run["history"])]
        for run in sandbox.store.select("runs", "id = ?", [ids[0]])
    ]
    # The history does not hold CANCELING before it is reported, as on record.
    assert history == ["PENDING"]
    assert sandbox.store.get("runs", ids[0])["state"] == "CANCELING"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_sandbox_listens_on_loopback_only(sandbox):
    # GIVEN what listens on this machine, as the kernel tells it: hexadecimal addresses and ports
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    listening = [fields[1].split(":") for fields in lines if fields[3] == "0A"]
    # THEN the sandbox's two ports are there once each, and on 127.0.0.1
    for url in (sandbox.api_url, sandbox.s3_url):
        port = int(url.rsplit(":", 1)[1])
        addresses = [address for address, number in listening if int(number, 16) == port]
        assert addresses == [f"{int.from_bytes(socket.inet_aton('127.0.0.1'), 'little'):08X}"]


def serve(folder, *words, **environment):
    """Run `python -m sandbox` until it is ready; return its process and output."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--root", folder, "--api-port=0", "--s3-port=0", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    return process, process.stdout.readline()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_sandbox_in_a_pod_uses_the_given_address_and_keys(tmp_path):
    # GIVEN another address, and keys in the environment as a Secret puts them there
    keys = {"SANDBOX_ACCESS_KEY": "an-access-key", "SANDBOX_SECRET_KEY": "a-s3cr3t-key"}
    process, output = serve(tmp_path, "--host", "127.0.0.2", **keys)
    with process:
        try:
            # THEN it listens there
            address = re.search(r"http://127\.0\.0\.2:\d+", output).group()
            with Client(address) as client:
                assert client.list_runs(client.create_experiment("e").experiment_id) == []
        finally:
            process.terminate()
    # AND the keys are written nowhere
    assert process.returncode == 0
    assert not (tmp_path / "keys.json").exists()
    assert all(key not in output for key in keys.values())


def test_one_key_without_the_other_is_rejected(tmp_path):
    process, _ = serve(tmp_path, SANDBOX_ACCESS_KEY="alone")
    with process:
        assert (
            "set both SANDBOX_ACCESS_KEY and SANDBOX_SECRET_KEY, or neither"
            in process.stdout.read()
        )
    assert process.returncode == 2


def test_steps_get_the_given_keys(tmp_path):
    with Sandbox(tmp_path, execute=False, keys=("access", "secret")) as sandbox:
        assert (sandbox.access_key, sandbox.secret_key) == ("access", "secret")
