"""Kubeflow Pipelines' REST API v2beta1, with the responses of server 2.15.0."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from sandbox.api.auth import Authorizer
from sandbox.api.errors import NOT_FOUND, UNIMPLEMENTED, UNKNOWN, ApiError, UploadError
from sandbox.api.experiments import Experiments
from sandbox.api.pipelines import Pipelines
from sandbox.api.recurring_runs import RecurringRuns
from sandbox.api.runs import Runs
from sandbox.store import Store


def create_app(
    store: Store, authorizer: Authorizer, changed: Callable[[str, str], None]
) -> flask.Flask:
    """Build the API over a store.

    Args:
        store: State of the sandbox.
        authorizer: Checks permissions.
        changed: Called with (event, ID) when a run is submitted, terminated, retried or deleted, and
            when a recurring run is scheduled.
    """
    app = flask.Flask("sandbox")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    pipelines = Pipelines(store, authorizer)
    experiments = Experiments(store, authorizer, changed)
    runs = Runs(store, authorizer, experiments, changed)
    recurring_runs = RecurringRuns(store, authorizer, experiments, changed)
    if not authorizer.multi_user:
        experiments.default()

    def health() -> dict[str, Any]:
        return {"commit_sha": "unknown", "tag_name": "2.15.0", "multi_user": authorizer.multi_user}

    def healthz() -> dict[str, Any]:
        return {**health(), "pipeline_store": "database"}

    of_version = "/pipelines/<pipeline_id>/versions/<version_id>"
    of_node = "/runs/<run_id>/nodes/<node>"
    views = [
        ("GET", "/pipelines", pipelines.list),
        ("POST", "/pipelines", pipelines.create),
        ("GET", "/pipelines/upload", pipelines.upload),
        ("POST", "/pipelines/upload", pipelines.upload),
        ("GET", "/pipelines/names/<name>", pipelines.by_name),
        ("GET", "/pipelines/<pipeline_id>", pipelines.get),
        ("DELETE", "/pipelines/<pipeline_id>", pipelines.delete),
        ("POST", "/pipelines/upload_version", pipelines.upload_version),
        ("GET", "/pipelines/<pipeline_id>/versions", pipelines.list_versions),
        ("POST", "/pipelines/<pipeline_id>/versions", pipelines.create_version),
        ("GET", of_version, pipelines.get_version),
        ("DELETE", of_version, pipelines.delete_version),
        ("GET", "/experiments", experiments.list),
        ("POST", "/experiments", experiments.create),
        ("GET", "/experiments/<experiment_id>", experiments.get),
        ("DELETE", "/experiments/<experiment_id>", experiments.delete),
        ("POST", "/experiments/<experiment_id>:archive", experiments.archive),
        ("POST", "/experiments/<experiment_id>:unarchive", experiments.unarchive),
        ("GET", "/runs", runs.list),
        ("POST", "/runs", runs.create),
        ("GET", "/runs/<run_id>", runs.get),
        ("DELETE", "/runs/<run_id>", runs.delete),
        ("POST", "/runs/<run_id>:archive", runs.archive),
        ("POST", "/runs/<run_id>:unarchive", runs.unarchive),
        ("POST", "/runs/<run_id>:terminate", runs.terminate),
        ("POST", "/runs/<run_id>:retry", runs.retry),
        ("GET", f"{of_node}/artifacts/<target>", runs.read_artifact),
        ("GET", "/recurringruns", recurring_runs.list),
        ("POST", "/recurringruns", recurring_runs.create),
        ("GET", "/recurringruns/<recurring_run_id>", recurring_runs.get),
        ("DELETE", "/recurringruns/<recurring_run_id>", recurring_runs.delete),
        ("POST", "/recurringruns/<recurring_run_id>:enable", recurring_runs.enable),
        ("POST", "/recurringruns/<recurring_run_id>:disable", recurring_runs.disable),
        ("GET", "/healthz", healthz),
        ("POST", "/healthz", healthz),
    ]
    views = [(method, f"/apis/v2beta1{path}", view) for method, path, view in views]
    views += [
        ("GET", "/apis/v1beta1/healthz", health),
        ("GET", f"/apis/v1alpha1{of_node}/log", runs.read_log),
    ]
    app.url_map = _routes(tuple((method, path) for method, path, _ in views))
    app.view_functions |= {f"{method} {path}": view for method, path, view in views}
    app.register_error_handler(ApiError, _api_error)
    app.register_error_handler(UploadError, _upload_error)
    app.register_error_handler(HTTPException, _http_error)
    return app


@functools.cache
def _routes(routes: tuple[tuple[str, str], ...]) -> Map:
    """Compile the routes, once per process: it takes as long as everything else here."""
    app = flask.Flask("sandbox")
    for method, path in routes:
        app.add_url_rule(path, f"{method} {path}", methods=[method])
    return app.url_map


def _api_error(error: ApiError):
    return flask.jsonify(error.json), error.status


def _upload_error(error: UploadError):
    body = {"error_message": error.message, "error_details": error.message}
    kind = "text/plain; charset=utf-8" if error.as_text else "application/json"
    return flask.Response(json.dumps(body), error.status, content_type=kind)


def _http_error(error: HTTPException):
    if not flask.request.path.startswith("/apis/"):
        return flask.Response("404 page not found\n", 404, content_type="text/plain; charset=utf-8")
    if error.code == 405:
        return {"code": UNIMPLEMENTED, "message": "Method Not Allowed"}, 501
    code = NOT_FOUND if error.code == 404 else UNKNOWN
    return {"code": code, "message": error.name}, error.code
