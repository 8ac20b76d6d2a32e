"""Delete schedules, services and permissions when the trainer leaves; keep models and runs.

Log failures instead of raising them: they must not prevent the removal of a unit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ops import hookcmds

from kfp_ops import KfpError, KubernetesError, delete_owned
from kfp_ops.kubernetes import Profile, list_bound_profiles
from naming import CONFIGURATION, experiments
from reconciler.context import Context, connect, service

logger = logging.getLogger(__name__)


def is_scaling_down(unit: str) -> bool:
    """Return whether Juju removes this unit but not all others."""
    alive = _alive_by_unit()
    return not alive.pop(unit, True) and any(alive.values())


def is_dying(unit: str) -> bool:
    """Return whether Juju removes this unit, alone or with its application."""
    return not _alive_by_unit().get(unit, True)


def _alive_by_unit() -> dict[str, bool]:
    """Return whether each unit of the application is alive, by name."""
    return {name: goal.status != "dying" for name, goal in hookcmds.goal_state().units.items()}


def delete_schedules(url: str, profile: Profile | None, *, model: str, app: str) -> None:
    """Delete the schedules of training and monitoring.

    Only disable a schedule with an unfinished run: the server would lose that run.

    Args:
        url: Address of Kubeflow Pipelines.
        profile: Profile of the runs; None on a single-user server.
        model: Name of the application's Juju model.
        app: Name of the application.
    """
    for experiment in experiments(model, app):
        _delete_schedules(url, profile, experiment)


def _delete_schedules(url: str, profile: Profile | None, experiment: str) -> None:
    try:
        for schedule in _delete_owned(url, profile, [experiment]):
            logger.warning("disabled schedule %s, whose run has not ended", schedule)
    except KfpError as error:
        logger.warning("cannot delete schedules in experiment %s: %s", experiment, error)


def clean_up_profiles(*, model: str, app: str) -> None:
    """Delete the InferenceService and revoke the application's access in all profiles."""
    name, _ = experiments(model, app)
    try:
        for profile in list_bound_profiles(app=app, juju_model=model):
            _clean_up(profile, name)
    except KubernetesError as error:
        logger.warning("cannot clean up profiles: %s", error)


def clean_up_former_profiles(context: Context) -> None:
    """Clean up profiles that the option named before.

    Delete the schedules and the InferenceService, terminate an unfinished run of the configuration, and
    revoke the access. If a schedule has an unfinished run, service and access stay until it has ended.
    """
    if context.profile:
        context.peer_data.set_profile(context.profile.name)
    elif not context.peer_data.profile:
        # Do not call Kubernetes for a single-user trainer that never used a profile.
        return
    try:
        is_done = [_clean_up_former(context, profile) for profile in _former_profiles(context)]
    except KfpError as error:
        # The next event tries again.
        logger.warning("cannot clean up a former profile: %s", error)
        return
    if not context.profile and all(is_done):
        context.peer_data.set_profile("")


def _former_profiles(context: Context) -> list[Profile]:
    bound = list_bound_profiles(app=context.app, juju_model=context.juju_model)
    return [
        profile for profile in bound if not context.profile or profile.name != context.profile.name
    ]


def _clean_up_former(context: Context, profile: Profile) -> bool:
    """Clean up a former profile; return False if an unfinished run prevents it."""
    url, names = context.client.url, context.experiments
    if _delete_owned(url, profile, names, run_prefix=CONFIGURATION):
        return False
    _clean_up(profile, names[0])
    return True


def _delete_owned(
    url: str, profile: Profile | None, names: Iterable[str], run_prefix: str | None = None
) -> list[str]:
    """Delete the trainer's schedules in experiments; return the names of those only disabled."""
    with connect(url, profile) as client:
        return [
            schedule.display_name
            for name in names
            for schedule in delete_owned(client, name, run_prefix=run_prefix)
        ]


def _clean_up(profile: Profile, name: str) -> None:
    service(profile, name).remove()
    profile.revoke()
