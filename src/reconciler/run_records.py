"""What the charm knows of runs and the server may forget: its own requests to end them, and reasons.

Kubeflow Pipelines calls a terminated run FAILED, and its history often lacks the request. The pods and
the workflow, which hold the reason, are deleted a day after the run, and a cancelled run's at once. The
leader therefore keeps both in the application's data of the peer relation, where the next leader finds
them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import MutableMapping
from typing import Any

from kfp_ops import Run, RunState
from kfp_ops.kubernetes import RunIssue
from kfp_ops.text import single_line

_KEY = "runs"
# Records kept: at most half a kilobyte each, and one log.
LIMIT = 50
_CHARACTERS = 300
_LOG_CHARACTERS = 4000
# A run that someone retried in Kubeflow begins anew, later than this after it began first. Without a
# history yet, a run seems to begin when it was created, which is seconds too early on a busy server.
_RETRIED_SECONDS = 60


class RunRecords:
    """The records in the peer relation's application data.

    Args:
        memory: that data; only the leader may write there.
    """

    def __init__(self, memory: MutableMapping[str, str]):
        self._memory = memory

    def as_known(self, run: Run) -> Run:
        """Return the run, CANCELED where the server says FAILED and the charm terminated it."""
        record = self._read().get(run.run_id, {})
        if run.state is RunState.FAILED and record.get("terminated") and _is_of(record, run):
            return dataclasses.replace(run, state=RunState.CANCELED)
        return run

    def issue(self, run: Run, *, only_ended: bool = False) -> RunIssue | None:
        """Return what was last known to be wrong with the run.

        Args:
            run: of this trainer.
            only_ended: leave out what was noted before the run ended, which need not be why it failed.
        """
        record = self._read().get(run.run_id, {})
        if not record.get("reason") or not _is_of(record, run):
            return None
        if only_ended and not record.get("ended"):
            return None
        return RunIssue(
            **{
                name: str(record.get(name, ""))
                for name in ("step", "pod", "reason", "message", "log")
            }
        )

    def set_terminated(self, run: Run, *, terminated: bool = True) -> None:
        """Note that the charm terminates the run, or that the server refused to."""
        self._update(run, terminated=terminated)

    def set_issue(self, run: Run, issue: RunIssue | None, *, with_log: bool = False) -> None:
        """Note what is wrong with the run; None: nothing is, any more.

        Args:
            run: of this trainer.
            issue: what is wrong with it.
            with_log: keep the end of the log too, in place of that of another run.
        """
        if issue is None:
            if self.issue(run):
                self._update(run, step="", pod="", reason="", message="", log="")
            return
        log = {"log": issue.log[-_LOG_CHARACTERS:]} if with_log else {}
        self._update(
            run,
            step=issue.step,
            pod=issue.pod,
            reason=issue.reason,
            message=single_line(issue.message, _CHARACTERS),
            ended=run.state.is_final,
            **log,
        )

    def _update(self, run: Run, **values: object) -> None:
        records = self._read()
        record = records.pop(run.run_id, {})
        if values.get("log"):
            for other in records.values():
                other.pop("log", None)
        record = record if _is_of(record, run) else {}
        begun = run.begun_at.timestamp() if run.begun_at else 0
        record = {"begun": begun, **record, **values}
        # The newest are last, and the oldest go.
        kept = dict(
            [*records.items(), (run.run_id, {k: v for k, v in record.items() if v})][-LIMIT:]
        )
        text = json.dumps(kept, separators=(",", ":"))
        if text != self._memory.get(_KEY):
            self._memory[_KEY] = text

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            records = json.loads(self._memory.get(_KEY, "{}"))
            return {str(key): dict(value) for key, value in records.items()}
        except (ValueError, TypeError, AttributeError):
            # Written by another version of the charm. It is a help to people, no more.
            return {}


def _is_of(record: dict[str, Any], run: Run) -> bool:
    """Whether the record is of this attempt of the run: someone may have retried it since."""
    begun = record.get("begun")
    if not isinstance(begun, (int, float)) or run.begun_at is None:
        return True
    return run.begun_at.timestamp() - begun <= _RETRIED_SECONDS
