"""The Kubernetes API, as the application's own ServiceAccount, which `--trust` lets act.

lightkube, its models and httpx take longer to import than an event that does not need them takes in
all, so they are imported where they are used, here and in the modules over this one.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from errors import KubernetesError, KubernetesForbiddenError, NoSuchKindError
from kfp_ops.text import single_line

if TYPE_CHECKING:
    import lightkube


def connect(app: str, model: str) -> lightkube.Client:
    """The API of the cluster in which the charm runs.

    Args:
        app: the application, after which its ServiceAccount is named.
        model: its Juju model, after which the namespace is named.

    Raises:
        KubernetesError: there is no cluster around.
    """
    from lightkube import Client, ConfigError, KubeConfig

    try:
        # The model's proxy settings are in the environment; Kubernetes is not behind a proxy.
        return Client(
            KubeConfig.from_env(),
            namespace=model,
            field_manager=f"juju-{model}-{app}",
            trust_env=False,
        )
    except ConfigError as error:
        raise KubernetesError(f"no way to Kubernetes: {error}") from error


def find(kube: lightkube.Client, kind: Any, name: str, namespace: str | None = None) -> Any:
    """The object of this name, or None; within `errors`."""
    from lightkube import ApiError

    try:
        return kube.get(kind, name, namespace=namespace)
    except ApiError as error:
        if error.status.code == 404:
            return None
        raise


def _message(error: lightkube.ApiError) -> str:
    return single_line(error.status.message or "", 300)


def delete(kube: lightkube.Client, kind: Any, name: str, namespace: str) -> None:
    """Delete an object, which may be gone already; within `errors`."""
    from lightkube import ApiError

    try:
        kube.delete(kind, name, namespace=namespace)
    except ApiError as error:
        if error.status.code != 404:
            raise


@contextmanager
def errors(
    subject: str, *, no_such_kind: type[KubernetesError] = NoSuchKindError
) -> Generator[None]:
    """Turn what lightkube raises into this module's errors.

    Args:
        subject: of the request, for the message.
        no_such_kind: raised where the cluster does not know this kind of object.
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
        # An unknown group is a 404 in plain text, an unknown object one in JSON.
        if error.response.status_code == 404:
            raise no_such_kind(f"{subject}: this cluster has no such kind") from error
        raise KubernetesError(f"{subject}: status {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise KubernetesError(f"{subject}: cannot reach Kubernetes: {error}") from error
