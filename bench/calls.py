"""`python -m bench.calls`: measure `observe` with ten thousand past runs, and with one.

`observe` makes all calls to Kubeflow Pipelines of an event without changes. The server is the sandbox in
the same process, so CPU seconds include it.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measure import Run, machine, median, ratio

BASE = "one past run"
PAST = {BASE: 1, "10,000 past runs": 10_000}


class Counted:
    """A client that counts calls."""

    def __init__(self, client: object):
        self.calls = 0
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        self.calls += 1
        return getattr(self._client, name)


def measure(count: int) -> dict[str, list[Run]]:
    """Observe experiments with few and many runs alternately; return measurements by experiment."""
    from config import TrainerConfig
    from kfp_ops import Client, ObjectStorage, apply, observe, plan
    from reconciler import desired_state, triggers
    from sandbox import Sandbox

    storage = ObjectStorage(
        access_key="", secret_key="", service="minio", port=9000, namespace="kubeflow"
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    runs: dict[str, list[Run]] = {name: [] for name in PAST}
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(Path(folder), execute=False) as kfp,
        Client(kfp.api_url) as client,
    ):
        nothing = triggers.Signals()
        desired = {
            name: next(desired_state.training(TrainerConfig(), storage, name, {}, nothing, now))
            for name in PAST
        }
        for name, past in PAST.items():
            observed = observe(client, desired[name])
            changes = plan(desired[name], observed)
            observed = apply(client, desired[name], observed, changes)
            (submitted,) = observed.runs.values()
            kfp.set_run_state(submitted.run_id, "SUCCEEDED")
            row = dict(kfp.store.get("runs", submitted.run_id) or {})
            old = {**row, "created_at": "2025-01-01T00:00:00Z"}
            del old["id"]
            for number in range(past):
                kfp.store.add("runs", **{**old, "name": f"train-{number}"})
        for number in range(-1, count):
            for name, series in runs.items():
                counted = Counted(client)
                started, worked = time.perf_counter(), time.process_time()
                observe(counted, desired[name])  # type: ignore[arg-type]
                wall, cpu = time.perf_counter() - started, time.process_time() - worked
                if number >= 0:
                    series.append(Run(wall, cpu, 0, {"calls": counted.calls}))
    return runs


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.calls", description=__doc__)
    parser.add_argument("--runs", type=int, default=25, help="runs per experiment, after a warm-up")
    options = parser.parse_args(arguments)
    runs = measure(options.runs)
    base = runs[BASE]
    print(f"\n{machine()}\nmedians over {options.runs} runs; ratios: median (least-most)\n")
    print("| | calls | ms | | CPU ms | |\n|---|---|---|---|---|---|")
    for name, series in runs.items():
        print(
            f"| {name} | {median(series, lambda r: r.output['calls']):.0f} "
            f"| {1000 * median(series, lambda r: r.wall):.1f} | {ratio(base, series, lambda r: r.wall)} "
            f"| {1000 * median(series, lambda r: r.cpu):.1f} | {ratio(base, series, lambda r: r.cpu)} |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
