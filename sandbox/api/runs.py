"""Runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import flask
from werkzeug.datastructures import Headers

from sandbox import specs
from sandbox.api import listing, requests, responses, submission
from sandbox.api.auth import Authorizer
from sandbox.api.errors import (
    ABORTED,
    PRECONDITION,
    ApiError,
    UploadError,
    error_prefix,
    internal,
    invalid,
    not_found,
)
from sandbox.api.experiments import Experiments
from sandbox.store import Row, Store


class Runs:
    """The endpoints under /runs.

    Args:
        store: State of the sandbox.
        authorizer: Checks permissions.
        experiments: Experiments of the runs.
        changed: Called with (event, ID) when a run is submitted, terminated, retried or deleted.
    """

    def __init__(
        self,
        store: Store,
        authorizer: Authorizer,
        experiments: Experiments,
        changed: Callable[[str, str], None],
    ):
        self._store = store
        self._authorizer = authorizer
        self._experiments = experiments
        self._changed = changed

    def list(self) -> dict[str, Any]:
        """List runs of a namespace or an experiment."""
        experiment_id = flask.request.args.get("experiment_id", "")
        namespace = self._authorizer.namespace(flask.request.args)
        where = {"namespace": namespace} if self._authorizer.multi_user else {}
        with error_prefix("Failed to list runs: Failed to list runs due to "):
            if experiment_id:
                namespace = self._experiments.namespace(experiment_id)
                where = {"experiment_id": experiment_id}
            with error_prefix(
                "authorization error. Check if you have permission to access namespace "
                f"{namespace}: "
            ):
                self._authorizer.check(flask.request.headers, "list", "runs", namespace)
        page = listing.page(self._store, "runs", flask.request.args, where)
        return page.json("runs", responses.run)

    def create(self) -> dict[str, Any]:
        """Submit a run."""
        body = requests.read(requests.RUN)
        if not body.get("display_name"):
            raise internal(
                "CreateJob(job.ToV2())Failed to create a run due to conversion error: "
                "InternalServerError: Failed to convert a API run detail to its internal "
                "representation: Invalid input error: Run name cannot be empty"
            )
        with error_prefix("Failed to create a new run: "):
            with error_prefix(
                "InternalServerError: Failed to create a run due to error fetching manifest: "
            ):
                specification = submission.specification(self._store, body)
            with error_prefix("Failed to create a run due to "):
                experiment = self._experiments.resolve_experiment(body.get("experiment_id", ""))
            namespace = experiment["namespace"]
            with error_prefix(
                "Failed to create a run due to authorization error. Check if you have write "
                f"permissions to namespace {namespace}: "
            ):
                self._authorizer.check(flask.request.headers, "create", "runs", namespace)
            with error_prefix(
                "Failed to generate the ExecutionSpec: invalid pipeline job inputs: "
            ):
                submission.check_parameters(specification["spec"], body)
        row = self._store.add_run(
            namespace=namespace,
            experiment_id=experiment["id"],
            **specification,
            **submission.settings(body, multi_user=self._authorizer.multi_user),
        )
        self._changed("submitted", row["id"])
        return responses.run(row)

    def get(self, run_id: str) -> dict[str, Any]:
        """Return a run."""
        with error_prefix("Failed to get a run: "):
            return responses.run(self._permitted("get", run_id))

    def delete(self, run_id: str) -> dict[str, Any]:
        """Delete a run, and kill it if it is unfinished.

        A single-user server fails if the run's experiment, from which it reads the namespace, is
        missing.
        """
        with error_prefix("Failed to delete a run: "):
            run = self._permitted(
                "delete", run_id, f"Failed to delete run {run_id} as it does not exist: "
            )
            if not run["namespace"]:
                self._experiments.of_run(
                    run, f"Failed to delete a run {run_id} due to namespace fetching error"
                )
        self._changed("deleted", run_id)
        self._store.delete("runs", "id = ?", run_id)
        return {}

    def archive(self, run_id: str) -> dict[str, Any]:
        """Archive a run, even if it is unfinished."""
        with error_prefix("Failed to archive a run: "):
            self._permitted(
                "archive", run_id, f"Failed to archive run {run_id} as it failed to be retrieved: "
            )
        self._store.update("runs", run_id, storage_state="ARCHIVED")
        return {}

    def unarchive(self, run_id: str) -> dict[str, Any]:
        """Unarchive a run of an experiment that is not archived itself."""
        with error_prefix("Failed to unarchive a run: "):
            run = self._permitted(
                "unarchive", run_id, f"Failed to unarchive run {run_id} as it does not exist: "
            )
            with error_prefix(
                f"Failed to unarchive run {run_id} due to experiment fetching error: "
            ):
                experiment = self._experiments.find(run["experiment_id"])
            if experiment["storage_state"] == "ARCHIVED":
                reason = (
                    f"Failed to unarchive run {run_id} as experiment {experiment['id']} must be "
                    "un-archived first"
                )
                raise ApiError(
                    400,
                    PRECONDITION,
                    f"FailedPreconditionError: {reason}: Unarchive the experiment first to allow the "
                    "run to be restored",
                    reason,
                )
        self._store.update("runs", run_id, storage_state="AVAILABLE")
        return {}

    def terminate(self, run_id: str) -> dict[str, Any]:
        """Terminate an unfinished run.

        Do not add it to the state history: the server does so only if it sees the workflow before it
        ends.
        """
        with error_prefix("Failed to terminate a run: "):
            run = self._permitted(
                "terminate",
                run_id,
                f"Failed to terminate run {run_id} due to error fetching the run: ",
            )
            self._namespace(run, f"Failed to terminate run {run_id}")
            if not self._store.cancel_run(run_id):
                with error_prefix(f"Failed to terminate run {run_id}: "):
                    raise invalid(f"Failed to terminate a run {run_id}. Row not found")
        self._changed("terminated", run_id)
        return {}

    def retry(self, run_id: str) -> dict[str, Any]:
        """Retry a failed run."""
        with error_prefix("Failed to retry a run: "):
            row = self._permitted(
                "retry", run_id, f"Failed to retry run {run_id} due to error fetching the run: "
            )
            self._namespace(row, f"Failed to retry run {run_id}")
            if row["state"] != "FAILED":
                reason = "Workflow must be Failed/Error to retry"
                raise ApiError(
                    409,
                    ABORTED,
                    f"Failed to retry run {run_id}: BadRequestError: {reason}: workflow cannot be "
                    "retried",
                    reason,
                )
        # The server restarts the state history, with RUNNING.
        history = json.dumps([{"update_time": self._store.now(), "state": "RUNNING"}])
        self._store.update("runs", run_id, state="PENDING", history=history, finished_at=None)
        self._changed("retried", run_id)
        return {}

    def read_log(self, run_id: str, node: str) -> dict[str, Any]:
        """Return the server's error, with status 200 and to any user, for a missing pod."""
        doing = f"BadRequestError: Failed to read logs for run {run_id}"
        if not self._store.get("runs", run_id):
            raise UploadError(
                200,
                f"{doing} due to run fetching error: Failed to fetch run {run_id}: "
                f"ResourceNotFoundError: Run {run_id} not found",
            )
        raise UploadError(
            200,
            f"{doing}: InternalServerError: Failed to read logs from archive {node} due to error "
            "fetching the log file",
        )

    def read_artifact(self, run_id: str, node: str, target: str) -> dict[str, Any]:
        """Return the error for a missing artifact; a multi-user server ignores tokens here."""
        del node, target
        run = self._store.get("runs", run_id)
        if run and not flask.request.headers.get("kubeflow-userid"):
            try:
                self._authorizer.check(
                    Headers(), "readArtifact", "runs", run["namespace"], identity=run_id
                )
            except ApiError as error:
                raise UploadError(
                    403, f"Failed to authorize the request: {error.message}"
                ) from None
        raise UploadError(404, "artifact not found: <nil>")

    def _permitted(self, verb: str, run_id: str, then: str = "") -> Row:
        """Return a run after checking the permission; see `Experiments._permitted`."""
        if not self._authorizer.multi_user:
            with error_prefix(then):
                return self._find(run_id)
        with error_prefix("Failed to authorize the request: "):
            with error_prefix(f"Failed to authorize with the run ID {run_id}: "):
                run = self._find(run_id)
            self._authorizer.check(
                flask.request.headers, verb, "runs", run["namespace"], _workflow(run), run_id
            )
        return run

    def _namespace(self, run: Row, then: str) -> str:
        """Return the namespace of a run's experiment; raise a 404 if it was deleted."""
        return self._experiments.of_run(
            run,
            f"{then} due to error fetching its namespace: "
            f"Failed to fetch namespace from run {run['id']}",
        )["namespace"]

    def _find(self, run_id: str) -> Row:
        row = self._store.get("runs", run_id)
        if not row:
            with error_prefix(f"Failed to fetch run {run_id}: "):
                raise not_found("Run", run_id)
        return row


def _workflow(run: Row) -> str:
    """Return the name of a run's Argo workflow, as the server would generate it."""
    return f"{specs.name(run['spec'])}-{run['id'][:5]}"
