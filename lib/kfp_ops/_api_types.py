"""Resources of Kubeflow Pipelines' REST API v2beta1, as frozen dataclasses.

Source: the API's reference (https://www.kubeflow.org/docs/components/pipelines/reference/api/) and
responses recorded from server 2.15.0. Fields that the server omits when they are empty have defaults;
a field of another type than documented raises :class:`~kfp_ops._errors.AnswerError`.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping
from typing import cast

from kfp_ops._errors import AnswerError

Json = Mapping[str, object]


class RunState(str, enum.Enum):
    """State of a run or a step; unknown states are read as UNSPECIFIED."""

    UNSPECIFIED = "RUNTIME_STATE_UNSPECIFIED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"
    PAUSED = "PAUSED"

    @classmethod
    def _missing_(cls, value: object) -> RunState:  # noqa: ARG003
        return cls.UNSPECIFIED

    @property
    def is_final(self) -> bool:
        """Whether the state changes no more, unless someone retries the run."""
        return self in _FINAL


_FINAL = {RunState.SUCCEEDED, RunState.SKIPPED, RunState.FAILED, RunState.CANCELED}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A pipeline: a name with versions."""

    pipeline_id: str
    display_name: str

    @classmethod
    def from_json(cls, data: Json) -> Pipeline:
        """Read the API's object.

        Raises:
            AnswerError: A field is missing or has another type.
        """
        return cls(
            pipeline_id=text(data, "pipeline_id"), display_name=text(data, "display_name", "")
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineVersion:
    """One compiled specification of a pipeline."""

    pipeline_id: str
    pipeline_version_id: str
    display_name: str

    @classmethod
    def from_json(cls, data: Json) -> PipelineVersion:
        """Read the API's object, without its specification.

        Raises:
            AnswerError: A field is missing or has another type.
        """
        return cls(
            pipeline_id=text(data, "pipeline_id"),
            pipeline_version_id=text(data, "pipeline_version_id"),
            display_name=text(data, "display_name", ""),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A group of runs; on a multi-user server, it also determines their namespace."""

    experiment_id: str
    display_name: str

    @classmethod
    def from_json(cls, data: Json) -> Experiment:
        """Read the API's object.

        Raises:
            AnswerError: A field is missing or has another type.
        """
        return cls(
            experiment_id=text(data, "experiment_id"), display_name=text(data, "display_name", "")
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task of a run: a step, its driver or its executor."""

    name: str
    state: RunState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run of a pipeline."""

    run_id: str
    display_name: str
    state: RunState = RunState.UNSPECIFIED
    """The server's state, with two exceptions.

    A terminated run that did not succeed is CANCELED, although the server reports FAILED; if the
    server's history lost the request, it stays FAILED. A run without a state, as right after submission,
    is PENDING.
    """

    description: str = ""
    created_at: datetime.datetime | None = None
    """Time of submission, UTC."""

    begun_at: datetime.datetime | None = None
    """Time of submission or of the last retry, UTC."""

    finished_at: datetime.datetime | None = None
    """Time of the end, UTC; None while it is running."""

    experiment_id: str = ""
    recurring_run_id: str = ""
    """ID of the recurring run that submitted it, if any."""

    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict[str, object])
    """Arguments of the run, without defaults."""

    tasks: tuple[Task, ...] = ()
    """All tasks: steps, their drivers and executors."""

    @classmethod
    def from_json(cls, data: Json) -> Run:
        """Read the API's object.

        Raises:
            AnswerError: A field is missing or has another type.
        """
        details = mapping(data, "run_details")
        history = items(data, "state_history")
        created = time(data, "created_at")
        state = _state(data)
        if state is RunState.FAILED and any(
            text(entry, "state", "") == RunState.CANCELING for entry in history
        ):
            state = RunState.CANCELED
        return cls(
            run_id=text(data, "run_id"),
            display_name=text(data, "display_name", ""),
            state=state,
            description=text(data, "description", ""),
            created_at=created,
            begun_at=(time(history[0], "update_time") if history else None) or created,
            finished_at=time(data, "finished_at"),
            experiment_id=text(data, "experiment_id", ""),
            recurring_run_id=text(data, "recurring_run_id", ""),
            parameters=mapping(mapping(data, "runtime_config"), "parameters"),
            tasks=tuple(
                Task(name=text(task, "display_name", ""), state=_state(task))
                for task in items(details, "task_details")
            ),
        )

    def steps(self, names: frozenset[str]) -> dict[str, RunState]:
        """Return the known states of the steps with these names, from ``PipelineSpec.steps``.

        The server lists steps, drivers and executors in any order, and a step in a loop several times.
        The step's state is then a failed one if there is any, else an unfinished one, else a finished
        one.
        """
        states: dict[str, RunState] = {}
        for task in sorted(self.tasks, key=lambda task: _urgency(task.state)):
            if task.name in names:
                states[task.name] = task.state
        return states


def _state(data: Json) -> RunState:
    """Read the state, which is missing or zero until the server has seen the workflow."""
    value = text(data, "state", "")
    return RunState.PENDING if value in ("", RunState.UNSPECIFIED.value) else RunState(value)


def _urgency(state: RunState) -> int:
    return 2 if state is RunState.FAILED else 0 if state.is_final else 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurringRun:
    """A schedule, by which the server submits runs."""

    recurring_run_id: str
    display_name: str
    enabled: bool

    @classmethod
    def from_json(cls, data: Json) -> RecurringRun:
        """Read the API's object.

        Raises:
            AnswerError: A field is missing or has another type.
        """
        return cls(
            recurring_run_id=text(data, "recurring_run_id"),
            display_name=text(data, "display_name", ""),
            enabled=text(data, "status", "") == "ENABLED",
        )


# Read JSON from outside ------------------------------------------------------------------------


def text(data: Json, key: str, default: str | None = None) -> str:
    """Return the string under a key, or the default if the key is missing.

    Raises:
        AnswerError: The value is not a string, cannot be encoded in UTF-8, or is missing without a
        default.
    """
    value = data.get(key, default)
    if not isinstance(value, str):
        raise AnswerError(f"field {key!r} should be a string, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise AnswerError(f"field {key!r} contains an unpaired surrogate") from None
    return value


def mapping(data: Json, key: str) -> Json:
    """Return the object under a key, or an empty one if the key is missing.

    Raises:
        AnswerError: The value is not an object.
    """
    value = data.get(key) or cast("Json", {})
    if not isinstance(value, Mapping):
        raise AnswerError(f"field {key!r} should be an object, not {type(value).__name__}")
    return cast("Json", value)


def items(data: Json, key: str) -> list[Json]:
    """Return the list of objects under a key, or an empty one if the key is missing.

    Raises:
        AnswerError: The value is not a list of objects.
    """
    value = data.get(key) or cast("list[object]", [])
    if not isinstance(value, list):
        raise AnswerError(f"field {key!r} should be a list, not {type(value).__name__}")
    rows = cast("list[object]", value)
    if not all(isinstance(row, Mapping) for row in rows):
        raise AnswerError(f"field {key!r} should be a list of objects")
    return cast("list[Json]", rows)


def time(data: Json, key: str) -> datetime.datetime | None:
    """Return the RFC 3339 time under a key (UTC), or None for the zero time (year 1 or 1970).

    Raises:
        AnswerError: The value is not such a time.
    """
    value = text(data, key, "")
    if not value or value.startswith(("0001-", "1970-01-01T00:00:00")):
        return None
    try:
        moment = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return moment.astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):
        raise AnswerError(f"field {key!r} should be an RFC 3339 time, not {value[:40]!r}") from None
