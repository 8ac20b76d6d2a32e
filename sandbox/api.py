"""Kubeflow Pipelines' REST API v2beta1, as server 2.15.0 answers it."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import flask
from croniter import croniter
from werkzeug.exceptions import HTTPException

from sandbox import listing, specs
from sandbox.access import Access
from sandbox.errors import (
    ABORTED,
    EXISTS,
    INVALID,
    UNIMPLEMENTED,
    ApiError,
    UploadError,
    internal,
    invalid,
    not_found,
)
from sandbox.store import Row, Store, TakenError, utc_now

V2 = "/apis/v2beta1"
_EPOCH = "1970-01-01T00:00:00Z"
_FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_RUN = {
    "run_id": str,
    "experiment_id": str,
    "display_name": str,
    "description": str,
    "storage_state": str,
    "pipeline_version_id": str,
    "pipeline_version_reference": dict,
    "pipeline_spec": dict,
    "runtime_config": dict,
    "service_account": str,
}
_RECURRING_RUN = {
    **_RUN,
    "recurring_run_id": str,
    "max_concurrency": object,
    "trigger": dict,
    "mode": str,
    "no_catchup": bool,
    "namespace": str,
}
_NAMED = {"display_name": str, "name": str, "description": str, "namespace": str}
_EXPERIMENT = {**_NAMED, "experiment_id": str, "storage_state": str}
_PIPELINE = {**_NAMED, "pipeline_id": str}
_VERSION = {**_NAMED, "pipeline_id": str, "package_url": dict, "code_source_url": str}


def create_app(store: Store, access: Access, changed: Callable[[str, str], None]) -> flask.Flask:
    """The API over a store.

    Args:
        store: where everything is.
        access: who may do what.
        changed: told (what, id) when a run is submitted, terminated, retried or deleted, and when
            a recurring run is scheduled.
    """
    app = flask.Flask("sandbox")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    api = _Api(store, access, changed)
    if not access.multi_user:
        api.default_experiment()
    for method, path, view in api.routes():
        app.add_url_rule(V2 + path, f"{method} {path}", view, methods=[method])
    app.add_url_rule(V2 + "/pipelines/upload", "upload", api.upload, methods=["GET", "POST"])
    app.add_url_rule(V2 + "/healthz", "healthz", api.healthz, methods=["GET", "POST"])
    app.add_url_rule("/apis/v1beta1/healthz", "v1", api.health, methods=["GET"])
    node = "/runs/<run_id>/nodes/<node>"
    app.add_url_rule(f"/apis/v1alpha1{node}/log", "log", api.read_log)
    app.add_url_rule(f"{V2}{node}/artifacts/<target>", "artifact", api.read_artifact)

    @app.errorhandler(ApiError)
    def _(error: ApiError):
        return flask.jsonify(error.json), error.status

    @app.errorhandler(UploadError)
    def _(error: UploadError):
        body = {"error_message": error.message, "error_details": error.message}
        kind = "text/plain; charset=utf-8" if error.as_text else "application/json"
        return flask.Response(json.dumps(body), error.status, content_type=kind)

    @app.errorhandler(HTTPException)
    def _(error: HTTPException):
        if not flask.request.path.startswith("/apis/"):
            return flask.Response(
                "404 page not found\n", 404, content_type="text/plain; charset=utf-8"
            )
        if error.code == 405:
            return {"code": UNIMPLEMENTED, "message": "Method Not Allowed"}, 501
        return {"code": (error.code == 404 and 5) or 2, "message": error.name}, error.code

    return app


# Where a single-user server runs everything.
_NAMESPACE = "kubeflow"


class _Api:
    def __init__(self, store: Store, access: Access, changed: Callable[[str, str], None]):
        self.store = store
        self.access = access
        self.changed = changed

    def routes(self) -> list[tuple[str, str, Callable[..., Any]]]:
        return [
            ("GET", "/pipelines", self.list_pipelines),
            ("POST", "/pipelines", self.create_pipeline),
            ("GET", "/pipelines/names/<name>", self.pipeline_by_name),
            ("POST", "/pipelines/upload_version", self.upload_version),
            ("GET", "/pipelines/<pipeline_id>", self.get_pipeline),
            ("DELETE", "/pipelines/<pipeline_id>", self.delete_pipeline),
            ("GET", "/pipelines/<pipeline_id>/versions", self.list_versions),
            ("POST", "/pipelines/<pipeline_id>/versions", self.create_version),
            ("GET", "/pipelines/<pipeline_id>/versions/<version_id>", self.get_version),
            ("DELETE", "/pipelines/<pipeline_id>/versions/<version_id>", self.delete_version),
            ("GET", "/experiments", self.list_experiments),
            ("POST", "/experiments", self.create_experiment),
            ("GET", "/experiments/<experiment_id>", self.get_experiment),
            ("DELETE", "/experiments/<experiment_id>", self.delete_experiment),
            ("POST", "/experiments/<target>", self.experiment_verb),
            ("GET", "/runs", self.list_runs),
            ("POST", "/runs", self.create_run),
            ("GET", "/runs/<run_id>", self.get_run),
            ("DELETE", "/runs/<run_id>", self.delete_run),
            ("POST", "/runs/<target>", self.run_verb),
            ("GET", "/recurringruns", self.list_recurring_runs),
            ("POST", "/recurringruns", self.create_recurring_run),
            ("GET", "/recurringruns/<recurring_run_id>", self.get_recurring_run),
            ("DELETE", "/recurringruns/<recurring_run_id>", self.delete_recurring_run),
            ("POST", "/recurringruns/<target>", self.recurring_run_verb),
        ]

    def health(self) -> dict[str, Any]:
        return {
            "commit_sha": "unknown",
            "tag_name": "2.15.0",
            "multi_user": self.access.multi_user,
        }

    def healthz(self):
        return {**self.health(), "pipeline_store": "database"}

    # Who may ------------------------------------------------------------------------------------

    def _check(self, verb: str, resource: str, namespace: str, name: str = "") -> None:
        self.access.check(flask.request.headers, verb, resource, namespace, name)

    def _namespace(self, namespace: str) -> str:
        """A namespace that a request names; a single-user server hears none."""
        return namespace if self.access.multi_user else ""

    def _may_experiment(self, verb: str, row: Row, doing: str) -> None:
        try:
            self.access.require_namespace("An experiment", row["namespace"])
            try:
                self._check(verb, "experiments", row["namespace"], row["name"])
            except ApiError as error:
                raise error.within("Failed to authorize with API: ") from None
        except ApiError as error:
            raise error.within(doing) from None

    def _may_run(self, verb: str, namespace: str, doing: str, run: Row | None = None) -> None:
        try:
            self.access.require_namespace("A run", namespace)
            try:
                self._check(verb, "runs", namespace, _workflow(run) if run else "")
            except ApiError as error:
                raise error.within(
                    f"Failed to access run {run['id'] if run else ''}. "
                    f"Check if you have access to namespace {namespace}: "
                ) from None
        except ApiError as error:
            raise error.within(doing) from None

    def _may_recur(self, verb: str, namespace: str, doing: str, name: str = "") -> None:
        try:
            self.access.require_namespace("a recurring run", namespace)
            try:
                self._check(verb, "jobs", namespace, name)
            except ApiError as error:
                raise error.within("failed to authorize with API: ") from None
        except ApiError as error:
            raise error.within(doing) from None

    def _may_pipeline(
        self, verb: str, namespace: str, doing: str, name: str = "", pipeline_id: str = ""
    ) -> None:
        """Pipelines without a namespace are everybody's, even those without an identity."""
        if not namespace:
            return
        try:
            self._check(verb, "pipelines", namespace, name)
        except ApiError as error:
            raise error.within(
                f"{doing}Failed to access pipeline {pipeline_id}. "
                f"Check if you have access to namespace {namespace}: "
            ) from None

    # Pipelines ----------------------------------------------------------------------------------

    def list_pipelines(self):
        namespace = self._namespace(flask.request.args.get("namespace", ""))
        self._may_pipeline(
            "list",
            namespace,
            f"Failed to list pipelines in namespace {namespace}. Check error stack: Failed to list "
            "pipelines due to authorization error. Check if you have read permission to namespace "
            f"{namespace}: ",
        )
        where = {"namespace": namespace} if self.access.multi_user else {}
        page = listing.page(self.store, "pipelines", flask.request.args, where)
        return page.json("pipelines", [_pipeline(row) for row in page.rows])

    def create_pipeline(self):
        said = _body(_PIPELINE)
        name = said.get("name") or said.get("display_name", "")
        if not name:
            raise invalid("name is required").within(
                "Failed to create a pipeline due to server error: "
            )
        namespace = self._namespace(said.get("namespace", ""))
        self._may_pipeline(
            "create",
            namespace,
            "Failed to create a pipeline due to server error: Failed to create a pipeline due to "
            f"authorization error. Check if you have write permissions to namespace {namespace}: ",
            name,
        )
        try:
            row = self.store.add(
                "pipelines",
                namespace=namespace,
                name=name,
                display_name=said.get("display_name") or name,
                description=said.get("description", ""),
                created_at=self.store.now(),
            )
        except TakenError:
            reason = (
                f"Failed to create a new pipeline. The name {name} already exists. "
                "Please specify a new name"
            )
            raise ApiError(
                409,
                EXISTS,
                f"Failed to create a pipeline due to server error: Already exist error: {reason}",
                reason,
            ) from None
        return _pipeline(row)

    def upload(self):
        if flask.request.method == "GET":
            raise UploadError(400, "Failed to read pipeline from file")
        text, filename = _uploaded()
        name = flask.request.args.get("name") or filename
        namespace = self._namespace(flask.request.args.get("namespace", ""))
        self._may_upload(namespace, "Failed to create a pipeline")
        doing = "Failed to create a pipeline and a pipeline version"
        try:
            specs.parse(text)
        except ValueError:
            raise UploadError(500, doing, as_text=False) from None
        description = flask.request.args.get("description", "")
        display_name = flask.request.args.get("display_name") or name
        try:
            row = self.store.add(
                "pipelines",
                namespace=namespace,
                name=name,
                display_name=display_name,
                description=description,
                created_at=self.store.now(),
            )
        except TakenError:
            raise UploadError(409, doing, as_text=False) from None
        self._add_version(row["id"], name, display_name, description, text)
        return _pipeline(row)

    def _may_upload(self, namespace: str, doing: str) -> None:
        """Uploads do not say who was refused, nor why."""
        try:
            self._may_pipeline("create", namespace, "")
        except ApiError:
            raise UploadError(400, doing) from None

    def pipeline_by_name(self, name: str):
        namespace = self._namespace(flask.request.args.get("namespace", ""))
        self._may_pipeline(
            "get",
            namespace,
            f"Failed to get a pipeline with name {name} and namespace {namespace}. Check error "
            "stack.: Failed to fetch a pipeline due to authorization error. Check if you have read "
            f"permission to namespace {namespace}: ",
            name,
        )
        row = self.store.first("pipelines", "name = ? AND namespace = ?", name, namespace)
        if not row:
            raise not_found("Namespace/Pipeline", f"{namespace}/{name}").within(
                f"Failed to get a pipeline with name {name} and namespace {namespace}. Check error "
                f"stack.: Failed to get a pipeline named {name} in namespace {namespace}: "
            )
        return _pipeline(row)

    def get_pipeline(self, pipeline_id: str):
        doing = f"Failed to get a pipeline {pipeline_id}. Check error stack: "
        row = self.store.get("pipelines", pipeline_id)
        if not row:
            raise not_found("Pipeline", pipeline_id).within(
                f"{doing}Failed to get a pipeline with id {pipeline_id}: "
            )
        self._may_pipeline(
            "get",
            row["namespace"],
            f"{doing}Failed to get a pipeline due authorization error for pipeline id "
            f"{pipeline_id}: ",
            row["name"],
            pipeline_id,
        )
        return _pipeline(row)

    def delete_pipeline(self, pipeline_id: str):
        doing = f"Failed to delete pipeline {pipeline_id}. Check error stack: "
        row = self.store.get("pipelines", pipeline_id)
        if not row:
            raise not_found("Pipeline", pipeline_id).within(
                f"{doing}Failed to delete pipeline with id {pipeline_id} as it was not found: "
            )
        self._may_pipeline(
            "delete",
            row["namespace"],
            f"{doing}Failed to delete a pipeline due authorization error for pipeline id "
            f"{pipeline_id}: ",
            row["name"],
            pipeline_id,
        )
        version = self.store.first("versions", "pipeline_id = ?", pipeline_id)
        if version and flask.request.args.get("cascade") != "true":
            raise invalid(
                f"Failed to delete pipeline with id {pipeline_id} as it has existing pipeline "
                f"versions (e.g. {version['id']}). Set cascade=true to delete all versions"
            ).within(doing)
        self.store.delete("versions", "pipeline_id = ?", pipeline_id)
        self.store.delete("pipelines", "id = ?", pipeline_id)
        return {}

    # Versions -----------------------------------------------------------------------------------

    def list_versions(self, pipeline_id: str):
        doing = (
            f"Failed to list pipeline versions for pipeline {pipeline_id}: "
            "Failed to list pipeline versions due to "
        )
        row = self.store.get("pipelines", pipeline_id)
        if not row:
            raise not_found("Pipeline", pipeline_id).within(
                f"{doing}error fetching the namespace for pipeline {pipeline_id}: "
                f"Failed to get namespace for pipeline id {pipeline_id}: "
                f"Failed to get a pipeline with id {pipeline_id}: "
            )
        self._may_pipeline(
            "list",
            row["namespace"],
            f"{doing}authorization error. Check if you have read permission to namespace "
            f"{row['namespace']}: ",
        )
        page = listing.page(
            self.store, "versions", flask.request.args, {"pipeline_id": pipeline_id}
        )
        return page.json("pipeline_versions", [_version(row) for row in page.rows])

    def create_version(self, pipeline_id: str):
        del pipeline_id
        said = _body(_VERSION)
        if not said.get("package_url"):
            raise invalid("Failed to create a pipeline version. Package URL is nil")
        raise invalid("the sandbox fetches no package URL; upload the file instead")

    def upload_version(self):
        pipeline_id = flask.request.args.get("pipelineid", "")
        doing = "Failed to create a pipeline version"
        pipeline = self.store.get("pipelines", pipeline_id)
        if not pipeline:
            raise UploadError(400, doing)
        text, filename = _uploaded()
        self._may_upload(pipeline["namespace"], doing)
        name = flask.request.args.get("name") or filename
        try:
            specs.parse(text)
        except ValueError:
            raise UploadError(500, doing, as_text=False) from None
        try:
            row = self._add_version(
                pipeline_id,
                name,
                flask.request.args.get("display_name") or name,
                flask.request.args.get("description", ""),
                text,
            )
        except TakenError:
            raise UploadError(409, doing, as_text=False) from None
        return _version(row)

    def _add_version(
        self, pipeline_id: str, name: str, display_name: str, description: str, text: str
    ) -> Row:
        return self.store.add(
            "versions",
            pipeline_id=pipeline_id,
            name=name,
            display_name=display_name,
            description=description,
            created_at=self.store.now(),
            spec=text,
        )

    def get_version(self, pipeline_id: str, version_id: str):
        doing = f"Failed to get a pipeline version {version_id}: "
        row = self.store.get("versions", version_id)
        if not row or row["pipeline_id"] != pipeline_id:
            raise not_found("PipelineVersion", version_id).within(
                f"{doing}Failed to get a pipeline version with id {version_id}: "
            )
        self._may_version(
            "get",
            pipeline_id,
            f"{doing}Failed to get a pipeline version due to authorization error for pipeline "
            f"version id {version_id}: ",
        )
        return _version(row)

    def _may_version(self, verb: str, pipeline_id: str, doing: str) -> None:
        pipeline = self.store.get("pipelines", pipeline_id)
        if pipeline:
            self._may_pipeline(verb, pipeline["namespace"], doing, pipeline["name"], pipeline_id)

    def delete_version(self, pipeline_id: str, version_id: str):
        doing = (
            f"Failed to delete a pipeline version id {version_id} under pipeline id "
            f"{pipeline_id}. Check error stack: "
        )
        row = self.store.get("versions", version_id)
        if not row or row["pipeline_id"] != pipeline_id:
            raise not_found("PipelineVersion", version_id).within(
                f"{doing}Failed to delete pipeline version with id "
                f"{version_id} as it was not found: "
            )
        self._may_version(
            "delete",
            pipeline_id,
            f"{doing}Failed to delete a pipeline version id {version_id} due to authorization "
            f"error for pipeline id {pipeline_id}: ",
        )
        self.store.delete("versions", "id = ?", version_id)
        return {}

    # Experiments --------------------------------------------------------------------------------

    def default_experiment(self) -> Row:
        row = self.store.first("experiments", "name = 'Default'")
        return row or self._add_experiment(
            "Default", "All runs created without specifying an experiment will be grouped here."
        )

    def _add_experiment(self, name: str, description: str, namespace: str = "") -> Row:
        return self.store.add(
            "experiments",
            namespace=namespace,
            name=name,
            description=description,
            created_at=self.store.now(),
            storage_state="AVAILABLE",
            last_run_created_at=_EPOCH,
        )

    def list_experiments(self):
        namespace = self._namespace(flask.request.args.get("namespace", ""))
        where = {}
        if self.access.multi_user:
            self._may_experiment(
                "list",
                {"namespace": namespace, "name": ""},
                "List experiments failed: Failed to authorize with API: ",
            )
            where = {"namespace": namespace}
        else:
            self.default_experiment()
        page = listing.page(self.store, "experiments", flask.request.args, where)
        return page.json("experiments", [_experiment(row) for row in page.rows])

    def create_experiment(self):
        said = _body(_EXPERIMENT)
        name = said.get("display_name", "")
        if not name:
            raise internal(
                "[ExperimentServer]: Failed to create a experiment due to conversion error: "
                "InternalServerError: Failed to convert API experiment to model experiment: "
                "Invalid input error: Experiment must have a non-empty name"
            )
        namespace = self._namespace(said.get("namespace", ""))
        self._may_experiment(
            "create",
            {"namespace": namespace, "name": name},
            "Failed to create a experiment: Failed to authorize the request: ",
        )
        try:
            row = self._add_experiment(name, said.get("description", ""), namespace)
        except TakenError:
            reason = (
                f"Failed to create a new experiment. The name {name} already exists. "
                "Please specify a new name"
            )
            raise ApiError(
                409,
                EXISTS,
                f"Failed to create a experiment: Already exist error: {reason}",
                reason,
            ) from None
        return _experiment(row)

    def _experiment(self, experiment_id: str, doing: str) -> Row:
        row = self.store.get("experiments", experiment_id)
        if not row:
            raise not_found("Experiment", experiment_id).within(doing)
        return row

    def _permitted_experiment(self, verb: str, experiment_id: str, doing: str, then: str) -> Row:
        """The experiment, for somebody who may do this to it.

        A multi-user server misses it while it asks who may, a single-user one in what comes `then`.
        """
        if not self.access.multi_user:
            return self._experiment(experiment_id, doing + then)
        doing += "Failed to authorize the request: "
        row = self._experiment(
            experiment_id, f"{doing}Failed to authorize with the experiment ID: "
        )
        self._may_experiment(verb, row, doing)
        return row

    def get_experiment(self, experiment_id: str):
        doing = "Failed to fetch experiment: "
        return _experiment(self._permitted_experiment("get", experiment_id, doing, ""))

    def delete_experiment(self, experiment_id: str):
        self._permitted_experiment(
            "delete",
            experiment_id,
            "Failed to delete experiment: ",
            f"Failed to delete experiment {experiment_id} due to error fetching it: ",
        )
        self.store.delete("experiments", "id = ?", experiment_id)
        return {}

    def experiment_verb(self, target: str):
        experiment_id, _, verb = target.partition(":")
        states = {"archive": "ARCHIVED", "unarchive": "AVAILABLE"}
        if verb not in states:
            return {"code": UNIMPLEMENTED, "message": "Method Not Allowed"}, 501
        # A single-user server archives one that is not there all the same.
        if verb == "unarchive" or self.access.multi_user:
            self._permitted_experiment(
                verb,
                experiment_id,
                f"Failed to {verb} experiment: ",
                f"Failed to {verb} experiment {experiment_id} due to error fetching it: ",
            )
        self.store.update("experiments", experiment_id, storage_state=states[verb])
        return {}

    # Runs ---------------------------------------------------------------------------------------

    def list_runs(self):
        experiment_id = flask.request.args.get("experiment_id", "")
        namespace = self._namespace(flask.request.args.get("namespace", ""))
        where = {"namespace": namespace} if self.access.multi_user else {}
        if experiment_id:
            experiment = self._experiment(
                experiment_id,
                "Failed to list runs: Failed to list runs due to error fetching namespace for "
                f"experiment {experiment_id}. Try filtering based on namespace: Failed to fetch "
                f"namespace from experiment {experiment_id}: ",
            )
            namespace = experiment["namespace"]
            where = {"experiment_id": experiment_id}
        self._may_run(
            "list",
            namespace,
            "Failed to list runs: Failed to list runs due to authorization error. Check if you "
            f"have permission to access namespace {namespace}: ",
        )
        page = listing.page(self.store, "runs", flask.request.args, where)
        return page.json("runs", [_run(row) for row in page.rows])

    def create_run(self):
        said = _body(_RUN)
        self._name(
            said,
            "CreateJob(job.ToV2())Failed to create a run due to conversion error: "
            "InternalServerError: Failed to convert a API run detail to its internal "
            "representation: Invalid input error: Run name cannot be empty",
        )
        doing = "Failed to create a new run: "
        text, pipeline_id, version_id = self._manifest(
            said,
            f"{doing}InternalServerError: Failed to create a run due to error fetching manifest: ",
        )
        experiment = self._home(said, f"{doing}Failed to create a run due to ")
        namespace = experiment["namespace"]
        self._may_run(
            "create",
            namespace,
            f"{doing}Failed to create a run due to authorization error. Check if you have write "
            f"permissions to namespace {namespace}: ",
        )
        runtime = said.get("runtime_config", {})
        try:
            specs.check_parameters(text, runtime.get("parameters", {}))
        except ApiError as error:
            raise error.within(
                f"{doing}Failed to generate the ExecutionSpec: invalid pipeline job inputs: "
            ) from None
        row = self.submit(
            name=said["display_name"],
            description=said.get("description", ""),
            experiment_id=experiment["id"],
            namespace=namespace,
            pipeline_id=pipeline_id,
            version_id=version_id,
            spec=text,
            parameters=json.dumps(runtime.get("parameters", {})),
            pipeline_root=runtime.get("pipeline_root", ""),
            service_account=said.get("service_account") or self._service_account(),
        )
        return _run(row)

    def _home(self, said: Mapping[str, Any], doing: str) -> Row:
        """The experiment that a run or a recurring run goes into."""
        experiment_id = said.get("experiment_id", "")
        doing += "invalid experimentId and namespace combination: "
        if not experiment_id and self.access.multi_user:
            raise invalid("Experiment id can not be empty in multi-user mode").within(doing)
        experiment_id = experiment_id or self.default_experiment()["id"]
        return self._experiment(
            experiment_id,
            f"{doing}Failed to fetch namespace for experiment {experiment_id}: "
            f"Failed to fetch namespace from experiment {experiment_id}: ",
        )

    def _service_account(self) -> str:
        return "default-editor" if self.access.multi_user else "pipeline-runner"

    def submit(self, **values: Any) -> Row:
        """Add a run that waits for its turn."""
        at = self.store.now()
        row = self.store.add(
            "runs",
            **{"namespace": "", "recurring_run_id": "", "scheduled_at": at, **values},
            created_at=at,
            state="PENDING",
            history=json.dumps([{"update_time": at, "state": "PENDING"}]),
            storage_state="AVAILABLE",
            tasks="[]",
        )
        self.store.update("experiments", values["experiment_id"], last_run_created_at=at)
        self.changed("submitted", row["id"])
        return row

    def _name(self, said: Mapping[str, Any], complaint: str) -> None:
        if not said.get("display_name"):
            raise internal(complaint)

    def _manifest(self, said: Mapping[str, Any], doing: str) -> tuple[str, str, str]:
        """The specification that a run or a schedule names: (text, pipeline id, version id)."""
        if said.get("pipeline_spec"):
            text = specs.compiled(said["pipeline_spec"])
            try:
                specs.parse(text)
            except ValueError:
                raise internal(
                    f"{doing}Failed to fetch a template with an invalid pipeline spec manifest: "
                    "InvalidInputError: unknown template format: pipeline spec is invalid"
                ) from None
            return text, "", ""
        reference = said.get("pipeline_version_reference", {})
        pipeline_id = reference.get("pipeline_id", "")
        version_id = reference.get("pipeline_version_id", "")
        if not (pipeline_id or version_id):
            raise internal(
                f"{doing}Invalid input error: Failed to fetch a template with an empty pipeline "
                "spec manifest"
            )
        if version_id:
            row = self.store.get("versions", version_id)
            what = f"PipelineVersion {version_id}"
            named = (
                f"pipeline version {version_id}: Failed to get a pipeline version with id "
                f"{version_id}"
            )
        else:
            newest = self.store.select(
                "versions",
                "pipeline_id = ?",
                [pipeline_id],
                order="created_at DESC, id DESC",
                limit=1,
            )
            row = newest[0] if newest else None
            what = f"Pipeline {pipeline_id}"
            named = (
                f"pipeline {pipeline_id}: Failed to get the latest pipeline version as pipeline "
                "was not found"
            )
        if not row:
            raise internal(
                f"{doing}Failed to fetch a template due to error retrieving pipeline version: "
                f"Failed to fetch a pipeline version and its manifest from {named}: "
                f"ResourceNotFoundError: {what} not found"
            )
        return row["spec"], row["pipeline_id"], row["id"]

    def _run(self, verb: str, run_id: str, doing: str, then: str = "") -> Row:
        """The run, for somebody who may do this to it; missed as experiments are."""
        if self.access.multi_user:
            doing += "Failed to authorize the request: "
            then = f"Failed to authorize with the run ID {run_id}: "
        row = self.store.get("runs", run_id)
        if not row:
            raise not_found("Run", run_id).within(f"{doing}{then}Failed to fetch run {run_id}: ")
        self._may_run(verb, row["namespace"], doing, row)
        return row

    def get_run(self, run_id: str):
        return _run(self._run("get", run_id, "Failed to get a run: "))

    def delete_run(self, run_id: str):
        self._run(
            "delete",
            run_id,
            "Failed to delete a run: ",
            f"Failed to delete run {run_id} as it does not exist: ",
        )
        self.changed("deleted", run_id)
        self.store.delete("runs", "id = ?", run_id)
        return {}

    def run_verb(self, target: str):
        run_id, _, verb = target.partition(":")
        asked = f"Failed to {verb} a run: "
        then = f"Failed to {verb} run {run_id} "
        doing = asked + then
        if verb in ("archive", "unarchive"):
            self._run(verb, run_id, asked, f"{then}as it failed to be retrieved: ")
            state = "ARCHIVED" if verb == "archive" else "AVAILABLE"
            self.store.update("runs", run_id, storage_state=state)
            return {}
        if verb == "terminate":
            self._run(verb, run_id, asked, f"{then}due to error fetching the run: ")
            if not self.store.move_run(run_id, "CANCELING", expected=("PENDING", "RUNNING")):
                raise invalid(f"Failed to terminate a run {run_id}. Row not found").within(
                    f"{doing[:-1]}: "
                )
            self.changed("terminated", run_id)
            return {}
        if verb == "retry":
            row = self._run(verb, run_id, asked, f"{then}due to error fetching the run: ")
            if row["state"] != "FAILED":
                reason = "Workflow must be Failed/Error to retry"
                raise ApiError(
                    409,
                    ABORTED,
                    f"{doing[:-1]}: BadRequestError: {reason}: workflow cannot be retried",
                    reason,
                )
            # Its states are told from its new beginning.
            history = json.dumps([{"update_time": self.store.now(), "state": "PENDING"}])
            self.store.update("runs", run_id, state="PENDING", history=history, finished_at=None)
            self.changed("retried", run_id)
            return {}
        return {"code": UNIMPLEMENTED, "message": "Method Not Allowed"}, 501

    def read_log(self, run_id: str, node: str):
        """There are no pods to read from, which the server says with 200, and whoever asks."""
        doing = f"BadRequestError: Failed to read logs for run {run_id}"
        if not self.store.get("runs", run_id):
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

    def read_artifact(self, run_id: str, node: str, target: str):
        """No node has artifacts; and a multi-user server reads no token here, only the header."""
        del node, target
        run = self.store.get("runs", run_id)
        if run and not flask.request.headers.get("kubeflow-userid"):
            try:
                self.access.check({}, "readArtifact", "runs", run["namespace"])
            except ApiError as error:
                raise UploadError(
                    403,
                    f"Failed to authorize the request: Failed to access run {run_id}. Check if you "
                    f"have access to namespace {run['namespace']}: {error.message}",
                ) from None
        raise UploadError(404, "artifact not found: <nil>")

    # Recurring runs -----------------------------------------------------------------------------

    def list_recurring_runs(self):
        experiment_id = flask.request.args.get("experiment_id", "")
        namespace = self._namespace(flask.request.args.get("namespace", ""))
        where = {"namespace": namespace} if self.access.multi_user else {}
        doing = "Failed to list jobs: Failed to list recurring runs due to "
        if experiment_id:
            where = {"experiment_id": experiment_id}
            if self.access.multi_user:
                namespace = self._experiment(
                    experiment_id,
                    f"{doing}error fetching namespace for experiment {experiment_id}. Try "
                    "filtering based on namespace: Failed to fetch namespace from experiment "
                    f"{experiment_id}: ",
                )["namespace"]
        self._may_recur(
            "list",
            namespace,
            f"{doing}authorization error. Check if you have permission to access namespace "
            f"{namespace}: ",
        )
        page = listing.page(self.store, "recurring_runs", flask.request.args, where)
        # The server answers this one field in camel case.
        return page.json("recurringRuns", [_recurring_run(row) for row in page.rows])

    def create_recurring_run(self):
        said = _body(_RECURRING_RUN)
        conversion = "Failed to create a recurring run due to conversion error: "
        self._name(
            said,
            f"{conversion}InternalServerError: Failed to convert a API recurring run to its "
            "internal representation: Invalid input error: Recurring run's name cannot be empty",
        )
        mode = said.get("mode", "MODE_UNSPECIFIED")
        trigger = said.get("trigger", {})
        try:
            _check_trigger(trigger)
            concurrency = int(said.get("max_concurrency", 0))
            if not 1 <= concurrency <= 10:
                raise invalid(
                    "Max concurrency of a recurring run must be at least 1 and at most 10. "
                    f"Received {concurrency}"
                )
        except ApiError as error:
            raise error.within(conversion) from None
        doing = "Failed to create a recurring run: "
        if self.access.multi_user:
            experiment = self._home(said, f"{doing}Failed to create a recurring run due to ")
        else:
            experiment_id = said.get("experiment_id", "") or self.default_experiment()["id"]
            experiment = self._experiment(experiment_id, doing)
        namespace = experiment["namespace"]
        self._may_recur(
            "create",
            namespace,
            f"{doing}Failed to create a recurring run due to authorization error. Check if you "
            f"have write permission to namespace {namespace}: ",
            said["display_name"],
        )
        text, pipeline_id, version_id = self._manifest(said, f"{doing}InternalServerError: ")
        runtime = said.get("runtime_config", {})
        try:
            specs.check_parameters(text, runtime.get("parameters", {}))
        except ApiError as error:
            raise error.within(
                f"{doing}Failed to create a recurring run during scheduled workflow creation: "
                "invalid pipeline job inputs: "
            ) from None
        at = self.store.now()
        row = self.store.add(
            "recurring_runs",
            namespace=namespace or _NAMESPACE,
            experiment_id=experiment["id"],
            name=said["display_name"],
            description=said.get("description", ""),
            pipeline_id=pipeline_id,
            version_id=version_id,
            spec=text,
            parameters=json.dumps(runtime.get("parameters", {})),
            pipeline_root=runtime.get("pipeline_root", ""),
            service_account=said.get("service_account") or self._service_account(),
            created_at=at,
            updated_at=at,
            max_concurrency=concurrency,
            trigger=json.dumps(trigger),
            mode="ENABLE" if mode == "ENABLE" else "DISABLE",
            no_catchup=int(said.get("no_catchup", False)),
            next_at=None,
        )
        self.changed("scheduled", row["id"])
        shown = _recurring_run(row)
        # An empty trigger is told now, and never again.
        return {**shown, "trigger": trigger} if said.get("trigger") == {} else shown

    def _recurring_run(self, verb: str, recurring_run_id: str, doing: str, then: str = "") -> Row:
        """The recurring run, for somebody who may do this to it; missed as experiments are."""
        if self.access.multi_user:
            doing += "Failed to authorize the request: "
            then = "failed to authorize with the recurring run ID: "
        row = self.store.get("recurring_runs", recurring_run_id)
        if not row:
            raise not_found("Job", recurring_run_id).within(doing + then)
        self._may_recur(verb, row["namespace"], doing, row["name"])
        return row

    def get_recurring_run(self, recurring_run_id: str):
        return _recurring_run(
            self._recurring_run("get", recurring_run_id, "Failed to fetch a recurring run: ")
        )

    def delete_recurring_run(self, recurring_run_id: str):
        self._recurring_run(
            "delete",
            recurring_run_id,
            "Failed to disable a recurring run: ",
            f"Failed to delete recurring run {recurring_run_id}. Check if exists: ",
        )
        self.store.delete("recurring_runs", "id = ?", recurring_run_id)
        return {}

    def recurring_run_verb(self, target: str):
        recurring_run_id, _, verb = target.partition(":")
        if verb not in ("enable", "disable"):
            return {"code": UNIMPLEMENTED, "message": "Method Not Allowed"}, 501
        enable = verb == "enable"
        self._recurring_run(
            verb,
            recurring_run_id,
            f"Failed to {verb} a recurring run: ",
            f"Failed to change recurring run's mode to enable:{str(enable).lower()}. "
            f"Check if recurring run {recurring_run_id} exists: ",
        )
        self.store.update(
            "recurring_runs",
            recurring_run_id,
            mode=verb.upper(),
            updated_at=self.store.now(),
            next_at=None,
        )
        self.changed("scheduled", recurring_run_id)
        return {}


# Requests ----------------------------------------------------------------------------------------


def _uploaded() -> tuple[str, str]:
    """The uploaded file: (content, file name)."""
    file = flask.request.files.get("uploadfile")
    if file is None:
        raise UploadError(400, "Failed to read pipeline from file")
    filename = file.filename or ""
    if not filename.endswith((".yaml", ".yml", ".zip", ".tar.gz", ".json")):
        raise UploadError(400, "Failed to read a pipeline spec file")
    return file.read().decode("utf-8", errors="replace"), filename


def _body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The request's JSON object, snake_case or camelCase, held to what the server knows."""
    text = flask.request.get_data(as_text=True)
    if not text.strip():
        return {}
    try:
        said = json.loads(text)
    except ValueError:
        raise ApiError(400, INVALID, _syntax(text)) from None
    if not isinstance(said, dict):
        raise ApiError(
            400, INVALID, f"proto: syntax error (line 1:1): unexpected token {text.strip()[0]}"
        )
    body: dict[str, Any] = {}
    for key, value in said.items():
        name = re.sub(r"[A-Z]", lambda match: "_" + match.group().lower(), key)
        at = text.find(f'"{key}"') + 1
        if name not in fields:
            raise ApiError(400, INVALID, f'proto: (line 1:{at}): unknown field "{key}"')
        if value is None:
            continue
        if not isinstance(value, fields[name]) or (fields[name] is str and isinstance(value, bool)):
            where = text.find(":", at) + 1
            where += len(text[where:]) - len(text[where:].lstrip()) + 1
            kind = {str: "string", bool: "bool"}.get(fields[name], "message")
            camel = re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name)
            raise ApiError(
                400,
                INVALID,
                f"proto: (line 1:{where}): invalid value for {kind} field {camel}: "
                f"{json.dumps(value)}",
            )
        if name == "mode" and value not in ("ENABLE", "DISABLE", "MODE_UNSPECIFIED"):
            where = text.find(json.dumps(value), at) + 1
            raise ApiError(
                400,
                INVALID,
                f'proto: (line 1:{where}): invalid value for enum field mode: "{value}"',
            )
        body[name] = listing.snake_case(value) if name == "pipeline_version_reference" else value
    return body


def _syntax(text: str) -> str:
    """What Go's decoder says of a text that is no JSON."""
    stripped = text.strip()
    if stripped[0] == "{" and stripped[1:].lstrip()[:1] not in ('"', "}", ""):
        found = stripped[1:].lstrip()[0]
        return f"invalid character '{found}' looking for beginning of object key string"
    if stripped[0] not in '{["-0123456789tfn':
        return f"invalid character '{stripped[0]}' looking for beginning of value"
    return "unexpected end of JSON input"


def _check_trigger(trigger: Mapping[str, Any]) -> None:
    wrong = (
        "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron). Error: "
    )
    if "cron_schedule" in trigger:
        cron = trigger["cron_schedule"].get("cron", "")
        fields = cron.split()
        if not fields:
            raise invalid(f"{wrong}Empty spec string")
        if not cron.startswith("@") and len(fields) not in (5, 6):
            raise invalid(f"{wrong}Expected 5 to 6 fields, found {len(fields)}: {cron}")
        if next_time(cron, utc_now()) is None:
            raise invalid(f"{wrong}{cron}")
    if "periodic_schedule" in trigger:
        seconds = int(trigger["periodic_schedule"].get("interval_second", 0))
        if seconds < 1:
            raise invalid(
                f"Found invalid period schedule interval {seconds}. "
                "Set at interval to least 1 second"
            )


def next_time(cron: str, after: datetime.datetime) -> datetime.datetime | None:
    """When a cron expression fires next (UTC): six fields, seconds first; None: it cannot be read.

    The server takes five fields too, and reads the first as seconds.
    """
    fields = cron.split()
    if len(fields) == 5 and not cron.startswith("@"):
        fields = [*fields, "*"]
    try:
        return croniter(" ".join(fields), after, second_at_beginning=True).get_next(
            datetime.datetime
        )
    except (ValueError, KeyError):
        return None


# Answers -----------------------------------------------------------------------------------------


def _filled(**values: Any) -> dict[str, Any]:
    """Without what is empty, as the server answers."""
    return {key: value for key, value in values.items() if value not in ("", None, [], {})}


def _pipeline(row: Row) -> dict[str, Any]:
    return _filled(
        pipeline_id=row["id"],
        display_name=row["display_name"],
        name=row["name"],
        description=row["description"],
        created_at=row["created_at"],
        namespace=row["namespace"],
    )


def _version(row: Row) -> dict[str, Any]:
    return _filled(
        pipeline_id=row["pipeline_id"],
        pipeline_version_id=row["id"],
        display_name=row["display_name"],
        name=row["name"],
        description=row["description"],
        created_at=row["created_at"],
        pipeline_spec=specs.shown(row["spec"]),
    )


def _experiment(row: Row) -> dict[str, Any]:
    return _filled(
        experiment_id=row["id"],
        display_name=row["name"],
        description=row["description"],
        created_at=row["created_at"],
        namespace=row["namespace"],
        storage_state=row["storage_state"],
        last_run_created_at=row["last_run_created_at"],
    )


def _workflow(run: Row) -> str:
    """The name of a run's Argo workflow, as the server would generate it."""
    return f"{specs.name(run['spec'])}-{run['id'][:5]}"


def _source(row: Row) -> dict[str, Any]:
    if row["version_id"]:
        return {
            "pipeline_version_reference": {
                "pipeline_id": row["pipeline_id"],
                "pipeline_version_id": row["version_id"],
            }
        }
    return {"pipeline_spec": specs.shown(row["spec"])}


def _runtime(row: Row) -> dict[str, Any]:
    return _filled(parameters=json.loads(row["parameters"]), pipeline_root=row["pipeline_root"])


def _run(row: Row) -> dict[str, Any]:
    tasks = json.loads(row["tasks"])
    return _filled(
        experiment_id=row["experiment_id"],
        run_id=row["id"],
        display_name=row["name"],
        description=row["description"],
        storage_state=row["storage_state"],
        **_source(row),
        runtime_config=_runtime(row),
        service_account=row["service_account"],
        created_at=row["created_at"],
        scheduled_at=row["scheduled_at"],
        finished_at=row["finished_at"] or _EPOCH,
        state=row["state"],
        run_details={"task_details": tasks} if tasks else None,
        recurring_run_id=row["recurring_run_id"],
        state_history=json.loads(row["history"]),
    )


def _recurring_run(row: Row) -> dict[str, Any]:
    return _filled(
        recurring_run_id=row["id"],
        display_name=row["name"],
        description=row["description"],
        **_source(row),
        runtime_config=_runtime(row),
        service_account=row["service_account"],
        max_concurrency=str(row["max_concurrency"]),
        mode=row["mode"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        status="ENABLED" if row["mode"] == "ENABLE" else "DISABLED",
        no_catchup=bool(row["no_catchup"]) or None,
        namespace=row["namespace"],
        experiment_id=row["experiment_id"],
        trigger=_shown_trigger(json.loads(row["trigger"])),
    )


def _shown_trigger(trigger: Mapping[str, Any]) -> dict[str, Any]:
    """The trigger as the server tells it: 64-bit integers are strings."""
    return {
        kind: {
            key: str(value) if key == "interval_second" else value for key, value in values.items()
        }
        for kind, values in trigger.items()
    }
