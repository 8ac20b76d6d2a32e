"""A client of Kubeflow Pipelines' REST API v2beta1, for charms.

It has what a charm needs, and uses only what servers 2.5 and later accept. Every call has a timeout
and a limit on the response's size. It follows no redirects, accepts no compressed responses and retries
nothing: a request without a response may have been carried out, so observe again at the next Juju event.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import cast
from urllib.parse import quote

from kfp_ops import _errors as errors
from kfp_ops._api_types import (
    Experiment,
    Json,
    Pipeline,
    PipelineVersion,
    RecurringRun,
    Run,
    RunState,
    items,
    text,
)
from kfp_ops.text import single_line

API = "/apis/v2beta1"
_BY_STATUS = {
    401: errors.UnauthorizedError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    429: errors.ServerError,
}
NEWEST = "created_at desc"
OLDEST = "created_at asc"
_EMPTY = {"total_size", "next_page_token"}
_NAMES = ("name", "display_name")
# Maximum pages of a list in which similar names are skipped; each page is a call with its own timeout.
_MAX_PAGES = 20


class Client:
    """Typed calls to one Kubeflow Pipelines server.

    Args:
        url: Address of the server, such as http://kfp-api.kubeflow:8888.
        namespace: Namespace of the profile; empty on a single-user server.
        token: Returns a bearer token for each request; None if the server needs none.
        timeout: Seconds that a call may take, response included.
        max_bytes: Largest response that is read.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "",
        token: Callable[[], str] | None = None,
        timeout: float = 30,
        max_bytes: int = 32 * 1024 * 1024,
    ):
        self.url = url.rstrip("/")
        self.namespace = namespace
        self._token = token
        # Import httpx lazily: it doubles the start-up time of a hook.
        from kfp_ops._transport import Http

        self._http = Http(self.url, timeout=timeout, max_bytes=max_bytes)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Pipelines and their versions ---------------------------------------------------------------

    def find_pipeline(self, name: str) -> Pipeline | None:
        """Return the pipeline with this name in the namespace, or None.

        Raises:
            KfpError: Any of the package's errors, as with every call.
        """
        try:
            response = self._call(
                "GET", f"/pipelines/names/{_path_segment(name)}", query=self._scope()
            )
        except errors.NotFoundError:
            return None
        return Pipeline.from_json(response)

    def create_pipeline(self, name: str, description: str = "") -> Pipeline:
        """Create an empty pipeline; raise ConflictError if the name is taken."""
        body = {"display_name": name, "description": description, **self._scope()}
        return Pipeline.from_json(self._call("POST", "/pipelines", body=body))

    def find_version(self, pipeline_id: str, name: str) -> PipelineVersion | None:
        """Return the pipeline's version with this name, or None."""
        versions = self._list(
            f"/pipelines/{_path_segment(pipeline_id)}/versions",
            "pipeline_versions",
            filters={"name": name},
            query={},
        )
        return PipelineVersion.from_json(versions[0]) if versions else None

    def upload_version(
        self, pipeline_id: str, name: str, spec: str, description: str = ""
    ) -> PipelineVersion:
        """Upload a compiled specification as a version; raise ConflictError if its name is taken."""
        response = self._call(
            "POST",
            "/pipelines/upload_version",
            query={"name": name, "pipelineid": pipeline_id, "description": description},
            upload=spec,
        )
        return PipelineVersion.from_json(response)

    # Experiments --------------------------------------------------------------------------------

    def find_experiment(self, name: str) -> Experiment | None:
        """Return the experiment with this name in the namespace, or None."""
        experiments = self._list(
            "/experiments", "experiments", filters={"display_name": name}, query=self._scope()
        )
        return Experiment.from_json(experiments[0]) if experiments else None

    def create_experiment(self, name: str, description: str = "") -> Experiment:
        """Create an experiment; raise ConflictError if the name is taken."""
        body = {"display_name": name, "description": description, **self._scope()}
        return Experiment.from_json(self._call("POST", "/experiments", body=body))

    # Runs ---------------------------------------------------------------------------------------

    def find_run(self, experiment_id: str, name: str) -> Run | None:
        """Return the newest run with this name in the experiment, or None; names are not unique."""
        return next(iter(self.find_runs(experiment_id, name, limit=1)), None)

    def find_runs(self, experiment_id: str, name: str, *, limit: int = 10) -> list[Run]:
        """Return the newest runs with this name, archived ones included, newest first."""
        rows = self._list(
            "/runs",
            "runs",
            filters={"display_name": name},
            limit=limit,
            query={"experiment_id": experiment_id, **self._scope()},
        )
        return [Run.from_json(row) for row in rows]

    def list_runs(
        self,
        experiment_id: str,
        *,
        limit: int = 1,
        name_contains: str = "",
        state: RunState | Sequence[RunState] = (),
        recurring_run_ids: Sequence[str] = (),
        oldest_first: bool = False,
    ) -> list[Run]:
        """Return the experiment's newest runs, newest first, without archived ones.

        Args:
            experiment_id: Experiment to look in.
            limit: Number of runs at most.
            name_contains: Return only runs whose names contain this.
            state: Return only runs in this state, or in one of these.
            recurring_run_ids: Return only runs of these recurring runs.
            oldest_first: Return the oldest runs, oldest first.
        """
        states = (state,) if isinstance(state, RunState) else state
        among = {
            "state": [run_state.value for run_state in states],
            "recurring_run_id": list(recurring_run_ids),
        }
        rows = self._list(
            "/runs",
            "runs",
            filters={"storage_state": "AVAILABLE"},
            among={key: values for key, values in among.items() if values},
            contains={"name": name_contains} if name_contains else {},
            limit=limit,
            sort_by=OLDEST if oldest_first else NEWEST,
            query={"experiment_id": experiment_id, **self._scope()},
        )
        return [Run.from_json(row) for row in rows]

    def get_run(self, run_id: str) -> Run:
        """Return a run with its tasks; raise NotFoundError if it does not exist."""
        return Run.from_json(self._call("GET", f"/runs/{_path_segment(run_id)}"))

    def create_run(
        self,
        *,
        name: str,
        experiment_id: str,
        version: PipelineVersion,
        parameters: Mapping[str, object],
        description: str = "",
        service_account: str = "",
    ) -> Run:
        """Submit a run of the version, even if the name exists."""
        body = _submission(name, experiment_id, version, parameters, description)
        if service_account:
            body["service_account"] = service_account
        return Run.from_json(self._call("POST", "/runs", body=body))

    def terminate_run(self, run_id: str) -> None:
        """Terminate a run; raise RequestError if it has ended already."""
        self._call("POST", f"/runs/{_path_segment(run_id)}:terminate")

    # Recurring runs -----------------------------------------------------------------------------

    def list_recurring_runs(
        self, experiment_id: str, *, limit: int = 10, name_contains: str = ""
    ) -> list[RecurringRun]:
        """Return the experiment's newest recurring runs, newest first."""
        rows = self._list(
            "/recurringruns",
            "recurringRuns",  # the one list whose key is in camel case
            filters={},
            contains={"display_name": name_contains} if name_contains else {},
            limit=limit,
            query={"experiment_id": experiment_id, **self._scope()},
        )
        return [RecurringRun.from_json(row) for row in rows]

    def create_recurring_run(
        self,
        *,
        name: str,
        experiment_id: str,
        version: PipelineVersion,
        cron: str,
        parameters: Mapping[str, object],
        description: str = "",
        enabled: bool = True,
    ) -> RecurringRun:
        """Create a recurring run that submits one run at a time and does not catch up on missed times.

        `cron` has six fields, seconds first, in the server's time zone, usually UTC.
        """
        body = {
            **_submission(name, experiment_id, version, parameters, description),
            "trigger": {"cron_schedule": {"cron": cron}},
            "max_concurrency": 1,
            "no_catchup": True,
            "mode": "ENABLE" if enabled else "DISABLE",
        }
        return RecurringRun.from_json(self._call("POST", "/recurringruns", body=body))

    def enable_recurring_run(self, recurring_run_id: str) -> None:
        """Enable a recurring run; raise NotFoundError if it does not exist."""
        self._call("POST", f"/recurringruns/{_path_segment(recurring_run_id)}:enable", body={})

    def disable_recurring_run(self, recurring_run_id: str) -> None:
        """Disable a recurring run; raise NotFoundError if it does not exist."""
        self._call("POST", f"/recurringruns/{_path_segment(recurring_run_id)}:disable", body={})

    def delete_recurring_run(self, recurring_run_id: str) -> None:
        """Delete a recurring run; raise NotFoundError if it does not exist.

        Its runs stay, but servers before 2.16 let Kubernetes delete the workflow of an unfinished one.
        Source: https://github.com/kubeflow/pipelines/issues/12573.
        """
        self._call("DELETE", f"/recurringruns/{_path_segment(recurring_run_id)}")

    # Requests -----------------------------------------------------------------------------------

    def _scope(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}

    def _list(
        self,
        path: str,
        field: str,
        *,
        filters: Mapping[str, str],
        contains: Mapping[str, str] | None = None,
        among: Mapping[str, Sequence[str]] | None = None,
        limit: int = 1,
        sort_by: str = NEWEST,
        query: Mapping[str, str],
    ) -> list[Json]:
        """Return the first objects whose fields equal `filters`, contain `contains` and are `among`.

        Compare names again here: the server's IS_SUBSTRING is SQL's LIKE, in which `_` and `%` match
        anything, and databases ignore case. Read pages until there are `limit` objects or no more pages.
        """
        predicates: list[Json] = [
            {"key": key, "operation": operation, "string_value": value}
            for operation, fields in (("EQUALS", filters), ("IS_SUBSTRING", contains or {}))
            for key, value in fields.items()
        ]
        predicates += [
            {"key": key, "operation": "IN", "string_values": {"values": list(values)}}
            for key, values in (among or {}).items()
        ]
        query = {
            **query,
            "filter": _filter_text(predicates),
            "page_size": str(limit),
            "sort_by": sort_by,
        }
        found: list[Json] = []
        for _ in range(_MAX_PAGES):
            response = self._call("GET", path, query=query)
            # An empty list has no field of its own; anything else without it is not a list.
            if field not in response and not response.keys() <= _EMPTY:
                raise errors.AnswerError(f"GET {API}{path}: the response has no {field!r}")
            found += [row for row in items(response, field) if _is_named(row, filters, contains)]
            page_token = text(response, "next_page_token", "")
            if len(found) >= limit or not page_token:
                return found[:limit]
            query = {**query, "page_token": page_token}
        raise errors.AnswerError(
            f"GET {API}{path}: more than {_MAX_PAGES} pages of objects with other names"
        )

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        upload: str | None = None,
    ) -> Json:
        endpoint = f"{method} {API}{path}"
        status, content = self._http.send(
            method,
            API + path,
            query={key: value for key, value in (query or {}).items() if value},
            body=None if body is None else {k: v for k, v in body.items() if v != ""},
            upload=upload,
            token=self._token() if self._token else "",
        )
        if status >= 400:
            kind = _BY_STATUS.get(
                status, errors.ServerError if status >= 500 else errors.RequestError
            )
            raise kind(endpoint, status, _message(content))
        if status != 200:
            raise errors.AnswerError(
                f"{endpoint}: unexpected status {status}; is {self.url} the API?"
            )
        return _decode(content, endpoint)


def _filter_text(predicates: Sequence[Json]) -> str:
    """Return a list's filter, escaped: the server unescapes it twice."""
    if not predicates:
        return ""
    return json.dumps({"predicates": predicates}).replace("%", "%25").replace("+", "%2B")


def _is_named(row: Json, filters: Mapping[str, str], contains: Mapping[str, str] | None) -> bool:
    """Return whether an object's name really matches the filters."""
    if "display_name" not in row:
        return True
    name = text(row, "display_name")
    return all(name == filters[key] for key in _NAMES if key in filters) and all(
        part in name for part in (contains or {}).values()
    )


def _decode(content: bytes, endpoint: str) -> Json:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise errors.AnswerError(
            f"{endpoint}: the response is not JSON: {content[:80]!r}"
        ) from error
    if not isinstance(body, dict):
        raise errors.AnswerError(f"{endpoint}: the response is not a JSON object: {content[:80]!r}")
    body = cast("Json", body)
    # Some proxies and old servers send an error with status 200.
    if "error_message" in body or ("code" in body and "message" in body):
        raise errors.AnswerError(f"{endpoint}: {_message(content)}")
    return body


def _message(content: bytes) -> str:
    """Return the message of an error response in any of the server's forms, as one line."""
    message = content.decode(errors="replace")
    try:
        body = json.loads(content)
        if isinstance(body, dict):
            body = cast("Json", body)
            message = text(body, "message", "") or text(body, "error_message", "") or message
    except (ValueError, RecursionError, errors.AnswerError):
        pass
    return single_line(message, 300)


def _submission(
    name: str,
    experiment_id: str,
    version: PipelineVersion,
    parameters: Mapping[str, object],
    description: str,
) -> dict[str, object]:
    """Return the fields that runs and recurring runs have in common."""
    return {
        "display_name": name,
        "description": description,
        "experiment_id": experiment_id,
        "pipeline_version_reference": {
            "pipeline_id": version.pipeline_id,
            "pipeline_version_id": version.pipeline_version_id,
        },
        "runtime_config": {"parameters": dict(parameters)},
    }


def _path_segment(name: str) -> str:
    """Quote a name or an ID as one segment of a path.

    Raises:
        AnswerError: The ID cannot be the server's.
    """
    if name in ("", ".", "..") or len(name) > 256:
        raise errors.AnswerError(f"not a valid ID: {single_line(name, 40)!r}")
    return quote(name, safe="", errors="replace")
