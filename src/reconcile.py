"""The one way through: observe, plan, act, and tell what is then seen."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping

import connection
import volumes
import wishes
from actions import Wish
from connection import Connection
from kfp_ops import Observed, act, observe, plan
from situation import Situation, gather, look


def reconcile(there: Connection, asked: Mapping[str, Wish], *, leads: bool) -> Situation:
    """See to it that all that is wanted exists.

    Args:
        there: what to ask, and where to act.
        asked: the parameters of runs that are asked for, by the name of the run.
        leads: whether this unit acts; others only look.

    Raises:
        one of `situation.PROBLEMS`.
    """
    evidence, config = gather(there), volumes.settled(there)
    seen = Observed()
    for wanted in wishes.wanted(
        config, there.storage, there.experiment, asked, evidence, utc_now()
    ):
        before, seen = seen, observe(there.client, wanted)
        if leads:
            seen = act(there.client, wanted, seen, plan(wanted, seen))
        seen = dataclasses.replace(seen, runs={**before.runs, **seen.runs})
    if leads:
        connection.leave_former_profiles(there)
    return look(there, seen, evidence)


def utc_now() -> datetime.datetime:
    """The time."""
    return datetime.datetime.now(datetime.timezone.utc)
