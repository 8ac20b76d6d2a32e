"""The process of one run: `python -m sandbox.run FOLDER WORK` executes the pipeline in FOLDER.

The SDK's local runner executes each step in a process. Report steps to the sandbox on standard output,
one JSON object per line; write the steps' output to the run's log. Exit with the sandbox, which closes
standard input when it ends.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import site
import sys
import threading
import venv
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from sandbox import specs
from sandbox.volumes import on_directories
from sandbox.workflow_size import LIMIT, project

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([^']+)'")
_ENDED = re.compile(r"Task '([^']+)' finished with status (SUCCESS|FAILURE)")


def _exit_with_sandbox() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


class _Watch(logging.Filter):
    """Reports the beginning and end of steps from the local runner's log, and removes its colors.

    Like the server, report a step that is retried as running. After each step, end the run if Argo would
    fail its workflow for its size.

    Args:
        text: Compiled pipeline.
        parameters: Parameters of the run.
        stream: Stream to report to.
    """

    def __init__(self, text: str, parameters: Mapping[str, Any], stream: TextIO):
        super().__init__()
        self._text = text
        self._parameters = parameters
        self._stream = stream
        self._retries = specs.retries(text)
        self._ended: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _COLOUR.sub("", record.getMessage()), ()
        started = _STARTED.search(record.msg)
        ended = _ENDED.search(record.msg)
        if started:
            _report(self._stream, [self._step(started)], "RUNNING")
        if ended:
            step, status = self._step(ended), ended.group(2)
            self._ended[step, status] += 1
            if status == "SUCCESS" or self._ended[step, status] > self._retries.get(step, 0):
                state = "SUCCEEDED" if status == "SUCCESS" else "FAILED"
                _report(self._stream, [step], state)
            self._check_size()
        return True

    def _step(self, match: re.Match[str]) -> str:
        return specs.step_of(list(self._retries), match.group(1))

    def _check_size(self) -> None:
        executions = {
            step: count for (step, status), count in self._ended.items() if status == "SUCCESS"
        }
        size = project(self._text, iterations=1, parameters=self._parameters, executions=executions)
        if size.fits:
            return
        print(
            "run failed: workflow is longer than maximum allowed size. "
            f"compressed size {size.compressed} > maxSize {LIMIT}",
            flush=True,
        )
        _report(self._stream, [""], specs.TOO_LARGE)
        os.killpg(0, signal.SIGKILL)


def _report(stream: TextIO, tasks: list[str], state: str = "SUCCEEDED") -> None:
    for task in tasks:
        print(json.dumps({"task": task, "state": state}), file=stream, flush=True)


def _create_environment(folder: Path) -> str:
    """Create a virtual environment for steps, first on PATH; return its interpreter's name, `python3`.

    It has the packages that are installed beside the sandbox, but not those installed as editable:
    Python does not read the .pth files of a directory that a .pth file names.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "installed.pth").write_text("\n".join(site.getsitepackages()))
    os.environ["PATH"] = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", os.defpath)])
    return "python3"


def main(folder: Path, work: Path) -> int:
    """Execute the run in a folder, with steps working below another one; return 0 on success."""
    threading.Thread(target=_exit_with_sandbox, daemon=True).start()
    stream = os.fdopen(os.dup(1), "w")
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    # Remove the secrets from the environment, which all steps inherit.
    values = json.loads(os.environ.pop(specs.SECRETS, "[]"))
    secrets = {(name, key): value for name, key, value in values}

    warnings.simplefilter("ignore")
    from kfp import components, local

    parameters = json.loads((folder / "run.json").read_text())["parameters"]
    text = (folder / "pipeline.yaml").read_text()
    # Leave the checkout, which steps must not see.
    os.chdir(work)
    # The local runner writes the interpreter's path into shell commands unquoted, in place of python3.
    sys.executable = _create_environment(work / "python")
    try:
        volumes = on_directories(text, folder / "volumes")
    except ValueError as error:
        print(f"run failed: {error}")
        return 1
    executed = specs.isolated(specs.with_secrets(volumes.text, secrets))
    pipeline = components.load_component_from_text(executed)
    logging.getLogger().addFilter(_Watch(text, parameters, stream))
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder),
        workspace_root=str(folder / "workspace"),
    )
    volumes.create()
    _report(stream, volumes.creating)
    try:
        pipeline(**parameters)
    except Exception as error:  # noqa: BLE001 - any error fails the run
        print(f"run failed: {type(error).__name__}: {_COLOUR.sub('', str(error))}")
        return 1
    finally:
        volumes.remove()
        _report(stream, volumes.removing)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
