"""ConfigMaps, through which the registry is written if S3 has no conditional writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from errors import KubernetesForbiddenError, as_charm_errors
from kfp_ops import KubernetesError
from kfp_ops.kubernetes import as_kubernetes_errors, connect
from model_registry import ConfigMap

if TYPE_CHECKING:
    import lightkube


class ConfigMaps:
    """A cluster's ConfigMaps; implements `model_registry.ConfigMaps`.

    Args:
        kube: Client of the cluster.
        namespace: Namespace in which the trainer's runs execute.
    """

    def __init__(self, kube: lightkube.Client, namespace: str):
        self._kube = kube
        self._namespace = namespace

    @classmethod
    def find(cls, app: str, model: str, namespace: str) -> ConfigMaps | None:
        """Return those of the charm's own cluster, or None if it does not run in one."""
        try:
            return cls(connect(app, model), namespace)
        except KubernetesError:
            return None

    @property
    def namespace(self) -> str:
        """Namespace in which the trainer's runs execute."""
        return self._namespace

    def get(self, namespace: str, name: str) -> ConfigMap | None:
        """Return a ConfigMap, or None if it does not exist."""
        from lightkube.resources.core_v1 import ConfigMap as Resource

        return _call(namespace, {404}, lambda: self._kube.get(Resource, name, namespace=namespace))

    def create(self, config_map: ConfigMap) -> ConfigMap | None:
        """Create a ConfigMap and return it as stored, or None if it exists."""
        return _call(config_map.namespace, {409}, lambda: self._kube.create(_resource(config_map)))

    def replace(self, config_map: ConfigMap) -> ConfigMap | None:
        """Replace a ConfigMap, or return None if it was deleted or changed."""
        return _call(
            config_map.namespace, {404, 409}, lambda: self._kube.replace(_resource(config_map))
        )


def _call(namespace: str, none_for: set[int], call: Callable[[], Any]) -> ConfigMap | None:
    """Call Kubernetes; return None for the status codes `none_for`.

    Raises:
        KubernetesForbiddenError: The charm lacks the permission.
        KubernetesError: Kubernetes cannot be reached, or returned another error.
    """
    from lightkube import ApiError

    try:
        with as_charm_errors(), as_kubernetes_errors(f"configmaps in namespace {namespace}"):
            try:
                resource = call()
            except ApiError as error:
                if error.status.code in none_for:
                    return None
                raise
    except KubernetesForbiddenError as error:
        raise KubernetesForbiddenError(
            f"no permission to write ConfigMaps in {namespace}"
        ) from error
    return ConfigMap(
        namespace=namespace,
        name=resource.metadata.name,
        data=resource.data or {},
        resource_version=resource.metadata.resourceVersion,
    )


def _resource(config_map: ConfigMap) -> Any:
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap as Resource

    metadata = ObjectMeta(
        name=config_map.name,
        namespace=config_map.namespace,
        resourceVersion=config_map.resource_version or None,
    )
    return Resource(metadata=metadata, data=dict(config_map.data))
