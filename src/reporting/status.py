"""From a snapshot to a Juju status: the state first, one command last. Pure."""

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

# `juju status` cuts a message off after so many characters.
STATUS_CHARACTERS = 120
# Of what an action says at most: what servers and steps say may be of any length.
_CHARACTERS = 4000
# Of what a remedy is about, at least; less tells nothing.
_SHORTEST = 20
_RETRY = "retries at the next update-status"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of a status.

    Attributes:
        text: what is so.
        remedy: what the operator does about it: a verb and one command; may be empty.
        kind: the status that it asks for.
        short: the text where there is no room for it; empty leaves it out.
    """

    text: str
    short: str = ""
    remedy: str = ""
    kind: type[ops.StatusBase] = ops.ActiveStatus

    @property
    def in_full(self) -> str:
        """Text and remedy, however long."""
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


def failure(error: CharmError, commands: Commands) -> str:
    """Return an action's failure and what to do about it: nothing retries an action."""
    retry = f"check, then run the action again: {commands.run('list-runs')}"
    return single_line(_problem(error, commands, retry).in_full, _CHARACTERS)


def pending(error: CharmError, commands: Commands) -> str:
    """Return why a change that was made has not reached Kubeflow yet."""
    return single_line(_problem(error, commands).in_full, _CHARACTERS)


def problem(error: CharmError, commands: Commands) -> ops.StatusBase:
    """Return the unit's status for an error."""
    return _compose([_problem(error, commands)])


def _problem(error: CharmError, commands: Commands, retry: str = _RETRY) -> _Part:
    """Return what is wrong, and what to do.

    Args:
        error: What is wrong.
        commands: What the operator types.
        retry: The remedy of an error that needs nothing but a retry.
    """
    remedy = error.remedy(commands)
    text, remedy = error.text, retry if remedy is None else remedy
    return _waiting(text, remedy) if error.retryable else _blocked(text, remedy)


def _blocked(text: str, remedy: str = "") -> _Part:
    return _Part(text=text, remedy=remedy, kind=ops.BlockedStatus)


def _waiting(text: str, remedy: str = "") -> _Part:
    return _Part(text=text, remedy=remedy, kind=ops.WaitingStatus)


def _compose(parts: Sequence[_Part]) -> ops.StatusBase:
    """Make one status of parts: the first remedy whole, what it is about, and what else fits.

    Args:
        parts: the first one with a remedy is what the status is about.
    """
    kind = max((part.kind for part in parts), key=_KINDS.index)
    about = next((part for part in parts if part.remedy), parts[0])
    end = f"; {about.remedy}" if about.remedy else ""
    room = max(STATUS_CHARACTERS - len(end), _SHORTEST)
    # What serves stays beside a long reason.
    short = next((part.short for part in parts if part is not about and part.short), "")
    reserved = len(short) + 2 if short else 0
    texts = {about: single_line(about.text, max(room - reserved, _SHORTEST))}
    left = room - len(texts[about]) - 2
    for part in parts:
        for text in (part.text, part.short):
            if part not in texts and 0 < len(single_line(text, _CHARACTERS)) <= left:
                texts[part] = single_line(text, _CHARACTERS)
                left -= len(texts[part]) + 2
    # The remedy stands behind what it is about.
    shown = [part for part in parts if part in texts]
    if about.remedy:
        shown.sort(key=lambda part: part is about)
    return kind("; ".join(texts[part] for part in shown) + end)


def unit_status(snapshot: Snapshot, commands: Commands) -> ops.StatusBase:
    """Return the leader's status: the problem, or the latest run, the champion and production."""
    return _compose([*_run_parts(snapshot, commands), *_workload(snapshot, commands)])


def standby_status(snapshot: Snapshot, commands: Commands) -> ops.StatusBase:
    """Return the status of a unit that does not lead: its own problem, and no progress.

    It hears of a run only at its own update-status, and would tell of one that ended long ago.
    """
    if snapshot.problem:
        return problem(snapshot.problem, commands)
    text = "standby; the leader reports runs and models"
    return _compose([_Part(text=text), *_workload(snapshot, commands)])


def _workload(snapshot: Snapshot, commands: Commands) -> list[_Part]:
    if not snapshot.workload:
        return []
    text = "the Pushgateway does not run"
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
        # A schedule that is paused is the nearer reason.
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


def _is_going_on(snapshot: Snapshot) -> bool:
    return snapshot.latest is not None and not snapshot.latest.state.is_final


def _trained_before(snapshot: Snapshot, commands: Commands) -> list[_Part]:
    run = snapshot.trained_before
    if run is None:
        return []
    remedy = "" if _is_going_on(snapshot) else f"train it again: {commands.train}"
    return [_Part(text=f"run {run.display_name} trained this configuration", remedy=remedy)]


def _paused(snapshot: Snapshot, commands: Commands) -> list[_Part]:
    if snapshot.schedule is not False:
        return []
    resume = commands.config("schedule-paused", "false")
    return [_Part(text="the schedule is paused", remedy=f"resume it: {resume}")]


def _production(snapshot: Snapshot, commands: Commands) -> list[_Part]:
    """Return what monitoring tells; nothing where all is well."""
    parts: list[_Part] = []
    run, report = snapshot.monitor, snapshot.report
    if run and run.state is kfp_ops.RunState.FAILED:
        see = f"see: {commands.run('get-run')} run-id={MONITOR}"
        parts.append(_Part(text="monitoring failed", remedy=see))
    if report and snapshot.drift:
        remedy = "" if _is_going_on(snapshot) else f"train on new data: {commands.train}"
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
    """Return which model serves: in detail where it comes first."""
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
    share = f" with {served.canary} % of requests" if served.canary else ""
    return f", KServe ready{share}" if served.is_ready else f", KServe not ready: {served.reason}"


def _is_promoted(snapshot: Snapshot) -> bool:
    """Whether the model that serves is the latest run's."""
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
    verdict = "made the same model again" if result.unchanged else "rejected"
    reasons = "; ".join(result.reasons)
    return _Part(
        text=f"{name} {verdict}: {reasons}",
        remedy=f"see: {commands.run('get-run')}",
    )


# From what needs nobody to what needs the operator.
_KINDS = (ops.ActiveStatus, ops.WaitingStatus, ops.BlockedStatus)


def workload_version(snapshot: Snapshot, charm_dir: Path) -> str:
    """Return the champion's version, or the charm's if no model serves.

    Args:
        snapshot: What exists.
        charm_dir: Folder of the charm, in which charmcraft writes its version.
    """
    if snapshot.champion:
        return f"v{snapshot.champion.version}"
    packed = charm_dir / "version"
    return packed.read_text(encoding="utf-8").strip() if packed.exists() else ""
