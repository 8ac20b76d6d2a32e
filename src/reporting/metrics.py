"""From a snapshot to Prometheus metrics. Pure."""

from __future__ import annotations

from collections.abc import Callable

from kfp_ops import RunState
from reconciler.snapshot import Snapshot

PREFIX = "fashion_mnist_trainer"
# Called with a name, what it says, its value or None, and labels.
_Gauge = Callable[..., None]


def exposition(snapshot: Snapshot) -> bytes:
    """Return the snapshot in Prometheus' text format, without what is unknown.

    Times are seconds since the epoch, accuracies and recalls 0 to 1, versions their numbers.
    """
    # Import it lazily: an event without a workload does not need it.
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, documentation: str, value: float | None, **labels: str) -> None:
        if value is not None:
            metric = metrics.get(name) or Gauge(
                f"{PREFIX}_{name}", documentation, labelnames=list(labels), registry=registry
            )
            metrics[name] = metric
            (metric.labels(**labels) if labels else metric).set(value)

    metrics: dict[str, Gauge] = {}
    gauge("problem", "1 if the charm could not see or do all", snapshot.problem is not None)
    _training(gauge, snapshot)
    _champion(gauge, snapshot)
    _production(gauge, snapshot)
    return generate_latest(registry)


def _training(gauge: _Gauge, snapshot: Snapshot) -> None:
    run, result = snapshot.latest, snapshot.result
    if run:
        labels = {"run_id": run.run_id, "run_name": run.display_name}
        for state in RunState:
            documentation = "1 for the state of the newest run"
            gauge("run_state", documentation, state is run.state, state=state.value)
        created, finished = run.created_at, run.finished_at
        if created:
            gauge("run_created_seconds", "when the newest run was submitted", created.timestamp())
        if created and finished and run.state.is_final:
            duration = (finished - created).total_seconds()
            gauge("run_duration_seconds", "from submission to end of the newest run", duration)
        documentation = "1 if the newest run ended without success after more than run-timeout"
        gauge("run_timed_out", documentation, snapshot.exceeded_timeout is not None)
        # What was wrong before a cancel is still known afterwards, but nobody has to act on it.
        trouble = bool(snapshot.pod_issue) and run.state is not RunState.CANCELED
        gauge("run_trouble", "1 if a pod of the newest run is in trouble", trouble)
        if result:
            # Of a run without new data or settings there is no verdict to alert of.
            verdict = None if result.unchanged else result.accepted
            gauge("run_accepted", "1 if the gate let it through", verdict, **labels)
            documentation = "of the newest run's model"
            gauge("run_accuracy", documentation, result.accuracy, **labels)
            gauge("run_loss", documentation, result.loss, **labels)
            for name, recall in result.recalls.items():
                gauge("run_recall", documentation, recall, **labels, **{"class": name})
    if result:
        for part, index in result.drift.items():
            documentation = (
                "population stability index of the newest run's data against the champion's"
            )
            gauge("data_drift", documentation, index, part=part)
    if snapshot.schedule is not None:
        gauge("schedule_enabled", "1 if the schedule submits runs", snapshot.schedule)


def _champion(gauge: _Gauge, snapshot: Snapshot) -> None:
    champion = snapshot.champion
    if champion:
        documentation, model = "of the model that serves", champion.manifest
        gauge("champion_version", "number of the model that serves", champion.version)
        gauge("champion_accuracy", documentation, model.accuracy)
        gauge("champion_loss", documentation, model.loss)
        if model.created_at:
            created = model.created_at.timestamp()
            gauge("champion_created_seconds", "when the model that serves was made", created)
        if snapshot.served:
            gauge("served_ready", "1 if KServe serves that model", snapshot.served.is_ready)
        for name, recall in model.recalls.items():
            gauge("champion_recall", documentation, recall, **{"class": name})


def _production(gauge: _Gauge, snapshot: Snapshot) -> None:
    if snapshot.monitor:
        failed = snapshot.monitor.state is RunState.FAILED
        gauge("monitoring_failed", "1 if the newest run of monitoring failed", failed)
    if snapshot.config:
        limit = snapshot.config.max_drift
        gauge("max_drift", "population stability index above which something drifted", limit)
    report, champion = snapshot.report, snapshot.champion
    # What was seen of another model says nothing of the one that serves.
    if report and champion and report.version == champion.version:
        documentation = "of production images, against what the model that serves was made for"
        for part, index in report.drift.items():
            gauge(
                "production_drift", f"population stability index {documentation}", index, part=part
            )
        gauge("production_images", "how many the newest monitoring saw", report.images)
        if report.accuracy is not None:
            documentation = "1 if production's accuracy is far less than that on the test images"
            gauge("production_inaccurate", documentation, report.is_inaccurate)
        documentation = "on production images with labels"
        gauge("production_accuracy", documentation, report.accuracy)
        for name, recall in report.recalls.items():
            gauge("production_recall", documentation, recall, **{"class": name})
        if report.created_at:
            checked = report.created_at.timestamp()
            gauge("production_checked_seconds", "when production was looked at", checked)
