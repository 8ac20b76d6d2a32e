"""Snapshot of Kubeflow Pipelines, the latest run's pods and the registry at one event."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING

import kfp_ops
from errors import CharmError
from reconciler import triggers

if TYPE_CHECKING:
    from config import TrainerConfig
    from k8s.inference_service import Served
    from kfp_ops import Run
    from kfp_ops.kubernetes import RunIssue
    from model_registry import Champion, Manifest, MonitoringReport


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What exists after a reconcile."""

    problem: CharmError | None = None
    """Error that made the reconcile incomplete; takes precedence over the rest."""

    runs: Mapping[str, Run] = dataclasses.field(default_factory=dict[str, "Run"])
    """Desired runs that exist, by name."""

    latest: Run | None = None
    """Newest run of this trainer."""

    steps: frozenset[str] = frozenset()
    """Names of the latest run's steps."""

    result: Manifest | None = None
    """Result of the latest run; None until it is published."""

    trained_before: Run | None = None
    """Run of this configuration, if it succeeded and a run of another configuration is newer. The charm
    does not submit it again."""

    champion: Champion | None = None
    """The model that serves."""

    served: Served | None = None
    """Status of the champion's InferenceService, if KServe should serve it."""

    pod_issue: RunIssue | None = None
    """Issue of the latest run's pods or workflow, if any."""

    schedule: bool | None = None
    """Whether the schedule submits runs; None without a schedule."""

    config: TrainerConfig | None = None
    """Options at the time."""

    report: MonitoringReport | None = None
    """Report of the newest monitoring run that succeeded, on the model that served then."""

    monitor: Run | None = None
    """Newest monitoring run."""

    workload: str = ""
    """Why the unit's Pushgateway is not running; empty if it is."""

    stuck: bool = False
    """Whether the latest run was terminated long ago but is still running: its workflow may be lost."""

    @property
    def exceeded_timeout(self) -> datetime.timedelta | None:
        """Duration of the latest run if it did not succeed and took longer than `run-timeout`.

        The charm terminates such a run, but the server may report it as failed.
        """
        run, timeout = self.latest, self.config.timeout if self.config else None
        if not run or not run.finished_at or not run.begun_at or not timeout:
            return None
        duration = run.finished_at - run.begun_at
        failed = run.state in (kfp_ops.RunState.FAILED, kfp_ops.RunState.CANCELED)
        return duration if failed and duration >= timeout else None

    @property
    def drift(self) -> dict[str, float]:
        """Drifted features of production images; see `triggers.drift`."""
        return triggers.drift(self.config, self.champion, self.report) if self.config else {}
