"""What the trainer takes along where it leaves; models and runs stay.

What cannot be taken is told in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kfp_ops import KfpError, KubernetesError, delete_owned
from kfp_ops.kubernetes import Profile, list_bound_profiles
from naming import CONFIGURATION, experiments
from reconciler.context import Context, connect, service

logger = logging.getLogger(__name__)


def is_leaving(unit: str) -> bool:
    """Whether Juju takes this unit away and leaves others: relations break to it alone."""
    stays = _stays()
    return not stays.pop(unit, True) and any(stays.values())


def is_dying(unit: str) -> bool:
    """Whether Juju takes this unit away, alone or with its application."""
    return not _stays().get(unit, True)


def _stays() -> dict[str, bool]:
    """Whether each unit of the application stays, by name."""
    from ops import hookcmds

    return {name: goal.status != "dying" for name, goal in hookcmds.goal_state().units.items()}


def end_schedules(url: str, profile: Profile | None, *, model: str, app: str) -> None:
    """Delete the schedules of training and monitoring, as long as there is a way to them.

    One whose run goes on is disabled only: the server would lose that run.

    Args:
        url: of Kubeflow Pipelines.
        profile: in which the trainer works; None on a single-user server.
        model: the name of the application's Juju model.
        app: the application's name.
    """
    for name in experiments(model, app):
        _end_schedules(url, profile, name)


def _end_schedules(url: str, profile: Profile | None, experiment: str) -> None:
    try:
        for schedule in _delete_owned(url, profile, [experiment]):
            logger.warning("schedule %s is disabled, and left until its run has ended", schedule)
    except KfpError as error:
        logger.warning("a schedule may be left in Kubeflow Pipelines: %s", error)


def leave_profiles(*, model: str, app: str) -> None:
    """Take what serves and the application's rights along, from all profiles."""
    name, _ = experiments(model, app)
    try:
        for target in list_bound_profiles(app=app, juju_model=model):
            _leave(target, name)
    except KubernetesError as error:
        logger.warning("rights or a service may be left in a profile: %s", error)


def leave_former_profiles(context: Context) -> None:
    """Take along what was left in profiles that the option named before.

    That is the schedules, the configuration's run if it still goes on, the service and the rights. Where
    a run of a schedule goes on, all but these waits for its end.
    """
    if context.profile:
        context.peer_data.set_profile(context.profile.name)
    elif not context.peer_data.profile:
        # A single-user trainer that never worked in a profile has no business with Kubernetes.
        return
    try:
        waiting = [former for former in _former(context) if not _is_left(context, former)]
    except KfpError as error:
        # Tried again with the next event; the profile of today is what counts.
        logger.warning("a schedule or service may be left in another profile: %s", error)
        return
    if not context.profile and not waiting:
        context.peer_data.set_profile("")


def _former(context: Context) -> list[Profile]:
    bound = list_bound_profiles(app=context.app, juju_model=context.juju_model)
    return [
        profile for profile in bound if not context.profile or profile.name != context.profile.name
    ]


def _is_left(context: Context, former: Profile) -> bool:
    """Leave a profile, and say whether nothing of it has to wait."""
    url, names = context.client.url, context.experiments
    if _delete_owned(url, former, names, run_prefix=CONFIGURATION):
        return False
    _leave(former, names[0])
    return True


def _delete_owned(
    url: str, profile: Profile | None, names: Iterable[str], run_prefix: str | None = None
) -> list[str]:
    """Withdraw what is in the experiments; returns the names of schedules that have to wait."""
    with connect(url, profile) as client:
        return [
            schedule.display_name
            for name in names
            for schedule in delete_owned(client, name, run_prefix=run_prefix)
        ]


def _leave(profile: Profile, name: str) -> None:
    service(profile, name).remove()
    profile.revoke()
