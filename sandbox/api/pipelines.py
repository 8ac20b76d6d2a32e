"""Pipelines and their versions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import flask

from sandbox import specs
from sandbox.api import listing, requests, responses
from sandbox.api.auth import Authorizer
from sandbox.api.errors import ApiError, UploadError, error_prefix, exists, invalid, not_found
from sandbox.store import Row, Store, TakenError


class Pipelines:
    """The endpoints under /pipelines.

    Args:
        store: State of the sandbox.
        authorizer: Checks permissions.
    """

    def __init__(self, store: Store, authorizer: Authorizer):
        self._store = store
        self._authorizer = authorizer

    def list(self) -> dict[str, Any]:
        """List pipelines of a namespace."""
        namespace = self._authorizer.namespace(flask.request.args)
        with error_prefix(
            f"Failed to list pipelines in namespace {namespace}. Check error stack: Failed to list "
            "pipelines due to authorization error. Check if you have read permission to namespace "
            f"{namespace}: "
        ):
            self._check("list", namespace)
        where = {"namespace": namespace} if self._authorizer.multi_user else {}
        page = listing.page(self._store, "pipelines", flask.request.args, where)
        return page.json("pipelines", responses.pipeline)

    def create(self) -> dict[str, Any]:
        """Create a pipeline without a version."""
        body = requests.read(requests.PIPELINE)
        display_name = body.get("display_name", "")
        name = body.get("name") or display_name
        with error_prefix("Failed to create a pipeline due to server error: "):
            if not name:
                raise invalid("name is required")
            namespace = self._authorizer.namespace(body)
            with error_prefix(
                "Failed to create a pipeline due to authorization error. Check if you have write "
                f"permissions to namespace {namespace}: "
            ):
                self._check("create", namespace, name)
            try:
                row = self._add(namespace, name, display_name, body.get("description", ""))
            except TakenError:
                raise exists("pipeline", name) from None
        return responses.pipeline(row)

    def upload(self) -> dict[str, Any]:
        """Create a pipeline from a file, with a version of the same name."""
        text, filename = requests.uploaded()
        query = flask.request.args
        name = query.get("name") or filename
        texts = name, query.get("display_name", ""), query.get("description", "")
        namespace = self._authorizer.namespace(query)
        with _uploading("Failed to create a pipeline"):
            self._check("create", namespace)
        with _uploading("Failed to create a pipeline and a pipeline version"):
            specs.check(text)
            row = self._add(namespace, *texts)
        self._add_version(row["id"], *texts, text)
        return responses.pipeline(row)

    def by_name(self, name: str) -> dict[str, Any]:
        """Return the pipeline with a name in a namespace."""
        namespace = self._authorizer.namespace(flask.request.args)
        with error_prefix(
            f"Failed to get a pipeline with name {name} and namespace {namespace}. Check error "
            "stack.: "
        ):
            with error_prefix(
                "Failed to fetch a pipeline due to authorization error. Check if you have read "
                f"permission to namespace {namespace}: "
            ):
                self._check("get", namespace, name)
            row = self._store.first("pipelines", "name = ? AND namespace = ?", name, namespace)
            if not row:
                with error_prefix(
                    f"Failed to get a pipeline named {name} in namespace {namespace}: "
                ):
                    raise not_found("Namespace/Pipeline", f"{namespace}/{name}")
        return responses.pipeline(row)

    def get(self, pipeline_id: str) -> dict[str, Any]:
        """Return a pipeline."""
        with error_prefix(f"Failed to get a pipeline {pipeline_id}. Check error stack: "):
            with error_prefix(f"Failed to get a pipeline with id {pipeline_id}: "):
                row = self._find(pipeline_id)
            with error_prefix(
                f"Failed to get a pipeline due authorization error for pipeline id {pipeline_id}: "
            ):
                self._check("get", row["namespace"], row["name"], pipeline_id)
        return responses.pipeline(row)

    def delete(self, pipeline_id: str) -> dict[str, Any]:
        """Delete a pipeline, with its versions only if requested."""
        with error_prefix(f"Failed to delete pipeline {pipeline_id}. Check error stack: "):
            with error_prefix(
                f"Failed to delete pipeline with id {pipeline_id} as it was not found: "
            ):
                row = self._find(pipeline_id)
            with error_prefix(
                "Failed to delete a pipeline due authorization error for pipeline id "
                f"{pipeline_id}: "
            ):
                self._check("delete", row["namespace"], row["name"], pipeline_id)
            version = self._store.first("versions", "pipeline_id = ?", pipeline_id)
            if version and flask.request.args.get("cascade") != "true":
                raise invalid(
                    f"Failed to delete pipeline with id {pipeline_id} as it has existing pipeline "
                    f"versions (e.g. {version['id']}). Set cascade=true to delete all versions"
                )
        self._store.delete("versions", "pipeline_id = ?", pipeline_id)
        self._store.delete("pipelines", "id = ?", pipeline_id)
        return {}

    def list_versions(self, pipeline_id: str) -> dict[str, Any]:
        """List versions of a pipeline."""
        with error_prefix(
            f"Failed to list pipeline versions for pipeline {pipeline_id}: "
            "Failed to list pipeline versions due to "
        ):
            with error_prefix(
                f"error fetching the namespace for pipeline {pipeline_id}: "
                f"Failed to get namespace for pipeline id {pipeline_id}: "
                f"Failed to get a pipeline with id {pipeline_id}: "
            ):
                namespace = self._find(pipeline_id)["namespace"]
            with error_prefix(
                f"authorization error. Check if you have read permission to namespace {namespace}: "
            ):
                self._check("list", namespace)
        where = {"pipeline_id": pipeline_id}
        page = listing.page(self._store, "versions", flask.request.args, where)
        return page.json("pipeline_versions", responses.version)

    def create_version(self, pipeline_id: str) -> dict[str, Any]:
        """Reject versions from a URL, which the sandbox does not support."""
        del pipeline_id
        if not requests.read(requests.VERSION).get("package_url"):
            raise invalid("Failed to create a pipeline version. Package URL is nil")
        raise invalid("the sandbox fetches no package URL; upload the file instead")

    def upload_version(self) -> dict[str, Any]:
        """Create a version from a file."""
        query = flask.request.args
        pipeline_id = query.get("pipelineid", "")
        doing = "Failed to create a pipeline version"
        with _uploading(doing):
            namespace = self._find(pipeline_id)["namespace"]
        text, filename = requests.uploaded()
        with _uploading(doing):
            self._check("create", namespace)
            specs.check(text)
            row = self._add_version(
                pipeline_id,
                query.get("name") or filename,
                query.get("display_name", ""),
                query.get("description", ""),
                text,
            )
        return responses.version(row)

    def get_version(self, pipeline_id: str, version_id: str) -> dict[str, Any]:
        """Return a version."""
        with error_prefix(f"Failed to get a pipeline version {version_id}: "):
            with error_prefix(f"Failed to get a pipeline version with id {version_id}: "):
                row = self._find_version(pipeline_id, version_id)
            with error_prefix(
                "Failed to get a pipeline version due to authorization error for pipeline version "
                f"id {version_id}: "
            ):
                self._check_version("get", pipeline_id)
        return responses.version(row)

    def delete_version(self, pipeline_id: str, version_id: str) -> dict[str, Any]:
        """Delete a version."""
        with error_prefix(
            f"Failed to delete a pipeline version id {version_id} under pipeline id {pipeline_id}. "
            "Check error stack: "
        ):
            with error_prefix(
                f"Failed to delete pipeline version with id {version_id} as it was not found: "
            ):
                self._find_version(pipeline_id, version_id)
            with error_prefix(
                f"Failed to delete a pipeline version id {version_id} due to authorization error "
                f"for pipeline id {pipeline_id}: "
            ):
                self._check_version("delete", pipeline_id)
        self._store.delete("versions", "id = ?", version_id)
        return {}

    def _check(self, verb: str, namespace: str, name: str = "", pipeline_id: str = "") -> None:
        self._authorizer.check(
            flask.request.headers, verb, "pipelines", namespace, name, pipeline_id
        )

    def _check_version(self, verb: str, pipeline_id: str) -> None:
        pipeline = self._find(pipeline_id)
        self._check(verb, pipeline["namespace"], pipeline["name"], pipeline_id)

    def _find(self, pipeline_id: str) -> Row:
        row = self._store.get("pipelines", pipeline_id)
        if not row:
            raise not_found("Pipeline", pipeline_id)
        return row

    def _find_version(self, pipeline_id: str, version_id: str) -> Row:
        row = self._store.get("versions", version_id)
        if not row or row["pipeline_id"] != pipeline_id:
            raise not_found("PipelineVersion", version_id)
        return row

    def _add(self, namespace: str, name: str, display_name: str, description: str) -> Row:
        return self._store.add(
            "pipelines",
            namespace=namespace,
            name=name,
            display_name=display_name or name,
            description=description,
            created_at=self._store.now(),
        )

    def _add_version(
        self, pipeline_id: str, name: str, display_name: str, description: str, text: str
    ) -> Row:
        return self._store.add(
            "versions",
            pipeline_id=pipeline_id,
            name=name,
            display_name=display_name or name,
            description=description,
            created_at=self._store.now(),
            spec=text,
        )


@contextlib.contextmanager
def _uploading(doing: str) -> Iterator[None]:
    """Convert errors to those of uploads, which name neither the reason nor the user."""
    try:
        yield
    except ApiError:
        raise UploadError(400, doing) from None
    except ValueError:
        raise UploadError(500, doing, as_text=False) from None
    except TakenError:
        raise UploadError(409, doing, as_text=False) from None
