"""Move the champion: pipelines promote better versions, operators promote and roll back.

A move reads the last sequence number N and creates `champion/N+1`, which only one of two writers can:
a compare-and-swap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from model_registry import layout
from model_registry.errors import ChampionMovedError, NoSuchModelError
from model_registry.reader import Reader
from model_registry.schema import PIPELINE, PROMOTE, ROLLBACK, Champion, now

_MAX_MOVES = 100
_ATTEMPTS = 10


class ChampionPointer(Reader):
    """A registry whose champion can be moved."""

    def move_champion(
        self, version: int, *, after: int, reason: str, moved_by: str = PIPELINE
    ) -> Champion:
        """Make a version the champion if the last move so far is number `after`.

        Args:
            version: New champion.
            after: Sequence number of the last move; 0 if there was none.
            reason: Reason, recorded with the move.
            moved_by: PIPELINE, PROMOTE or ROLLBACK, recorded with the move.

        Raises:
            ChampionMovedError: The champion has moved since.
            NoSuchModelError: There is no such version, or it is being removed.
            UnsafeStoreError: Concurrent writes are not safe in this store.
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
        # A put whose response was lost is retried and finds its own object.
        if not self._store.create_json(path, move) and self._store.read_json(path) != move:
            raise ChampionMovedError("another writer moved the champion")
        # To remove a version, a writer first puts its tombstone and then reads the moves. Use the
        # opposite order here, so that at least one of the two sees the other.
        if self._is_removed(version):
            raise NoSuchModelError(f"version {version} is being removed; the champion stays")
        sequences = self._store.numbers(layout.MOVES)
        self._store.delete([layout.move(old) for old in sequences if old <= after - _MAX_MOVES])
        return Champion(version=version, manifest=manifest, sequence=sequence)

    def promote(self, version: int, reason: str) -> Champion:
        """Make a version the champion at an operator's request, if it is not already.

        Raises:
            NoSuchModelError, ChampionMovedError, UnsafeStoreError: As `move_champion`.
        """
        after, champion = self._find_champion()
        if champion and champion.version == version:
            return champion
        return self.move_champion(version, after=after, reason=reason, moved_by=PROMOTE)

    def rollback(self, reason: str) -> Champion:
        """Make the previous champion the champion; a second rollback reverts the first.

        Raises:
            NoSuchModelError: No other version was the champion.
            ChampionMovedError, UnsafeStoreError: As `move_champion`.
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
        """Make a version the champion if it is better; return whether it is the champion afterwards.

        Do not promote a version that has served before: an earlier attempt of the step promoted it, and
        an operator or a better version replaced it since.

        Args:
            version: Candidate.
            is_better: Compares it with a champion; called again if the champion moves.
            reason: Reason, recorded with the move.

        Raises:
            ChampionMovedError: The champion kept moving.
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
            f"the champion moved {_ATTEMPTS} times while version {version} was compared with it"
        )

    def rolled_back(self) -> set[int]:
        """Return the versions that an operator rolled back from and that were not promoted again.

        Consider only moves since the last one by a pipeline, which compared its model with the champion
        at that time, or by an unknown writer.
        """
        rolled_back: set[int] = set()
        moved_to: set[int] = set()
        for (_, move), (_, before) in itertools.pairwise(self._moves()):
            if move.moved_by not in (PROMOTE, ROLLBACK):
                break
            moved_to.add(move.version)
            if move.moved_by == ROLLBACK and before.version not in moved_to:
                rolled_back.add(before.version)
        return {version for version in rolled_back if self._is_complete(version)}
