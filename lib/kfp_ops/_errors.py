"""Errors of this package.

Their texts fit a Juju status or an action's failure: they name the request and the response::

    KfpError
    ├── UnreachableError                no response
    ├── AnswerError                     a response that the API does not document
    ├── ApiError                        the API refused
    │   ├── ServerError                 5xx or 429
    │   ├── UnauthorizedError           401
    │   ├── ForbiddenError              403
    │   ├── NotFoundError               404
    │   ├── ConflictError               409
    │   └── RequestError                any other 4xx
    ├── ApplyError                      a change failed; those before it are done
    └── KubernetesError                 Kubernetes failed or refused
        ├── KubernetesForbiddenError    the application lacks a permission
        ├── NoSuchKindError             the cluster does not know a kind of object
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

    The server may have carried out the request all the same, so look first whether the object exists
    before you send it again.
    """

    retryable = True


class AnswerError(KfpError):
    """A response that the API does not document: not JSON, wrong types, too large, redirected."""

    retryable = True


class ApiError(KfpError):
    """The API refused."""

    def __init__(self, what: str, status: int, message: str):
        super().__init__(f"{what}: {status} {message}".rstrip())
        self.status = status
        """HTTP status code."""
        self.message = message
        """What the server says."""


class ServerError(ApiError):
    """The server failed (5xx, or 429)."""

    retryable = True


class UnauthorizedError(ApiError):
    """401: no token, or one that the server does not accept."""


class ForbiddenError(ApiError):
    """403: the identity has no right to do this in the namespace."""


class NotFoundError(ApiError):
    """404: there is no such pipeline, version, experiment, run or recurring run."""


class ConflictError(ApiError):
    """409: the name is taken, or the object's state does not allow it."""


class RequestError(ApiError):
    """Any other 4xx: the server does not accept the request as it is."""


class ApplyError(KfpError):
    """A change failed; those before it are done."""

    def __init__(self, error: KfpError, observed: ObservedState):
        super().__init__(str(error))
        self.error = error
        """What went wrong."""
        self.observed = observed
        """The state after the changes before it."""
        self.retryable = error.retryable


class KubernetesError(KfpError):
    """Kubernetes failed or refused."""

    retryable = True


class KubernetesForbiddenError(KubernetesError):
    """The application lacks a permission; ``juju trust APP --scope=cluster`` grants it."""

    retryable = False


class NoSuchKindError(KubernetesError):
    """The cluster does not know this kind of object."""

    retryable = False


class NoProfilesError(NoSuchKindError):
    """The cluster does not know profiles: deploy ``kubeflow-profiles``."""


class ProfilePendingError(KubernetesError):
    """The profile's namespace does not exist yet, or is being deleted."""
