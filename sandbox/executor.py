"""Execute runs in order of submission, each in its own process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from sandbox import specs, tasks
from sandbox.store import Row, Store

_CHECKOUT = Path(__file__).resolve().parents[1]
# Environment variables that steps inherit from this machine, as a pod does from its image and node.
_INHERITED = re.compile("PATH|TZ|LANG|LC_.*|LD_LIBRARY_PATH|CUDA_VISIBLE_DEVICES")


class Executor:
    """Executes pending runs, the oldest first.

    Args:
        store: Store with the runs.
        artifacts: Folder in which each run gets its own folder.
        secrets: Values of Secrets, by (name, key), for steps that read them from the environment.
        service_account: Environment variables that stand for the ServiceAccount in each pod.
        limit: Maximum number of concurrent runs.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Path,
        secrets: Mapping[tuple[str, str], str],
        service_account: Mapping[str, str],
        limit: int = 1,
    ):
        self._store = store
        self._artifacts = artifacts
        self._secrets = secrets
        self._service_account = service_account
        self._limit = limit
        self._wake = threading.Condition()
        self._stopping = False
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._lost: set[str] = set()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start executing; fail runs whose process died with an earlier sandbox."""
        for run in self._store.select("runs", "state IN ('RUNNING', 'CANCELING')"):
            self._store.set_run_state(run["id"], "FAILED")
            self._fail_tasks(run["id"])
        for _ in range(self._limit):
            thread = threading.Thread(target=self._work, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Kill the processes of running runs and wait for them; the runs fail."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
            for process in self._running.values():
                _kill(process)
        for thread in self._threads:
            thread.join()

    def changed(self, event: str, run_id: str) -> None:
        """Handle a run that was submitted, terminated, retried or deleted, or lost its workflow."""
        with self._wake:
            process = self._running.get(run_id)
            if event == "lost":
                self._lost.add(run_id)
            if event in ("terminated", "deleted", "lost") and process:
                _kill(process)
            elif event == "terminated" and run_id not in self._lost:
                self._store.set_run_state(run_id, "FAILED", expected=("CANCELING",))
            self._wake.notify_all()

    def _work(self) -> None:
        while True:
            with self._wake:
                run = None
                while not self._stopping:
                    run = self._take()
                    if run:
                        break
                    self._wake.wait()
                if run is None:
                    return
            self._execute(run)

    def _take(self) -> Row | None:
        """Start the oldest pending run and return it."""
        for run in self._store.select("runs", "state = 'PENDING'", limit=1):
            if self._store.set_run_state(run["id"], "RUNNING", expected=("PENDING",)):
                return run
        return None

    def _execute(self, run: Row) -> None:
        folder = self._artifacts / run["id"]
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        names = {"{{$.pipeline_job_uuid}}": run["id"], "{{$.pipeline_job_name}}": run["name"]}
        text = run["spec"]
        for placeholder, value in names.items():
            text = text.replace(placeholder, value)
        (folder / "pipeline.yaml").write_text(text)
        parameters = specs.typed(text, json.loads(run["parameters"]))
        (folder / "run.json").write_text(json.dumps({"parameters": parameters}))
        self._store.update("runs", run["id"], tasks="[]")
        with tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as work:
            code, too_large = self._follow(run, folder, work)
        with self._wake:
            del self._running[run["id"]]
            lost = run["id"] in self._lost
        if lost:
            return
        if code == 0:
            self._store.set_run_state(run["id"], "SUCCEEDED", expected=("RUNNING",))
            return
        # Argo fails a workflow that is too large without failing a step.
        if not too_large:
            self._fail_tasks(run["id"])
        self._store.set_run_state(run["id"], "FAILED", expected=("RUNNING", "CANCELING"))

    def _follow(self, run: Row, folder: Path, work: str) -> tuple[int, bool]:
        """Execute a run in a process; return its exit code, and whether its workflow was too large."""
        with self._wake:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "sandbox.run", str(folder), work],
                cwd=_CHECKOUT,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._running[run["id"]] = process
            current = self._store.get("runs", run["id"])
            if self._stopping or current is None or current["state"] == "CANCELING":
                _kill(process)
        assert process.stdout  # noqa: S101
        too_large = False
        with process:
            for line in process.stdout:
                message = json.loads(line)
                too_large = message["state"] == specs.TOO_LARGE
                if not too_large:
                    self._update_task(run["id"], message["task"], message["state"])
            return process.wait(), too_large

    def _environment(self) -> dict[str, str]:
        """Return the environment of a run's process, with the secrets for its steps."""
        environment = {
            name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)
        }
        secrets = [[name, key, value] for (name, key), value in self._secrets.items()]
        return {**environment, **self._service_account, specs.SECRETS: json.dumps(secrets)}

    def _update_task(self, run_id: str, name: str, state: str) -> None:
        run = self._store.get("runs", run_id)
        if run is None:
            return
        tasks.update_states(self._store, run, {name: state})

    def _fail_tasks(self, run_id: str) -> None:
        """Mark unfinished tasks as failed."""
        run = self._store.get("runs", run_id)
        if run:
            running = [name for name, state in tasks.states(run).items() if state == "RUNNING"]
            tasks.update_states(self._store, run, dict.fromkeys(running, "FAILED"))


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
