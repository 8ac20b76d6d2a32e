"""The charm's actions: parameters, handlers, and whether they change anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ops

from actions import models, runs
from actions.params import (
    ListParams,
    PredictParams,
    PromoteParams,
    RollbackParams,
    RunParams,
)
from actions.runs import check_succeeded
from commands import Commands
from kfp_ops import Run
from kfp_ops.text import printable
from reconciler.context import Context
from reconciler.requests import MonitorParams, RunRequest, TrainParams, TuneParams
from reconciler.snapshot import Snapshot
from reporting import status

__all__ = ["ACTIONS", "Action", "check_succeeded", "set_results", "submit"]

# Maximum characters of a result: text from servers, steps and files may be of any length.
_MAX_CHARACTERS = 16_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Action:
    """How the charm handles an action."""

    params: type[Any]
    """Dataclass of its parameters."""

    handler: Callable[[Context, Any], dict[str, str]] | None = None
    """Returns the results, with names in kebab-case. None if the reconciler submits a run instead."""

    is_change: bool = False
    """Whether the handler changes something."""

    @property
    def is_for_leader(self) -> bool:
        """Whether only the leader handles the action."""
        return self.is_change or self.handler is None


ACTIONS = {
    "train": Action(params=TrainParams),
    "tune": Action(params=TuneParams),
    "monitor": Action(params=MonitorParams),
    "list_runs": Action(params=ListParams, handler=runs.list_runs),
    "get_run": Action(params=RunParams, handler=runs.get_run),
    "cancel_run": Action(params=RunParams, handler=runs.cancel, is_change=True),
    "list_models": Action(params=ListParams, handler=models.list_models),
    "predict": Action(params=PredictParams, handler=models.predict),
    "promote": Action(params=PromoteParams, handler=models.promote, is_change=True),
    "rollback": Action(params=RollbackParams, handler=models.rollback, is_change=True),
}


def submit(
    event: ops.ActionEvent,
    context: Context,
    snapshot: Snapshot,
    name: str,
    params: RunRequest,
    commands: Commands,
) -> Run | None:
    """Report the run that an action requested, and wait for its end if requested.

    Args:
        event: Receives the results.
        context: Options, clients and names.
        snapshot: What exists after the reconciler submitted the run.
        name: The run's name.
        params: The action's parameters.
        commands: Commands for this application.

    Returns:
        The run after the wait; None without a wait.

    Raises:
        CharmError: The run was not submitted.
    """
    run = snapshot.runs.get(name)
    if run is None:
        if snapshot.problem:
            raise snapshot.problem
        event.fail(status.unit_status(snapshot, commands).message)
        return None
    set_results(event, runs.describe(context, run))
    if not params.wait:
        return None
    awaited = runs.follow(context, run, params.timeout, event.log)
    set_results(event, runs.get_run(context, RunParams(run_id=run.run_id)))
    return awaited


def set_results(event: ops.ActionEvent, results: Mapping[str, str]) -> None:
    """Set an action's results, limited to text that Juju and terminals can show."""
    event.set_results({name: printable(text, _MAX_CHARACTERS) for name, text in results.items()})
