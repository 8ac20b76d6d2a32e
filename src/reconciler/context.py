"""The way to Kubeflow Pipelines and to the registry, as options and relations say."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from config import TrainerConfig
from k8s.authorization import Profile
from k8s.config_maps import ConfigMaps
from k8s.inference_service import InferenceService
from kfp_ops import ObjectStorage
from naming import experiments
from reconciler.peer_data import PeerData
from registry import Registry

if TYPE_CHECKING:
    from kfp_ops import Client


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """Kubeflow Pipelines and the registry, at hand.

    Attributes:
        config: the charm's options.
        client: of Kubeflow Pipelines.
        storage: where the registry is.
        profile: in which the trainer works; None on a single-user server.
        namespace: where the pods of its runs are.
        app: the application's name.
        juju_model: the name of its Juju model.
        peer_data: leader state that survives re-election.
    """

    config: TrainerConfig
    client: Client
    storage: ObjectStorage
    profile: Profile | None
    namespace: str
    app: str
    juju_model: str
    peer_data: PeerData

    @property
    def experiments(self) -> tuple[str, str]:
        """The names of the trainer's experiments: training, and monitoring."""
        return experiments(self.juju_model, self.app)

    @property
    def service(self) -> InferenceService | None:
        """What serves the champion; a single-user server has no profile to serve it in."""
        return service(self.profile, self.experiments[0]) if self.profile else None

    @property
    def registry(self) -> Registry:
        """The model registry."""
        return Registry(
            self.storage,
            bucket=self.config.registry_bucket,
            prefix=self.config.registry_prefix,
            connect=lambda: ConfigMaps.find(self.app, self.juju_model, self.namespace),
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
