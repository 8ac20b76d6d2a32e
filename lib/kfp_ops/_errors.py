"""Errors of this package.

Their messages name the request and the response, and fit a Juju status or an action's failure::

    KfpError
    ├── UnreachableError                no response
    ├── AnswerError                     a response that the API does not document
    ├── ApiError                        the API returned an error
    │   ├── ServerError                 5xx or 429
    │   ├── UnauthorizedError           401
    │   ├── ForbiddenError              403
    │   ├── NotFoundError               404
    │   ├── ConflictError               409
    │   └── RequestError                any other 4xx
    ├── ApplyError                      a change failed; those before it succeeded
    └── KubernetesError                 a request to Kubernetes failed
        ├── KubernetesForbiddenError    the application lacks a permission
        ├── NoSuchKindError             the cluster lacks a resource type
        │   └── NoProfilesError         ... that of profiles
        └── ProfilePendingError         the profile's namespace does not exist yet
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp_ops._state import ObservedState


class KfpError(Exception):
    """Base class of this package's errors."""

    retryable: bool = False
    """Whether a later event may succeed without the operator."""


class UnreachableError(KfpError):
    """No response: connection refused or reset, name not resolved, or the timeout passed.

    The server may have carried out the request, so check whether the object exists before sending it
    again.
    """

    retryable = True


class AnswerError(KfpError):
    """A response that the API does not document: not JSON, wrong types, too large, redirected."""

    retryable = True


class ApiError(KfpError):
    """The API returned an error."""

    def __init__(self, what: str, status: int, message: str):
        super().__init__(f"{what}: {status} {message}".rstrip())
        self.status = status
        """HTTP status code."""
        self.message = message
        """The server's message."""


class ServerError(ApiError):
    """The server failed (5xx, or 429)."""

    retryable = True


class UnauthorizedError(ApiError):
    """401: no token, or one that the server does not accept."""


class ForbiddenError(ApiError):
    """403: the identity lacks a permission in the namespace."""


class NotFoundError(ApiError):
    """404: there is no such pipeline, version, experiment, run or recurring run."""


class ConflictError(ApiError):
    """409: the name is taken, or the object's state does not allow it."""


class RequestError(ApiError):
    """Any other 4xx: the server rejects the request."""


class ApplyError(KfpError):
    """A change failed; those before it succeeded."""

    def __init__(self, error: KfpError, observed: ObservedState):
        super().__init__(str(error))
        self.error = error
        """Error of the change that failed."""
        self.observed = observed
        """The state after the changes before it."""
        self.retryable = error.retryable


class KubernetesError(KfpError):
    """A request to Kubernetes failed."""

    retryable = True


class KubernetesForbiddenError(KubernetesError):
    """The application lacks a permission; ``juju trust APP --scope=cluster`` grants it."""

    retryable = False


class NoSuchKindError(KubernetesError):
    """The cluster lacks this resource type."""

    retryable = False


class NoProfilesError(NoSuchKindError):
    """The cluster lacks the resource type Profile: deploy ``kubeflow-profiles``."""


class ProfilePendingError(KubernetesError):
    """The profile's namespace does not exist yet, or is being deleted."""
