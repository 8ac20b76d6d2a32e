"""The registry for charm and steps: read, move the champion, publish, and clean up."""

from __future__ import annotations

import datetime

from model_registry import layout
from model_registry.errors import RegistryElsewhereError
from model_registry.publisher import ABANDONED, NEWEST, Publisher
from model_registry.schema import now

SETTLED = datetime.timedelta(days=1)
"""Minimum age of versions to remove: a run or an operator may be about to promote a younger one."""


class Registry(Publisher):
    """A model registry in object storage, or in a directory.

    No object is ever overwritten: each is put only if it does not exist.
    """

    def ensure_safe(self, namespace: str) -> None:
        """Check that concurrent writes are safe; one call if the method is recorded.

        Args:
            namespace: Namespace in which the pipelines' runs execute and write.

        Raises:
            UnsafeStoreError: The S3 server has no conditional writes, and there is no cluster.
            RegistryElsewhereError: The registry is written through another namespace.
        """
        method = self._store.method()
        if method.namespace not in ("", namespace):
            raise RegistryElsewhereError(
                f"the registry is in namespace {method.namespace}, runs in {namespace}"
            )

    def prune(self, keep: int, *, older_than: datetime.timedelta = SETTLED) -> list[int]:
        """Remove old versions; return their numbers.

        Keep the newest versions, the champion, and the previous champion for a rollback. Keep recently
        published versions too, since another run may be about to promote them. Finish removals that an
        earlier call began.

        Args:
            keep: Number of the newest versions to keep; 0 keeps all.
            older_than: Minimum age of versions to remove.
        """
        if not keep:
            return []
        old = [version for version in self.versions()[:-keep] if self._age(version) >= older_than]
        removable = {*self._store.numbers(layout.TOMBSTONES), *old}
        existing = set(self._store.folders())
        return [version for version in sorted(removable & existing) if self._remove(version)]

    def collect_garbage(self, *, older_than: datetime.timedelta = ABANDONED) -> list[int]:
        """Remove incomplete versions of dead steps; return their numbers.

        Search the newest hundred numbers. Delete old objects in `pending/` too.

        Args:
            older_than: Minimum time since the last put.
        """
        removed: list[int] = []
        for version in self._store.folders()[-NEWEST:]:
            if not self._is_complete(version) and self._age(version) > older_than:
                self._remove(version)
                removed.append(version)
        oldest = datetime.datetime.now(datetime.timezone.utc) - older_than
        pending = self._store.paths(layout.PENDING)
        self._store.delete([path for path, put_at in pending.items() if put_at < oldest])
        return removed

    def _remove(self, version: int) -> bool:
        """Remove a version unless it is the champion or the previous one; return whether it did."""
        tombstone = layout.tombstone(version)
        if version in self._serving():
            # An earlier removal may have died between the tombstone and the second check.
            self._store.delete([tombstone])
            return False
        self._put_tombstone(version)
        if version in self._serving():
            # It was promoted meanwhile, by a writer that checked before the tombstone existed.
            self._store.delete([tombstone])
            return False
        manifest = layout.manifest(version)
        files = self._store.paths(str(version))
        self._store.delete(sorted(files, key=lambda path: path != manifest))
        # Put it again, since another writer may have deleted it between the two checks above.
        self._put_tombstone(version)
        return True

    def _put_tombstone(self, version: int) -> None:
        tombstone = {"version": version, "removed_at": now()}
        self._store.create_json(layout.tombstone(version), tombstone)

    def _serving(self) -> list[int]:
        """Return the champion and the previous champion, if any."""
        versions: list[int] = []
        for _, move in self._moves():
            if move.version not in versions and self._is_complete(move.version):
                versions.append(move.version)
            if len(versions) == 2:
                break
        return versions
