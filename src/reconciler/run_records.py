"""Records of runs that the charm terminated and of runs' issues, which the server may lose.

Kubeflow Pipelines reports a terminated run as FAILED, and its history often lacks the request. Pods and
workflow, which show the issue, are deleted a day after the run ends, or at once if it is canceled. The
leader therefore records both in the application's databag of the peer relation, for later leaders.
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
# Maximum number of records: at most half a kilobyte each, and one log.
LIMIT = 50
_MESSAGE_CHARACTERS = 300
_LOG_CHARACTERS = 4000
# A run that begins this much later than recorded was retried in Kubeflow. A new run has no history yet,
# and its creation time may be some seconds earlier than its beginning.
_RETRIED_SECONDS = 60


class RunRecords:
    """Records in the application's databag of the peer relation.

    Args:
        databag: The databag; only the leader may write to it.
    """

    def __init__(self, databag: MutableMapping[str, str]):
        self._databag = databag

    def as_known(self, run: Run) -> Run:
        """Return the run, as CANCELED if the server reports FAILED and the charm terminated it."""
        record = self._read().get(run.run_id, {})
        if run.state is RunState.FAILED and record.get("terminated") and _is_of(record, run):
            return dataclasses.replace(run, state=RunState.CANCELED)
        return run

    def issue(self, run: Run, *, only_ended: bool = False) -> RunIssue | None:
        """Return the run's recorded issue, or None.

        Args:
            run: Run of this trainer.
            only_ended: Ignore an issue recorded before the run ended, which may not be why it failed.
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
        """Record whether the charm terminated the run."""
        self._update(run, terminated=terminated)

    def set_issue(self, run: Run, issue: RunIssue | None, *, with_log: bool = False) -> None:
        """Record the run's issue.

        Args:
            run: Run of this trainer.
            issue: Issue of the run; None clears it.
            with_log: Also record the end of the log, instead of another run's.
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
            message=single_line(issue.message, _MESSAGE_CHARACTERS),
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
        # Append the newest and drop the oldest.
        latest = dict(
            [*records.items(), (run.run_id, {k: v for k, v in record.items() if v})][-LIMIT:]
        )
        text = json.dumps(latest, separators=(",", ":"))
        if text != self._databag.get(_KEY):
            self._databag[_KEY] = text

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            records = json.loads(self._databag.get(_KEY, "{}"))
            return {str(key): dict(value) for key, value in records.items()}
        except (ValueError, TypeError, AttributeError):
            # Another version of the charm wrote it; the records are not essential.
            return {}


def _is_of(record: dict[str, Any], run: Run) -> bool:
    """Return whether the record is of this attempt of the run, which may have been retried since."""
    begun = record.get("begun")
    if not isinstance(begun, (int, float)) or run.begun_at is None:
        return True
    return run.begun_at.timestamp() - begun <= _RETRIED_SECONDS
