"""Paths of all objects under a registry's address; docs/reference/registry.md says what is in them.

A version is created in this order, and removed in the opposite one: its number is reserved, its files
are put, then its manifest, without which it does not count. Its tombstone comes first of all when it
is removed. Were the manifest the last to go, a crash would leave a version that counts and cannot be
loaded; were there no tombstone, files without a manifest could not be told from those of a version
that is being created.
"""

from __future__ import annotations

RECORD = "writes.json"
"""How objects are put only if they do not exist."""
PROBE = "probe.json"
"""What servers are tried with that may ignore conditions."""
PENDING = "pending"
"""Folder of large objects that are being put, where the server ignores conditions."""
MOVES = "champion"
RESERVATIONS = "claims"
TOMBSTONES = "removed"
CHECKPOINTS = "checkpoints"
WORK = "work"
SERVING = "serving"
"""Folder of the SavedModel, in a version and in what is published as one."""
PREDICTIONS = "predictions.json"
"""A version's file with its predictions for the test images."""


def manifest(version: int) -> str:
    """Return the path of a version's manifest, which is put last."""
    return f"{version}/manifest.json"


def version_file(version: int, name: str) -> str:
    """Return the path of one of a version's files."""
    return f"{version}/{name}"


def published_name(version: int, name: str) -> str:
    """Return a file's name in a version: TensorFlow Serving wants a number over a SavedModel."""
    return name.replace("/", f"/{version}/", 1) if name.startswith(f"{SERVING}/") else name


def serving(version: int) -> str:
    """Return the path of a version's SavedModel, as TensorFlow Serving's base path."""
    return f"{version}/{SERVING}"


def reservation(version: int) -> str:
    """Return the path of what says which run has reserved a version's number."""
    return f"{RESERVATIONS}/{version:08d}.json"


def tombstone(version: int) -> str:
    """Return the path of what says that a version is removed, or about to be."""
    return f"{TOMBSTONES}/{version:08d}.json"


def move(sequence: int) -> str:
    """Return the path of a move of the champion."""
    return f"{MOVES}/{sequence:08d}.json"


def run(run_id: str) -> str:
    """Return the folder of a run's records."""
    return f"runs/{run_id}"


def run_manifest(run_id: str) -> str:
    """Return the path of the manifest of a run, whatever its verdict."""
    return f"{run(run_id)}/manifest.json"


def run_version(run_id: str) -> str:
    """Return the path of what says which version was made of a run."""
    return f"{run(run_id)}/version.json"


def step_error(step: str) -> str:
    """Return the name, in the run's folder, of a step's permanent error."""
    return f"{step}-error.json"


def report(run_id: str) -> str:
    """Return the path of a monitoring run's report."""
    return f"monitoring/{run_id}/report.json"


def blob(digest: str) -> str:
    """Return the path of what versions share, by its sha256."""
    return f"data/{digest}"


def code(digest: str) -> str:
    """Return the path of a code bundle, by its sha256."""
    return f"code/{digest}"


def trials(run_id: str) -> str:
    """Return the folder of a tuning run's trials."""
    return f"tuning/{run_id}"


def trial(number: int) -> str:
    """Return the name, in the folder of trials, of a trial's record."""
    return f"{number}.json"


def checkpoint(run_id: str) -> str:
    """Return the path of the state of a run's training."""
    return f"{CHECKPOINTS}/{run_id}/state"


def work(run_id: str) -> str:
    """Return the folder of what a run's workers share while they train."""
    return f"{WORK}/{run_id}"
