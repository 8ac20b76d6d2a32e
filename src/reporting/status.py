"""From a situation to a Juju status: the state first, and one command last. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ops

import kfp_ops
from errors import (
    KubernetesError,
    KubernetesForbiddenError,
    NoDataError,
    NoKServeError,
    NoProfilesError,
    NoScheduleError,
    NoStorageSecretError,
    NoSuccessError,
    NoSuchModelError,
    NoSuchRunError,
    NotServedError,
    OptionError,
    ParameterError,
    Problem,
    ProfilePendingError,
    RegistryContentError,
    RegistryElsewhereError,
    RegistryError,
    RegistryRefusedError,
    ServedModelError,
    SourceError,
)
from formatting import MONITOR, figures, progress
from kfp_ops.text import single_line
from reconciler.snapshot import Situation

if TYPE_CHECKING:
    from k8s.inference_service import Served

_LOOK = {
    NoSuchRunError: "list-runs",
    NoSuccessError: "get-run",
    NoSuchModelError: "list-models",
    # The version's own answers, which need no server.
    ServedModelError: "predict version=N",
}
# `juju status` cuts a message off after so many characters.
STATUS_CHARACTERS = 120
# Of what an action says at most: what servers and steps say may be of any length.
_CHARACTERS = 4000
# Of what a remedy is about, at least; less tells nothing.
_SHORTEST = 20
_LATER = "retries at the next update-status"


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commands:
    """What the operator types, in the words of the Juju at hand.

    Attributes:
        app: the application's name.
        juju: the controller's major version.
    """

    app: str
    juju: int = 3

    @property
    def train(self) -> str:
        """Run the action `train`."""
        return self.run("train")

    def run(self, action: str) -> str:
        """Run an action."""
        if self.juju < 3:
            return f"juju run-action {self.app}/leader {action} --wait"
        return f"juju run {self.app}/leader {action}"

    @property
    def trust(self) -> str:
        """Let the application act in the whole cluster."""
        return f"juju trust {self.app} --scope=cluster"

    @property
    def log(self) -> str:
        """Show the charm's log."""
        return f"juju debug-log --include {self.app}"

    def config(self, option: str) -> str:
        """Set an option."""
        return f"juju config {self.app} {option}=VALUE"

    def relate(self, endpoint: str, remote: str) -> str:
        """Add a relation."""
        verb = "relate" if self.juju < 3 else "integrate"
        return f"juju {verb} {self.app}:{endpoint} {remote}:{endpoint}"


def failure(error: Problem, commands: Commands) -> str:
    """Say why an action failed, and what to do; nobody tries it again by itself."""
    remedy = f"look, then ask again: {commands.run('list-runs')}"
    return single_line(_problem(error, commands, remedy).in_full, _CHARACTERS)


def pending(error: Problem, commands: Commands) -> str:
    """Say what keeps a change that was made from reaching Kubeflow."""
    return single_line(_problem(error, commands, _LATER).in_full, _CHARACTERS)


def problem(error: Problem, commands: Commands) -> ops.StatusBase:
    """Return the unit's status for what went wrong."""
    return _compose([_problem(error, commands, _LATER)])


def _problem(error: Problem, commands: Commands, later: str) -> _Part:
    """Return what went wrong, and what to do.

    Args:
        error: what went wrong.
        commands: what the operator types.
        later: the remedy where it may go right another time.
    """
    match error:
        case NoDataError(endpoint=endpoint, is_related=True, missing=missing):
            return _waiting(f"relation {endpoint}: waiting for its {missing}")
        case NoDataError(endpoint=endpoint, remote=remote):
            add = f"add it with: {commands.relate(endpoint, remote)}"
            return _blocked(f"no relation {endpoint}", add)
        case ParameterError():
            return _blocked(str(error), "nothing was done: ask again")
        case OptionError():
            return _blocked(str(error), f"set it with: {commands.config(error.option)}")
        case kfp_ops.KfpError():
            return _pipelines(error, commands, later)
        case KubernetesForbiddenError():
            return _blocked(str(error), f"allow it with: {commands.trust}")
        case NoProfilesError():
            single_user = f"juju config {commands.app} profile="
            return _blocked(
                str(error), f"deploy kubeflow-profiles, or run single-user: {single_user}"
            )
        case NoKServeError():
            without = f"juju config {commands.app} serving=none"
            return _blocked(str(error), f"deploy kserve-controller, or disable serving: {without}")
        case RegistryElsewhereError():
            return _blocked(str(error), f"use another: {commands.config('registry-prefix')}")
        case RegistryRefusedError():
            return _blocked(str(error), error.remedy)
        case RegistryContentError():
            elsewhere = commands.config("registry-prefix")
            return _blocked(str(error), f"repair it, or set: {elsewhere}")
        case ProfilePendingError() | NoStorageSecretError() | RegistryError() | SourceError():
            return _waiting(str(error), later)
        case KubernetesError():
            return _waiting(f"Kubernetes: {error}", later)
        case kfp_ops.RelationDataError():
            return _blocked(str(error), "remove the relation and add it again")
        case _:
            return _answer(error, commands)


def _answer(
    error: NoSuchRunError
    | NoSuccessError
    | NoSuchModelError
    | ServedModelError
    | NotServedError
    | NoScheduleError,
    commands: Commands,
) -> _Part:
    """Return what only actions say."""
    match error:
        case NoSuchRunError() | NoSuccessError() | NoSuchModelError() | ServedModelError():
            return _blocked(str(error), f"see: {commands.run(_LOOK[type(error)])}")
        case NotServedError(is_due=True):
            return _waiting(str(error), f"wait until it does: juju status {commands.app}")
        case NotServedError():
            enable = f"juju config {commands.app} serving=kserve"
            return _blocked(str(error), f"enable serving with: {enable}")
        case NoScheduleError():
            return _blocked(str(error), f"set it with: juju config {commands.app} {error.setting}")


def _pipelines(error: kfp_ops.KfpError, commands: Commands, later: str) -> _Part:
    # The request's path, which is in the log, would take the room of what the server says.
    is_refusal = isinstance(error, kfp_ops.ApiError)
    said = f"{error.status} {error.message}" if is_refusal else str(error)
    match error:
        case kfp_ops.UnreachableError() | kfp_ops.ServerError() | kfp_ops.AnswerError():
            return _waiting(f"Kubeflow Pipelines: {said}", later)
        case kfp_ops.UnauthorizedError() | kfp_ops.ForbiddenError():
            return _blocked(
                f"Kubeflow Pipelines denies access (needs kubeflow-pipelines-edit): {said}",
                f"name another: {commands.config('profile')}",
            )
        case _:
            return _blocked(f"Kubeflow Pipelines refuses: {said}", f"see: {commands.log}")


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


def unit_status(situation: Situation, commands: Commands) -> ops.StatusBase:
    """Return the leader's status: the problem, or the latest run, the champion and production."""
    return _compose([*_run_parts(situation, commands), *_workload(situation, commands)])


def standby_status(situation: Situation, commands: Commands) -> ops.StatusBase:
    """Return the status of a unit that does not lead: its own problem, and no progress.

    It hears of a run only at its own update-status, and would tell of one that ended long ago.
    """
    if situation.problem:
        return problem(situation.problem, commands)
    text = "standby; the status of the leader tells of runs and models"
    return _compose([_Part(text=text), *_workload(situation, commands)])


def _workload(situation: Situation, commands: Commands) -> list[_Part]:
    if not situation.workload:
        return []
    text = "the Pushgateway does not run"
    part = _waiting(f"{text}: {situation.workload}", f"see: {commands.log}")
    return [dataclasses.replace(part, short=text)]


def _run_parts(situation: Situation, commands: Commands) -> list[_Part]:
    if situation.problem:
        return [_problem(situation.problem, commands, _LATER)]
    run = _run(situation, commands)
    parts = [run, *_champion(situation, is_first=False)]
    if run.kind is not ops.BlockedStatus:
        parts = [*_champion(situation, is_first=True), run]
        if _is_promoted(situation):
            parts = _champion(situation, is_first=True)
    return [
        *parts,
        *_trained_before(situation, commands),
        *_paused(situation, commands),
        *_production(situation, commands),
    ]


def _run(situation: Situation, commands: Commands) -> _Part:
    run = situation.latest
    if run is None:
        # A schedule that is paused is the nearer reason.
        is_paused = situation.schedule is False
        return _Part(text="no run yet", remedy="" if is_paused else f"start one: {commands.train}")
    name = f"run {run.display_name}"
    if run.state is kfp_ops.RunState.SUCCEEDED:
        return _succeeded(situation, name, commands)
    if run.state in (kfp_ops.RunState.FAILED, kfp_ops.RunState.CANCELED):
        return _unsuccessful(situation, run, commands)
    if situation.lost:
        text = f"{name} was terminated but is still running"
        return _blocked(text, f"start another: {commands.train}")
    if situation.pod_issue:
        return _waiting(
            f"{name} {run.state.value}: {situation.pod_issue}", f"see: {commands.run('get-run')}"
        )
    text = f"{name} {progress(run, situation.steps)}"
    return _Part(text=text, short=f"run {run.state.value}")


def _is_going_on(situation: Situation) -> bool:
    return situation.latest is not None and not situation.latest.state.is_final


def _trained_before(situation: Situation, commands: Commands) -> list[_Part]:
    run = situation.trained_before
    if run is None:
        return []
    remedy = "" if _is_going_on(situation) else f"train it again: {commands.train}"
    return [_Part(text=f"run {run.display_name} trained this configuration", remedy=remedy)]


def _paused(situation: Situation, commands: Commands) -> list[_Part]:
    if situation.schedule is not False:
        return []
    by_option = situation.config and situation.config.schedule_paused
    config = f"juju config {commands.app} schedule-paused=false"
    resume = config if by_option else commands.run("resume")
    return [_Part(text="the schedule is paused", remedy=f"resume it: {resume}")]


def _production(situation: Situation, commands: Commands) -> list[_Part]:
    """Return what monitoring tells; nothing where all is well."""
    parts: list[_Part] = []
    run, report = situation.monitor, situation.report
    if run and run.state is kfp_ops.RunState.FAILED:
        see = f"see: {commands.run('get-run')} run-id={MONITOR}"
        parts.append(_Part(text="monitoring failed", remedy=see))
    if report and situation.drift:
        remedy = "" if _is_going_on(situation) else f"train on new data: {commands.train}"
        parts.append(_Part(text=f"production drifted: {figures(situation.drift)}", remedy=remedy))
    return parts


def _failed_step(situation: Situation, run: kfp_ops.Run) -> str:
    issue = situation.pod_issue
    if issue:
        return f" at {issue}" if issue.step else f": {issue}"
    failed = sorted(
        n for n, s in run.steps(situation.steps).items() if s is kfp_ops.RunState.FAILED
    )
    return f" at step {', '.join(failed)}" if failed else ""


def _unsuccessful(situation: Situation, run: kfp_ops.Run, commands: Commands) -> _Part:
    name, location = f"run {run.display_name}", _failed_step(situation, run)
    if situation.outlasted:
        text = f"{name} exceeded run-timeout after {situation.outlasted}{location}"
        return _blocked(text, f"raise it: {commands.config('run-timeout')}")
    if run.state is kfp_ops.RunState.CANCELED:
        return _Part(text=f"{name} CANCELED{location}", remedy=f"train again: {commands.train}")
    return _blocked(f"{name} failed{location}", f"see: {commands.run('get-run')}")


def _champion(situation: Situation, *, is_first: bool) -> list[_Part]:
    """Return which model serves: in detail where it comes first."""
    champion = situation.champion
    if champion is None:
        return []
    text, served = f"v{champion.version} serves", situation.served
    if not is_first:
        return [_Part(text=text, short=text)]
    kind = ops.WaitingStatus if served and not served.is_ready else ops.ActiveStatus
    detailed = f"{text}, accuracy {champion.result.accuracy:.4f}{_kserve(served)}"
    return [_Part(text=detailed, short=text, kind=kind)]


def _kserve(served: Served | None) -> str:
    if served is None:
        return ""
    share = f" with {served.canary} % of requests" if served.canary else ""
    return f", KServe ready{share}" if served.is_ready else f", KServe not ready: {served.reason}"


def _is_promoted(situation: Situation) -> bool:
    """Whether the model that serves is the latest run's."""
    run, champion = situation.latest, situation.champion
    if run is None or champion is None or run.state is not kfp_ops.RunState.SUCCEEDED:
        return False
    return champion.result.run_id == run.run_id


def _succeeded(situation: Situation, name: str, commands: Commands) -> _Part:
    result = situation.result
    if result is None:
        return _Part(text=f"{name} SUCCEEDED without a result in the registry")
    if result.accepted:
        is_manual = situation.config and situation.config.promotion == "manual"
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
