"""Access to the Kubernetes API with the application's ServiceAccount, which needs ``--trust``."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kfp_ops._errors import KubernetesError, KubernetesForbiddenError, NoSuchKindError
from kfp_ops.text import single_line

if TYPE_CHECKING:
    import lightkube


def connect(app: str, juju_model: str) -> lightkube.Client:
    """Return a client of the cluster in which the charm runs.

    Args:
        app: Name of the application and of its ServiceAccount.
        juju_model: Name of its Juju model and of the namespace.

    Raises:
        KubernetesError: The charm does not run in a cluster.
    """
    from lightkube import Client, ConfigError, KubeConfig

    try:
        # The environment has the Juju model's proxies; Kubernetes is not behind them.
        return Client(
            KubeConfig.from_env(),
            namespace=juju_model,
            field_manager=f"juju-{juju_model}-{app}",
            trust_env=False,
        )
    except ConfigError as error:
        raise KubernetesError(f"cannot connect to Kubernetes: {error}") from error


def find(kube: lightkube.Client, kind: Any, name: str, namespace: str | None = None) -> Any:
    """Return the object of this name, or None. Call it within ``as_kubernetes_errors``."""
    from lightkube import ApiError

    try:
        return kube.get(kind, name, namespace=namespace)
    except ApiError as error:
        if error.status.code == 404:
            return None
        raise


def delete(kube: lightkube.Client, kind: Any, name: str, namespace: str) -> None:
    """Delete an object if it exists. Call it within ``as_kubernetes_errors``."""
    from lightkube import ApiError

    try:
        kube.delete(kind, name, namespace=namespace)
    except ApiError as error:
        if error.status.code != 404:
            raise


@contextmanager
def as_kubernetes_errors(
    subject: str, *, no_such_kind: type[Exception] = NoSuchKindError
) -> Generator[None]:
    """Convert lightkube's errors to ``KubernetesError``.

    Args:
        subject: Subject of the request, for the message.
        no_such_kind: Raised if the cluster lacks this resource type.
    """
    import httpx
    from lightkube import ApiError

    try:
        yield
    except ApiError as error:
        if error.status.code in (401, 403):
            raise KubernetesForbiddenError(f"{subject}: {_message(error)}") from error
        raise KubernetesError(f"{subject}: {_message(error)}") from error
    except httpx.HTTPStatusError as error:
        # An unknown API group is a 404 in plain text, an unknown object one in JSON.
        if error.response.status_code == 404:
            raise no_such_kind(f"{subject}: the cluster lacks this resource type") from error
        raise KubernetesError(f"{subject}: status {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise KubernetesError(f"{subject}: cannot reach Kubernetes: {error}") from error


def _message(error: lightkube.ApiError) -> str:
    return single_line(error.status.message or "", 300)
