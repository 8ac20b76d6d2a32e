"""The model registry: versions, their manifests and the champion, in object storage.

Layout under its address (docs/reference/registry.md)::

    runs/RUN/manifest.json     what came of a run, whatever the verdict
    runs/RUN/version.json      the version that was made of it
    claims/00000007.json       who took the number 7
    7/...                      version 7: Keras model, report; manifest.json comes last
    7/serving/7/...            its SavedModel, where TensorFlow Serving looks for version 7
    data/SHA256                the test images as one IDX file, or the digests of the training images;
                               its sha256 is its name
    champion/00000003.json     the third move of the champion pointer
    removed/00000007.json      version 7 was removed, or is about to be
    monitoring/RUN/report.json what a monitoring run saw in production images
    code/SHA256                the steps' code, put by the charm
    writes.json                how objects are put only if they do not exist
    probe.json                 by which servers are tried that ignore conditions
    pending/...                what is being put, on a server that ignores them

Nothing is ever overwritten: each object is put only if it does not exist. The package `model_registry`
does that, also on S3 servers that ignore `If-None-Match: *`.

A version is removed in the opposite order of its making. First its tombstone, by which everyone can
tell that it goes; then its manifest, without which it does not count; then its files. Were the
manifest the last to go, a crash would leave a version that counts and cannot be loaded; were there
no tombstone, files without a manifest could not be told from those of a version in the making.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import itertools
import json
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import obstore

from fashion_mnist import SERVING
from fashion_mnist.kubernetes import ConfigMaps
from fashion_mnist.storage import open_store
from model_registry import PENDING, UnsafeStoreError, Writes

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_KEPT_MOVES = 100
# Who moved the champion: this package, or an operator by one of the charm's two actions.
PIPELINE, PROMOTE, ROLLBACK = "pipeline", "promote", "rollback"
# A step publish takes minutes: one that has put nothing for a day is dead. Until half of that another
# attempt goes on where it was, so that nobody works on what is being swept.
ABANDONED = datetime.timedelta(days=1)
# A version that is younger is not removed: its run, or an operator, may be about to promote it.
SETTLED = datetime.timedelta(days=1)
# So many of the newest numbers are looked at for what a dead step left.
_LOOKED_BACK = 100


class RegistryError(RuntimeError):
    """The registry holds something else than it should."""


class LostRaceError(RegistryError):
    """Another moved the champion meanwhile; look again and judge again."""


@dataclasses.dataclass(frozen=True)
class Champion:
    """The model that serves.

    Attributes:
        version: its number.
        sequence: how often the pointer has moved.
        manifest: the version's.
    """

    version: int
    sequence: int
    manifest: Mapping[str, Any]


class Registry:
    """A registry at s3://bucket/prefix or in a directory.

    Args:
        store: an obstore store; `Registry.open` makes one from an address.
        location: what errors call it.
    """

    def __init__(self, store: Any, location: str = "object storage"):
        self._store = store
        self._writes = Writes(store, location=location, connect=ConfigMaps.find)

    @classmethod
    def open(cls, address: str, endpoint: str = "") -> Registry:
        """Return the registry at an address; see `storage.open_store`."""
        location = f"{address} at {endpoint}" if endpoint else address
        return cls(open_store(address, endpoint), location)

    def check(self) -> None:
        """Make sure that this process may write here, and that no two writers undo each other's work.

        Raises:
            RegistryError: it may not, or there are neither conditional writes nor a cluster.
        """
        with _as_registry_error():
            self._writes.check()

    # Runs ---------------------------------------------------------------------------------------

    def write_result(self, run_id: str, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep what came of a run; returns what is kept, which is older when a step was repeated."""
        path = f"runs/{run_id}/{MANIFEST}"
        if self._create(path, manifest):
            return manifest
        return self._manifest(path)

    def write_report(self, run_id: str, report: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep what a monitoring run saw; returns what is kept, as `write_result` does."""
        path = f"monitoring/{run_id}/report.json"
        if self._create(path, report):
            return report
        return self._manifest(path)

    # Versions -----------------------------------------------------------------------------------

    def publish(self, run_id: str, files: Path, manifest: Mapping[str, Any]) -> int:
        """Make a version of a run's model; returns its number.

        Publishing the same run again gives the same version, and finishes it where an earlier
        attempt died: what that one has put stays as it is.

        Args:
            run_id: the run that made it.
            files: a directory; all files in it are kept, those in its folder `serving` in
                `serving/N`, since TensorFlow Serving wants a number over a SavedModel.
            manifest: the run's; the version, and each file's sha256 and size are added.

        Raises:
            ValueError: the directory holds nothing.
            RegistryError: see `check`, or the version was swept meanwhile.
        """
        self.check()
        published = self._read(f"runs/{run_id}/version.json")
        if published is not None:
            return int(published["version"])
        paths = sorted(path for path in files.rglob("*") if path.is_file())
        if not paths:
            raise ValueError(f"{files} is empty; there is no model to publish")
        version = self._claimed(run_id) or self._claim(run_id)
        if self._read(f"{version}/{MANIFEST}") is None:
            entries: dict[str, dict[str, Any]] = {}
            for path in paths:
                name = path.relative_to(files).as_posix()
                if name.startswith(f"{SERVING}/"):
                    name = name.replace("/", f"/{version}/", 1)
                content = self._put(f"{version}/{name}", path.read_bytes())
                entries[name] = {
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "bytes": len(content),
                }
            self._create(
                f"{version}/{MANIFEST}", {**manifest, "version": version, "files": entries}
            )
        if self._is_removed(version):
            raise RegistryError(f"version {version} was swept while it was made; publish again")
        if not self._create(f"runs/{run_id}/version.json", {"version": version}):
            # The same run was published twice at once; the first to say so counts.
            return int((self._read(f"runs/{run_id}/version.json") or {})["version"])
        return version

    def versions(self) -> list[int]:
        """The numbers of the versions that are whole, ascending."""
        numbers = sorted(self._begun())
        return [n for n in numbers if self._read(f"{n}/{MANIFEST}") is not None]

    def manifest(self, version: int) -> Mapping[str, Any]:
        """A version's manifest.

        Raises:
            RegistryError: there is no such version.
        """
        return self._manifest(f"{version}/{MANIFEST}")

    def keep(self, content: bytes) -> str:
        """Keep what versions share, once; returns its sha256, which is its name in `data`."""
        name = hashlib.sha256(content).hexdigest()
        path = f"data/{name}"
        try:
            obstore.head(self._store, path)
        except FileNotFoundError:
            # No condition is needed: others put the same.
            obstore.put(self._store, path, content)
        return name

    def kept(self, name: str) -> bytes:
        """What `keep` kept under a name.

        Raises:
            RegistryError: it is not there any more, or was altered.
        """
        try:
            content = bytes(obstore.get(self._store, f"data/{name}").bytes())
        except FileNotFoundError as error:
            raise RegistryError(f"data/{name} is not there any more; restore it") from error
        if hashlib.sha256(content).hexdigest() != name:
            raise RegistryError(f"data/{name} was altered after it was kept; restore it")
        return content

    def history(self, limit: int = 20) -> list[tuple[Mapping[str, Any], str]]:
        """The manifests of the newest versions, oldest first, and when each became the champion last.

        The second is RFC 3339, UTC, and empty for a version that never served, as far as the moves
        tell that are kept. A version that is being removed is left out.
        """
        since: dict[int, str] = {}
        for sequence in sorted(self._moves()):
            # Another step may remove the oldest meanwhile.
            move = self._read(_move(sequence))
            if move is not None:
                since[int(move["version"])] = str(move.get("moved_at", ""))
        removed = set(self._numbers("removed"))
        versions: list[tuple[Mapping[str, Any], str]] = []
        for version in sorted(self._begun() - removed, reverse=True):
            manifest = self._read(f"{version}/{MANIFEST}") if len(versions) < limit else None
            if manifest is not None:
                versions.insert(0, (manifest, since.get(version, "")))
        return versions

    def fetch(self, version: int, directory: Path) -> Mapping[str, Any]:
        """Copy a version's files into a directory, each checked; returns the manifest.

        Raises:
            RegistryError: there is no such version, or a file is not what the manifest says.
        """
        manifest = self.manifest(version)
        root = directory.resolve()
        for name, entry in manifest["files"].items():
            path = (root / name).resolve()
            if root not in path.parents:
                raise RegistryError(f"version {version} names a file outside itself: {name!r}")
            try:
                content = bytes(obstore.get(self._store, f"{version}/{name}").bytes())
            except FileNotFoundError as error:
                raise RegistryError(f"version {version}: {name} is not there any more") from error
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise RegistryError(
                    f"version {version}: {name} was altered after it was published; do not use it"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return manifest

    def prune(self, keep: int, *, older_than: datetime.timedelta = SETTLED) -> list[int]:
        """Remove old versions; returns the numbers of those that went.

        The newest stay, and so do, however old, the champion and the one that served before it,
        to which a rollback goes. So does what was just published, since another run may be about to
        promote it. What an earlier call left undone is finished.

        Args:
            keep: how many of the newest versions stay; 0 keeps all.
            older_than: how old a version must be to go.
        """
        if not keep:
            return []
        old = [version for version in self.versions()[:-keep] if self._age(version) >= older_than]
        candidates = {*self._numbers("removed"), *old}
        existing = self._begun()
        return [version for version in sorted(candidates & existing) if self._remove(version)]

    def sweep(self) -> list[int]:
        """Remove what steps left that died before their version counted; returns the numbers.

        It has to be older than a day, and is looked for among the newest hundred numbers. So are
        objects that were being put.
        """
        removed: list[int] = []
        for version in sorted(self._begun())[-_LOOKED_BACK:]:
            if self._read(f"{version}/{MANIFEST}") is None and self._age(version) > ABANDONED:
                self._remove(version)
                removed.append(version)
        dead = datetime.datetime.now(datetime.timezone.utc) - ABANDONED
        for page in obstore.list(self._store, PENDING):
            self._delete([entry["path"] for entry in page if entry["last_modified"] < dead])
        return removed

    def _remove(self, version: int) -> bool:
        """Remove one version, unless it serves or served last; True when it is gone."""
        if version in self._serving():
            # A publisher may have died between the tombstone and its second look.
            self._delete([_tombstone(version)])
            return False
        self._create(_tombstone(version), {"version": version, "removed_at": now()})
        if version in self._serving():
            # It was promoted meanwhile, by someone who looked before the tombstone was there.
            self._delete([_tombstone(version)])
            return False
        files = self._paths(str(version))
        self._delete(sorted(files, key=lambda path: path != f"{version}/{MANIFEST}"))
        # Again, since another who removes versions may have taken it back at the wrong moment.
        self._create(_tombstone(version), {"version": version, "removed_at": now()})
        return True

    def _serving(self) -> list[int]:
        """The champion and the one that served before it, as far as there are any."""
        versions: list[int] = []
        for sequence in self._newest_moves():
            version = self._moved_to(sequence)
            if version not in versions and self._read(f"{version}/{MANIFEST}") is not None:
                versions.append(version)
            if len(versions) == 2:
                break
        return versions

    # The champion -------------------------------------------------------------------------------

    def champion(self) -> Champion | None:
        """The model that serves; None before the first.

        A move to a version that was being removed at that moment does not count.

        Raises:
            RegistryError: the pointer names a version that is not there.
        """
        moves = self._newest_moves()
        for sequence in moves:
            version = self._moved_to(sequence)
            manifest = self._read(f"{version}/{MANIFEST}")
            if manifest is None and self._is_removed(version):
                continue
            return Champion(version, moves[0], manifest or self.manifest(version))
        return None

    def move_champion(
        self, version: int, *, after: int, reason: str, moved_by: str = PIPELINE
    ) -> None:
        """Point to another version, if the pointer has moved `after` times so far.

        Args:
            version: the new champion.
            after: how many moves there have been.
            reason: kept with the move.
            moved_by: PIPELINE, PROMOTE or ROLLBACK, kept with the move.

        Raises:
            LostRaceError: it has moved since.
            RegistryError: there is no such version, it is being removed, or see `check`.
        """
        self.check()
        manifest = self.manifest(version)
        move = {
            "version": version,
            "run_id": manifest["run_id"],
            "moved_at": now(),
            "moved_by": moved_by,
            "reason": reason,
        }
        # A put whose answer was lost is tried again and meets itself.
        if not self._create(_move(after + 1), move) and self._read(_move(after + 1)) != move:
            raise LostRaceError(f"the champion moved while version {version} was judged")
        # Whoever removes it puts the tombstone and then looks at the moves; the other way round
        # here, one of the two sees the other.
        if self._is_removed(version):
            raise RegistryError(f"version {version} is being removed; see which model serves now")
        old = [_move(n) for n in self._moves() if n <= after - _KEPT_MOVES]
        if old:
            self._delete(old)

    def promote(
        self,
        version: int,
        better_than: Callable[[Champion | None], bool],
        reason: str,
        *,
        attempts: int = 10,
    ) -> bool:
        """Make a version the champion if it is better than whoever is; True where it serves then.

        One that has served before stays as it is: it was promoted by an earlier attempt of its step,
        and replaced since, by an operator or by a better one.

        Args:
            version: the candidate.
            better_than: judges it against a champion; asked again when the champion moved.
            reason: kept with the move.
            attempts: how many times to look again.

        Raises:
            LostRaceError: the champion kept moving.
        """
        for _ in range(attempts):
            champion = self.champion()
            if champion and champion.version == version:
                return True
            if self.has_served(version) or not better_than(champion):
                return False
            try:
                self.move_champion(
                    version, after=champion.sequence if champion else 0, reason=reason
                )
            except LostRaceError:
                continue
            return True
        raise LostRaceError(f"the champion moved {attempts} times while version {version} waited")

    def has_served(self, version: int) -> bool:
        """Whether a version was the champion at some time, as far as the moves tell that are kept."""
        # Another step may remove the oldest moves meanwhile.
        moves = (self._read(_move(sequence)) or {} for sequence in self._newest_moves())
        return any(move.get("version") == version for move in moves)

    def rolled_back(self) -> set[int]:
        """The versions that an operator rolled back from, and nobody has moved to again.

        A pipeline's own move ends that: it was judged against who served then. So do moves of charms
        that did not keep who made them.
        """
        left: set[int] = set()
        moved_to: set[int] = set()
        moves = (self._read(_move(sequence)) or {} for sequence in self._newest_moves())
        for move, before in itertools.pairwise(moves):
            if move.get("moved_by") not in (PROMOTE, ROLLBACK) or not before:
                break
            moved_to.add(move["version"])
            if move["moved_by"] == ROLLBACK and before["version"] not in moved_to:
                left.add(before["version"])
        return {version for version in left if self._read(f"{version}/{MANIFEST}") is not None}

    # Objects ------------------------------------------------------------------------------------

    def _claim(self, run_id: str) -> int:
        number = max(self._numbers("claims"), default=0) + 1
        while not self._create(_claim(number), {"run_id": run_id}):
            # A put whose answer was lost is tried again and meets itself.
            if self._takes(number, run_id):
                break
            number += 1
        return number

    def _claimed(self, run_id: str) -> int | None:
        """The number that an earlier attempt of a run took, and that is whole or can be made so."""
        for number in sorted(self._numbers("claims"), reverse=True)[:_LOOKED_BACK]:
            if not self._takes(number, run_id) or self._is_removed(number):
                continue
            is_whole = self._read(f"{number}/{MANIFEST}") is not None
            if is_whole or self._age(number) < ABANDONED / 2:
                return number
        return None

    def _takes(self, number: int, run_id: str) -> bool:
        return (self._read(_claim(number)) or {}).get("run_id") == run_id

    def _age(self, version: int) -> datetime.timedelta:
        """How long ago something was put of a version, whole or not."""
        time = datetime.datetime.now(datetime.timezone.utc)
        times = [
            e["last_modified"] for page in obstore.list(self._store, str(version)) for e in page
        ]
        with contextlib.suppress(FileNotFoundError):
            times.append(obstore.head(self._store, _claim(version))["last_modified"])
        return time - max(times, default=time)

    def _moves(self) -> list[int]:
        return self._numbers("champion")

    def _newest_moves(self) -> list[int]:
        return sorted(self._moves(), reverse=True)

    def _moved_to(self, sequence: int) -> int:
        return int((self._read(_move(sequence)) or {})["version"])

    def _is_removed(self, version: int) -> bool:
        return self._read(_tombstone(version)) is not None

    def _begun(self) -> set[int]:
        """The numbers under which there is anything, whole or not."""
        listed = obstore.list_with_delimiter(self._store)["common_prefixes"]
        return {int(path.strip("/")) for path in listed if path.strip("/").isdigit()}

    def _numbers(self, prefix: str) -> list[int]:
        return [int(Path(path).stem) for path in self._paths(prefix) if Path(path).stem.isdigit()]

    def _paths(self, prefix: str) -> list[str]:
        return [entry["path"] for page in obstore.list(self._store, prefix) for entry in page]

    def _delete(self, paths: list[str]) -> None:
        """Delete objects, one after another; those that are gone already are no error."""
        with _as_registry_error():
            self._writes.delete(paths)

    def _put(self, path: str, content: bytes) -> bytes:
        """Put an object if it does not exist; returns what is there then."""
        with _as_registry_error():
            if self._writes.create(path, content):
                return content
        return bytes(obstore.get(self._store, path).bytes())

    def _create(self, path: str, data: Mapping[str, Any]) -> bool:
        """Put an object if it does not exist; False where it does."""
        with _as_registry_error():
            return self._writes.create(path, json.dumps(data, indent=1, sort_keys=True).encode())

    def _read(self, path: str) -> dict[str, Any] | None:
        try:
            return json.loads(bytes(obstore.get(self._store, path).bytes()))
        except FileNotFoundError:
            return None

    def _manifest(self, path: str) -> Mapping[str, Any]:
        manifest = self._read(path)
        if manifest is None:
            raise RegistryError(f"{path} is not there; list what is with versions()")
        if manifest.get("schema_version") != SCHEMA_VERSION:
            raise RegistryError(
                f"{path} has schema_version {manifest.get('schema_version')}, and this code reads "
                f"{SCHEMA_VERSION}; use a newer one"
            )
        return manifest


@contextlib.contextmanager
def _as_registry_error() -> Generator[None]:
    try:
        yield
    except UnsafeStoreError as error:
        raise RegistryError(str(error)) from error


def now() -> str:
    """The time, RFC 3339, UTC, whole seconds."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _claim(number: int) -> str:
    return f"claims/{number:08d}.json"


def _move(sequence: int) -> str:
    return f"champion/{sequence:08d}.json"


def _tombstone(version: int) -> str:
    return f"removed/{version:08d}.json"
