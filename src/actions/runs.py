"""The actions about runs: list, get, cancel, and following a run. Results have names in kebab-case."""

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
from reconciler.run_issues import find_issue, note_termination

# Characters of a name, which may be anybody's.
NAME = 128


def describe(context: Context, run: Run) -> dict[str, str]:
    """Return a run's ID, name and URL: that of Kubeflow's dashboard if known, else of the API."""
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
        KfpError: the server cannot be reached or does not allow it.
    """
    runs = [context.peer_data.runs.as_known(run) for run in _newest(context, params.limit)]
    rows = [
        (_name(run), run.state.value, timestamp(run.created_at), single_line(run.run_id, NAME))
        for run in runs
    ]
    return {"count": str(len(runs)), "runs": table(rows)}


def get_run(context: Context, params: RunParams) -> dict[str, str]:
    """Return everything known about one run.

    Raises:
        NoSuchRunError: this trainer has no such run.
        KfpError: the server cannot be reached or does not allow it.
        RegistryError: the registry cannot be read.
    """
    run = _run(context, params)
    names = pipelines.steps(run.parameters)
    steps = run.steps(names)
    issue = find_issue(context, run, names)
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
    """Wait until a run has ended or the time is up, and return it as it is then.

    Args:
        context: Client of the server.
        run: Run as it was submitted.
        minutes: Time to wait at most.
        log: Called with a line whenever the progress has changed.

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
        raise NoSuccessError(f"the time is up and run {_name(run)} is {run.state.value}")
    if run.state is not RunState.SUCCEEDED:
        raise NoSuccessError(f"run {_name(run)} ended {run.state.value}")


def cancel(context: Context, params: RunParams) -> dict[str, str]:
    """Terminate a run.

    Raises:
        NoSuchRunError: this trainer has no such run, or it has ended.
        KfpError: the server cannot be reached or does not allow it.
    """
    run = _run(context, params)
    if run.state.is_final:
        raise NoSuchRunError(f"run {_name(run)} has ended already: {run.state.value}")
    note_termination(context, run)
    try:
        context.client.terminate_run(run.run_id)
    except (NotFoundError, RequestError):
        # It ended by itself in the meantime.
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
            raise NoSuchRunError("there is no run yet")
        return context.peer_data.runs.as_known(context.client.get_run(newest[0].run_id))
    try:
        run = context.client.get_run(params.run_id)
    except (NotFoundError, RequestError) as error:
        raise NoSuchRunError(f"there is no run {params.run_id}") from error
    # The id may be that of a run of somebody else in the same Kubeflow.
    experiments = (context.client.find_experiment(name) for name in context.experiments)
    if not any(
        experiment and run.experiment_id == experiment.experiment_id for experiment in experiments
    ):
        raise NoSuchRunError(f"run {params.run_id} is not one of this trainer")
    return context.peer_data.runs.as_known(run)


def _name(run: Run) -> str:
    return single_line(run.display_name, NAME)
