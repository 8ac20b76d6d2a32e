"""Export a snapshot as Prometheus metrics. Pure."""

from __future__ import annotations

from collections.abc import Callable

from kfp_ops import RunState
from reconciler.snapshot import Snapshot

PREFIX = "fashion_mnist_trainer"
# Called with a name, documentation, a value (None: no sample) and labels.
_Gauge = Callable[..., None]


def exposition(snapshot: Snapshot) -> bytes:
    """Return the snapshot in Prometheus' text format; omit unknown values.

    Times are in seconds since the epoch; accuracies and recalls are between 0 and 1.
    """
    # Import prometheus_client lazily: it takes longer than an event without a workload.
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
    gauge("problem", "1 if the last reconcile was incomplete", snapshot.problem is not None)
    _training(gauge, snapshot)
    _champion(gauge, snapshot)
    _production(gauge, snapshot)
    return generate_latest(registry)


def _training(gauge: _Gauge, snapshot: Snapshot) -> None:
    run, result = snapshot.latest, snapshot.result
    if run:
        labels = {"run_id": run.run_id, "run_name": run.display_name}
        for state in RunState:
            documentation = "1 for the current state of the newest run"
            gauge("run_state", documentation, state is run.state, state=state.value)
        created, finished = run.created_at, run.finished_at
        if created:
            documentation = "submission time of the newest run"
            gauge("run_created_seconds", documentation, created.timestamp())
        if created and finished and run.state.is_final:
            duration = (finished - created).total_seconds()
            gauge("run_duration_seconds", "submission to end of the newest run", duration)
        documentation = "1 if the newest run exceeded run-timeout and did not succeed"
        gauge("run_timed_out", documentation, snapshot.exceeded_timeout is not None)
        # An issue from before a cancellation is still known, but nobody has to act on it.
        has_issue = bool(snapshot.pod_issue) and run.state is not RunState.CANCELED
        gauge("run_trouble", "1 if a pod of the newest run has an issue", has_issue)
        if result:
            # A run with unchanged data and settings has no verdict to alert on.
            verdict = None if result.unchanged else result.accepted
            gauge(
                "run_accepted", "1 if the gate accepted the newest run's model", verdict, **labels
            )
            model = "of the newest run's model on the test images"
            gauge("run_accuracy", f"accuracy {model}", result.accuracy, **labels)
            gauge("run_loss", f"loss {model}", result.loss, **labels)
            for name, recall in result.recalls.items():
                gauge("run_recall", f"recall {model}", recall, **labels, **{"class": name})
    if result:
        for part, index in result.drift.items():
            documentation = "drift (PSI) of the newest run's data from the champion's"
            gauge("data_drift", documentation, index, part=part)
    if snapshot.schedule is not None:
        gauge("schedule_enabled", "1 if the schedule submits runs", snapshot.schedule)


def _champion(gauge: _Gauge, snapshot: Snapshot) -> None:
    champion = snapshot.champion
    if champion:
        images, manifest = "of the champion on the test images", champion.manifest
        gauge("champion_version", "version number of the champion", champion.version)
        gauge("champion_accuracy", f"accuracy {images}", manifest.accuracy)
        gauge("champion_loss", f"loss {images}", manifest.loss)
        if manifest.created_at:
            created = manifest.created_at.timestamp()
            gauge("champion_created_seconds", "creation time of the champion", created)
        if snapshot.served:
            gauge("served_ready", "1 if KServe serves the champion", snapshot.served.is_ready)
        for name, recall in manifest.recalls.items():
            gauge("champion_recall", f"recall {images}", recall, **{"class": name})


def _production(gauge: _Gauge, snapshot: Snapshot) -> None:
    if snapshot.monitor:
        failed = snapshot.monitor.state is RunState.FAILED
        gauge("monitoring_failed", "1 if the newest monitoring run failed", failed)
    if snapshot.config:
        gauge("max_drift", "value of the option max-drift (PSI)", snapshot.config.max_drift)
    report, champion = snapshot.report, snapshot.champion
    # A report on another version does not apply to the champion.
    if report and champion and report.version == champion.version:
        documentation = "drift (PSI) of production images from the champion's data"
        for part, index in report.drift.items():
            gauge("production_drift", documentation, index, part=part)
        gauge("production_images", "images in the newest monitoring report", report.images)
        if report.accuracy is not None:
            documentation = "1 if the champion is far less accurate on production images"
            gauge("production_inaccurate", documentation, report.is_inaccurate)
        images = "of the champion on labeled production images"
        gauge("production_accuracy", f"accuracy {images}", report.accuracy)
        for name, recall in report.recalls.items():
            gauge("production_recall", f"recall {images}", recall, **{"class": name})
        if report.created_at:
            created = report.created_at.timestamp()
            documentation = "creation time of the newest monitoring report"
            gauge("production_checked_seconds", documentation, created)
