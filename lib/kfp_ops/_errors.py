"""The errors of this package, all subclasses of :class:`KfpError`.

Their texts are meant for a Juju status or an action's failure: they name what was asked, what came
back, and, where there is one, the next step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp_ops._state import ObservedState


class KfpError(Exception):
    """Something went wrong between this charm and Kubeflow Pipelines."""


class UnreachableError(KfpError):
    """No answer: connection refused or reset, name not resolved, or the deadline passed.

    A request that was sent may have been carried out all the same; whoever asks again must look
    first whether the thing exists already.
    """


class AnswerError(KfpError):
    """An answer that the API does not document: not JSON, wrong types, too large, redirected."""


class ApiError(KfpError):
    """The API refused. Attributes: status (HTTP status code), message (the server's own words)."""

    def __init__(self, what: str, status: int, message: str):
        super().__init__(f"{what}: {status} {message}".rstrip())
        self.status = status
        self.message = message


class ServerError(ApiError):
    """The server failed (5xx, or 429): worth another try later."""


class UnauthorizedError(ApiError):
    """401: no token, or one that the server does not accept."""


class ForbiddenError(ApiError):
    """403: the identity has no right to do this in the namespace."""


class NotFoundError(ApiError):
    """404: there is no such pipeline, version, experiment, run or recurring run."""


class ConflictError(ApiError):
    """409: the name is taken, or the object's state does not allow it."""


class RequestError(ApiError):
    """Any other 4xx: the server does not take the request as it is."""


class ApplyError(KfpError):
    """A change failed; those before it are done."""

    def __init__(self, error: KfpError, observed: ObservedState):
        super().__init__(str(error))
        self.error = error
        """What went wrong."""
        self.observed = observed
        """The state after the changes before it."""
