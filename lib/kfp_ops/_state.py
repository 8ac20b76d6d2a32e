"""Desired and observed state, and the changes that lead from one to the other: plain values."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping, Sequence

from kfp_ops._api_types import Experiment, Pipeline, PipelineVersion, RecurringRun, Run
from kfp_ops._spec import PipelineSpec


class ConcurrencyPolicy(enum.Enum):
    """How runs of one concurrency group affect each other."""

    REPLACE = "replace"
    """Only the desired run counts: active runs of other names are terminated. A run that ended without
    success is submitted again if other runs of the group came after it."""

    QUEUE = "queue"
    """Of the desired runs that are missing, one is submitted at a time, in order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A run that must exist exactly once in an experiment."""

    name: str
    """Display name, and the run's identity: the same name is the same run."""

    parameters: Mapping[str, object]
    """Arguments of the pipeline."""

    description: str = ""
    """Shown to people who look at the run."""

    concurrency_group: str = ""
    """Name prefix, this run's included, of runs that affect each other. Empty for none."""

    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.REPLACE
    """How the runs of the concurrency group affect each other."""

    cooldown_start: datetime.datetime | None = None
    """Do not submit the run while its group has one that was created after this time (UTC)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurringRunSpec:
    """A recurring run that must exist."""

    name: str
    """Display name. It should carry the fingerprint of all fields but ``enabled``."""

    cron: str
    """Six fields, seconds first, in the server's time zone."""

    parameters: Mapping[str, object]
    """Arguments of each of its runs."""

    description: str = ""
    """Shown to people who look at the recurring run."""

    enabled: bool = True
    """Whether it submits runs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DesiredState:
    """What must exist in Kubeflow Pipelines."""

    pipeline: str
    """Name of the pipeline."""

    spec: PipelineSpec
    """Compiled pipeline, uploaded as a version that is named by its fingerprint."""

    experiment: str
    """Name of the experiment."""

    runs: tuple[RunSpec, ...] = ()
    """Runs that must exist in the experiment."""

    schedule: RecurringRunSpec | None = None
    """The one recurring run; None for none."""

    schedule_prefix: str = "schedule-"
    """Name prefix of the caller's recurring runs: those other than ``schedule`` are deleted."""

    started_before: datetime.datetime | None = None
    """Terminate unfinished runs that were submitted or retried before this time (UTC)."""

    description: str = ""
    """Description of a pipeline and an experiment that are created."""

    @property
    def version(self) -> str:
        """Name of the pipeline version: the fingerprint of the specification."""
        return self.spec.fingerprint

    def current_schedule(self, schedules: Sequence[RecurringRun]) -> RecurringRun | None:
        """Return the recurring run that is ``schedule``.

        Args:
            schedules: Recurring runs, newest first. Of several with that name the oldest is returned.
        """
        name = self.schedule.name if self.schedule else None
        return next(
            (schedule for schedule in reversed(schedules) if schedule.display_name == name), None
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObservedState:
    """What exists in Kubeflow Pipelines."""

    experiment: Experiment | None = None
    """The experiment, if it exists."""

    runs: Mapping[str, Run] = dataclasses.field(default_factory=dict[str, Run])
    """Desired runs that exist, by name."""

    runs_by_name: Mapping[str, tuple[Run, ...]] = dataclasses.field(
        default_factory=dict[str, tuple[Run, ...]]
    )
    """All runs of each desired name, newest first.

    More than one is active if a leader submitted one after it was replaced, or if a server carried out
    a request that it had reported as failed.
    """

    runs_by_prefix: Mapping[str, tuple[Run, ...]] = dataclasses.field(
        default_factory=dict[str, tuple[Run, ...]]
    )
    """Newest runs of each desired run's concurrency group, newest first."""

    timed_out: tuple[Run, ...] = ()
    """Unfinished runs that started before ``DesiredState.started_before``, oldest first."""

    schedules: tuple[RecurringRun, ...] = ()
    """The caller's recurring runs, newest first."""

    active_recurring_run_ids: frozenset[str] = frozenset()
    """IDs of recurring runs that are no longer desired and have an unfinished run."""

    latest: Run | None = None
    """Newest run in the experiment, whoever submitted it."""

    pipeline: Pipeline | None = None
    """The pipeline; looked up only if a desired run or the schedule is missing."""

    version: PipelineVersion | None = None
    """The pipeline version; looked up only if a desired run or the schedule is missing."""


@dataclasses.dataclass(frozen=True)
class CreatePipeline:
    """Create the pipeline, without a version."""


@dataclasses.dataclass(frozen=True)
class UploadVersion:
    """Upload the specification as a version of the pipeline."""


@dataclasses.dataclass(frozen=True)
class CreateExperiment:
    """Create the experiment."""


@dataclasses.dataclass(frozen=True)
class SubmitRun:
    """Submit a run of the version in the experiment."""

    run: RunSpec


@dataclasses.dataclass(frozen=True)
class TerminateRun:
    """Terminate a run that is replaced, duplicate or timed out."""

    run: Run


@dataclasses.dataclass(frozen=True)
class CreateSchedule:
    """Create the recurring run."""


@dataclasses.dataclass(frozen=True)
class SetEnabled:
    """Enable or disable the desired recurring run."""

    schedule: RecurringRun
    enabled: bool


@dataclasses.dataclass(frozen=True)
class Disable:
    """Disable a recurring run that is no longer desired, until it can be deleted."""

    schedule: RecurringRun


@dataclasses.dataclass(frozen=True)
class DeleteSchedule:
    """Disable and delete a recurring run that is no longer desired."""

    schedule: RecurringRun


Change = (
    CreatePipeline
    | UploadVersion
    | CreateExperiment
    | TerminateRun
    | SubmitRun
    | CreateSchedule
    | SetEnabled
    | Disable
    | DeleteSchedule
)
