"""The way to Kubeflow Pipelines and to the registry, as options and relations say."""

from __future__ import annotations

import dataclasses
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from config import TrainerConfig
from config_maps import ConfigMaps
from kfp_ops import ObjectStorage
from profiles import Profile
from registry import Registry
from run_records import RunRecords
from serving import InferenceService
from wishes import experiments

if TYPE_CHECKING:
    from kfp_ops import Client


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connection:
    """Kubeflow Pipelines and the registry, at hand.

    Attributes:
        config: the charm's options.
        client: of Kubeflow Pipelines.
        storage: where the registry is.
        profile: in which the trainer works; None on a single-user server.
        namespace: where the pods of its runs are.
        app: the application's name.
        model: the name of its Juju model.
        memory: what the leader keeps for itself and for leaders to come.
    """

    config: TrainerConfig
    client: Client
    storage: ObjectStorage
    profile: Profile | None
    namespace: str
    app: str
    model: str
    memory: MutableMapping[str, str] = dataclasses.field(default_factory=dict[str, str])

    @property
    def experiments(self) -> tuple[str, str]:
        """The names of the trainer's experiments: training, and monitoring."""
        return experiments(self.model, self.app)

    @property
    def service(self) -> InferenceService | None:
        """What serves the champion; a single-user server has no profile to serve it in."""
        return service(self.profile, self.experiments[0]) if self.profile else None

    @property
    def records(self) -> RunRecords:
        """What the charm knows of runs and the server may forget."""
        return RunRecords(self.memory)

    @property
    def registry(self) -> Registry:
        """The model registry."""
        return Registry(
            self.storage,
            bucket=self.config.registry_bucket,
            prefix=self.config.registry_prefix,
            connect=lambda: ConfigMaps.find(self.app, self.model, self.namespace),
        )


def service(profile: Profile, name: str) -> InferenceService:
    """What serves a trainer's champion in a profile; it has the name of the experiment."""
    return InferenceService(profile.kube, namespace=profile.name, name=name)


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
