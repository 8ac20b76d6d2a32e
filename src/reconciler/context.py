"""Clients, options and names for one event."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from config import TrainerConfig
from k8s.config_maps import ConfigMaps
from k8s.inference_service import InferenceService
from kfp_ops import ObjectStorage
from kfp_ops.kubernetes import Profile
from model_registry import Registry
from model_store import open_registry
from naming import experiments
from reconciler.peer_data import PeerData

if TYPE_CHECKING:
    from kfp_ops import Client


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """Clients, options and names for one event."""

    config: TrainerConfig
    """The charm's options."""

    client: Client
    """Client of Kubeflow Pipelines."""

    storage: ObjectStorage
    """S3 server of the registry."""

    profile: Profile | None
    """Profile in which runs are submitted; None on a single-user server."""

    namespace: str
    """Namespace of the runs' pods."""

    app: str
    """Name of the application."""

    juju_model: str
    """Name of the application's Juju model."""

    peer_data: PeerData
    """Leader state that survives re-election."""

    @property
    def experiments(self) -> tuple[str, str]:
        """Names of the trainer's experiments: training, monitoring."""
        return experiments(self.juju_model, self.app)

    @property
    def service(self) -> InferenceService | None:
        """InferenceService of the champion; None on a single-user server, which has no profile."""
        return service(self.profile, self.experiments[0]) if self.profile else None

    @property
    def registry(self) -> Registry:
        """The model registry."""
        return open_registry(
            self.storage,
            bucket=self.config.registry_bucket,
            prefix=self.config.registry_prefix,
            connect=lambda: ConfigMaps.find(self.app, self.juju_model, self.namespace),
        )


def service(profile: Profile, name: str) -> InferenceService:
    """Return the champion's InferenceService in a profile; it has the experiment's name."""
    return InferenceService(profile.kube, namespace=profile.name, name=name)


def connect(url: str, profile: Profile | None) -> Client:
    """Return a client of Kubeflow Pipelines in a profile.

    Raises:
        KubernetesError: Kubernetes issues no token.
    """
    from kfp_ops import Client

    if profile is None:
        return Client(url)
    profile.token()  # fail with Kubernetes' error rather than Kubeflow's
    return Client(url, namespace=profile.name, token=profile.token)
