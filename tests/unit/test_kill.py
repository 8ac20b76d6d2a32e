"""The server is killed in the middle of a hook: the next event converges on one run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 7))
def test_a_server_killed_at_any_request_ends_in_one_run(
    ctx, state, proxy, tmp_path, number, moment
):
    # GIVEN a sandbox in a process of its own, which dies at the n-th request of a hook
    ports = ["--api-port", "0", "--s3-port", "0"]

    def start():
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sandbox",
                "--no-execute",
                "--root",
                str(tmp_path / "own"),
                *ports,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        proxy.upstream = process.stdout.readline().split()[2].rstrip(",")
        return process

    def kill(at, count, *_):
        if (at, count) == (moment, number):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return "cut"
        return "cut" if process.returncode is not None else None

    process = start()
    proxy.trouble = kill
    ctx.run(ctx.on.config_changed(), state)
    assert process.wait() == -signal.SIGKILL
    # WHEN it is there again and the next event comes
    proxy.trouble = lambda *_: None
    process = start()
    try:
        ctx.run(ctx.on.update_status(), state)
        runs = httpx.get(f"{proxy.upstream}/apis/v2beta1/runs", trust_env=False).json()["runs"]
    finally:
        process.terminate()
        process.wait()
    # THEN there is exactly one run
    assert len(runs) == 1
