"""The server is killed during a hook: the next event converges on one run."""

import signal

import pytest

from tests.processes import start_sandbox


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 7))
def test_server_killed_at_any_request_leaves_one_run(
    ctx, state, proxy, http_client, tmp_path, number, moment
):
    # GIVEN a sandbox in a separate process, which dies at the n-th request of a hook
    def start():
        process, proxy.upstream = start_sandbox(tmp_path / "own")
        return process

    def kill(at, count, *_):
        if (at, count) == (moment, number):
            process.kill()
            return "cut"
        return "cut" if process.exit_code is not None else None

    process = start()
    proxy.fault = kill
    ctx.run(ctx.on.config_changed(), state)
    assert process.exit_code == -signal.SIGKILL
    # WHEN it has restarted and the next event is handled
    proxy.fault = lambda *_: None
    process = start()
    try:
        ctx.run(ctx.on.update_status(), state)
        runs = http_client.get(f"{proxy.upstream}/apis/v2beta1/runs").json()["runs"]
    finally:
        process.kill()
    # THEN there is exactly one run
    assert len(runs) == 1
