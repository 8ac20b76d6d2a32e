"""What the actions tell of runs: flat results with names in kebab-case."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import kube
import pods
import wishes
from connection import Connection
from errors import KubernetesError, KubernetesForbiddenError, NoSuccessError, NoSuchRunError
from formatting import MONITOR, figures, progress, table, timestamp
from kfp_ops import (
    AnswerError,
    NotFoundError,
    RequestError,
    Run,
    RunState,
    ServerError,
    UnreachableError,
)
from kfp_ops.texts import line
from params import ListParams, RunParams

if TYPE_CHECKING:
    import lightkube

# Between two looks at a run that an action waits for.
POLL_SECONDS = 5
# Characters of a name, which may be anybody's.
NAME = 128

logger = logging.getLogger(__name__)


def submitted(connection: Connection, run: Run) -> dict[str, str]:
    """A run's id, name, and where a person looks at it: Kubeflow's dashboard, or else the API."""
    dashboard = connection.config.dashboard_url.rstrip("/")
    if dashboard:
        namespace = f"?ns={connection.config.profile}" if connection.config.profile else ""
        link = f"{dashboard}/_/pipeline/{namespace}#/runs/details/{run.run_id}"
    else:
        link = f"{connection.client.url}/apis/v2beta1/runs/{run.run_id}"
    return {"run-id": run.run_id, "run-name": _name(run), "run-url": link}


def listing(connection: Connection, params: ListParams) -> dict[str, str]:
    """The newest runs, a line for each.

    Raises:
        KfpError: the server cannot be reached or does not allow it.
    """
    runs = [connection.records.as_known(run) for run in _newest(connection, params.limit)]
    rows = [
        (_name(run), run.state.value, timestamp(run.created_at), line(run.run_id, NAME))
        for run in runs
    ]
    return {"count": str(len(runs)), "runs": table(rows)}


def details(connection: Connection, params: RunParams) -> dict[str, str]:
    """All there is to know of one run.

    Raises:
        NoSuchRunError: this trainer has no such run.
        KfpError: the server cannot be reached or does not allow it.
        RegistryError: the registry cannot be read.
    """
    run = _run(connection, params)
    names = wishes.steps(run.parameters)
    steps = run.steps(names)
    issue = find_issue(connection, run, names)
    result, report = connection.registry.result(run.run_id), connection.registry.report(run.run_id)
    results = {
        **submitted(connection, run),
        "state": run.state.value,
        "description": run.description,
        "created-at": timestamp(run.created_at),
        "finished-at": timestamp(run.finished_at),
        "steps": ", ".join(f"{name} {state.value}" for name, state in sorted(steps.items())),
        "parameters": json.dumps(dict(run.parameters), sort_keys=True),
    }
    if result:
        results |= {
            "accuracy": f"{result.accuracy:.4f}",
            "loss": "" if result.loss is None else f"{result.loss:.4f}",
            "recall": figures(result.recalls, 4),
            "verdict": "accepted" if result.accepted else "rejected",
            "reasons": "; ".join(result.reasons),
            "reason": result.reason,
        }
    if report:
        results |= {
            "version": str(report.version),
            "images": str(report.images),
            "drift": figures(report.drift),
            "accuracy": "" if report.accuracy is None else f"{report.accuracy:.4f}",
            "recall": figures(report.recalls, 4),
        }
    if issue:
        results |= {"trouble": str(issue), "pod": issue.pod, "log": issue.log}
    return {name: text for name, text in results.items() if text}


def follow(
    connection: Connection,
    run: Run,
    minutes: int,
    log: Callable[[str], object],
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Run:
    """Look at a run until it has ended or the time is up; an action alone may wait like this.

    Args:
        connection: what to ask.
        run: as it was submitted.
        minutes: after which the run is returned as it is.
        log: called with a line whenever there is something new.
        pause: called with the seconds between two looks.
        clock: seconds that only grow.

    Raises:
        KfpError: the server does not know the run, or does not allow it. That it, or Kubernetes,
            cannot be reached or makes no sense for a while is told, and waited for.
        KubernetesForbiddenError: the charm may have no token any more.
    """
    names = wishes.steps(run.parameters)
    last, end = "", clock() + 60 * minutes
    while True:
        try:
            run = connection.client.get_run(run.run_id)
            news = progress(run, names)
        except KubernetesForbiddenError:
            raise
        # KubernetesError: there is no new token for a while.
        except (UnreachableError, ServerError, AnswerError, KubernetesError) as error:
            news = str(error)
        if news != last:
            log(f"run {_name(run)} {news}")
        last = news
        if run.state.is_final or clock() >= end:
            return run
        pause(POLL_SECONDS)


def check(run: Run) -> None:
    """See to it that a run that was waited for succeeded.

    Raises:
        NoSuccessError: it did not, or goes on.
    """
    if not run.state.is_final:
        raise NoSuccessError(f"the time is up and run {_name(run)} is {run.state.value}")
    if run.state is not RunState.SUCCEEDED:
        raise NoSuccessError(f"run {_name(run)} ended {run.state.value}")


def find_issue(
    connection: Connection, run: Run | None, steps: frozenset[str]
) -> pods.PodIssue | None:
    """Find why a run failed, was cancelled or does not go on, in at most 4 calls to Kubernetes.

    None where all is well, or the charm may not ask Kubernetes. The pods of a run that was terminated
    tell only that they were stopped, so what was known of it before counts; it counts too where the pods
    are deleted.
    """
    if run is None or run.state in (RunState.SUCCEEDED, RunState.SKIPPED):
        return None
    known = connection.records.issue(run)
    terminated = run.state in (RunState.CANCELING, RunState.CANCELED)
    if terminated and known:
        return known
    try:
        cluster = kube.connect(connection.app, connection.model)
        issue = pods.find_issue(
            cluster,
            namespace=connection.namespace,
            run_id=run.run_id,
            steps=steps,
            only_waiting=terminated,
        )
    except KubernetesError as error:
        # Nobody asked for it, and what Kubeflow says is told without it.
        logger.info("no look at the pods of run %s: %s", run.run_id, error)
        return known
    if run.state is not RunState.FAILED:
        return issue
    return (
        issue
        # Its pods may be deleted while its workflow is still there.
        or connection.records.issue(run, only_ended=True)
        or _workflow_issue(connection, cluster, run)
        or known
    )


def _workflow_issue(
    connection: Connection, cluster: lightkube.Client, run: Run
) -> pods.PodIssue | None:
    try:
        return pods.find_workflow_issue(cluster, namespace=connection.namespace, run_id=run.run_id)
    except KubernetesError as error:
        logger.info("no look at the workflow of run %s: %s", run.run_id, error)
        return None


def note_termination(connection: Connection, run: Run) -> None:
    """Keep that the charm terminates the run, and what is wrong with it, which is gone afterwards."""
    connection.records.set_terminated(run)
    issue = find_issue(connection, run, wishes.steps(run.parameters))
    connection.records.set_issue(run, issue)


def cancel(connection: Connection, params: RunParams) -> dict[str, str]:
    """Terminate a run.

    Raises:
        NoSuchRunError: this trainer has no such run, or it has ended.
        KfpError: the server cannot be reached or does not allow it.
    """
    run = _run(connection, params)
    if run.state.is_final:
        raise NoSuchRunError(f"run {_name(run)} has ended already: {run.state.value}")
    note_termination(connection, run)
    try:
        connection.client.terminate_run(run.run_id)
    except (NotFoundError, RequestError):
        # It ended by itself in the meantime.
        connection.records.set_terminated(run, terminated=False)
        raise
    after = connection.records.as_known(connection.client.get_run(run.run_id))
    return {**submitted(connection, run), "state": after.state.value}


def _newest(connection: Connection, limit: int, *, monitoring: bool = False) -> list[Run]:
    experiment = connection.client.find_experiment(connection.experiments[monitoring])
    return connection.client.list_runs(experiment.experiment_id, limit=limit) if experiment else []


def _run(connection: Connection, params: RunParams) -> Run:
    if params.run_id in ("", MONITOR):
        newest = _newest(connection, 1, monitoring=params.run_id == MONITOR)
        if not newest:
            raise NoSuchRunError("there is no run yet")
        return connection.records.as_known(connection.client.get_run(newest[0].run_id))
    try:
        run = connection.client.get_run(params.run_id)
    except (NotFoundError, RequestError) as error:
        raise NoSuchRunError(f"there is no run {params.run_id}") from error
    # The id may be that of a run of somebody else in the same Kubeflow.
    experiments = (connection.client.find_experiment(name) for name in connection.experiments)
    if not any(
        experiment and run.experiment_id == experiment.experiment_id for experiment in experiments
    ):
        raise NoSuchRunError(f"run {params.run_id} is not one of this trainer")
    return connection.records.as_known(run)


def _name(run: Run) -> str:
    return line(run.display_name, NAME)
