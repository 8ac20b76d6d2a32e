"""What an event saw: Kubeflow Pipelines, the pods of the newest run, and the registry."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING

import kfp_ops
from errors import CharmError

if TYPE_CHECKING:
    from config import TrainerConfig
    from k8s.inference_service import Served
    from kfp_ops import Run
    from kfp_ops.kubernetes import RunIssue
    from model_registry import Champion, Manifest, MonitoringReport


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What was seen.

    Attributes:
        problem: what kept it from seeing or doing all; it outranks the rest.
        runs: those that were wanted and exist, by name.
        latest: the newest run of this trainer.
        steps: the names of the latest run's steps.
        result: what came of the latest run; None as long as nothing is known.
        trained_before: the run of this configuration, where it succeeded and a run of another
            configuration came after it: the charm submits none anew.
        champion: the model that serves.
        served: what KServe says of it, where it is to serve it.
        pod_issue: what Kubernetes says of the latest run's pods, where something is wrong with them.
        schedule: whether the schedule submits runs; None where there is none.
        config: the options with which it was looked at.
        report: of the newest monitoring that succeeded, on whatever model served then.
        monitor: the newest run of monitoring.
        workload: why the unit's Pushgateway does not run though it should; empty: it does.
        lost: whether the latest run was told to end long ago and has not: its workflow may be gone.
    """

    problem: CharmError | None = None
    runs: Mapping[str, Run] = dataclasses.field(default_factory=dict[str, "Run"])
    latest: Run | None = None
    steps: frozenset[str] = frozenset()
    result: Manifest | None = None
    trained_before: Run | None = None
    champion: Champion | None = None
    served: Served | None = None
    pod_issue: RunIssue | None = None
    schedule: bool | None = None
    config: TrainerConfig | None = None
    report: MonitoringReport | None = None
    monitor: Run | None = None
    workload: str = ""
    stuck: bool = False

    @property
    def exceeded_timeout(self) -> datetime.timedelta | None:
        """How long the latest run took, where it ended without success and `run-timeout` allows less.

        The charm terminates such a run, but the server does not always tell that it was terminated.
        """
        run, timeout = self.latest, self.config.timeout if self.config else None
        if not run or not run.finished_at or not run.begun_at or not timeout:
            return None
        duration = run.finished_at - run.begun_at
        failed = run.state in (kfp_ops.RunState.FAILED, kfp_ops.RunState.CANCELED)
        return duration if failed and duration >= timeout else None

    @property
    def drift(self) -> dict[str, float]:
        """What of production drifted away from the model that serves; see `triggers.drift`."""
        # Imported here, since most events have nothing of production to tell.
        from reconciler import triggers

        return triggers.drift(self.config, self.champion, self.report) if self.config else {}
