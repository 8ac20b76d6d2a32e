"""The Kubeflow profile in which the trainer works: its namespace, its rights and its token.

In a multi-user Kubeflow everything belongs to a profile (kubeflow.org/v1), a namespace with an
owner. The charm acts there as its own ServiceAccount, which Juju makes and `--trust` lets do this:
it creates the Profile if there is none, binds itself to Kubeflow's ClusterRole
`kubeflow-pipelines-edit` in it, and asks Kubernetes for a short-lived token for the pipelines' API.
"""

from __future__ import annotations

import datetime
import functools
from typing import TYPE_CHECKING, Any

from errors import KubernetesError, NoProfilesError, ProfilePendingError
from k8s.client import connect, delete, errors, find
from naming import full_name

if TYPE_CHECKING:
    import lightkube

AUDIENCE = "pipelines.kubeflow.org"
ROLE = "kubeflow-pipelines-edit"
# The shortest life that Kubernetes gives; each hook asks for a token of its own.
TOKEN_SECONDS = 600
TOKEN_MARGIN = datetime.timedelta(seconds=60)


class Profile:
    """A profile, seen by one application.

    Args:
        name: of the profile, and of its namespace.
        app, model: the application, whose ServiceAccount has its name, and its Juju model, whose
            namespace has its name.
        owner: who owns the profile if it is created: a user's name in Kubeflow, most often an
            e-mail address. Empty makes the charm's own account the owner.
    """

    def __init__(self, name: str, *, app: str, model: str, owner: str = ""):
        self.name = name
        self._app = app
        self._model = model
        self._owner = owner or f"system:serviceaccount:{model}:{app}"
        self._binding = _binding(model, app)
        self._token = ("", datetime.datetime.min.replace(tzinfo=datetime.timezone.utc))

    def ensure(self) -> None:
        """See to it that the profile is there, and that this application may use pipelines in it.

        Raises:
            ProfilePendingError: the namespace is not there yet.
            KubernetesForbiddenError: the application is not trusted.
            NoProfilesError: there is no Profile in this cluster's API.
            KubernetesError: Kubernetes cannot be reached, or answers with another error.
        """
        from lightkube.generic_resource import (
            create_global_resource,  # pyright: ignore[reportUnknownVariableType]
        )
        from lightkube.models.meta_v1 import ObjectMeta
        from lightkube.models.rbac_v1 import RoleRef, Subject
        from lightkube.resources.core_v1 import Namespace
        from lightkube.resources.rbac_authorization_v1 import RoleBinding

        kind: Any = create_global_resource("kubeflow.org", "v1", "Profile", "profiles")
        with errors(f"profile {self.name}", no_such_kind=NoProfilesError):
            if not find(self.kube, kind, self.name):
                wanted = kind(
                    metadata=ObjectMeta(name=self.name),
                    spec={"owner": {"kind": "User", "name": self._owner}},
                )
                self.kube.apply(wanted)
        with errors(f"namespace {self.name}"):
            namespace = find(self.kube, Namespace, self.name)
        if namespace is None or (namespace.status and namespace.status.phase == "Terminating"):
            raise ProfilePendingError(f"namespace {self.name} of the profile is not there yet")
        with errors(f"rolebinding {self._binding} in namespace {self.name}"):
            self.kube.apply(
                RoleBinding(
                    metadata=ObjectMeta(name=self._binding, namespace=self.name),
                    roleRef=RoleRef(
                        apiGroup="rbac.authorization.k8s.io", kind="ClusterRole", name=ROLE
                    ),
                    subjects=[
                        Subject(kind="ServiceAccount", name=self._app, namespace=self._model)
                    ],
                ),
                force=True,
            )

    def token(self) -> str:
        """A token of the application's own ServiceAccount that the pipelines' API takes.

        It is kept until shortly before it expires, and nowhere but in memory.

        Raises:
            KubernetesForbiddenError: the application is not trusted.
            KubernetesError: Kubernetes cannot be reached, or answers with another error.
        """
        from lightkube.models.authentication_v1 import TokenRequestSpec
        from lightkube.models.meta_v1 import ObjectMeta
        from lightkube.resources.core_v1 import ServiceAccountToken

        token, expires = self._token
        now = datetime.datetime.now(datetime.timezone.utc)
        if now + TOKEN_MARGIN < expires:
            return token
        spec = TokenRequestSpec(audiences=[AUDIENCE], expirationSeconds=TOKEN_SECONDS)
        with errors(f"token for serviceaccount {self._app} in namespace {self._model}"):
            token_request = self.kube.create(
                ServiceAccountToken(metadata=ObjectMeta(), spec=spec),
                self._app,
                namespace=self._model,
            )
        if not token_request.status or not token_request.status.token:
            raise KubernetesError("Kubernetes gave no token")
        self._token = token_request.status.token, token_request.status.expirationTimestamp or now
        return token_request.status.token

    def release(self) -> None:
        """Take back the application's rights in the profile; the profile itself stays.

        Raises:
            KubernetesError: Kubernetes cannot be reached, or answers with an error.
        """
        from lightkube.resources.rbac_authorization_v1 import RoleBinding

        with errors(f"rolebinding {self._binding} in namespace {self.name}"):
            delete(self.kube, RoleBinding, self._binding, self.name)

    @functools.cached_property
    def kube(self) -> lightkube.Client:
        """The cluster, as this application."""
        return connect(self._app, self._model)


def bound(*, app: str, model: str) -> list[Profile]:
    """The profiles in which an application has rights: it works in one, and worked in the others.

    Raises:
        KubernetesForbiddenError: the application is not trusted.
        KubernetesError: Kubernetes cannot be reached, or answers with another error.
    """
    from lightkube.resources.rbac_authorization_v1 import RoleBinding

    name = _binding(model, app)
    with errors(f"rolebindings {name}"):
        bindings: list[Any] = list(
            connect(app, model).list(RoleBinding, namespace="*", fields={"metadata.name": name})  # pyright: ignore[reportUnknownMemberType]
        )
    return [
        Profile(namespace, app=app, model=model)
        for namespace in sorted(binding.metadata.namespace for binding in bindings)
    ]


def _binding(model: str, app: str) -> str:
    return f"{full_name(model, app)}-pipelines"
