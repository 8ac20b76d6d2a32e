"""The process of one run: `python -m sandbox.run FOLDER` executes the compiled pipeline in FOLDER.

The SDK's own local runner does the work, a process for each step. What happens is told to the
sandbox on standard output, one JSON object a line; the steps' own output goes to the run's log.
Ends with its sandbox: standard input closes when that is gone.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import TextIO

from sandbox import specs
from sandbox.volumes import on_directories

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([^']+)'")
_ENDED = re.compile(r"Task '([^']+)' finished with status (SUCCESS|FAILURE)")


def _die_with_the_sandbox() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


class _Watch(logging.Filter):
    """Tells of steps that begin and end, from the local runner's log; takes its colours out."""

    def __init__(self, stream: TextIO):
        super().__init__()
        self._stream = stream

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _COLOUR.sub("", record.getMessage()), ()
        for pattern in (_STARTED, _ENDED):
            match = pattern.search(record.msg)
            if match:
                state = {"SUCCESS": "SUCCEEDED", "FAILURE": "FAILED"}.get(
                    match.group(2) if pattern is _ENDED else "", "RUNNING"
                )
                _report(self._stream, [match.group(1)], state)
        return True


def _report(stream: TextIO, tasks: list[str], state: str = "SUCCEEDED") -> None:
    for task in tasks:
        print(json.dumps({"task": task, "state": state}), file=stream, flush=True)


def main(folder: Path) -> int:
    """Execute the run; 0 when it succeeded."""
    threading.Thread(target=_die_with_the_sandbox, daemon=True).start()
    stream = os.fdopen(os.dup(1), "w")
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    # Taken out of the environment, which all steps have.
    kept = json.loads(os.environ.pop(specs.SECRETS, "[]"))
    secrets = {(name, key): value for name, key, value in kept}

    warnings.simplefilter("ignore")
    from kfp import components, local

    settings = json.loads((folder / "run.json").read_text())
    try:
        volumes = on_directories((folder / "pipeline.yaml").read_text(), folder / "volumes")
    except ValueError as error:
        print(f"run failed: {error}")
        return 1
    pipeline = components.load_component_from_text(specs.with_secrets(volumes.text, secrets))
    logging.getLogger().addFilter(_Watch(stream))
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder),
        workspace_root=str(folder / "workspace"),
    )
    volumes.create()
    _report(stream, volumes.creating)
    try:
        pipeline(**settings["parameters"])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the run that failed
        print(f"run failed: {type(error).__name__}: {_COLOUR.sub('', str(error))}")
        return 1
    finally:
        volumes.remove()
        _report(stream, volumes.removing)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
