"""The actions that let the schedule rest for a while, whatever the options become meanwhile.

That an operator wants it is what neither the configuration nor Kubeflow Pipelines can tell, so the
leader keeps it in the application's data of the peer relation, where a new leader finds it.
"""

from __future__ import annotations

from connection import Connection
from errors import NoScheduleError
from params import NoParams

_PAUSED = "schedule-paused"


def is_paused(connection: Connection) -> bool:
    """Whether the schedule rests, by the options or by the action pause."""
    config = connection.config
    # Without a schedule there is nothing to look up, which would take its time.
    return config.schedule_paused or (
        bool(config.schedule) and connection.memory.get(_PAUSED) == "true"
    )


def pause(connection: Connection, _: NoParams) -> dict[str, str]:
    """Let the schedule submit no runs until resume.

    Raises:
        NoScheduleError: there is none.
    """
    return _set_paused(connection, paused=True)


def resume(connection: Connection, _: NoParams) -> dict[str, str]:
    """Let the schedule submit runs again.

    Raises:
        NoScheduleError: there is none, or the option schedule-paused pauses it.
    """
    if connection.config.schedule_paused:
        raise NoScheduleError("the option schedule-paused is true", "schedule-paused=false")
    return _set_paused(connection, paused=False)


def _set_paused(connection: Connection, *, paused: bool) -> dict[str, str]:
    if not connection.config.schedule:
        raise NoScheduleError("there is no schedule", "schedule='0 3 * * 0'")
    connection.memory[_PAUSED] = str(paused).lower()
    return {"schedule": connection.config.schedule, "paused": str(paused).lower()}
