"""The one way through: observe, plan, act, and tell what is then seen."""

from __future__ import annotations

import dataclasses
import datetime

import connection
import schedules
import volumes
import wishes
from connection import Connection
from kfp_ops import Observed, Wanted, act, observe, plan
from situation import Situation, gather, look, serve
from wishes import Asked


def reconcile(there: Connection, asked: Asked, *, leads: bool) -> Situation:
    """See to it that all that is wanted exists.

    Args:
        there: what to ask, and where to act.
        asked: the runs that are asked for.
        leads: whether this unit acts; others only look.

    Raises:
        one of `situation.PROBLEMS`.
    """
    now, (training, monitoring) = utc_now(), there.experiments
    config, storage = volumes.settled(there), there.storage
    config = dataclasses.replace(config, schedule_paused=schedules.is_paused(there))

    def converge(wanted: Wanted) -> Observed:
        seen = observe(there.client, wanted)
        return act(there.client, wanted, seen, plan(wanted, seen)) if leads else seen

    watched = converge(wishes.monitoring(config, storage, monitoring, asked, now))
    evidence, seen = gather(there, watched), Observed()
    for wanted in wishes.wanted(config, storage, training, asked, evidence, now):
        before, seen = seen, converge(wanted)
        seen = dataclasses.replace(seen, runs={**before.runs, **seen.runs})
    if leads:
        connection.leave_former_profiles(there)
    return serve(there, look(there, seen, watched, evidence), acts=leads)


def utc_now() -> datetime.datetime:
    """The time."""
    return datetime.datetime.now(datetime.timezone.utc)
