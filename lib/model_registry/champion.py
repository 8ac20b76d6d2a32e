"""Move the champion: by the pipeline, which judges, and by operators, who promote and roll back.

A move creates `champion/N+1` after N was read, which only one of two writers can: compare-and-swap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from model_registry import layout
from model_registry.errors import ChampionMovedError, NoSuchModelError
from model_registry.reader import Reader
from model_registry.schema import PIPELINE, PROMOTE, ROLLBACK, Champion, now

_KEPT_MOVES = 100
_ATTEMPTS = 10


class ChampionPointer(Reader):
    """A registry in which the champion moves."""

    def move_champion(
        self, version: int, *, after: int, reason: str, moved_by: str = PIPELINE
    ) -> Champion:
        """Make a version the champion if it has moved `after` times so far.

        Args:
            version: the new champion.
            after: how many moves there have been.
            reason: recorded with the move.
            moved_by: PIPELINE, PROMOTE or ROLLBACK, recorded with the move.

        Raises:
            ChampionMovedError: it has moved since.
            NoSuchModelError: there is no such version, or it is being removed.
            UnsafeStoreError: nothing keeps two writers apart.
        """
        manifest = self.manifest(version)
        move = {
            "version": version,
            "run_id": manifest.run_id,
            "moved_at": now(),
            "moved_by": moved_by,
            "reason": reason,
        }
        sequence = after + 1
        path = layout.move(sequence)
        # A put whose answer was lost is tried again and meets itself.
        if not self._store.create_json(path, move) and self._store.read_json(path) != move:
            raise ChampionMovedError("the champion was moved meanwhile; look again first")
        # Whoever removes a version puts its tombstone and then looks at the moves. It is the other way
        # round here, so one of the two sees the other.
        if self._is_removed(version):
            raise NoSuchModelError(f"version {version} is being removed; the champion stays")
        sequences = self._store.numbers(layout.MOVES)
        self._store.delete([layout.move(old) for old in sequences if old <= after - _KEPT_MOVES])
        return Champion(version=version, manifest=manifest, sequence=sequence)

    def promote(self, version: int, reason: str) -> Champion:
        """Make a version the champion because an operator says so; it stays if it is.

        Raises:
            NoSuchModelError, ChampionMovedError, UnsafeStoreError: as `move_champion`.
        """
        after, champion = self._find_champion()
        if champion and champion.version == version:
            return champion
        return self.move_champion(version, after=after, reason=reason, moved_by=PROMOTE)

    def rollback(self, reason: str) -> Champion:
        """Make the version the champion that was it before; done twice it is as it was.

        Raises:
            NoSuchModelError: no other version was the champion.
            ChampionMovedError, UnsafeStoreError: as `move_champion`.
        """
        after, champion = self._find_champion()
        for _, move in self._moves() if champion else ():
            version = move.version
            if champion and version != champion.version and self._is_complete(version):
                return self.move_champion(version, after=after, reason=reason, moved_by=ROLLBACK)
        raise NoSuchModelError("no other version has served before")

    def promote_if_better(
        self, version: int, is_better: Callable[[Champion | None], bool], reason: str
    ) -> bool:
        """Make a version the champion if it is better; return whether it is the champion then.

        One that has served before stays as it is: an earlier attempt of its step promoted it, and an
        operator or a better one replaced it since.

        Args:
            version: the candidate.
            is_better: judges it against a champion; called again when the champion moved.
            reason: recorded with the move.

        Raises:
            ChampionMovedError: the champion kept moving.
        """
        for _ in range(_ATTEMPTS):
            after, champion = self._find_champion()
            if champion and champion.version == version:
                return True
            if self.has_served(version) or not is_better(champion):
                return False
            try:
                self.move_champion(version, after=after, reason=reason)
            except ChampionMovedError:
                continue
            return True
        raise ChampionMovedError(
            f"the champion moved {_ATTEMPTS} times while version {version} was judged"
        )

    def rolled_back(self) -> set[int]:
        """Return the versions that an operator rolled back from, and nobody has moved to again.

        A pipeline's own move ends that: it was judged against the champion of then. So do moves of
        charms that did not record who made them.
        """
        left: set[int] = set()
        moved_to: set[int] = set()
        for (_, move), (_, before) in itertools.pairwise(self._moves()):
            if move.moved_by not in (PROMOTE, ROLLBACK):
                break
            moved_to.add(move.version)
            if move.moved_by == ROLLBACK and before.version not in moved_to:
                left.add(before.version)
        return {version for version in left if self._is_complete(version)}
