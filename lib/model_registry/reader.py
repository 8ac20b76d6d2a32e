"""Read the registry: the champion, versions, runs, reports, predictions and blobs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from obstore.store import ObjectStore

from model_registry import layout
from model_registry._config_map import ConfigMaps
from model_registry.errors import NoSuchModelError, RegistryContentError
from model_registry.schema import (
    Champion,
    ChampionMove,
    Manifest,
    MonitoringReport,
    Prediction,
    Predictions,
    TestImage,
    Version,
)
from model_registry.store import RegistryStore

# Bytes of the header and of each image in the IDX file of test images.
_IDX_HEADER, _IMAGE_BYTES = 16, 784


class Reader:
    """A registry to read.

    All methods raise RegistryError if object storage cannot be reached, and RegistryContentError if an
    object is malformed.

    Args:
        objects: obstore store, for example from `open_store`.
        location: Name of the registry in errors.
        connect: Returns the cluster's ConfigMaps, or None if there is no cluster. Called only if the
            S3 server has no conditional writes.
    """

    def __init__(
        self,
        objects: ObjectStore,
        *,
        location: str = "",
        connect: Callable[[], ConfigMaps | None] = lambda: None,
    ):
        self._store = RegistryStore(objects, location=location, connect=connect)

    # Runs ---------------------------------------------------------------------------------------

    def result(self, run_id: str) -> Manifest | None:
        """Return a run's manifest, or None if the run has not been evaluated."""
        return self._manifest(layout.run_manifest(run_id))

    def report(self, run_id: str) -> MonitoringReport | None:
        """Return a monitoring run's report, or None if there is none."""
        path = layout.report(run_id)
        document = self._store.read_json(path)
        return None if document is None else MonitoringReport.parse(document, path)

    # Versions -----------------------------------------------------------------------------------

    def versions(self) -> list[int]:
        """Return the numbers of complete versions, ascending."""
        return [version for version in self._store.folders() if self._is_complete(version)]

    def manifest(self, version: int) -> Manifest:
        """Return a version's manifest.

        Raises:
            NoSuchModelError: There is no such version.
        """
        manifest = self._manifest(layout.manifest(version))
        if manifest is None:
            raise NoSuchModelError(f"there is no version {version}")
        return manifest

    def history(self, limit: int = 20) -> list[Version]:
        """Return at most `limit` of the newest versions, newest first, without removed ones."""
        # The last move to a version overwrites the earlier ones.
        promoted = {move.version: move.moved_at for _, move in reversed(list(self._moves()))}
        removed = set(self._store.numbers(layout.TOMBSTONES))
        versions: list[Version] = []
        # Do not list reservations, which remain after a version is removed.
        for number in reversed(self._store.folders()):
            if len(versions) >= limit:
                break
            # An incomplete version, whose step died, has no manifest.
            manifest = None if number in removed else self._manifest(layout.manifest(number))
            if manifest:
                time = promoted.get(number)
                versions.append(Version(number=number, manifest=manifest, promoted_at=time))
        return versions

    def fetch(self, version: int, directory: Path) -> Manifest:
        """Download a version's files into a directory and verify them; return the manifest.

        Raises:
            NoSuchModelError: There is no such version.
            RegistryContentError: A file differs from the manifest.
        """
        manifest = self.manifest(version)
        root = directory.resolve()
        for name, entry in manifest.files.items():
            path = (root / name).resolve()
            if root not in path.parents:
                raise RegistryContentError(
                    f"version {version} names a file outside itself: {name!r}"
                )
            content = self._store.read(layout.version_file(version, name))
            if content is None:
                raise RegistryContentError(f"version {version}: {name} is missing")
            if hashlib.sha256(content).hexdigest() != entry.sha256:
                raise RegistryContentError(
                    f"version {version}: {name} was altered after it was published; do not use it"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return manifest

    def prediction(self, version: int, image_number: int) -> Prediction:
        """Return a version's published prediction for a test image.

        Raises:
            NoSuchModelError: The version has no predictions, or none for this image.
        """
        return self._predictions(version).of(image_number, version)

    def classes(self, version: int) -> list[str]:
        """Return the names of a version's classes, in the order of its probabilities.

        Raises:
            NoSuchModelError: The version has no predictions, and so no names.
        """
        return list(self._predictions(version).classes)

    def test_image(self, version: int, image_number: int) -> TestImage:
        """Return one of a version's test images; read only that image.

        Raises:
            NoSuchModelError: The version has no test images, or not this one.
        """
        missing = NoSuchModelError(f"version {version} has no test images")
        manifest = self._manifest(layout.manifest(version))
        if manifest is None or not manifest.test_images:
            raise missing
        predictions = self._predictions(version)
        actual = predictions.of(image_number, version).actual
        start = _IDX_HEADER + _IMAGE_BYTES * image_number
        pixels = self._store.read_range(layout.blob(manifest.test_images), start, _IMAGE_BYTES)
        if pixels is None:
            raise missing
        return TestImage(pixels=pixels, actual=actual, classes=predictions.classes)

    # Blobs --------------------------------------------------------------------------------------

    def get_blob(self, name: str) -> bytes:
        """Return and verify a blob that `put_blob` put.

        Raises:
            RegistryContentError: It is missing or was altered.
        """
        path = layout.blob(name)
        content = self._store.read(path)
        if content is None:
            raise RegistryContentError(f"{path} is missing; restore it")
        if hashlib.sha256(content).hexdigest() != name:
            raise RegistryContentError(f"{path} was altered after it was put; restore it")
        return content

    # The champion -------------------------------------------------------------------------------

    def champion(self) -> Champion | None:
        """Return the version that serves, or None before the first promotion.

        Ignore a move to a version that was being removed at the same time.

        Raises:
            RegistryContentError: The newest move names a version that does not exist.
        """
        return self._find_champion()[1]

    def has_served(self, version: int) -> bool:
        """Return whether a version was ever the champion, according to the recorded moves."""
        return any(move.version == version for _, move in self._moves())

    def _find_champion(self) -> tuple[int, Champion | None]:
        """Return the sequence number of the newest move, and the champion."""
        newest = 0
        for sequence, move in self._moves():
            newest = newest or sequence
            manifest = self._manifest(layout.manifest(move.version))
            if manifest is not None:
                return newest, Champion(version=move.version, manifest=manifest, sequence=newest)
            if not self._is_removed(move.version):
                raise RegistryContentError(
                    f"{layout.move(sequence)} names a version that does not exist, in "
                    f"{self._store.location}"
                )
        return newest, None

    def _moves(self) -> Iterator[tuple[int, ChampionMove]]:
        """Yield the champion moves, newest first; read each lazily."""
        for sequence in reversed(self._store.numbers(layout.MOVES)):
            path = layout.move(sequence)
            document = self._store.read_json(path)
            # Another process may delete the oldest moves meanwhile.
            if document is not None:
                yield sequence, ChampionMove.parse(document, path)

    # Objects ------------------------------------------------------------------------------------

    def _manifest(self, path: str) -> Manifest | None:
        document = self._store.read_json(path)
        return None if document is None else Manifest.parse(document, path)

    def _predictions(self, version: int) -> Predictions:
        path = layout.version_file(version, layout.PREDICTIONS)
        document = self._store.read_json(path)
        if document is None:
            raise NoSuchModelError(f"version {version} has no predictions for the test images")
        return Predictions.parse(document, path)

    def _is_complete(self, version: int) -> bool:
        return self._store.exists(layout.manifest(version))

    def _is_removed(self, version: int) -> bool:
        return self._store.exists(layout.tombstone(version))
