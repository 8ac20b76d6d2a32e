"""The actions that ask or change something: what they are given, and who answers.

`train`, `tune` and `monitor` are not among these: they are wishes, and take the charm's one way through.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ops

from actions import models, runs, schedules
from actions.params import (
    ListParams,
    NoParams,
    PredictParams,
    PromoteParams,
    RollbackParams,
    RunParams,
)
from kfp_ops.text import printable
from reconciler.context import Context

# Characters of a result: what servers, steps and files say may be anybody's, and of any length.
TEXT = 16_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Action:
    """How an action is answered.

    Attributes:
        params: the dataclass of its parameters.
        answer: from what is at hand and the parameters to the results, flat and in kebab-case;
            raises a CharmError or an error of `kfp_ops`.
        changes: whether it changes something, so that the leader alone may answer.
    """

    params: type[Any]
    answer: Callable[[Context, Any], dict[str, str]]
    changes: bool = False


ACTIONS = {
    "list_runs": Action(params=ListParams, answer=runs.listing),
    "get_run": Action(params=RunParams, answer=runs.details),
    "cancel_run": Action(params=RunParams, answer=runs.cancel, changes=True),
    "pause": Action(params=NoParams, answer=schedules.pause, changes=True),
    "resume": Action(params=NoParams, answer=schedules.resume, changes=True),
    "list_models": Action(params=ListParams, answer=models.listing),
    "predict": Action(params=PredictParams, answer=models.predict),
    "promote": Action(params=PromoteParams, answer=models.promote, changes=True),
    "rollback": Action(params=RollbackParams, answer=models.rollback, changes=True),
}


def set_results(event: ops.ActionEvent, results: Mapping[str, str]) -> None:
    """Give an action's results, as Juju's tools take them and a terminal shows them."""
    event.set_results({name: printable(text, TEXT) for name, text in results.items()})
