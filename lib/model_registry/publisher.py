"""Publish versions, and record results of runs.

A step that is killed at any point and run again publishes one version.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_registry import layout
from model_registry.champion import ChampionPointer
from model_registry.errors import RegistryContentError, RegistryError
from model_registry.schema import Manifest, MonitoringReport

ABANDONED = datetime.timedelta(days=1)
"""Age after which an incomplete version is garbage: publishing takes minutes. Another attempt of the
step resumes it only until half that age, so that it never works on one that is being collected."""
NEWEST = 100
"""Number of the newest version numbers that are searched for incomplete versions."""


class Publisher(ChampionPointer):
    """A registry to which steps publish."""

    def check(self) -> None:
        """Check that this process may write, and that concurrent writes are safe.

        Raises:
            UnsafeStoreError: One of the two is not the case.
        """
        self._store.check()

    # Runs ---------------------------------------------------------------------------------------

    def write_result(self, run_id: str, manifest: Mapping[str, Any]) -> Manifest:
        """Record a run's manifest and return it, or the recorded one if the step is run again."""
        path = layout.run_manifest(run_id)
        return Manifest.parse(self._record(path, manifest, Manifest.parse), path)

    def write_report(self, run_id: str, report: Mapping[str, Any]) -> MonitoringReport:
        """Record a monitoring run's report and return it, or the recorded one as in `write_result`."""
        path = layout.report(run_id)
        return MonitoringReport.parse(self._record(path, report, MonitoringReport.parse), path)

    def _record(
        self,
        path: str,
        document: Mapping[str, Any],
        parse: Callable[[Mapping[str, Any], str], object],
    ) -> Mapping[str, Any]:
        """Validate and create a JSON object; return it, or the existing one."""
        parse(document, path)
        if self._store.create_json(path, document):
            return document
        return self._store.read_json(path) or document

    # Blobs --------------------------------------------------------------------------------------

    def put_blob(self, content: bytes) -> str:
        """Put a blob that versions share, if it does not exist; return its SHA-256, for `get_blob`."""
        name = hashlib.sha256(content).hexdigest()
        self._store.put_addressed(layout.blob(name), lambda: content)
        return name

    def put_code(self, digest: str, content: Callable[[], bytes]) -> None:
        """Put a code bundle if it does not exist; one call, or two the first time.

        Args:
            digest: SHA-256 of the bundle.
            content: Returns the bundle; called if it does not exist.
        """
        self._store.put_addressed(layout.code(digest), content)

    # Versions -----------------------------------------------------------------------------------

    def publish(self, run_id: str, files: Path, manifest: Mapping[str, Any]) -> int:
        """Publish a run's model as a version; return its number.

        Publishing the same run again returns the same version. If an earlier attempt died, complete its
        version and keep the objects that it put.

        Args:
            run_id: Run that trained the model.
            files: Directory with the version's files. Those in its folder `serving` are put under
                `serving/N`, since TensorFlow Serving needs a number above a SavedModel.
            manifest: Manifest of the run; the version, and SHA-256 and size of each file are added.

        Raises:
            ValueError: The directory is empty.
            UnsafeStoreError: See `check`.
            RegistryError: The version was collected as garbage meanwhile.
        """
        self.check()
        Manifest.parse(manifest)
        published = self._published(run_id)
        if published is not None:
            return published
        paths = sorted(path for path in files.rglob("*") if path.is_file())
        if not paths:
            raise ValueError(f"{files} is empty; there is no model to publish")
        version = self.reserve(run_id)
        if not self._is_complete(version):
            entries = dict(
                self._put_file(version, path.relative_to(files).as_posix(), path) for path in paths
            )
            self._store.create_json(
                layout.manifest(version), {**manifest, "version": version, "files": entries}
            )
        if self._is_removed(version):
            raise RegistryError(
                f"version {version} was collected as garbage while it was published; publish again"
            )
        if not self._store.create_json(layout.run_version(run_id), {"version": version}):
            # Another attempt published the same run at the same time; the first one counts.
            return self._published(run_id) or version
        return version

    def reserve(self, run_id: str) -> int:
        """Reserve a version number for a run, or return its earlier one if that can be completed."""
        resumable = self._resumable(run_id)
        if resumable is not None:
            return resumable
        number = max(self._store.numbers(layout.RESERVATIONS), default=0) + 1
        while not self._store.create_json(layout.reservation(number), {"run_id": run_id}):
            # A put whose response was lost is retried and finds its own object.
            if self._is_reserved(number, run_id):
                break
            number += 1
        return number

    def _resumable(self, run_id: str) -> int | None:
        """Return the number that a run reserved, if that version is complete or can be completed."""
        for number in sorted(self._store.numbers(layout.RESERVATIONS), reverse=True)[:NEWEST]:
            if not self._is_reserved(number, run_id) or self._is_removed(number):
                continue
            if self._is_complete(number) or self._age(number) < ABANDONED / 2:
                return number
        return None

    def _is_reserved(self, number: int, run_id: str) -> bool:
        return (self._store.read_json(layout.reservation(number)) or {}).get("run_id") == run_id

    def _published(self, run_id: str) -> int | None:
        path = layout.run_version(run_id)
        document = self._store.read_json(path)
        version = document.get("version") if document is not None else None
        if document is not None and not isinstance(version, int):
            raise RegistryContentError(f"{path} names no version")
        return version

    def _put_file(self, version: int, name: str, path: Path) -> tuple[str, dict[str, object]]:
        """Put a file if it does not exist; return its name in the version and its manifest entry."""
        name = layout.published_name(version, name)
        target, content = layout.version_file(version, name), path.read_bytes()
        if not self._store.create(target, content):
            content = self._store.read(target) or b""
        return name, {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    def _age(self, version: int) -> datetime.timedelta:
        """Return the time since a version's last object was put, complete or not."""
        time = datetime.datetime.now(datetime.timezone.utc)
        times = list(self._store.paths(str(version)).values())
        reserved_at = self._store.put_at(layout.reservation(version))
        if reserved_at:
            times.append(reserved_at)
        return time - max(times) if times else datetime.timedelta(0)
