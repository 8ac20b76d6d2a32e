"""Users and permissions of a multi-user server."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from werkzeug.datastructures import Headers

from sandbox.api.errors import DENIED, UNAUTHENTICATED, ApiError, error_prefix, invalid

AUDIENCE = "pipelines.kubeflow.org"
_VIEW = ("get", "list")
_NO_HEADER = "Request header error: there is no user identity header."
# Prefix of the server's error message, by resource.
_DENIED = {
    "experiments": "Failed to authorize with API: ",
    "jobs": "failed to authorize with API: ",
    "pipelines": "Failed to access pipeline {identity}. "
    "Check if you have access to namespace {namespace}: ",
    "runs": "Failed to access run {identity}. Check if you have access to namespace {namespace}: ",
}
# Resources that need a namespace; a pipeline without one is public, even to clients without an identity.
_NEEDS_NAMESPACE = {"experiments": "An experiment", "jobs": "a recurring run", "runs": "A run"}


@dataclasses.dataclass(frozen=True)
class User:
    """A user of a multi-user server."""

    name: str
    """Value of the header kubeflow-userid; for a ServiceAccount system:serviceaccount:NAMESPACE:NAME."""

    token: str = ""
    """Bearer token that identifies the user."""

    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Role by namespace: "edit" or "view"."""

    audience: str = AUDIENCE
    """Audience of the token."""


class Authorizer:
    """Checks permissions, with the server's error messages.

    Like the real server, it trusts the header kubeflow-userid without a token: the service mesh in front
    of it must remove the header from outside requests.

    Args:
        users: Users; None for a single-user server, which checks nothing.
    """

    def __init__(self, users: Sequence[User] | None):
        self.multi_user = users is not None
        self._by_name = {user.name: user for user in users or ()}
        self._by_token = {user.token: user for user in users or () if user.token}

    def namespace(self, fields: Mapping[str, str]) -> str:
        """Return a request's namespace; empty on a single-user server."""
        return fields.get("namespace", "") if self.multi_user else ""

    def check(
        self,
        headers: Headers,
        verb: str,
        resource: str,
        namespace: str,
        name: str = "",
        identity: str = "",
    ) -> None:
        """Check that the sender of these headers has a permission.

        Raises:
            ApiError: 401 without an identity, 403 without the role, 400 without a namespace.
        """
        if not self.multi_user:
            return
        if not namespace:
            if resource not in _NEEDS_NAMESPACE:
                return
            raise invalid(
                f"{_NEEDS_NAMESPACE[resource]} cannot have an empty namespace in multi-user mode"
            )
        with error_prefix(_DENIED[resource].format(identity=identity, namespace=namespace)):
            self._authorize(self._identity(headers), verb, resource, namespace, name)

    def _authorize(self, user: str, verb: str, resource: str, namespace: str, name: str) -> None:
        account = self._by_name.get(user)
        role = account.roles.get(namespace, "") if account else ""
        if role == "edit" or (role == "view" and verb in _VIEW):
            return
        reason = (
            f"User '{user}' is not authorized with reason:  (request: &ResourceAttributes{{"
            f"Namespace:{namespace},Verb:{verb},Group:pipelines.kubeflow.org,Version:v1beta1,"
            f"Resource:{resource},Subresource:,Name:{name},FieldSelector:nil,LabelSelector:nil,}})"
        )
        raise ApiError(403, DENIED, f"PermissionDenied: {reason}: Unauthorized access", reason)

    def _identity(self, headers: Headers) -> str:
        if headers.get("kubeflow-userid"):
            return headers["kubeflow-userid"]
        message = f"Unauthenticated: {_NO_HEADER}: {_NO_HEADER}"
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and token:
            user = self._by_token.get(token)
            if user and user.audience == AUDIENCE:
                return user.name
            cause = "invalid bearer token"
            if user:
                cause = (
                    f'[{cause}, token audiences ["{user.audience}"] is invalid for the target '
                    f'audiences ["{AUDIENCE}"]]'
                )
            message = (
                f"[{message}, Authentication failure: Unauthenticated: Review.Status.Authenticated is "
                f"false. Error {cause}: Failed to authenticate token review]"
            )
        reason = "Failed to check authorization. User identity is empty in the request header"
        raise ApiError(401, UNAUTHENTICATED, f"Unauthenticated: {reason}: {message}", reason)
