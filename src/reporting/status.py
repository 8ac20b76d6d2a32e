"""Express a snapshot as a Juju status: the state first, one command last. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ops

import kfp_ops
from commands import Commands
from errors import CharmError
from formatting import MONITOR, figures
from kfp_ops.text import single_line
from reconciler.snapshot import Snapshot

if TYPE_CHECKING:
    from k8s.inference_service import Served

# `juju status` truncates longer messages.
STATUS_CHARACTERS = 120
# Maximum characters of an action's failure: text from servers and steps may be of any length.
_FAILURE_CHARACTERS = 4000
# Minimum characters of the state in front of a remedy; less would be unintelligible.
_MIN_CHARACTERS = 20
_RETRY = "retries at the next update-status"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of a status."""

    text: str
    """The state."""

    short: str = ""
    """Replaces the text if space is short; empty to omit it."""

    remedy: str = ""
    """What the operator can do: a verb and one command. May be empty."""

    kind: type[ops.StatusBase] = ops.ActiveStatus
    """Status class that this part requires."""

    @property
    def in_full(self) -> str:
        """Text and remedy, of any length."""
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


def failure(error: CharmError, commands: Commands) -> str:
    """Return an action's failure and its remedy: nothing retries an action."""
    retry = f"check, then run the action again: {commands.run('list-runs')}"
    return single_line(_problem(error, commands, retry).in_full, _FAILURE_CHARACTERS)


def pending(error: CharmError, commands: Commands) -> str:
    """Return why a change has not reached Kubeflow yet."""
    return single_line(_problem(error, commands).in_full, _FAILURE_CHARACTERS)


def problem(error: CharmError, commands: Commands) -> ops.StatusBase:
    """Return the unit's status for an error."""
    return _compose([_problem(error, commands)])


def _problem(error: CharmError, commands: Commands, retry: str = _RETRY) -> _Part:
    """Return the part for an error.

    Args:
        error: Error to report.
        commands: Commands for this application.
        retry: Remedy of errors that only need a retry.
    """
    remedy = error.remedy(commands)
    text, remedy = error.text, retry if remedy is None else remedy
    return _waiting(text, remedy) if error.retryable else _blocked(text, remedy)


def _blocked(text: str, remedy: str = "") -> _Part:
    return _Part(text=text, remedy=remedy, kind=ops.BlockedStatus)


def _waiting(text: str, remedy: str = "") -> _Part:
    return _Part(text=text, remedy=remedy, kind=ops.WaitingStatus)


def _compose(parts: Sequence[_Part]) -> ops.StatusBase:
    """Combine parts into one status: the main part with its whole remedy, and others that fit.

    Args:
        parts: The first one with a remedy is the main part; without any, the first.
    """
    kind = max((part.kind for part in parts), key=_KINDS.index)
    main = next((part for part in parts if part.remedy), parts[0])
    end = f"; {main.remedy}" if main.remedy else ""
    room = max(STATUS_CHARACTERS - len(end), _MIN_CHARACTERS)
    # Reserve space for the serving version next to a long reason.
    short = next((part.short for part in parts if part is not main and part.short), "")
    reserved = len(short) + 2 if short else 0
    texts = {main: single_line(main.text, max(room - reserved, _MIN_CHARACTERS))}
    left = room - len(texts[main]) - 2
    for part in parts:
        for text in (part.text, part.short):
            line = single_line(text, _FAILURE_CHARACTERS)
            if part not in texts and 0 < len(line) <= left:
                texts[part] = line
                left -= len(line) + 2
    # Place the main part last, in front of its remedy.
    shown = [part for part in parts if part in texts]
    if main.remedy:
        shown.sort(key=lambda part: part is main)
    return kind("; ".join(texts[part] for part in shown) + end)


def unit_status(snapshot: Snapshot, commands: Commands) -> ops.StatusBase:
    """Return the leader's status: the error, or the latest run, the champion and production."""
    return _compose([*_run_parts(snapshot, commands), *_workload(snapshot, commands)])


def standby_status(snapshot: Snapshot, commands: Commands) -> ops.StatusBase:
    """Return the status of a unit other than the leader: its own error, and no progress.

    Such a unit observes runs only at update-status, so their progress would be outdated.
    """
    if snapshot.problem:
        return problem(snapshot.problem, commands)
    text = "standby; the leader reports runs and models"
    return _compose([_Part(text=text), *_workload(snapshot, commands)])


def _workload(snapshot: Snapshot, commands: Commands) -> list[_Part]:
    if not snapshot.workload:
        return []
    text = "Pushgateway is not running"
    part = _waiting(f"{text}: {snapshot.workload}", f"see: {commands.log}")
    return [dataclasses.replace(part, short=text)]


def _run_parts(snapshot: Snapshot, commands: Commands) -> list[_Part]:
    if snapshot.problem:
        return [_problem(snapshot.problem, commands)]
    run = _run(snapshot, commands)
    parts = [run, *_champion(snapshot, is_first=False)]
    if run.kind is not ops.BlockedStatus:
        parts = [*_champion(snapshot, is_first=True), run]
        if _is_promoted(snapshot):
            parts = _champion(snapshot, is_first=True)
    return [
        *parts,
        *_trained_before(snapshot, commands),
        *_paused(snapshot, commands),
        *_production(snapshot, commands),
    ]


def _run(snapshot: Snapshot, commands: Commands) -> _Part:
    run = snapshot.latest
    if run is None:
        # A paused schedule explains it, and has its own remedy.
        is_paused = snapshot.schedule is False
        return _Part(text="no run yet", remedy="" if is_paused else f"start one: {commands.train}")
    name = f"run {run.display_name}"
    if run.state is kfp_ops.RunState.SUCCEEDED:
        return _succeeded(snapshot, name, commands)
    if run.state in (kfp_ops.RunState.FAILED, kfp_ops.RunState.CANCELED):
        return _unsuccessful(snapshot, run, commands)
    if snapshot.stuck:
        text = f"{name} was terminated but is still running"
        return _blocked(text, f"start another: {commands.train}")
    if snapshot.pod_issue:
        return _waiting(
            f"{name} {run.state.value}: {snapshot.pod_issue}", f"see: {commands.run('get-run')}"
        )
    text = f"{name} {kfp_ops.progress(run, snapshot.steps)}"
    return _Part(text=text, short=f"run {run.state.value}")


def _is_unfinished(snapshot: Snapshot) -> bool:
    """Return whether the latest run has not ended; then no status suggests another."""
    return snapshot.latest is not None and not snapshot.latest.state.is_final


def _trained_before(snapshot: Snapshot, commands: Commands) -> list[_Part]:
    run = snapshot.trained_before
    if run is None:
        return []
    remedy = "" if _is_unfinished(snapshot) else f"train it again: {commands.train}"
    return [_Part(text=f"run {run.display_name} trained this configuration", remedy=remedy)]


def _paused(snapshot: Snapshot, commands: Commands) -> list[_Part]:
    if snapshot.schedule is not False:
        return []
    resume = commands.config("schedule-paused", "false")
    return [_Part(text="the schedule is paused", remedy=f"resume it: {resume}")]


def _production(snapshot: Snapshot, commands: Commands) -> list[_Part]:
    """Return the findings of monitoring, if any."""
    parts: list[_Part] = []
    run, report = snapshot.monitor, snapshot.report
    if run and run.state is kfp_ops.RunState.FAILED:
        see = f"see: {commands.run('get-run')} run-id={MONITOR}"
        parts.append(_Part(text="monitoring failed", remedy=see))
    if report and snapshot.drift:
        remedy = "" if _is_unfinished(snapshot) else f"train on new data: {commands.train}"
        parts.append(_Part(text=f"production drifted: {figures(snapshot.drift)}", remedy=remedy))
    return parts


def _failed_step(snapshot: Snapshot, run: kfp_ops.Run) -> str:
    issue = snapshot.pod_issue
    if issue:
        return f" at {issue}" if issue.step else f": {issue}"
    failed = sorted(n for n, s in run.steps(snapshot.steps).items() if s is kfp_ops.RunState.FAILED)
    return f" at step {', '.join(failed)}" if failed else ""


def _unsuccessful(snapshot: Snapshot, run: kfp_ops.Run, commands: Commands) -> _Part:
    name, location = f"run {run.display_name}", _failed_step(snapshot, run)
    if snapshot.exceeded_timeout:
        text = f"{name} exceeded run-timeout after {snapshot.exceeded_timeout}{location}"
        return _blocked(text, f"raise it: {commands.config('run-timeout')}")
    if run.state is kfp_ops.RunState.CANCELED:
        return _Part(text=f"{name} CANCELED{location}", remedy=f"train again: {commands.train}")
    return _blocked(f"{name} failed{location}", f"see: {commands.run('get-run')}")


def _champion(snapshot: Snapshot, *, is_first: bool) -> list[_Part]:
    """Return the champion, with details if it comes first."""
    champion = snapshot.champion
    if champion is None:
        return []
    text, served = f"v{champion.version} serves", snapshot.served
    if not is_first:
        return [_Part(text=text, short=text)]
    kind = ops.WaitingStatus if served and not served.is_ready else ops.ActiveStatus
    detailed = f"{text}, accuracy {champion.manifest.accuracy:.4f}{_kserve(served)}"
    return [_Part(text=detailed, short=text, kind=kind)]


def _kserve(served: Served | None) -> str:
    if served is None:
        return ""
    canary = f" with {served.canary} % of requests" if served.canary else ""
    return f", KServe ready{canary}" if served.is_ready else f", KServe not ready: {served.reason}"


def _is_promoted(snapshot: Snapshot) -> bool:
    """Return whether the champion is the latest run's model."""
    run, champion = snapshot.latest, snapshot.champion
    if run is None or champion is None or run.state is not kfp_ops.RunState.SUCCEEDED:
        return False
    return champion.manifest.run_id == run.run_id


def _succeeded(snapshot: Snapshot, name: str, commands: Commands) -> _Part:
    result = snapshot.result
    if result is None:
        return _Part(text=f"{name} SUCCEEDED without a result in the registry")
    if result.accepted:
        is_manual = snapshot.config and snapshot.config.promotion == "manual"
        remedy = f"serve it with: {commands.run('promote')} version=N" if is_manual else ""
        return _Part(text=f"{name} accepted, accuracy {result.accuracy:.4f}", remedy=remedy)
    verdict = "reproduced the champion" if result.unchanged else "rejected"
    reasons = "; ".join(result.reasons)
    return _Part(
        text=f"{name} {verdict}: {reasons}",
        remedy=f"see: {commands.run('get-run')}",
    )


# By increasing urgency.
_KINDS = (ops.ActiveStatus, ops.WaitingStatus, ops.BlockedStatus)


def workload_version(snapshot: Snapshot, charm_dir: Path) -> str:
    """Return the champion's version, or the charm's if no model serves.

    Args:
        snapshot: What exists.
        charm_dir: Folder of the charm, where charmcraft writes the file `version`.
    """
    if snapshot.champion:
        return f"v{snapshot.champion.version}"
    packed = charm_dir / "version"
    return packed.read_text(encoding="utf-8").strip() if packed.exists() else ""
