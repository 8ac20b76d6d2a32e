"""`python -m bench.hook`: measure the time of a hook against an empty charm with the same ops.

It needs the packed charm (`make pack`). Each run is a whole process, like Juju's: Python imports, ops
reads its environment through hook tools, and the charm handles update-status. The hook tools are small
shell scripts, so that the charm itself is measured. CPU seconds include the hook tools but not the
servers.

`idle` is the trainer without relations; `settled` is the trainer related to a sandbox in which all
desired runs exist; `import ops` is the minimum of every Python charm.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CHARM = ROOT / "fashion-mnist-trainer_amd64.charm"
PACKAGES = "venv/lib/python3.*/site-packages"
EMPTY = """
import ops

class Empty(ops.CharmBase):
    def __init__(self, framework):
        super().__init__(framework)
        framework.observe(self.on.update_status, self._on_update_status)

    def _on_update_status(self, _):
        self.unit.status = ops.ActiveStatus()

ops.main(Empty)
"""
SILENT = ("status-set", "relation-set", "state-get", "state-set", "action-set")


def tools(
    folder: Path, config: dict[str, object], relations: dict[str, tuple[str, dict[str, str]]]
) -> Path:
    """Write hook tools that print fixed data, and return their folder.

    Args:
        folder: Folder to write to.
        config: Output of `config-get`.
        relations: Remote application and its databag, by endpoint.
    """
    folder.mkdir()

    def tool(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    for name in SILENT:
        tool(name, "exit 0")
    tool("juju-log", f'echo "$@" >>{folder}/log')
    tool("is-leader", "echo true")
    tool("status-get", """echo '{"status": "active", "message": "", "status-data": {}}'""")
    tool("config-get", f"echo '{json.dumps(config)}'")
    ids = {name: f"{name}:{number}" for number, name in enumerate(relations)}

    def by_relation(commands: dict[str, str], otherwise: str) -> str:
        cases = "".join(f"*{word}*) {command};; " for word, command in commands.items())
        return f'case "$*" in {cases} *) {otherwise};; esac'

    tool(
        "relation-ids", by_relation({n: f"""echo '["{i}"]'""" for n, i in ids.items()}, "echo '[]'")
    )
    apps = {ids[name]: f"""echo '"{app}"'""" for name, (app, _) in relations.items()}
    tool("relation-list", f"case \"$*\" in *--app*) {by_relation(apps, ':')};; *) echo '[]';; esac")
    (folder / "ours.json").write_text(json.dumps({"_supported_versions": "- v1\n"}))
    for name, (_, data) in relations.items():
        (folder / f"{name}.json").write_text(json.dumps(data))
    relation_get = by_relation({i: f"cat {folder}/{n}.json" for n, i in ids.items()}, "echo '{}'")
    tool(
        "relation-get", f'case "$*" in *trainer*) cat {folder}/ours.json;; *) {relation_get};; esac'
    )
    return folder


def dispatch(charm: Path, program: Path, tools: Path, packed: Path) -> tuple[float, float]:
    """Handle update-status in a new process; return wall-clock and CPU seconds.

    Args:
        charm: Directory of the charm, with its metadata.
        program: Program to run.
        tools: Folder of the hook tools.
        packed: Packed charm, whose packages all charms use.

    Raises:
        RuntimeError: The hook failed; the message has the end of its log.
    """
    environment = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "PYTHONPATH": ":".join(map(str, (packed / "src", packed / "lib", *packed.glob(PACKAGES)))),
        "CHARM_DIR": str(charm),
        "JUJU_CHARM_DIR": str(charm),
        "JUJU_DISPATCH_PATH": "hooks/update-status",
        "JUJU_VERSION": "3.6.14",
        "JUJU_UNIT_NAME": "trainer/0",
        "JUJU_MODEL_NAME": "kubeflow",
        "JUJU_MODEL_UUID": "11111111-2222-4333-8444-555555555555",
    }
    command = [_python(), str(program)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    completed = subprocess.run(command, env=environment, cwd=charm, capture_output=True, text=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if completed.returncode:
        raise RuntimeError(f"{program} failed:\n{(tools / 'log').read_text()[-2000:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _python() -> str:
    """Return the path of Python 3.10, for which the charm is packed."""
    candidates = [
        *Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"),
        Path("/usr/bin/python3.10"),
    ]
    for path in candidates:
        if path.exists():
            return str(path)
    raise SystemExit("Python 3.10, for which the charm is packed, is missing")


def measure(runs: int) -> dict[str, list[tuple[float, float]]]:
    """Run the charms alternately; return wall-clock and CPU seconds, by charm."""
    from sandbox import Sandbox

    if not CHARM.exists():
        raise SystemExit(f"{CHARM.name} is missing; pack it with: make pack")
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(Path(folder) / "kfp", execute=False) as kfp,
    ):
        empty = Path(folder) / "empty"
        empty.mkdir()
        (empty / "metadata.yaml").write_text("name: empty\n")
        (empty / "charm.py").write_text(EMPTY)
        (empty / "import_ops.py").write_text("import ops\n")
        packed = Path(folder) / "trainer"
        with zipfile.ZipFile(CHARM) as archive:
            archive.extractall(packed)
        options = yaml.safe_load((packed / "config.yaml").read_text())["options"]
        config = {name: option["default"] for name, option in options.items()} | {"profile": ""}
        databags = kfp.databags()
        related = {
            "kfp-api": ("kfp-api", databags["kfp-api"]),
            "object-storage": ("minio", databags["object-storage"]),
        }
        alone = tools(Path(folder) / "alone", config, {})
        among = tools(Path(folder) / "among", config, related)
        trainer = packed / "src" / "charm.py"
        commands = {
            "import ops": (empty, empty / "import_ops.py", alone),
            "an empty charm": (empty, empty / "charm.py", alone),
            "the trainer, idle": (packed, trainer, alone),
            "the trainer, settled": (packed, trainer, among),
        }
        timings: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(-1, runs):
            for name, command in commands.items():
                timing = dispatch(*command, packed)
                for run in kfp.store.select("runs"):
                    kfp.set_run_state(run["id"], "SUCCEEDED")
                if number >= 0:  # skip the first, which writes bytecode and submits the run
                    timings[name].append(timing)
        if kfp.store.count("runs") != 1:
            raise RuntimeError("the trainer did not settle")
    return timings


def _column(runs: list[tuple[float, float]], base: list[tuple[float, float]], kind: int) -> str:
    pairs = [one[kind] / other[kind] for one, other in zip(runs, base, strict=True)]
    span = f"{statistics.median(pairs):.2f}x ({min(pairs):.2f}-{max(pairs):.2f})"
    return f"{statistics.median(run[kind] for run in runs):.3f} | {span}"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.hook", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="runs per charm, after a warm-up")
    timings = measure(parser.parse_args(arguments).runs)
    base = timings["an empty charm"]
    print("Ratios to an empty charm: median (minimum-maximum).\n")
    print("| | process s | ratio | CPU s | ratio |\n|---|---|---|---|---|")
    for name, runs in timings.items():
        print(f"| {name} | {_column(runs, base, 0)} | {_column(runs, base, 1)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
