"""Paths of all objects under a registry's address; docs/reference/registry.md describes their contents.

To create a version, reserve its number, put its files, and put its manifest, which makes it complete. To
remove it, put its tombstone, delete its manifest, and delete its files. If the manifest were deleted
last, a crash could leave a complete version that cannot be loaded. Without the tombstone, the remaining
files would look like those of a version that is being created.
"""

from __future__ import annotations

RECORD = "writes.json"
"""Record of the method by which objects are put only if they do not exist."""
PROBE = "probe.json"
"""Object with which the server's conditional puts are tested."""
PENDING = "pending"
"""Folder of large objects that are being put, if the server has no conditional puts."""
MOVES = "champion"
RESERVATIONS = "claims"
TOMBSTONES = "removed"
CHECKPOINTS = "checkpoints"
WORK = "work"
SERVING = "serving"
"""Folder of the SavedModel, in a version and in a folder that is published as one."""
PREDICTIONS = "predictions.json"
"""Name of a version's file with predictions for the test images."""


def manifest(version: int) -> str:
    """Return the path of a version's manifest, which is put last."""
    return f"{version}/manifest.json"


def version_file(version: int, name: str) -> str:
    """Return the path of one of a version's files."""
    return f"{version}/{name}"


def published_name(version: int, name: str) -> str:
    """Return a file's name in a version: TensorFlow Serving needs a number above a SavedModel."""
    return name.replace("/", f"/{version}/", 1) if name.startswith(f"{SERVING}/") else name


def serving(version: int) -> str:
    """Return the path of a version's SavedModel, as TensorFlow Serving's base path."""
    return f"{version}/{SERVING}"


def reservation(version: int) -> str:
    """Return the path of a version number's reservation, which names the run."""
    return f"{RESERVATIONS}/{version:08d}.json"


def tombstone(version: int) -> str:
    """Return the path of a version's tombstone, which says that it is or will be removed."""
    return f"{TOMBSTONES}/{version:08d}.json"


def move(sequence: int) -> str:
    """Return the path of a champion move."""
    return f"{MOVES}/{sequence:08d}.json"


def run(run_id: str) -> str:
    """Return the folder of a run's records."""
    return f"runs/{run_id}"


def run_manifest(run_id: str) -> str:
    """Return the path of a run's manifest, which exists whatever the verdict."""
    return f"{run(run_id)}/manifest.json"


def run_version(run_id: str) -> str:
    """Return the path of the object that names the version published from a run."""
    return f"{run(run_id)}/version.json"


def step_error(step: str) -> str:
    """Return the name, in the run's folder, of a step's permanent error."""
    return f"{step}-error.json"


def report(run_id: str) -> str:
    """Return the path of a monitoring run's report."""
    return f"monitoring/{run_id}/report.json"


def blob(digest: str) -> str:
    """Return the path of a blob that versions share, by SHA-256."""
    return f"data/{digest}"


def code(digest: str) -> str:
    """Return the path of a code bundle, by SHA-256."""
    return f"code/{digest}"


def trials(run_id: str) -> str:
    """Return the folder of a tuning run's trials."""
    return f"tuning/{run_id}"


def trial(number: int) -> str:
    """Return the name of a trial's record in the folder of trials."""
    return f"{number}.json"


def checkpoint(run_id: str) -> str:
    """Return the path of a run's training checkpoint."""
    return f"{CHECKPOINTS}/{run_id}/state"


def work(run_id: str) -> str:
    """Return the folder of objects that a run's workers share while they train."""
    return f"{WORK}/{run_id}"
