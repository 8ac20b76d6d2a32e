"""`python -m bench`: run all benchmarks, and print one table of ratios.

A ratio says how many times faster a variant is than the first row of its part. Benchmarks of hooks need
the packed charm (`make pack`) and Python 3.10, and are skipped without them.
"""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Callable, Mapping

from bench import calls, fit, hook, predict
from bench.measure import Run, machine, median, ratio

Measure = Callable[[Run], float]


def rows(
    part: str, runs: Mapping[str, list[Run]], base: str, wall: Measure, cpu: Measure
) -> list[str]:
    """Return rows of the table: seconds and ratios to the base, which comes first."""
    return [
        f"| {part}: {name} | {median(runs[name], wall):.4g} | {ratio(runs[base], runs[name], wall)} "
        f"| {median(runs[name], cpu):.4g} | {ratio(runs[base], runs[name], cpu)} |"
        for name in sorted(runs, key=lambda name: name != base)
    ]


def hooks(count: int) -> dict[str, list[Run]]:
    """Measure hooks, by charm; if that is impossible, print why and return nothing."""
    try:
        timings = hook.measure(count)
    except SystemExit as error:
        print(f"skipped hooks: {error}")
        return {}
    return {name: [Run(*timing, 0, {}) for timing in pairs] for name, pairs in timings.items()}


def main(arguments: list[str] | None = None) -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=["quick", "fast"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="random seeds")
    parser.add_argument("--runs", type=int, default=9, help="runs per variant, after a warm-up")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    lines = rows(
        "train", fit.measure(options.recipes, options.seeds), fit.BASE, fit.fit, fit.fit_cpu
    )

    def wall(run: Run) -> float:
        return run.wall

    def cpu(run: Run) -> float:
        return run.cpu

    lines += rows("predict", predict.measure(options.runs), predict.BASE, wall, cpu)
    observed = calls.measure(options.runs)
    counts = {run.output["calls"] for series in observed.values() for run in series}
    call_counts = "/".join(map(str, sorted(counts)))
    lines += rows(f"observe in {call_counts} calls", observed, calls.BASE, wall, cpu)
    charms = hooks(options.runs)
    lines += rows("hook", charms, "an empty charm", wall, cpu) if charms else []
    day = datetime.datetime.now(datetime.timezone.utc).date()
    print(f"\n{day}, load {load:.1f} before; {machine()}")
    print("ratios against the first of each part: median (least-most)\n")
    print("| | s | faster | CPU s | faster |\n|---|---|---|---|---|")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
