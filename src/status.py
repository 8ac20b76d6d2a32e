"""What the operator sees: from a situation to a Juju status that ends in the next step. Pure."""

from __future__ import annotations

import dataclasses
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
from formatting import figures
from kfp_ops.texts import line
from situation import Situation

if TYPE_CHECKING:
    from serving import Served

_LOOK = {
    NoSuchRunError: "list-runs",
    NoSuccessError: "get-run",
    NoSuchModelError: "list-models",
    # The version's own answers, which need no server.
    ServedModelError: "predict version=N",
}
# Of a status at most: what servers and steps say may be of any length.
_CHARACTERS = 4000
_LATER = "tried again at the next update-status"


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

    def config(self, option: str) -> str:
        """Set an option."""
        return f"juju config {self.app} {option}=VALUE"

    def relate(self, endpoint: str, remote: str) -> str:
        """Add a relation."""
        verb = "relate" if self.juju < 3 else "integrate"
        return f"juju {verb} {self.app}:{endpoint} {remote}:{endpoint}"


def failure(error: Problem, commands: Commands) -> str:
    """Why an action failed, and what to do; nobody tries it again by itself."""
    return problem(error, commands, f"look, then ask again: {commands.run('list-runs')}").message


def problem(error: Problem, commands: Commands, later: str = _LATER) -> ops.StatusBase:
    """What went wrong, and what to do.

    Args:
        error: what went wrong.
        commands: what the operator types.
        later: what is done where it may go right another time.
    """
    status = _problem(error, commands, later)
    return type(status)(line(status.message, _CHARACTERS))


def _problem(error: Problem, commands: Commands, later: str) -> ops.StatusBase:
    match error:
        case NoDataError(endpoint=endpoint, is_related=True):
            return ops.WaitingStatus(
                f"relation {endpoint}: waiting for the other side to publish its data"
            )
        case NoDataError(endpoint=endpoint, remote=remote):
            return ops.BlockedStatus(
                f"no relation {endpoint}; add it with: {commands.relate(endpoint, remote)}"
            )
        case ParameterError():
            return ops.BlockedStatus(f"{error}; nothing was done: ask again")
        case OptionError():
            return ops.BlockedStatus(f"{error}; set it with: {commands.config(error.option)}")
        case kfp_ops.KfpError():
            return _pipelines(error, commands, later)
        case KubernetesForbiddenError():
            return ops.BlockedStatus(f"{error}; allow it with: {commands.trust}")
        case NoProfilesError():
            return ops.BlockedStatus(
                f"{error}; deploy kubeflow-profiles, or for a single-user server: "
                f"juju config {commands.app} profile="
            )
        case NoKServeError():
            return ops.BlockedStatus(
                f"{error}; deploy kserve-controller, or do without: "
                f"juju config {commands.app} serving=none"
            )
        case RegistryElsewhereError():
            return ops.BlockedStatus(f"{error}; use another: {commands.config('registry-prefix')}")
        case RegistryRefusedError():
            return ops.BlockedStatus(str(error))
        case RegistryContentError():
            elsewhere = commands.config("registry-prefix")
            return ops.BlockedStatus(
                f"{error}; repair it, or start a registry elsewhere: {elsewhere}"
            )
        case ProfilePendingError() | NoStorageSecretError() | RegistryError() | SourceError():
            return ops.WaitingStatus(f"{error}; {later}")
        case KubernetesError():
            return ops.WaitingStatus(f"Kubernetes: {error}; {later}")
        case kfp_ops.RelationDataError():
            return ops.BlockedStatus(f"{error}; remove the relation and add it again")
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
) -> ops.StatusBase:
    """What only actions say."""
    match error:
        case NoSuchRunError() | NoSuccessError() | NoSuchModelError() | ServedModelError():
            return ops.BlockedStatus(f"{error}; see: {commands.run(_LOOK[type(error)])}")
        case NotServedError(is_due=True):
            return ops.WaitingStatus(f"{error}; wait until it does: juju status {commands.app}")
        case NotServedError():
            return ops.BlockedStatus(
                f"{error}; have one served with: juju config {commands.app} serving=kserve"
            )
        case NoScheduleError():
            return ops.BlockedStatus(
                f"{error}; set it with: juju config {commands.app} {error.setting}"
            )


def _pipelines(error: kfp_ops.KfpError, commands: Commands, later: str) -> ops.StatusBase:
    match error:
        case kfp_ops.UnreachableError() | kfp_ops.ServerError() | kfp_ops.AnswerError():
            return ops.WaitingStatus(f"Kubeflow Pipelines: {error}; {later}")
        case kfp_ops.UnauthorizedError() | kfp_ops.ForbiddenError():
            return ops.BlockedStatus(
                f"Kubeflow Pipelines does not let {commands.app} in: {error}; "
                f"it needs kubeflow-pipelines-edit in its profile: {commands.config('profile')}"
            )
        case _:
            return ops.BlockedStatus(
                f"Kubeflow Pipelines refuses: {error}; see: juju debug-log --include {commands.app}"
            )


def unit_status(situation: Situation, commands: Commands) -> ops.StatusBase:
    """The unit's status: the problem, or the latest run, the model that serves, and production.

    Last comes what keeps the workload from running, which keeps no one from training.
    """
    status = _run_status(situation, commands)
    if not situation.workload:
        return status
    text = (
        f"{status.message}; the Pushgateway does not run: {situation.workload}; {_LATER}; see: "
        f"juju debug-log --include {commands.app}"
    )
    kind = type(status) if isinstance(status, ops.BlockedStatus) else ops.WaitingStatus
    return kind(line(text, _CHARACTERS))


def _run_status(situation: Situation, commands: Commands) -> ops.StatusBase:
    if situation.problem:
        return problem(situation.problem, commands)
    status, served = _training(situation, commands), situation.served
    parts = (
        *_trained_before(situation, commands),
        *_paused(situation, commands),
        *_production(situation, commands),
    )
    text = line("; ".join([status.message, *parts]), _CHARACTERS)
    if served and not served.is_ready and isinstance(status, ops.ActiveStatus):
        return ops.WaitingStatus(text)
    return type(status)(text)


def _training(situation: Situation, commands: Commands) -> ops.StatusBase:
    run, prefix = situation.latest, _serves(situation)
    if run is None:
        return ops.ActiveStatus(f"{prefix}no run yet; start one: {commands.train}")
    if run.state is kfp_ops.RunState.SUCCEEDED:
        return ops.ActiveStatus(_succeeded(situation, run, commands))
    if run.state in (kfp_ops.RunState.FAILED, kfp_ops.RunState.CANCELED):
        return _unsuccessful(situation, run, commands)
    if situation.lost:
        return ops.BlockedStatus(
            f"{prefix}run {run.display_name} was told to end and does not, as if its workflow were "
            f"gone; see: {commands.run('get-run')}, then: {commands.train}"
        )
    completed = sum(state.is_final for state in run.steps(situation.steps).values())
    progress = (
        f"{prefix}run {run.display_name} {run.state.value}, "
        f"{completed} of {len(situation.steps)} steps done"
    )
    if situation.pod_issue:
        return ops.WaitingStatus(f"{progress}; {situation.pod_issue}")
    return ops.ActiveStatus(progress)


def _trained_before(situation: Situation, commands: Commands) -> list[str]:
    run = situation.trained_before
    if run is None:
        return []
    return [
        f"run {run.display_name} trained this configuration before; see: "
        f"{commands.run('get-run')} run-id={run.run_id}, or train it again: {commands.train}"
    ]


def _paused(situation: Situation, commands: Commands) -> list[str]:
    if situation.schedule is not False:
        return []
    by_option = situation.config and situation.config.schedule_paused
    config = f"juju config {commands.app} schedule-paused=false"
    return [f"the schedule is paused: {config if by_option else commands.run('resume')}"]


def _production(situation: Situation, commands: Commands) -> list[str]:
    """What monitoring tells; nothing where all is well."""
    parts: list[str] = []
    run, report = situation.monitor, situation.report
    if run and run.state is kfp_ops.RunState.FAILED:
        parts.append(f"monitoring failed; see: {commands.run('get-run')} run-id={run.run_id}")
    if report and situation.drift:
        parts.append(
            f"production drifted: {figures(situation.drift)}; see: "
            f"{commands.run('get-run')} run-id={report.run_id}, then: {commands.train}"
        )
    return parts


def _failed_step(situation: Situation, run: kfp_ops.Run) -> str:
    issue = situation.pod_issue
    if issue:
        return f" at {issue}" if issue.step else f": {issue}"
    failed = sorted(
        n for n, s in run.steps(situation.steps).items() if s is kfp_ops.RunState.FAILED
    )
    return f" at step {', '.join(failed)}" if failed else ""


def _unsuccessful(situation: Situation, run: kfp_ops.Run, commands: Commands) -> ops.StatusBase:
    prefix, location = f"{_serves(situation)}run {run.display_name}", _failed_step(situation, run)
    if situation.outlasted:
        return ops.BlockedStatus(
            f"{prefix} ended without success after {situation.outlasted}, more than run-timeout "
            f"allows{location}; see: {commands.run('get-run')}, or raise it: "
            f"{commands.config('run-timeout')}, then: {commands.train}"
        )
    if run.state is kfp_ops.RunState.CANCELED:
        return ops.ActiveStatus(f"{prefix} CANCELED{location}; start one: {commands.train}")
    return ops.BlockedStatus(
        f"{prefix} failed{location}; see: {commands.run('get-run')}, then: {commands.train}"
    )


def _serves(situation: Situation) -> str:
    champion = situation.champion
    if champion is None:
        return ""
    return f"v{champion.version} {champion.result.accuracy:.4f} serves{_kserve(situation.served)}; "


def _kserve(served: Served | None) -> str:
    if served is None:
        return ""
    share = f" with {served.canary} % of requests" if served.canary else ""
    return f", KServe ready{share}" if served.is_ready else f", KServe not ready: {served.reason}"


def _succeeded(situation: Situation, run: kfp_ops.Run, commands: Commands) -> str:
    result, champion = situation.result, situation.champion
    if champion and champion.result.run_id == run.run_id:
        message = f"v{champion.version} serves, accuracy {champion.result.accuracy:.4f}"
        return message + _kserve(situation.served)
    if result is None:
        return (
            f"{_serves(situation)}run {run.display_name} SUCCEEDED without a result in the registry"
        )
    if result.accepted:
        message = (
            f"{_serves(situation)}run {run.display_name} accepted, accuracy {result.accuracy:.4f}"
        )
        is_manual = situation.config and situation.config.promotion == "manual"
        return (
            f"{message}; let it serve: {commands.run('promote')} version=N"
            if is_manual
            else message
        )
    verdict = "made the same model again" if result.unchanged else "rejected"
    return (
        f"{_serves(situation)}run {run.display_name} {verdict}, accuracy {result.accuracy:.4f}: "
        + "; ".join(result.reasons)
    )
