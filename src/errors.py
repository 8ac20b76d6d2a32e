"""Errors that an operator sees, in the unit's status or as an action's failure.

They are in one module, so that an event that needs no client can name them without importing one::

    CharmError
    ├── OptionError                     an option has an invalid value
    │   └── ParameterError              a parameter of an action has one
    ├── NoDataError                     a relation is missing, or its other side has published nothing
    ├── InvalidRelationDataError        the other side of a relation published something invalid
    ├── PipelinesError                  Kubeflow Pipelines failed or refused
    ├── KubernetesError                 Kubernetes failed or refused
    │   ├── KubernetesForbiddenError    the charm lacks a permission
    │   ├── NoProfilesError             the cluster does not know profiles
    │   ├── NoKServeError               the cluster does not know InferenceServices
    │   ├── ProfilePendingError         the profile's namespace does not exist yet
    │   └── NoStorageSecretError        the profile has no keys of object storage
    ├── ModelRegistryError              the registry cannot be read or written, or has no such model
    ├── SourceError                     the data cannot be read
    ├── NoSuchRunError                  this trainer has no such run, or it has ended
    ├── NoSuccessError                  a run that an action waited for did not succeed
    ├── ServedModelError                the served model gives no valid answer
    └── NotServedError                  no model is served
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import kfp_ops
import model_registry
from commands import Commands

_KEYS = "relation object-storage needs other keys"
# By S3's error code: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_S3_REMEDIES = {
    "NoSuchBucket": "make the bucket, or set the option registry-bucket",
    "AccessDenied": "let the keys of relation object-storage read and write there",
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
}


class CharmError(Exception):
    """Base class of errors that an operator sees."""

    retryable: bool = False
    """Whether a later event may succeed without the operator."""

    @property
    def text(self) -> str:
        """What is wrong, as the status says it."""
        return str(self)

    def remedy(self, commands: Commands) -> str | None:
        """Return the advice or command that resolves it, or None if only a retry does.

        Args:
            commands: What the operator types.
        """
        raise NotImplementedError


class RetryableError(CharmError):
    """Base class of errors that a later event may not meet again."""

    retryable = True

    def remedy(self, commands: Commands) -> str | None:
        """Return None: the charm retries."""


class OptionError(CharmError, ValueError):
    """An option has an invalid value."""

    def __init__(self, field: str, value: object, expected: str):
        self.field, self.value, self.takes = field, value, expected
        self.option = field.replace("_", "-")
        super().__init__(f"{self.option} must be {expected}, not {str(value)[:60]!r}")

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that sets the option."""
        return f"set it with: {commands.config(self.option)}"


class ParameterError(OptionError):
    """A parameter of an action has an invalid value."""

    def remedy(self, commands: Commands) -> str | None:
        """Say that nothing happened."""
        return "nothing was done; correct it and run the action again"


class NoDataError(CharmError):
    """A required relation is missing, or its other side has published nothing yet."""

    def __init__(self, endpoint: str, remote: str, missing: str, is_related: bool):
        super().__init__(
            f"relation {endpoint}: waiting for its {missing}"
            if is_related
            else f"no relation {endpoint}"
        )
        self.endpoint = endpoint
        """Name of the relation in charmcraft.yaml."""
        self.remote = remote
        """Application that is usually on the other side."""
        self.is_related = self.retryable = is_related
        """Whether the relation exists, and only its other side has to publish its data."""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that adds the relation; empty while the other side's data is awaited."""
        if self.is_related:
            return ""
        return f"add it with: {commands.relate(self.endpoint, self.remote)}"


class InvalidRelationDataError(CharmError):
    """The other side of a relation published something that the interface does not allow."""

    def remedy(self, commands: Commands) -> str | None:
        """Say how to make the other side publish anew."""
        return "remove the relation and add it again"


class PipelinesError(CharmError):
    """Kubeflow Pipelines failed or refused."""

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
        said = f"{error.status} {error.message}" if isinstance(error, kfp_ops.ApiError) else self
        if self.retryable:
            return f"Kubeflow Pipelines: {said}"
        if self._is_denied:
            return f"Kubeflow Pipelines denies access (needs kubeflow-pipelines-edit): {said}"
        return f"Kubeflow Pipelines refuses: {said}"

    def remedy(self, commands: Commands) -> str | None:
        """Return where to look, or the command that names another profile."""
        if self.retryable:
            return None
        if self._is_denied:
            return f"name another: {commands.config('profile')}"
        return f"see: {commands.log}"


class KubernetesError(RetryableError):
    """Kubernetes failed or refused."""

    _prefix: ClassVar[str] = "Kubernetes: "

    @property
    def text(self) -> str:
        """The error and, where its text does not tell, that it is about Kubernetes."""
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
    """The cluster does not know profiles."""

    retryable, _prefix = False, ""

    def remedy(self, commands: Commands) -> str | None:
        """Return the two ways on."""
        return f"deploy kubeflow-profiles, or run single-user: {commands.config('profile', '')}"


class NoKServeError(KubernetesError):
    """The cluster does not know InferenceServices."""

    retryable, _prefix = False, ""

    def remedy(self, commands: Commands) -> str | None:
        """Return the two ways on."""
        disable = commands.config("serving", "none")
        return f"deploy kserve-controller, or disable serving: {disable}"


class NoStorageSecretError(KubernetesError):
    """The profile has no Secret with the keys of object storage, or one without them."""

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
        """What is wrong, without the library's remedy."""
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
                return f"repair it, or set: {commands.config('registry-prefix')}"
            case model_registry.NoSuchModelError():
                return f"see: {commands.run('list-models')}"
            case _:
                return None


class SourceError(RetryableError):
    """The data cannot be read."""


class NoSuchRunError(CharmError):
    """This trainer has no such run, or it cannot be canceled any more."""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that lists runs."""
        return f"see: {commands.run('list-runs')}"


class NoSuccessError(CharmError):
    """A run that an action waited for did not succeed."""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that shows the run."""
        return f"see: {commands.run('get-run')}"


class ServedModelError(CharmError):
    """The served model gives no valid answer."""

    def remedy(self, commands: Commands) -> str | None:
        """Return the command that reads the version's published answers, which need no server."""
        return f"see: {commands.run('predict version=N')}"


class NotServedError(CharmError):
    """No model is served that could be asked."""

    def __init__(self, message: str, *, is_due: bool):
        super().__init__(message)
        self.is_due = self.retryable = is_due
        """Whether one will be served without the operator."""

    def remedy(self, commands: Commands) -> str | None:
        """Return how to wait for it, or the command that enables serving."""
        if self.is_due:
            return f"wait until it does: {commands.status}"
        return f"enable serving with: {commands.config('serving', 'kserve')}"


_KUBERNETES: Mapping[type[kfp_ops.KubernetesError], type[KubernetesError]] = {
    kfp_ops.KubernetesForbiddenError: KubernetesForbiddenError,
    kfp_ops.NoProfilesError: NoProfilesError,
    kfp_ops.ProfilePendingError: ProfilePendingError,
}


@contextmanager
def as_charm_errors() -> Generator[None]:
    """Raise the libraries' errors as those of the charm."""
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
