"""A Kubeflow profile: its namespace, an application's permissions in it, and a token for the API.

In a multi-user Kubeflow everything belongs to a profile (kubeflow.org/v1), a namespace with an owner. A
charm acts there as its own ServiceAccount: it creates the Profile if it is missing, binds itself to
Kubeflow's ClusterRole ``kubeflow-pipelines-edit`` in it, and requests a short-lived token for the
pipelines' API from Kubernetes. ``juju deploy --trust`` permits all three.
"""

from __future__ import annotations

import datetime
import functools
from typing import TYPE_CHECKING, Any

from kfp_ops._errors import KubernetesError, NoProfilesError, ProfilePendingError
from kfp_ops.kubernetes._cluster import as_kubernetes_errors, connect, delete, find

if TYPE_CHECKING:
    import lightkube

AUDIENCE = "pipelines.kubeflow.org"
ROLE = "kubeflow-pipelines-edit"
# Shortest lifetime that Kubernetes allows; each hook requests its own token.
TOKEN_SECONDS = 600
TOKEN_MARGIN = datetime.timedelta(seconds=60)


class Profile:
    """A profile that an application uses.

    Args:
        name: Name of the profile and of its namespace.
        app: Name of the application and of its ServiceAccount.
        juju_model: Name of its Juju model and of the ServiceAccount's namespace.
        owner: Owner of a profile that is created: a Kubeflow user, usually an e-mail address. If empty,
            the application's own account.
    """

    def __init__(self, name: str, *, app: str, juju_model: str, owner: str = ""):
        self.name = name
        """Name of the profile and of its namespace."""
        self._app = app
        self._juju_model = juju_model
        self._owner = owner or f"system:serviceaccount:{juju_model}:{app}"
        self._binding = _binding_name(app, juju_model)
        self._token = ("", datetime.datetime.min.replace(tzinfo=datetime.timezone.utc))

    def ensure(self) -> None:
        """Create the profile if it is missing, and permit the application to use pipelines in it.

        Raises:
            ProfilePendingError: The namespace does not exist yet.
            KubernetesForbiddenError: The application is not trusted.
            NoProfilesError: The cluster lacks the resource type Profile.
            KubernetesError: Kubernetes cannot be reached, or fails.
        """
        from lightkube.generic_resource import (
            create_global_resource,  # pyright: ignore[reportUnknownVariableType]
        )
        from lightkube.models.meta_v1 import ObjectMeta
        from lightkube.models.rbac_v1 import RoleRef, Subject
        from lightkube.resources.core_v1 import Namespace
        from lightkube.resources.rbac_authorization_v1 import RoleBinding

        kind: Any = create_global_resource("kubeflow.org", "v1", "Profile", "profiles")
        with as_kubernetes_errors(f"profile {self.name}", no_such_kind=NoProfilesError):
            if not find(self.kube, kind, self.name):
                profile = kind(
                    metadata=ObjectMeta(name=self.name),
                    spec={"owner": {"kind": "User", "name": self._owner}},
                )
                self.kube.apply(profile)
        with as_kubernetes_errors(f"namespace {self.name}"):
            namespace = find(self.kube, Namespace, self.name)
        if namespace is None or (namespace.status and namespace.status.phase == "Terminating"):
            raise ProfilePendingError(f"namespace {self.name} of the profile does not exist yet")
        with as_kubernetes_errors(f"rolebinding {self._binding} in namespace {self.name}"):
            self.kube.apply(
                RoleBinding(
                    metadata=ObjectMeta(name=self._binding, namespace=self.name),
                    roleRef=RoleRef(
                        apiGroup="rbac.authorization.k8s.io", kind="ClusterRole", name=ROLE
                    ),
                    subjects=[
                        Subject(kind="ServiceAccount", name=self._app, namespace=self._juju_model)
                    ],
                ),
                force=True,
            )

    def token(self) -> str:
        """Return a token of the application's ServiceAccount that the pipelines' API accepts.

        Keep it in memory only, and renew it shortly before it expires.

        Raises:
            KubernetesForbiddenError: The application is not trusted.
            KubernetesError: Kubernetes cannot be reached, or fails.
        """
        from lightkube.models.authentication_v1 import TokenRequestSpec
        from lightkube.models.meta_v1 import ObjectMeta
        from lightkube.resources.core_v1 import ServiceAccountToken

        token, expires = self._token
        now = datetime.datetime.now(datetime.timezone.utc)
        if now + TOKEN_MARGIN < expires:
            return token
        spec = TokenRequestSpec(audiences=[AUDIENCE], expirationSeconds=TOKEN_SECONDS)
        subject = f"token for serviceaccount {self._app} in namespace {self._juju_model}"
        with as_kubernetes_errors(subject):
            token_request = self.kube.create(
                ServiceAccountToken(metadata=ObjectMeta(), spec=spec),
                self._app,
                namespace=self._juju_model,
            )
        if not token_request.status or not token_request.status.token:
            raise KubernetesError("Kubernetes issued no token")
        self._token = token_request.status.token, token_request.status.expirationTimestamp or now
        return token_request.status.token

    def revoke(self) -> None:
        """Revoke the application's permissions in the profile; keep the profile.

        Raises:
            KubernetesError: Kubernetes cannot be reached, denies access, or fails.
        """
        from lightkube.resources.rbac_authorization_v1 import RoleBinding

        with as_kubernetes_errors(f"rolebinding {self._binding} in namespace {self.name}"):
            delete(self.kube, RoleBinding, self._binding, self.name)

    @functools.cached_property
    def kube(self) -> lightkube.Client:
        """Client of the cluster, with the application's ServiceAccount."""
        return connect(self._app, self._juju_model)


def list_bound_profiles(*, app: str, juju_model: str) -> list[Profile]:
    """Return the profiles in which an application has permissions: the current and former ones.

    Args:
        app: Name of the application.
        juju_model: Name of its Juju model.

    Raises:
        KubernetesForbiddenError: The application is not trusted.
        KubernetesError: Kubernetes cannot be reached, or fails.
    """
    from lightkube.resources.rbac_authorization_v1 import RoleBinding

    name = _binding_name(app, juju_model)
    with as_kubernetes_errors(f"rolebindings {name}"):
        bindings: list[Any] = list(
            connect(app, juju_model).list(  # pyright: ignore[reportUnknownMemberType]
                RoleBinding, namespace="*", fields={"metadata.name": name}
            )
        )
    return [
        Profile(namespace, app=app, juju_model=juju_model)
        for namespace in sorted(binding.metadata.namespace for binding in bindings)
    ]


def _binding_name(app: str, juju_model: str) -> str:
    # With one hyphen, application c in model a-b and b-c in model a would share a name.
    return f"{juju_model}--{app}-pipelines"
