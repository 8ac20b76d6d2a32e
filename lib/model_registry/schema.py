"""Contents of the registry's objects as typed values, checked when they are read.

Anybody who may write to the bucket may have written an object, so each is read with `parse`: what is
missing or of another type raises RegistryContentError. Texts are one line of printable characters
and limited, so that they can be shown anywhere; `Manifest.document` has them as they were written.
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
# Who moved the champion: the pipeline, or an operator by one of the charm's actions.
PIPELINE, PROMOTE, ROLLBACK = "pipeline", "promote", "rollback"
# What reading a malformed document raises. JSON has numbers without end and nests without end.
_MALFORMED = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)
# All control characters but tab and newline, and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of a version, as its manifest lists it."""

    sha256: str
    bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record of a run and of its model: how good it is, and whether it was accepted."""

    run_id: str
    """The run in Kubeflow Pipelines."""
    accuracy: float
    """On the test set, 0 to 1."""
    accepted: bool
    """Whether the gate accepted the model."""
    reasons: tuple[str, ...] = ()
    """The gate's sentences."""
    created_at: datetime.datetime | None = None
    """When the model was made, UTC."""
    loss: float | None = None
    """On the test set."""
    recalls: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    """0 to 1, by class."""
    drift: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    """Population stability index of its data against the champion's, by part."""
    reason: str = ""
    """Why the run was started."""
    source: str = ""
    """Where its data came from."""
    etags: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """ETags of the data files that it read, by name."""
    unchanged: bool = False
    """Whether its model is the champion, trained once more."""
    test_images: str = ""
    """Blob with the test images of a version; empty where it has none."""
    train_digests: str = ""
    """Blob with the digests of a version's training images; empty where it has none."""
    files: Mapping[str, FileEntry] = dataclasses.field(default_factory=dict[str, FileEntry])
    """Files of a version, by name."""
    document: Mapping[str, Any] = dataclasses.field(
        default_factory=dict[str, Any], repr=False, compare=False
    )
    """All fields as they were written: docs/reference/registry.md."""

    @classmethod
    def parse(cls, document: Mapping[str, Any], path: str = "") -> Manifest:
        """Return a manifest's content, checked.

        Args:
            document: the JSON object.
            path: where it was read, for errors.

        Raises:
            RegistryContentError: it is of another schema, or malformed.
        """
        _check_schema(document, "manifest", path)
        with _malformed_as_error("a manifest is not complete", path):
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
    """The record of a monitoring run: production images against the champion."""

    run_id: str
    """The run in Kubeflow Pipelines."""
    version: int
    """The champion that the images were compared with."""
    images: int
    """How many there were."""
    drift: Mapping[str, float]
    """Population stability index against that model's data, by part."""
    created_at: datetime.datetime | None = None
    """When it was written, UTC."""
    accuracy: float | None = None
    """On the images that have labels, 0 to 1; None where none has."""
    recalls: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    """Of those, 0 to 1, by class."""
    is_inaccurate: bool = False
    """Whether the accuracy is less than on the test images by more than the run allows."""
    document: Mapping[str, Any] = dataclasses.field(
        default_factory=dict[str, Any], repr=False, compare=False
    )
    """All fields as they were written: docs/reference/registry.md."""

    @classmethod
    def parse(cls, document: Mapping[str, Any], path: str = "") -> MonitoringReport:
        """Return a report's content, checked; see `Manifest.parse`."""
        _check_schema(document, "report", path)
        with _malformed_as_error("a report is not complete", path):
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
    """The new champion."""
    run_id: str = ""
    """The run that made it."""
    moved_at: datetime.datetime | None = None
    """UTC; None where nobody recorded it."""
    moved_by: str = ""
    """PIPELINE, PROMOTE or ROLLBACK; empty in moves of earlier releases."""
    reason: str = ""
    """Why."""

    @classmethod
    def parse(cls, document: Mapping[str, Any], path: str = "") -> ChampionMove:
        """Return a move's content, checked.

        Raises:
            RegistryContentError: it names no version, or is malformed otherwise.
        """
        version = document.get("version")
        if not isinstance(version, int) or isinstance(version, bool):
            raise RegistryContentError(f"{path} names a version that is not there")
        with _malformed_as_error("a move of the champion is malformed", path):
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
    """How many times the champion had moved when this was read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """A version, and when it became the champion."""

    number: int
    manifest: Manifest
    promoted_at: datetime.datetime | None = None
    """When it became the champion last, UTC; None where no move that is kept says so."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """A model's prediction for a test image, and what is in it: names of classes."""

    predicted: str
    actual: str
    confidence: float
    """0 to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
    """A version's predictions for all test images, in their order."""

    classes: Sequence[str]
    """Names, in the order of the model's probabilities."""
    images: Sequence[Prediction]

    @classmethod
    def parse(cls, document: Mapping[str, Any], path: str) -> Predictions:
        """Return the content of a version's predictions.json, checked; see `Manifest.parse`."""
        with _malformed_as_error(f"{path} is not complete", ""):
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
            NoSuchModelError: the version has none for this image.
        """
        if not 0 <= image_number < len(self.images):
            raise NoSuchModelError(
                f"version {version} knows the images 0 to {len(self.images) - 1}"
            )
        return self.images[image_number]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestImage:
    """A test image of a version."""

    pixels: bytes
    """28 rows of 28 grey levels, 0 to 255."""
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
    """Return the first line of an error, or its repr where it says nothing."""
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
            f"a {kind} has schema_version {_text(version, 40)} where this release reads "
            f"{SCHEMA_VERSION}: upgrade it{f', in {path}' if path else ''}"
        )


def _text(value: object, limit: int) -> str:
    cleaned = _UNPRINTABLE.sub("\ufffd", " ".join(str(value).split()))
    return cleaned if len(cleaned) <= limit else f"{cleaned[: limit - 1]}\u2026"


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no JSON object")
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
    # Python 3.10 does not read the Z.
    time = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    if time.tzinfo is None:
        raise ValueError(f"{str(value)!r} has no time zone")
    return time.astimezone(datetime.timezone.utc)
