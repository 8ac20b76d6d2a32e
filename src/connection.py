"""The way to Kubeflow Pipelines and to the registry, as options and relations say."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from config import TrainerConfig
from kfp_ops import KfpError, ObjectStorage, withdraw
from kube import KubernetesError
from profiles import Profile
from registry import Registry
from serving import InferenceService
from wishes import experiments

if TYPE_CHECKING:
    from kfp_ops import Client

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connection:
    """Kubeflow Pipelines and the registry, at hand.

    Attributes:
        config: the charm's options.
        client: of Kubeflow Pipelines.
        storage: where the registry is.
        profile: in which the trainer works; None on a single-user server.
        app: the application's name.
        model: the name of its Juju model.
        memory: what the leader keeps for itself and for leaders to come.
    """

    config: TrainerConfig
    client: Client
    storage: ObjectStorage
    profile: Profile | None
    app: str
    model: str
    memory: MutableMapping[str, str] = dataclasses.field(default_factory=dict[str, str])

    @property
    def experiments(self) -> tuple[str, str]:
        """The names of the trainer's experiments: training, and monitoring."""
        return experiments(self.model, self.app)

    @property
    def namespace(self) -> str:
        """Where the pods of the runs are; a single-user Kubeflow is in the trainer's own model."""
        return self.config.profile or self.model

    @property
    def service(self) -> InferenceService | None:
        """What serves the champion; a single-user server has no profile to serve it in."""
        return service(self.profile, self.experiments[0]) if self.profile else None

    @property
    def registry(self) -> Registry:
        """The model registry."""
        return Registry(
            self.storage, bucket=self.config.registry_bucket, prefix=self.config.registry_prefix
        )


def profile(config: TrainerConfig, *, app: str, model: str) -> Profile | None:
    """The profile that the options name; None for a single-user server.

    Args:
        config: the options.
        app: the application's name.
        model: the name of its Juju model.
    """
    if not config.profile:
        return None
    return Profile(config.profile, app=app, model=model, owner=config.profile_owner)


def service(profile: Profile, name: str) -> InferenceService:
    """What serves a trainer's champion in a profile; it has the name of the experiment."""
    return InferenceService(profile.kube, namespace=profile.name, name=name)


def leave(profile: Profile, name: str) -> None:
    """Take along what the trainer has in a profile besides runs: what serves, and its rights.

    Raises:
        KubernetesError: Kubernetes cannot be reached, or answers with an error.
    """
    service(profile, name).remove()
    profile.release()


def stop_serving(profile: Profile | None, name: str) -> None:
    """Take away what serves, if anything does; what cannot be taken is told in the log."""
    try:
        if profile:
            service(profile, name).remove()
    except KubernetesError as error:
        logger.warning("a service may be left in profile: %s", error)


def connect(url: str, profile: Profile | None) -> Client:
    """A client of Kubeflow Pipelines in a profile.

    Raises:
        KubernetesError: there is no token to be had.
    """
    from kfp_ops import Client

    if profile is None:
        return Client(url)
    profile.token()  # what Kubernetes refuses is told as such, not as an error of Kubeflow
    return Client(url, namespace=profile.name, token=profile.token)


def leave_former_profiles(there: Connection) -> None:
    """Take schedule, service and rights along from profiles that the option named before."""
    try:
        for former in there.profile.former() if there.profile else ():
            with connect(there.client.url, former) as client:
                for experiment in there.experiments:
                    withdraw(client, experiment)
            leave(former, there.experiments[0])
    except (KfpError, KubernetesError) as error:
        # Tried again with the next event; the profile of today is what counts.
        logger.warning("a schedule or service may be left in another profile: %s", error)
