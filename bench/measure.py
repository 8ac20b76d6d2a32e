"""Run programs one at a time, and measure time and memory."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a program."""

    wall: float
    """Wall-clock seconds."""

    cpu: float
    """CPU seconds of all threads."""

    rss: float
    """Peak memory, in MB."""

    output: dict[str, Any]
    """JSON object in the last line of output, or empty."""


def run(*arguments: object) -> Run:
    """Run `python ARGUMENTS` at the repository's root and wait for it.

    Let Python write bytecode, as in any installation; otherwise, imports would take most of the time.

    Raises:
        RuntimeError: It failed; the message has the end of its error output.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        # Set it, so that the destructor does not wait for the process again.
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors.read()[-2000:]}")
        out.seek(0)
        last = (out.read().strip().splitlines() or [""])[-1]
    output = json.loads(last) if last.startswith("{") else {}
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, output)


def median(runs: Sequence[Run], measure: Callable[[Run], float]) -> float:
    """Return the median of a measure over runs."""
    return statistics.median(measure(run) for run in runs)


def ratio(base: Sequence[Run], runs: Sequence[Run], measure: Callable[[Run], float]) -> str:
    """Return the ratio of the base to the runs: median of pairs, minimum and maximum."""
    pairs = [measure(a) / measure(b) for a, b in zip(base, runs, strict=True)]
    middle, least, most = (
        f"{number:.{1 if number >= 3 else 2}f}"
        for number in (statistics.median(pairs), min(pairs), max(pairs))
    )
    return f"{middle}x ({least}-{most})"


def machine() -> str:
    """Return one line that describes the machine."""
    from importlib.metadata import version

    with Path("/proc/cpuinfo").open() as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    packages = ", ".join(
        f"{n} {version(n)}" for n in ("keras", "numpy", "ai-edge-litert", "ops", "httpx")
    )
    return (
        f"{len(os.sched_getaffinity(0))} cores, {names[0] if names else platform.machine()}; "
        f"Python {platform.python_version()}, {packages}"
    )
