"""Recurring runs, for which the scheduler submits runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import flask

from sandbox.api import listing, requests, responses, submission
from sandbox.api.auth import Authorizer
from sandbox.api.errors import error_prefix, internal, invalid, not_found
from sandbox.api.experiments import Experiments
from sandbox.schedule import next_time
from sandbox.store import Row, Store, utc_now

# Namespace of all runs on a single-user server.
_NAMESPACE = "kubeflow"


class RecurringRuns:
    """The endpoints under /recurringruns.

    Args:
        store: State of the sandbox.
        authorizer: Checks permissions.
        experiments: which their runs go into.
        changed: Called with ("scheduled", ID) when one is created, enabled or disabled.
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
        """List recurring runs of a namespace or an experiment."""
        experiment_id = flask.request.args.get("experiment_id", "")
        namespace = self._authorizer.namespace(flask.request.args)
        where = {"namespace": namespace} if self._authorizer.multi_user else {}
        with error_prefix("Failed to list jobs: Failed to list recurring runs due to "):
            if experiment_id:
                where = {"experiment_id": experiment_id}
                # A single-user server returns an empty list for an unknown experiment.
                if self._authorizer.multi_user:
                    namespace = self._experiments.namespace(experiment_id)
            with error_prefix(
                "authorization error. Check if you have permission to access namespace "
                f"{namespace}: "
            ):
                self._authorizer.check(flask.request.headers, "list", "jobs", namespace)
        page = listing.page(self._store, "recurring_runs", flask.request.args, where)
        # Only this field of the server's responses is in camel case.
        return page.json("recurringRuns", responses.recurring_run)

    def create(self) -> dict[str, Any]:
        """Create a recurring run."""
        body = requests.read(requests.RECURRING_RUN)
        trigger = body.get("trigger", {})
        with error_prefix("Failed to create a recurring run due to conversion error: "):
            if not body.get("display_name"):
                raise internal(
                    "InternalServerError: Failed to convert a API recurring run to its internal "
                    "representation: Invalid input error: Recurring run's name cannot be empty"
                )
            _check_trigger(trigger)
            concurrency = int(body.get("max_concurrency", 0))
            if not 1 <= concurrency <= 10:
                raise invalid(
                    "Max concurrency of a recurring run must be at least 1 and at most 10. "
                    f"Received {concurrency}"
                )
        with error_prefix("Failed to create a recurring run: "):
            experiment = self._home(body.get("experiment_id", ""))
            namespace = experiment["namespace"]
            with error_prefix(
                "Failed to create a recurring run due to authorization error. Check if you have "
                f"write permission to namespace {namespace}: "
            ):
                self._authorizer.check(
                    flask.request.headers, "create", "jobs", namespace, body["display_name"]
                )
            with error_prefix("InternalServerError: "):
                specification = submission.specification(self._store, body)
            with error_prefix(
                "Failed to create a recurring run during scheduled workflow creation: "
                "invalid pipeline job inputs: "
            ):
                submission.check_parameters(specification["spec"], body)
        now = self._store.now()
        row = self._store.add(
            "recurring_runs",
            namespace=namespace or _NAMESPACE,
            experiment_id=experiment["id"],
            **specification,
            **submission.settings(body, multi_user=self._authorizer.multi_user),
            created_at=now,
            updated_at=now,
            max_concurrency=concurrency,
            trigger=json.dumps(trigger),
            mode="ENABLE" if body.get("mode") == "ENABLE" else "DISABLE",
            no_catchup=int(body.get("no_catchup", False)),
            next_at=None,
        )
        self._changed("scheduled", row["id"])
        response = responses.recurring_run(row)
        # Only this response contains an empty trigger.
        return {**response, "trigger": trigger} if body.get("trigger") == {} else response

    def get(self, recurring_run_id: str) -> dict[str, Any]:
        """Return a recurring run."""
        with error_prefix("Failed to fetch a recurring run: "):
            return responses.recurring_run(self._permitted("get", recurring_run_id))

    def delete(self, recurring_run_id: str) -> dict[str, Any]:
        """Delete a recurring run; its runs stay, but an unfinished one loses its workflow.

        Servers before 2.16 do the same: https://github.com/kubeflow/pipelines/issues/12573. The state of
        that run never changes again.
        """
        # The server's message has `disable` here.
        with error_prefix("Failed to disable a recurring run: "):
            self._permitted(
                "delete",
                recurring_run_id,
                f"Failed to delete recurring run {recurring_run_id}. Check if exists: ",
            )
        self._store.delete("recurring_runs", "id = ?", recurring_run_id)
        going = "recurring_run_id = ? AND state IN ('PENDING', 'RUNNING')"
        for run in self._store.select("runs", going, [recurring_run_id]):
            self._store.set_run_state(run["id"], "RUNNING")
            self._changed("lost", run["id"])
        return {}

    def enable(self, recurring_run_id: str) -> dict[str, Any]:
        """Enable a recurring run."""
        return self._switch("enable", recurring_run_id, "enable:true")

    def disable(self, recurring_run_id: str) -> dict[str, Any]:
        """Disable a recurring run."""
        return self._switch("disable", recurring_run_id, "enable:false")

    def _switch(self, verb: str, recurring_run_id: str, mode: str) -> dict[str, Any]:
        with error_prefix(f"Failed to {verb} a recurring run: "):
            self._permitted(
                verb,
                recurring_run_id,
                f"Failed to change recurring run's mode to {mode}. "
                f"Check if recurring run {recurring_run_id} exists: ",
            )
        self._store.update(
            "recurring_runs",
            recurring_run_id,
            mode=verb.upper(),
            updated_at=self._store.now(),
        )
        self._changed("scheduled", recurring_run_id)
        return {}

    def _home(self, experiment_id: str) -> Row:
        """Return the experiment for its runs; a single-user server's error for it is short."""
        if self._authorizer.multi_user:
            with error_prefix("Failed to create a recurring run due to "):
                return self._experiments.resolve_experiment(experiment_id)
        if experiment_id:
            return self._experiments.find(experiment_id)
        return self._experiments.default()

    def _permitted(self, verb: str, recurring_run_id: str, then: str = "") -> Row:
        """Return a recurring run after checking the permission; see `Experiments._permitted`."""
        if not self._authorizer.multi_user:
            with error_prefix(then):
                return self._find(recurring_run_id)
        with error_prefix("Failed to authorize the request: "):
            with error_prefix("failed to authorize with the recurring run ID: "):
                row = self._find(recurring_run_id)
            self._authorizer.check(
                flask.request.headers, verb, "jobs", row["namespace"], row["name"]
            )
        return row

    def _find(self, recurring_run_id: str) -> Row:
        row = self._store.get("recurring_runs", recurring_run_id)
        if not row:
            raise not_found("Job", recurring_run_id)
        return row


def _check_trigger(trigger: Mapping[str, Any]) -> None:
    if "cron_schedule" in trigger:
        cron = trigger["cron_schedule"].get("cron", "")
        reason = _cron_error(cron)
        if reason:
            raise invalid(
                "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron). "
                f"Error: {reason}"
            )
    if "periodic_schedule" in trigger:
        seconds = int(trigger["periodic_schedule"].get("interval_second", 0))
        if seconds < 1:
            raise invalid(
                f"Found invalid period schedule interval {seconds}. "
                "Set at interval to least 1 second"
            )


def _cron_error(cron: str) -> str:
    """Return what is wrong with a cron expression; empty if nothing is."""
    fields = cron.split()
    if not fields:
        return "Empty spec string"
    if not cron.startswith("@") and len(fields) not in (5, 6):
        return f"Expected 5 to 6 fields, found {len(fields)}: {cron}"
    return cron if next_time(cron, utc_now()) is None else ""
