"""The actions that let the schedule rest for a while, whatever the options become meanwhile.

That an operator wants it is what neither the configuration nor Kubeflow Pipelines can tell, so the
leader keeps it in the application's data of the peer relation, where a new leader finds it.
"""

from __future__ import annotations

from actions.params import NoParams
from errors import NoScheduleError
from reconciler.context import Context


def pause(context: Context, _: NoParams) -> dict[str, str]:
    """Let the schedule submit no runs until resume.

    Raises:
        NoScheduleError: there is none.
    """
    return _set_paused(context, paused=True)


def resume(context: Context, _: NoParams) -> dict[str, str]:
    """Let the schedule submit runs again.

    Raises:
        NoScheduleError: there is none, or the option schedule-paused pauses it.
    """
    if context.config.schedule_paused:
        raise NoScheduleError("the option schedule-paused is true", "schedule-paused=false")
    return _set_paused(context, paused=False)


def _set_paused(context: Context, *, paused: bool) -> dict[str, str]:
    if not context.config.schedule:
        raise NoScheduleError("there is no schedule", "schedule='0 3 * * 0'")
    context.peer_data.set_schedule_paused(paused=paused)
    return {"schedule": context.config.schedule, "paused": str(paused).lower()}
