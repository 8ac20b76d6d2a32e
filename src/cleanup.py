"""What the trainer takes along where it leaves; models and runs stay.

What cannot be taken is told in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from connection import Connection, connect, service
from errors import KubernetesError
from kfp_ops import KfpError, withdraw
from profiles import Profile
from wishes import CONFIGURATION, experiments

logger = logging.getLogger(__name__)


def end_schedules(url: str, profile: Profile | None, *, model: str, app: str) -> None:
    """Delete the schedules of training and monitoring, as long as there is a way to them.

    Args:
        url: of Kubeflow Pipelines.
        profile: in which the trainer works; None on a single-user server.
        model: the name of the application's Juju model.
        app: the application's name.
    """
    try:
        _withdraw(url, profile, experiments(model, app))
    except (KfpError, KubernetesError) as error:
        logger.warning("a schedule may be left in Kubeflow Pipelines: %s", error)


def leave_profiles(profile: Profile, *, model: str, app: str) -> None:
    """Take what serves and the application's rights along, from profiles named before, too."""
    name, _ = experiments(model, app)
    try:
        for each in (profile, *profile.former()):
            _leave(each, name)
    except KubernetesError as error:
        logger.warning("rights or a service may be left in a profile: %s", error)


def leave_former_profiles(there: Connection) -> None:
    """Take along what was left in profiles that the option named before.

    That is the schedules, the configuration's run if it still goes on, the service and the rights.
    """
    try:
        for former in there.profile.former() if there.profile else ():
            _withdraw(there.client.url, former, there.experiments, run_prefix=CONFIGURATION)
            _leave(former, there.experiments[0])
    except (KfpError, KubernetesError) as error:
        # Tried again with the next event; the profile of today is what counts.
        logger.warning("a schedule or service may be left in another profile: %s", error)


def _withdraw(
    url: str, profile: Profile | None, names: Iterable[str], run_prefix: str | None = None
) -> None:
    with connect(url, profile) as client:
        for name in names:
            withdraw(client, name, run_prefix=run_prefix)


def _leave(profile: Profile, name: str) -> None:
    service(profile, name).remove()
    profile.release()
