"""Actions on runs: list, get, cancel, follow. Results have names in kebab-case."""

from __future__ import annotations

import json
from collections.abc import Callable

import kfp_ops
from actions.params import ListParams, RunParams
from errors import NoSuccessError, NoSuchRunError
from formatting import MONITOR, figures, table, timestamp
from kfp_ops import NotFoundError, RequestError, Run, RunState
from kfp_ops.text import single_line
from reconciler import pipelines
from reconciler.context import Context
from reconciler.run_issues import find_issue, record_termination

# Maximum characters of a run's name, which another user may have chosen.
_NAME_CHARACTERS = 128


def describe(context: Context, run: Run) -> dict[str, str]:
    """Return a run's ID, name and URL, in Kubeflow's dashboard if configured, else in the API."""
    dashboard = context.config.dashboard_url.rstrip("/")
    if dashboard:
        namespace = f"?ns={context.config.profile}" if context.config.profile else ""
        link = f"{dashboard}/_/pipeline/{namespace}#/runs/details/{run.run_id}"
    else:
        link = f"{context.client.url}/apis/v2beta1/runs/{run.run_id}"
    return {"run-id": run.run_id, "run-name": _name(run), "run-url": link}


def list_runs(context: Context, params: ListParams) -> dict[str, str]:
    """List the newest runs, one per line.

    Raises:
        KfpError: The server cannot be reached, or denies access.
    """
    runs = [context.peer_data.runs.as_known(run) for run in _newest(context, params.limit)]
    rows = [
        (_name(run), run.state.value, timestamp(run.created_at), single_line(run.run_id, 128))
        for run in runs
    ]
    return {"count": str(len(runs)), "runs": table(rows)}


def get_run(context: Context, params: RunParams) -> dict[str, str]:
    """Return everything known about a run.

    Raises:
        NoSuchRunError: This trainer has no such run.
        KfpError: The server cannot be reached, or denies access.
        RegistryError: The registry cannot be read.
    """
    run = _run(context, params)
    steps = run.steps(pipelines.steps(run.parameters))
    issue = find_issue(context, run)
    result, report = context.registry.result(run.run_id), context.registry.report(run.run_id)
    results = {
        **describe(context, run),
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
            "verdict-reasons": "; ".join(result.reasons),
            "started-by": result.reason,
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
        results |= {"issue": str(issue), "pod": issue.pod, "log": issue.log}
    return {name: text for name, text in results.items() if text}


def follow(context: Context, run: Run, minutes: int, log: Callable[[str], object]) -> Run:
    """Wait until a run ends or the time is up, and return its latest state.

    Args:
        context: Client of the server.
        run: Run as it was submitted.
        minutes: Time to wait at most.
        log: Called with a line whenever the progress changes.

    Raises:
        KfpError: The server does not know the run, or denies access.
    """
    steps = pipelines.steps(run.parameters)
    return kfp_ops.follow(context.client, run, steps, timeout=60 * minutes, log=log)


def check_succeeded(run: Run) -> None:
    """Check that an awaited run succeeded.

    Raises:
        NoSuccessError: It did not, or is still running.
    """
    if not run.state.is_final:
        raise NoSuccessError(f"the wait timed out; run {_name(run)} is {run.state.value}")
    if run.state is not RunState.SUCCEEDED:
        raise NoSuccessError(f"run {_name(run)} ended {run.state.value}")


def cancel(context: Context, params: RunParams) -> dict[str, str]:
    """Terminate a run.

    Raises:
        NoSuchRunError: This trainer has no such run, or it has ended.
        KfpError: The server cannot be reached, or denies access.
    """
    run = _run(context, params)
    if run.state.is_final:
        raise NoSuchRunError(f"run {_name(run)} has already ended: {run.state.value}")
    record_termination(context, run)
    try:
        context.client.terminate_run(run.run_id)
    except (NotFoundError, RequestError):
        # The run ended in the meantime.
        context.peer_data.runs.set_terminated(run, terminated=False)
        raise
    after = context.peer_data.runs.as_known(context.client.get_run(run.run_id))
    return {**describe(context, run), "state": after.state.value}


def _newest(context: Context, limit: int, *, monitoring: bool = False) -> list[Run]:
    experiment = context.client.find_experiment(context.experiments[monitoring])
    return context.client.list_runs(experiment.experiment_id, limit=limit) if experiment else []


def _run(context: Context, params: RunParams) -> Run:
    if params.run_id in ("", MONITOR):
        newest = _newest(context, 1, monitoring=params.run_id == MONITOR)
        if not newest:
            raise NoSuchRunError("no run yet")
        return context.peer_data.runs.as_known(context.client.get_run(newest[0].run_id))
    try:
        run = context.client.get_run(params.run_id)
    except (NotFoundError, RequestError) as error:
        raise NoSuchRunError(f"no run {params.run_id}") from error
    # The ID may belong to another user's run in the same Kubeflow.
    experiments = (context.client.find_experiment(name) for name in context.experiments)
    if not any(
        experiment and run.experiment_id == experiment.experiment_id for experiment in experiments
    ):
        raise NoSuchRunError(f"run {params.run_id} does not belong to this trainer")
    return context.peer_data.runs.as_known(run)


def _name(run: Run) -> str:
    return single_line(run.display_name, _NAME_CHARACTERS)
