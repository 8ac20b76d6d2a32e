"""What keeps the charm from seeing or doing all; `status.problem` says what an operator does then.

All in one place, so that an event that asks nobody can tell of them without what raises them.
"""

from __future__ import annotations

from kfp_ops import KfpError, RelationDataError


class OptionError(ValueError):
    """An option has a value that it cannot have."""

    def __init__(self, field: str, value: object, expected: str):
        self.field, self.value, self.takes = field, value, expected
        self.option = field.replace("_", "-")
        super().__init__(f"{self.option} must be {expected}, not {str(value)[:60]!r}")


class ParameterError(OptionError):
    """A parameter of an action has a value that it cannot have."""


class NoDataError(Exception):
    """A relation that is needed is not there, or its other side has written nothing yet.

    Attributes:
        endpoint: of this charm.
        remote: the application that is usually on the other side.
        is_related: whether the relation is there.
        missing: what the other side has not published.
    """

    def __init__(self, endpoint: str, remote: str, *, is_related: bool, missing: str = "data"):
        super().__init__(f"no {missing} on relation {endpoint}")
        self.endpoint = endpoint
        self.remote = remote
        self.is_related = is_related
        self.missing = missing


class KubernetesError(Exception):
    """Kubernetes did not do what was asked; later it may."""


class KubernetesForbiddenError(KubernetesError):
    """The charm has no right to do this."""


class NoSuchKindError(KubernetesError):
    """This cluster does not know this kind of object."""


class ProfilePendingError(KubernetesError):
    """The profile's namespace is not there yet, or is going away."""


class NoProfilesError(KubernetesError):
    """This cluster knows no profiles."""


class NoKServeError(KubernetesError):
    """This cluster knows no InferenceServices."""


class NoStorageSecretError(KubernetesError):
    """The profile has no Secret with the keys of object storage, or one without them."""


class RegistryError(Exception):
    """The registry cannot be reached, or does not do what is asked."""


class RegistryRefusedError(RegistryError):
    """Object storage does not take the keys, or has no such bucket. Attributes: remedy."""

    def __init__(self, message: str, remedy: str = ""):
        super().__init__(message)
        self.remedy = remedy


class UnsafeRegistryError(RegistryRefusedError):
    """Nothing would keep two writers of the registry apart."""


class RegistryElsewhereError(UnsafeRegistryError):
    """The registry is written through another namespace than the one in which runs are executed."""


class RegistryContentError(RegistryError):
    """The registry holds something else than it should."""


class NoSuchModelError(Exception):
    """There is no such model, or none to go back to."""


class SourceError(Exception):
    """The data cannot be looked at."""


class NoSuchRunError(Exception):
    """There is no such run of this trainer, or not one that can be cancelled."""


class NoSuccessError(Exception):
    """A run that was waited for did not succeed."""


class ServedModelError(Exception):
    """The served model does not answer, or answers something else than it should."""


class NotServedError(Exception):
    """No served model can be asked. Attributes: is_due (whether it only has to be waited for)."""

    def __init__(self, message: str, *, is_due: bool):
        super().__init__(message)
        self.is_due = is_due


class NoScheduleError(Exception):
    """There is no schedule, or the options pause it. Attributes: setting (what to set)."""

    def __init__(self, message: str, setting: str):
        super().__init__(message)
        self.setting = setting


# Twice, since type checkers read only the one, and `except` only the other.
PROBLEMS = (
    OptionError,
    NoDataError,
    RelationDataError,
    KfpError,
    KubernetesError,
    RegistryError,
    SourceError,
    NoSuchRunError,
    NoSuccessError,
    NoSuchModelError,
    ServedModelError,
    NotServedError,
    NoScheduleError,
)
Problem = (
    OptionError
    | NoDataError
    | RelationDataError
    | KfpError
    | KubernetesError
    | RegistryError
    | SourceError
    | NoSuchRunError
    | NoSuccessError
    | NoSuchModelError
    | ServedModelError
    | NotServedError
    | NoScheduleError
)
