"""What an event saw, as Prometheus metrics. Pure."""

from __future__ import annotations

from kfp_ops import RunState
from situation import Situation

PREFIX = "fashion_mnist_trainer"


def exposition(situation: Situation) -> bytes:
    """The situation in Prometheus' text format; what is not known is left out.

    Times are seconds since the epoch, accuracies and recalls 0 to 1, versions their numbers.
    """
    # Imported here, since an event without a workload has no use for it.
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, says: str, value: float | None, **labels: str) -> None:
        if value is not None:
            known = family.get(name) or Gauge(
                f"{PREFIX}_{name}", says, labelnames=list(labels), registry=registry
            )
            family[name] = known
            (known.labels(**labels) if labels else known).set(value)

    family: dict[str, Gauge] = {}
    gauge("problem", "1 if the charm could not see or do all", situation.problem is not None)
    run, result, champion = situation.latest, situation.result, situation.champion
    if run:
        named = {"run_id": run.run_id, "run_name": run.display_name}
        for state in RunState:
            told = "1 for the state of the newest run"
            gauge("run_state", told, state is run.state, state=state.value)
        created, finished = run.created_at, run.finished_at
        if created:
            gauge("run_created_seconds", "when the newest run was submitted", created.timestamp())
        if created and finished and run.state.is_final:
            took = (finished - created).total_seconds()
            gauge("run_duration_seconds", "from submission to end of the newest run", took)
        gauge("run_trouble", "1 if a pod of the newest run is in trouble", bool(situation.trouble))
        if result:
            gauge("run_accepted", "1 if the gate let it through", result.accepted, **named)
            gauge("run_accuracy", "of the newest run's model", result.accuracy, **named)
    if champion:
        told, model = "of the model that serves", champion.result
        gauge("champion_version", "number of the model that serves", champion.version)
        gauge("champion_accuracy", told, model.accuracy)
        gauge("champion_loss", told, model.loss)
        if model.created_at:
            made = model.created_at.timestamp()
            gauge("champion_created_seconds", "when the model that serves was made", made)
        if situation.served:
            gauge("served_ready", "1 if KServe serves that model", situation.served.is_ready)
        for name, recall in model.recalls.items():
            gauge("champion_recall", told, recall, **{"class": name})
    if result:
        for part, index in result.drift.items():
            told = "population stability index of the newest run's data against the champion's"
            gauge("data_drift", told, index, part=part)
    if situation.schedule is not None:
        gauge("schedule_enabled", "1 if the schedule submits runs", situation.schedule)
    return generate_latest(registry)
