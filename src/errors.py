"""Errors that an operator sees, in the unit's status or as an action's failure.

All are in this module, so that catching them does not import a client::

    CharmError
    ├── OptionError                     an option has an invalid value
    │   └── ParameterError              an action parameter has an invalid value
    ├── NoDataError                     a relation is missing, or the remote application sent no data
    ├── InvalidRelationDataError        the remote application sent invalid data
    ├── PipelinesError                  a request to Kubeflow Pipelines failed
    ├── KubernetesError                 a request to Kubernetes failed
    │   ├── KubernetesForbiddenError    the charm lacks a permission
    │   ├── NoProfilesError             the cluster has no Profile resource type
    │   ├── NoKServeError               the cluster has no InferenceService resource type
    │   ├── ProfilePendingError         the profile's namespace does not exist yet
    │   └── NoStorageSecretError        the profile has no credentials for object storage
    ├── ModelRegistryError              the registry cannot be read or written, or has no such model
    ├── SourceError                     the data files cannot be checked
    ├── NoSuchRunError                  this trainer has no such run, or it has ended
    ├── NoSuccessError                  a run that an action waited for did not succeed
    ├── ServedModelError                the served model returned no valid response
    └── NotServedError                  no model is served
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import kfp_ops
import model_registry
from commands import Commands

_CREDENTIALS = "relation object-storage needs other credentials"
# By S3's error code: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_S3_REMEDIES = {
    "NoSuchBucket": "create the bucket, or set the option registry-bucket",
    "AccessDenied": "grant the credentials of relation object-storage read and write access",
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
}


class CharmError(Exception):
    """Base class of errors that an operator sees in the unit's status."""

    retryable: bool = False
    """Whether a later event may succeed without the operator."""

    @property
    def text(self) -> str:
        """Description for the status."""
        return str(self)

    def remedy(self, commands: Commands) -> str | None:
        """Return the command or advice that resolves it, or None if a retry may.

        Args:
            commands: Commands for this application.
        """
        raise NotImplementedError


class RetryableError(CharmError):
    """Base class of errors that a later event may resolve."""

    retryable = True

    def remedy(self, commands: Commands) -> str | None:
        """Return None: the charm retries."""


class OptionError(CharmError, ValueError):
    """An option has an invalid value."""

    def __init__(self, field: str, value: object, expected: str):
        self.field, self.value, self.expected = field, value, expected
        self.option = field.replace("_", "-")
        super().__init__(f"{self.option} must be {expected}, not {str(value)[:60]!r}")

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that sets the option."""
        return f"set it with: {commands.config(self.option)}"


class ParameterError(OptionError):
    """A parameter of an action has an invalid value."""

    def remedy(self, commands: Commands) -> str | None:
        """Return that nothing happened."""
        return "nothing was done; correct it and run the action again"


class NoDataError(CharmError):
    """A required relation is missing, or the remote application has sent no data yet."""

    def __init__(self, endpoint: str, remote: str, missing: str, is_related: bool):
        super().__init__(
            f"relation {endpoint}: waiting for its {missing}"
            if is_related
            else f"no relation {endpoint}"
        )
        self.endpoint = endpoint
        """Name of the relation in charmcraft.yaml."""
        self.remote = remote
        """Application that usually provides it."""
        self.is_related = self.retryable = is_related
        """Whether the relation exists and only its data is missing."""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that adds the relation; empty if it exists."""
        if self.is_related:
            return ""
        return f"add it with: {commands.relate(self.endpoint, self.remote)}"


class InvalidRelationDataError(CharmError):
    """The remote application of a relation sent data that its interface does not allow."""

    def remedy(self, commands: Commands) -> str | None:
        """Return how to make the remote application send it again."""
        return "remove the relation and add it again"


class PipelinesError(CharmError):
    """A request to Kubeflow Pipelines failed."""

    def __init__(self, error: kfp_ops.KfpError):
        super().__init__(str(error))
        self.error = error
        """The library's error."""
        self.retryable = error.retryable
        self._is_denied = isinstance(error, kfp_ops.UnauthorizedError | kfp_ops.ForbiddenError)

    @property
    def text(self) -> str:
        """The server's message without the request's path, which is in the log."""
        error = self.error
        is_response = isinstance(error, kfp_ops.ApiError)
        message = f"{error.status} {error.message}" if is_response else str(self)
        if self.retryable:
            return f"Kubeflow Pipelines: {message}"
        if self._is_denied:
            return f"Kubeflow Pipelines denies access (needs kubeflow-pipelines-edit): {message}"
        return f"Kubeflow Pipelines rejected the request: {message}"

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that shows the log, or that sets another profile."""
        if self.retryable:
            return None
        if self._is_denied:
            return f"use another: {commands.config('profile')}"
        return f"see: {commands.log}"


class KubernetesError(RetryableError):
    """A request to Kubernetes failed."""

    _prefix: ClassVar[str] = "Kubernetes: "

    @property
    def text(self) -> str:
        """The error, with "Kubernetes" in front unless its text names it."""
        return f"{self._prefix}{self}"


class KubernetesForbiddenError(KubernetesError):
    """The charm lacks a permission."""

    retryable, _prefix = False, ""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that grants it."""
        return f"allow it with: {commands.trust}"


class ProfilePendingError(KubernetesError):
    """The profile's namespace does not exist yet, or is being deleted."""

    _prefix = ""


class NoProfilesError(KubernetesError):
    """The cluster has no Profile resource type."""

    retryable, _prefix = False, ""

    def remedy(self, commands: Commands) -> str | None:
        """Return the two alternatives."""
        return f"deploy kubeflow-profiles, or run single-user: {commands.config('profile', '')}"


class NoKServeError(KubernetesError):
    """The cluster has no InferenceService resource type."""

    retryable, _prefix = False, ""

    def remedy(self, commands: Commands) -> str | None:
        """Return the two alternatives."""
        disable = commands.config("serving", "none")
        return f"deploy kserve-controller, or disable serving: {disable}"


class NoStorageSecretError(KubernetesError):
    """The profile's Secret with credentials for object storage is missing or incomplete."""

    _prefix = ""


class ModelRegistryError(CharmError):
    """The model registry cannot be read or written, or has no such model."""

    def __init__(self, error: model_registry.RegistryError):
        super().__init__(str(error))
        self.error = error
        """The library's error."""
        self.retryable = not isinstance(
            error,
            model_registry.RegistryRefusedError
            | model_registry.RegistryContentError
            | model_registry.NoSuchModelError,
        )

    @property
    def text(self) -> str:
        """The error without the library's remedy."""
        if isinstance(self.error, model_registry.RegistryRefusedError):
            return self.error.reason
        return str(self)

    def remedy(self, commands: Commands) -> str | None:
        """Return the command or advice for this kind of error."""
        match self.error:
            case model_registry.RegistryElsewhereError():
                return f"use another: {commands.config('registry-prefix')}"
            case model_registry.RegistryRefusedError() as error:
                return _S3_REMEDIES.get(error.code, error.remedy)
            case model_registry.RegistryContentError():
                return f"repair it, or use another: {commands.config('registry-prefix')}"
            case model_registry.NoSuchModelError():
                return f"see: {commands.run('list-models')}"
            case _:
                return None


class SourceError(RetryableError):
    """The data files cannot be checked."""


class NoSuchRunError(CharmError):
    """This trainer has no such run, or it has ended."""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that lists runs."""
        return f"see: {commands.run('list-runs')}"


class NoSuccessError(CharmError):
    """A run that an action waited for did not succeed."""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that shows the run."""
        return f"see: {commands.run('get-run')}"


class ServedModelError(CharmError):
    """The served model returned no valid response."""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that reads a version's published predictions, which need no server."""
        return f"see: {commands.run('predict version=N')}"


class NotServedError(CharmError):
    """No model is served."""

    def __init__(self, message: str, *, is_due: bool):
        super().__init__(message)
        self.is_due = self.retryable = is_due
        """Whether one will be served without the operator doing anything."""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that shows the status, or that enables serving."""
        if self.is_due:
            return f"wait until it is ready: {commands.status}"
        return f"enable serving with: {commands.config('serving', 'kserve')}"


_KUBERNETES: Mapping[type[kfp_ops.KubernetesError], type[KubernetesError]] = {
    kfp_ops.KubernetesForbiddenError: KubernetesForbiddenError,
    kfp_ops.NoProfilesError: NoProfilesError,
    kfp_ops.ProfilePendingError: ProfilePendingError,
}


@contextmanager
def as_charm_errors() -> Generator[None]:
    """Convert the libraries' errors to `CharmError`."""
    try:
        yield
    except kfp_ops.KubernetesError as error:
        raise _KUBERNETES.get(type(error), KubernetesError)(str(error)) from error
    except kfp_ops.KfpError as error:
        raise PipelinesError(error) from error
    except model_registry.RegistryError as error:
        raise ModelRegistryError(error) from error
    except kfp_ops.RelationDataError as error:
        raise InvalidRelationDataError(str(error)) from error
