"""Experiments, which group runs and recurring runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask

from sandbox.api import listing, requests, responses
from sandbox.api.auth import Authorizer
from sandbox.api.errors import error_prefix, exists, internal, invalid, not_found
from sandbox.store import Row, Store, TakenError


class Experiments:
    """The endpoints under /experiments, and lookups for other endpoints.

    Args:
        store: State of the sandbox.
        authorizer: Checks permissions.
        changed: Called with ("scheduled", ID) when an archived experiment's recurring runs stop.
    """

    def __init__(self, store: Store, authorizer: Authorizer, changed: Callable[[str, str], None]):
        self._store = store
        self._authorizer = authorizer
        self._changed = changed

    def list(self) -> dict[str, Any]:
        """List experiments of a namespace."""
        namespace = self._authorizer.namespace(flask.request.args)
        with error_prefix("List experiments failed: Failed to authorize with API: "):
            self._authorizer.check(flask.request.headers, "list", "experiments", namespace)
        where = {"namespace": namespace}
        if not self._authorizer.multi_user:
            where = {}
            self.default()
        page = listing.page(self._store, "experiments", flask.request.args, where)
        return page.json("experiments", responses.experiment)

    def create(self) -> dict[str, Any]:
        """Create an experiment."""
        body = requests.read(requests.EXPERIMENT)
        name = body.get("display_name", "")
        if not name:
            raise internal(
                "[ExperimentServer]: Failed to create a experiment due to conversion error: "
                "InternalServerError: Failed to convert API experiment to model experiment: "
                "Invalid input error: Experiment must have a non-empty name"
            )
        namespace = self._authorizer.namespace(body)
        with error_prefix("Failed to create a experiment: "):
            with error_prefix("Failed to authorize the request: "):
                self._authorizer.check(
                    flask.request.headers, "create", "experiments", namespace, name
                )
            try:
                row = self._add(name, body.get("description", ""), namespace)
            except TakenError:
                raise exists("experiment", name) from None
        return responses.experiment(row)

    def get(self, experiment_id: str) -> dict[str, Any]:
        """Return an experiment."""
        with error_prefix("Failed to fetch experiment: "):
            return responses.experiment(self._permitted("get", experiment_id))

    def delete(self, experiment_id: str) -> dict[str, Any]:
        """Delete an experiment; its runs stay, but can no longer be terminated or deleted."""
        with error_prefix("Failed to delete experiment: "):
            self._permitted(
                "delete",
                experiment_id,
                f"Failed to delete experiment {experiment_id} due to error fetching it: ",
            )
        self._store.delete("experiments", "id = ?", experiment_id)
        return {}

    def archive(self, experiment_id: str) -> dict[str, Any]:
        """Archive an experiment and its runs, and disable its recurring runs.

        Unfinished runs continue. A single-user server returns 200 for an experiment that does not exist.
        """
        if self._authorizer.multi_user:
            with error_prefix("Failed to archive experiment: "):
                self._permitted("archive", experiment_id)
        self._store.archive_experiment(experiment_id)
        self._changed("scheduled", experiment_id)
        return {}

    def unarchive(self, experiment_id: str) -> dict[str, Any]:
        """Unarchive an experiment; its runs stay archived, and its recurring runs disabled."""
        with error_prefix("Failed to unarchive experiment: "):
            self._permitted(
                "unarchive",
                experiment_id,
                f"Failed to unarchive experiment {experiment_id} due to error fetching it: ",
            )
        self._store.update("experiments", experiment_id, storage_state="AVAILABLE")
        return {}

    def default(self) -> Row:
        """Return the default experiment of a single-user server; create it if needed."""
        return self._store.first("experiments", "name = 'Default'") or self._add(
            "Default", "All runs created without specifying an experiment will be grouped here."
        )

    def find(self, experiment_id: str) -> Row:
        """Return an experiment; raise a 404 if it does not exist."""
        row = self._store.get("experiments", experiment_id)
        if not row:
            raise not_found("Experiment", experiment_id)
        return row

    def namespace(self, experiment_id: str) -> str:
        """Return the namespace of an experiment whose runs are listed."""
        with error_prefix(
            f"error fetching namespace for experiment {experiment_id}. Try filtering based on "
            f"namespace: Failed to fetch namespace from experiment {experiment_id}: "
        ):
            return self.find(experiment_id)["namespace"]

    def of_run(self, run: Row, then: str) -> Row:
        """Return the experiment of an existing run.

        Args:
            run: Run.
            then: Prefix of the server's error message.

        Raises:
            ApiError: 404, the experiment was deleted.
        """
        with error_prefix(
            f"{then}: Failed to fetch namespace from experiment {run['experiment_id']}: "
        ):
            return self.find(run["experiment_id"])

    def resolve_experiment(self, experiment_id: str) -> Row:
        """Return the experiment that a new run names, or the default."""
        with error_prefix("invalid experimentId and namespace combination: "):
            if not experiment_id and self._authorizer.multi_user:
                raise invalid("Experiment id can not be empty in multi-user mode")
            if not experiment_id:
                return self.default()
            with error_prefix(
                f"Failed to fetch namespace for experiment {experiment_id}: "
                f"Failed to fetch namespace from experiment {experiment_id}: "
            ):
                return self.find(experiment_id)

    def _permitted(self, verb: str, experiment_id: str, then: str = "") -> Row:
        """Return an experiment after checking the permission.

        If it does not exist, a multi-user server fails in the check; a single-user one prefixes `then`.
        """
        if not self._authorizer.multi_user:
            with error_prefix(then):
                return self.find(experiment_id)
        with error_prefix("Failed to authorize the request: "):
            with error_prefix("Failed to authorize with the experiment ID: "):
                row = self.find(experiment_id)
            self._authorizer.check(
                flask.request.headers, verb, "experiments", row["namespace"], row["name"]
            )
        return row

    def _add(self, name: str, description: str, namespace: str = "") -> Row:
        return self._store.add(
            "experiments",
            namespace=namespace,
            name=name,
            description=description,
            created_at=self._store.now(),
            storage_state="AVAILABLE",
            last_run_created_at=responses.EPOCH,
        )
