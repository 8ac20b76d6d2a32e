"""The registry as charm and steps open it: read, move the champion, publish, and clean up."""

from __future__ import annotations

import datetime

from model_registry import layout
from model_registry.errors import RegistryElsewhereError
from model_registry.publisher import ABANDONED, NEWEST, Publisher
from model_registry.schema import now

SETTLED = datetime.timedelta(days=1)
"""A version that is younger is not removed: its run, or an operator, may be about to promote it."""


class Registry(Publisher):
    """A model registry in object storage, or in a directory.

    Nothing in it is ever overwritten: each object is put only if it does not exist.
    """

    def ensure_safe(self, namespace: str) -> None:
        """Make sure that writers of the registry are kept apart: one call where that is recorded.

        Args:
            namespace: the one in which the pipelines' runs are executed, and write.

        Raises:
            UnsafeStoreError: the S3 server has no conditional writes, and there is no cluster.
            RegistryElsewhereError: it is written through another namespace.
        """
        method = self._store.method()
        if method.namespace not in ("", namespace):
            raise RegistryElsewhereError(
                f"the registry is in namespace {method.namespace}, runs in {namespace}"
            )

    def prune(self, keep: int, *, older_than: datetime.timedelta = SETTLED) -> list[int]:
        """Remove old versions; return the numbers of those that went.

        The newest stay. So do, however old, the champion and the one that served before it, to which a
        rollback goes. So does what was just published, since another run may be about to promote it.
        What an earlier call left undone is finished.

        Args:
            keep: how many of the newest versions stay; 0 keeps all.
            older_than: how old a version must be to go.
        """
        if not keep:
            return []
        old = [version for version in self.versions()[:-keep] if self._age(version) >= older_than]
        removable = {*self._store.numbers(layout.TOMBSTONES), *old}
        existing = set(self._store.folders())
        return [version for version in sorted(removable & existing) if self._remove(version)]

    def collect_garbage(self, *, older_than: datetime.timedelta = ABANDONED) -> list[int]:
        """Remove what dead steps left of versions that do not count; return the numbers.

        That is searched for among the newest hundred numbers. So is what they left in `pending/`.

        Args:
            older_than: how long nothing must have been put.
        """
        removed: list[int] = []
        for version in self._store.folders()[-NEWEST:]:
            if not self._is_complete(version) and self._age(version) > older_than:
                self._remove(version)
                removed.append(version)
        dead = datetime.datetime.now(datetime.timezone.utc) - older_than
        pending = self._store.paths(layout.PENDING)
        self._store.delete([path for path, put_at in pending.items() if put_at < dead])
        return removed

    def _remove(self, version: int) -> bool:
        """Remove a version, unless it serves or served last; return whether it is gone."""
        tombstone = layout.tombstone(version)
        if version in self._serving():
            # A publisher may have died between the tombstone and its second look.
            self._store.delete([tombstone])
            return False
        self._put_tombstone(version)
        if version in self._serving():
            # It was promoted meanwhile, by someone who looked before the tombstone was there.
            self._store.delete([tombstone])
            return False
        manifest = layout.manifest(version)
        files = self._store.paths(str(version))
        self._store.delete(sorted(files, key=lambda path: path != manifest))
        # Again, since another who removes versions may have taken it back at the wrong moment.
        self._put_tombstone(version)
        return True

    def _put_tombstone(self, version: int) -> None:
        tombstone = {"version": version, "removed_at": now()}
        self._store.create_json(layout.tombstone(version), tombstone)

    def _serving(self) -> list[int]:
        """Return the champion and the one that served before it, as far as there are any."""
        versions: list[int] = []
        for _, move in self._moves():
            if move.version not in versions and self._is_complete(move.version):
                versions.append(move.version)
            if len(versions) == 2:
                break
        return versions
