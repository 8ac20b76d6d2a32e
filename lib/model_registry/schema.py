"""Contents of the registry's objects as typed values, validated when they are read.

Anyone with write access to the bucket may have written an object, so each is read with `parse`: a
missing value or a wrong type raises RegistryContentError. Strings are reduced to one line of printable
characters of limited length, so that they can be shown anywhere; `Manifest.document` has the originals.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, cast

from model_registry.errors import NoSuchModelError, RegistryContentError

SCHEMA_VERSION = 1
# What moved the champion: the pipeline, or an operator's action.
PIPELINE, PROMOTE, ROLLBACK = "pipeline", "promote", "rollback"
# Exceptions for a malformed document: JSON numbers and nesting are unbounded.
_MALFORMED = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)
# Control characters other than tab and newline, and unpaired surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A version's file in its manifest."""

    sha256: str
    bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record of a run and its model: metrics, verdict and files."""

    run_id: str
    """ID of the run in Kubeflow Pipelines."""
    accuracy: float
    """Accuracy on the test set, 0 to 1."""
    accepted: bool
    """Whether the gate accepted the model."""
    reasons: tuple[str, ...] = ()
    """The gate's reasons, one sentence each."""
    created_at: datetime.datetime | None = None
    """Creation time of the model, UTC."""
    loss: float | None = None
    """Loss on the test set."""
    recalls: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    """Recall by class, 0 to 1."""
    drift: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    """Population stability index of the run's data against the champion's, by feature."""
    reason: str = ""
    """Why the run was started."""
    source: str = ""
    """Location of the data."""
    etags: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """ETags of the data files, by name."""
    unchanged: bool = False
    """Whether the model is identical to the champion."""
    test_images: str = ""
    """Name of the blob with a version's test images; empty if there is none."""
    train_digests: str = ""
    """Name of the blob with digests of a version's training images; empty if there is none."""
    files: Mapping[str, FileEntry] = dataclasses.field(default_factory=dict[str, FileEntry])
    """Files of a version, by name."""
    document: Mapping[str, Any] = dataclasses.field(
        default_factory=dict[str, Any], repr=False, compare=False
    )
    """All fields as written: docs/reference/registry.md."""

    @classmethod
    def parse(cls, document: Mapping[str, Any], path: str = "") -> Manifest:
        """Parse and validate a manifest.

        Args:
            document: JSON object.
            path: Path of the object, for errors.

        Raises:
            RegistryContentError: It has another schema version, or is malformed.
        """
        _check_schema(document, "manifest", path)
        with _malformed_as_error("malformed manifest", path):
            metrics = _mapping(document["metrics"])
            test, verdict = _mapping(metrics["test"]), _mapping(document["verdict"])
            data = _mapping(document.get("data", {}))
            return cls(
                run_id=_text(document["run_id"], 256),
                accuracy=float(test["accuracy"]),
                accepted=verdict["status"] == "accepted",
                reasons=tuple(_text(reason, 300) for reason in list(verdict["reasons"])),
                created_at=_time(document.get("created_at")),
                loss=float(test["loss"]) if "loss" in test else None,
                recalls=_floats(metrics.get("recall", {})),
                drift=_floats(data.get("drift", {})),
                reason=_text(document.get("reason", ""), 300),
                source=str(data.get("source", "")),
                etags={_text(k, 300): str(v) for k, v in _mapping(data.get("etags", {})).items()},
                unchanged=verdict.get("unchanged") is True,
                test_images=_digest(data.get("test_images")),
                train_digests=_digest(data.get("train_digests")),
                files=_files(document.get("files", {})),
                document=document,
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonitoringReport:
    """The record of a monitoring run, which compares production images with the champion's data."""

    run_id: str
    """ID of the run in Kubeflow Pipelines."""
    version: int
    """Version that was the champion."""
    images: int
    """Number of images."""
    drift: Mapping[str, float]
    """Population stability index against the champion's data, by feature."""
    created_at: datetime.datetime | None = None
    """Creation time of the report, UTC."""
    accuracy: float | None = None
    """Accuracy on labeled images, 0 to 1; None without labels."""
    recalls: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    """Recall on labeled images by class, 0 to 1."""
    is_inaccurate: bool = False
    """Whether the accuracy is lower than on the test images by more than the run tolerates."""
    document: Mapping[str, Any] = dataclasses.field(
        default_factory=dict[str, Any], repr=False, compare=False
    )
    """All fields as written: docs/reference/registry.md."""

    @classmethod
    def parse(cls, document: Mapping[str, Any], path: str = "") -> MonitoringReport:
        """Parse and validate a report; see `Manifest.parse`."""
        _check_schema(document, "report", path)
        with _malformed_as_error("malformed report", path):
            accuracy = document.get("accuracy")
            return cls(
                run_id=_text(document["run_id"], 256),
                version=int(document["version"]),
                images=int(document["images"]),
                drift=_floats(document["drift"]),
                created_at=_time(document.get("created_at")),
                accuracy=None if accuracy is None else float(accuracy),
                recalls=_floats(document.get("recall", {})),
                is_inaccurate="accuracy" in list(document.get("drifted", [])),
                document=document,
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChampionMove:
    """A move of the champion to a version."""

    version: int
    """New champion."""
    run_id: str = ""
    """ID of the run that trained it."""
    moved_at: datetime.datetime | None = None
    """Time of the move, UTC; None if not recorded."""
    moved_by: str = ""
    """PIPELINE, PROMOTE or ROLLBACK; empty if not recorded."""
    reason: str = ""
    """Reason of the move."""

    @classmethod
    def parse(cls, document: Mapping[str, Any], path: str = "") -> ChampionMove:
        """Parse and validate a move.

        Raises:
            RegistryContentError: It names no version, or is otherwise malformed.
        """
        version = document.get("version")
        if not isinstance(version, int) or isinstance(version, bool):
            raise RegistryContentError(f"{path} names no version")
        with _malformed_as_error("malformed champion move", path):
            return cls(
                version=version,
                run_id=_text(document.get("run_id", ""), 256),
                moved_at=_time(document.get("moved_at")),
                moved_by=_text(document.get("moved_by", ""), 60),
                reason=_text(document.get("reason", ""), 1000),
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Champion:
    """The version that serves."""

    version: int
    manifest: Manifest
    sequence: int = 0
    """Sequence number of the newest move when this was read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """A version, and when it became the champion."""

    number: int
    manifest: Manifest
    promoted_at: datetime.datetime | None = None
    """Time of its last promotion, UTC; None if no recorded move names it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """A model's prediction for a test image."""

    predicted: str
    """Name of the predicted class."""
    actual: str
    """Name of the actual class."""
    confidence: float
    """Probability of the predicted class, 0 to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
    """A version's predictions for all test images."""

    classes: Sequence[str]
    """Names of the classes, in the order of the model's probabilities."""
    images: Sequence[Prediction]
    """Predictions, in the order of the test images."""

    @classmethod
    def parse(cls, document: Mapping[str, Any], path: str) -> Predictions:
        """Parse and validate a version's predictions.json; see `Manifest.parse`."""
        with _malformed_as_error("malformed predictions", path):
            names = [_text(name, 60) for name in list(document["classes"])]
            columns = (list(document[name]) for name in ("predicted", "label", "confidence"))
            return cls(
                classes=names,
                images=[
                    Prediction(
                        predicted=names[int(predicted)],
                        actual=names[int(label)],
                        confidence=float(confidence),
                    )
                    for predicted, label, confidence in zip(*columns, strict=True)
                ],
            )

    def of(self, image_number: int, version: int) -> Prediction:
        """Return the prediction for an image.

        Raises:
            NoSuchModelError: The version has none for this image.
        """
        if not 0 <= image_number < len(self.images):
            raise NoSuchModelError(
                f"version {version} has predictions for images 0 to {len(self.images) - 1}"
            )
        return self.images[image_number]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestImage:
    """A test image of a version."""

    pixels: bytes
    """28 rows of 28 gray levels, 0 to 255."""
    actual: str
    """Name of its class."""
    classes: Sequence[str]
    """Names of all classes, in the order of the model's probabilities."""


def format_time(time: datetime.datetime) -> str:
    """Return a time as RFC 3339, UTC, in whole seconds."""
    return time.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def now() -> str:
    """Return the current time as RFC 3339, UTC, in whole seconds."""
    return format_time(datetime.datetime.now(datetime.timezone.utc))


def describe(error: BaseException, limit: int = 150) -> str:
    """Return the first line of an error, or its repr if it has no message."""
    lines = str(error).strip().splitlines() or [repr(error)]
    return _text(lines[0], limit)


@contextlib.contextmanager
def _malformed_as_error(problem: str, path: str) -> Generator[None]:
    try:
        yield
    except _MALFORMED as error:
        where = f", in {path}" if path else ""
        raise RegistryContentError(f"{problem}: {_text(repr(error), 150)}{where}") from error


def _check_schema(document: Mapping[str, Any], kind: str, path: str) -> None:
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise RegistryContentError(
            f"{kind} has schema_version {_text(version, 40)}, but this release reads "
            f"{SCHEMA_VERSION}; upgrade it{f', in {path}' if path else ''}"
        )


def _text(value: object, limit: int) -> str:
    cleaned = _UNPRINTABLE.sub("\ufffd", " ".join(str(value).split()))
    return cleaned if len(cleaned) <= limit else f"{cleaned[: limit - 1]}\u2026"


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is not a JSON object")
    return cast("Mapping[str, Any]", value)


def _floats(value: object) -> dict[str, float]:
    return {_text(name, 60): float(number) for name, number in _mapping(value).items()}


def _files(value: object) -> dict[str, FileEntry]:
    return {
        name: FileEntry(sha256=str(entry["sha256"]), bytes=int(entry["bytes"]))
        for name, entry in _mapping(value).items()
    }


def _digest(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> datetime.datetime | None:
    if not value:
        return None
    # Python 3.10 does not parse the Z.
    time = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    if time.tzinfo is None:
        raise ValueError(f"{str(value)!r} has no time zone")
    return time.astimezone(datetime.timezone.utc)
