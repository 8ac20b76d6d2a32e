"""Wait for a run, and report its progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kfp_ops._api_types import Run, RunState
from kfp_ops._errors import KfpError
from kfp_ops.text import single_line

if TYPE_CHECKING:
    from kfp_ops._client import Client

# Seconds between two requests for the run.
POLL_SECONDS = 5
# Maximum characters of a run's name, which another user may have chosen.
_NAME_CHARACTERS = 128


def progress(run: Run, steps: frozenset[str]) -> str:
    """Return a run's state and, while it is running, its running steps and the number of finished ones.

    Args:
        run: Run with its tasks, from ``Client.get_run``.
        steps: Names of the pipeline's steps, from ``PipelineSpec.steps``.
    """
    if run.state is not RunState.RUNNING:
        return run.state.value
    states = run.steps(steps)
    running = sorted(name for name, state in states.items() if state is RunState.RUNNING)
    done = sum(state.is_final for state in states.values())
    names = f": {', '.join(running)}" if running else ""
    return f"{run.state.value}{names} ({done} of {len(steps)} steps done)"


def follow(
    client: Client,
    run: Run,
    steps: frozenset[str],
    *,
    timeout: float,
    log: Callable[[str], object],
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Run:
    """Wait until a run ends or the time is up, and return its latest state.

    Use it in actions only; a waiting hook blocks all others of the unit. If the server, or Kubernetes
    when it issues a token, fails temporarily, log the error and keep waiting.

    Args:
        client: Client of the server.
        run: Run as it was submitted.
        steps: Names of the pipeline's steps, from ``PipelineSpec.steps``.
        timeout: Maximum wait in seconds.
        log: Called with a line whenever the progress changes, such as ``ops.ActionEvent.log``.
        pause: Sleeps for a number of seconds.
        clock: Returns monotonic time in seconds.

    Raises:
        KfpError: The server does not know the run, or denies access.
    """
    last, end = "", clock() + timeout
    while True:
        try:
            run = client.get_run(run.run_id)
            line = progress(run, steps)
        except KfpError as error:
            if not error.retryable:
                raise
            line = str(error)
        if line != last:
            log(f"run {single_line(run.display_name, _NAME_CHARACTERS)} {line}")
        last = line
        if run.state.is_final or clock() >= end:
            return run
        pause(POLL_SECONDS)
