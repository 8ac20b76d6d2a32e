"""`make mutants`: measure how many mutations of the pure functions their tests detect.

The pure functions are `plan` in kfp_ops, the charm's desired state, cron, the gate, and the functions
that they call. mutmut mutates one at a time and runs their tests. It supports one folder with sources,
so the copy that it works on has all packages in src/.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mutmut.configuration import config

ROOT = Path(__file__).resolve().parents[1]
# Modules, and the functions in them that call all others.
PURE = {
    "kfp_ops._plan": ("plan",),
    "reconciler.desired_state": ("training", "monitoring"),
    "kfp_ops.cron": ("six_fields",),
    "fashion_mnist.evaluation.gate": ("apply_gate",),
}
KILLED = ("killed", "timeout")


def copy(folder: Path) -> None:
    """Copy sources and tests into the layout that mutmut needs."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    ignored = shutil.ignore_patterns("__pycache__", "tests")
    libraries = [(f"lib/{name}", name) for name in ("kfp_ops", "model_registry")]
    for source, target in (("src", ""), *libraries, ("training", "")):
        shutil.copytree(ROOT / source, folder / "src" / target, ignore=ignored, dirs_exist_ok=True)
    for name in config().pytest_add_cli_args_test_selection:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def reached(source: str, starts: tuple[str, ...]) -> set[str]:
    """Return the names of functions and of all functions in their module that they call, recursively."""
    names = {
        function.name: {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        for function in ast.parse(source).body
        if isinstance(function, ast.FunctionDef)
    }
    found, new = set[str](), set(starts)
    while new:
        found |= new
        new = {name for function in new for name in names[function] & names.keys()} - found
    return found


def main() -> int:
    """Run mutmut and print the surviving mutants; return 0 if enough were killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--least", type=float, default=90, help="minimum percentage of killed mutants"
    )
    options = parser.parse_args()
    os.chdir(ROOT)  # where mutmut finds its configuration
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        patterns = [
            f"{module}.x_{function}__mutmut_*"
            for module, starts in PURE.items()
            for function in reached(
                (folder / "src" / f"{module.replace('.', '/')}.py").read_text(), starts
            )
        ]

        def mutmut(*arguments: str) -> str:
            command = [sys.executable, "-m", "mutmut", *arguments]
            completed = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if completed.returncode:
                raise SystemExit(f"mutmut failed:\n{(completed.stdout + completed.stderr)[-4000:]}")
            return completed.stdout

        mutmut("run", *patterns)
        lines = [line.strip() for line in mutmut("results", "--all", "true").splitlines()]
        states = dict(line.split(": ") for line in lines if ": " in line)
        states = {name: state for name, state in states.items() if state != "not checked"}
        for mutant, state in states.items():
            if state not in KILLED:
                print(f"{state}:\n{mutmut('show', mutant)}")
    counted = Counter(states.values())
    killed, total = sum(counted[state] for state in KILLED), len(states)
    score = 100 * killed / total
    print(f"{killed} of {total} mutants are killed: {score:.1f} %")
    return 0 if score >= options.least else 1


if __name__ == "__main__":
    raise SystemExit(main())
