"""What the model registry in object storage says: the verdict on a run, and the champion.

The pipeline writes it (docs/reference/registry.md); the charm reads a few small objects an event,
however many models there are, and moves the champion when an operator asks for it.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import cast

import certifi
import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from errors import (
    NoSuchModelError,
    RegistryContentError,
    RegistryElsewhereError,
    RegistryError,
    RegistryRefusedError,
    UnsafeRegistryError,
)
from kfp_ops import ObjectStorage
from kfp_ops.text import single_line
from model_registry import ConfigMaps, UnsafeStoreError, Writes

SCHEMA_VERSION = 1
# Of the file with the test images: docs/reference/registry.md.
IDX_HEADER, IMAGE_BYTES = 16, 784
# What reading what others wrote can end in; JSON has numbers without end and nests without end.
_INCOMPLETE = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html: what time alone does not mend.
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")
_KEYS = "relation object-storage needs other keys"
_REFUSALS = {
    "NoSuchBucket": "make the bucket, or set the option registry-bucket",
    "AccessDenied": "let the keys of relation object-storage read and write there",
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What the registry keeps of a run: how good its model is, and whether it was accepted.

    Attributes:
        run_id: the run in Kubeflow Pipelines.
        accuracy: on the test set, 0 to 1.
        accepted: whether the gate let it through.
        reasons: the gate's sentences.
        created_at: when the model was made, UTC.
        loss: on the test set.
        recalls: 0 to 1, by class.
        drift: population stability index of its data against the champion's, by part.
        reason: why the run was started.
        source: where its data came from.
        etags: what the data's servers called the files that it read, by name.
        unchanged: whether its model is the champion, trained once more.
    """

    run_id: str
    accuracy: float
    accepted: bool
    reasons: tuple[str, ...] = ()
    created_at: datetime.datetime | None = None
    loss: float | None = None
    recalls: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    drift: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    reason: str = ""
    source: str = ""
    etags: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    unchanged: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Champion:
    """The model that serves.

    Attributes:
        version: its number in the registry.
        result: the run that made it and how good it is.
        sequence: how many times the champion had moved when it became it.
    """

    version: int
    result: Result
    sequence: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What a monitoring run saw in production images.

    Attributes:
        run_id: the run in Kubeflow Pipelines.
        version: the model that served, and that it held them against.
        images: how many there were.
        drift: population stability index against that model's data, by part.
        created_at: when it was written, UTC.
        accuracy: on the images that have labels, 0 to 1; None where none has.
        recalls: of those, 0 to 1, by class.
        is_inaccurate: whether that is less than on the test images by more than the run allows.
    """

    run_id: str
    version: int
    images: int
    drift: Mapping[str, float]
    created_at: datetime.datetime | None = None
    accuracy: float | None = None
    recalls: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    is_inaccurate: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model sees in an image, and what is in it: names of classes, and a share of 1."""

    predicted: str
    actual: str
    confidence: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestImage:
    """A test image of a version: its raw pixels, 784 bytes, and what is in it.

    Attributes:
        pixels: 28 rows of 28, 0 to 255.
        actual: the name of its class.
        classes: the names of all classes, in the order of the model's probabilities.
    """

    pixels: bytes
    actual: str
    classes: Sequence[str]


def open_store(storage: ObjectStorage, bucket: str, prefix: str) -> S3Store:
    """The objects under a path in a bucket; one that cannot be reached is told within seconds."""
    return S3Store(
        bucket,
        prefix=prefix or None,
        endpoint=storage.url,
        access_key_id=storage.access_key,
        secret_access_key=storage.secret_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": not storage.secure,
            # obstore fails on a system without CA certificates, even for http://.
            "root_certificate": certifi.contents(),
            "timeout": "10s",
            # The model's proxy settings are in the environment; what is related is not behind a proxy,
            # and obstore has no other way to say so than a proxy for everybody else.
            "proxy_url": "http://127.0.0.1:9",
            "proxy_excludes": storage.host,
        },
        # A hook does not wait: the next event asks again.
        retry_config={"max_retries": 1, "retry_timeout": datetime.timedelta(seconds=5)},
    )


class Registry:
    """A registry in object storage.

    Args:
        storage: the S3 server.
        bucket: the bucket's name.
        prefix: the path in the bucket under which the registry lies.
        connect: returns the cluster's ConfigMaps, or None where there is no cluster; called only where
            the S3 server has no conditional writes.
    """

    def __init__(
        self,
        storage: ObjectStorage,
        *,
        bucket: str,
        prefix: str,
        connect: Callable[[], ConfigMaps | None] = lambda: None,
    ):
        self._location = f"{storage.url}/{bucket}"
        self._store = open_store(storage, bucket, prefix)
        self._writes = Writes(self._store, connect=connect)

    def ensure_safe(self, namespace: str) -> None:
        """Make sure that writers of the registry are kept apart: one call where that is recorded.

        Args:
            namespace: the one in which the trainer's runs are executed, and write.

        Raises:
            UnsafeRegistryError: the S3 server has no conditional writes, and there is no cluster.
            RegistryElsewhereError: it is written through another namespace.
            KubernetesError: the ConfigMap that replaces them cannot be written.
            RegistryError: the registry cannot be reached.
        """
        with self._errors():
            method = self._writes.method()
        if method.namespace not in ("", namespace):
            raise RegistryElsewhereError(
                f"the registry is in namespace {method.namespace}, runs in {namespace}"
            )

    def result(self, run_id: str) -> Result | None:
        """What came of a run; None as long as its evaluation has not been written.

        Raises:
            RegistryError: the registry cannot be reached, or the manifest is not one.
        """
        manifest = self._read(f"runs/{run_id}/manifest.json")
        return None if manifest is None else _result(manifest)

    def report(self, run_id: str) -> Report | None:
        """What a monitoring run saw; None where it wrote no report here.

        Raises:
            RegistryError: the registry cannot be reached, or the report is not one.
        """
        path = f"monitoring/{run_id}/report.json"
        document = self._read(path)
        return None if document is None else _report(document)

    def champion(self) -> Champion | None:
        """The model that serves; None as long as none was accepted.

        Raises:
            RegistryError: the registry cannot be reached, or what it holds makes no sense.
        """
        moves = self._numbers("champion")
        for move in reversed(moves):
            version = (self._read(_move(move)) or {}).get("version")
            if isinstance(version, int):
                manifest = self._read(f"{version}/manifest.json")
                if manifest is not None:
                    return Champion(version=version, result=_result(manifest), sequence=moves[-1])
                if self._read(_tombstone(version)) is not None:
                    # It was promoted in the moment that the pipeline removed it: that does not count.
                    continue
            raise RegistryContentError(
                f"{_move(move)} names a version that is not there, in {self._location}"
            )
        return None

    def put_blob(self, path: str, content: Callable[[], bytes]) -> None:
        """Put an object whose name carries its digest, if it is not there: one call, at first two.

        Args:
            path: its place in the registry.
            content: called where it is missing.

        Raises:
            RegistryError: the registry cannot be reached or written.
        """
        try:
            obstore.head(self._store, path)
        except FileNotFoundError:
            # No condition is needed: whoever puts it puts the same.
            try:
                obstore.put(self._store, path, content())
            except (BaseError, OSError) as error:
                raise self._registry_error(error) from error
        except (BaseError, OSError) as error:
            raise self._registry_error(error) from error

    def versions(self, limit: int) -> dict[int, Result]:
        """The newest versions, at most `limit`, newest first.

        Raises:
            RegistryError: the registry cannot be reached, or a manifest is not one.
        """
        results: dict[int, Result] = {}
        # Not by claims, which outlive what was removed.
        for version in reversed(self._folders()):
            # One whose step died on the way has no manifest.
            manifest = self._read(f"{version}/manifest.json")
            if manifest is not None:
                results[version] = _result(manifest)
            if len(results) == limit:
                break
        return results

    def moves(self, limit: int) -> dict[int, datetime.datetime]:
        """When each version became the champion last, UTC, as far as the newest `limit` moves tell.

        Raises:
            RegistryError: the registry cannot be reached, or a move is not one.
        """
        times: dict[int, datetime.datetime] = {}
        for number in self._numbers("champion")[-limit:]:
            move = self._read(_move(number)) or {}
            version = move.get("version")
            try:
                moved = _time(move.get("moved_at"))
            except _INCOMPLETE as error:
                raise RegistryContentError(
                    f"{_move(number)}: {_describe(error)}, in {self._location}"
                ) from error
            if isinstance(version, int) and moved:
                times[version] = moved
        return times

    def prediction(self, version: int, image_number: int) -> Prediction:
        """What a version sees in a test image, as it answered when it was published.

        Raises:
            NoSuchModelError: the version kept no answers, or has none for this image.
            RegistryError: the registry cannot be reached, or holds something else.
        """
        with self._predictions(version, image_number) as (columns, names):
            return Prediction(
                predicted=names[int(columns["predicted"][image_number])],
                actual=names[int(columns["label"][image_number])],
                confidence=float(columns["confidence"][image_number]),
            )

    def classes(self, version: int) -> list[str]:
        """The names of a version's classes, in the order of its probabilities.

        Raises:
            NoSuchModelError: the version kept no answers, and so no names.
            RegistryError: the registry cannot be reached, or holds something else.
        """
        with self._predictions(version, 0) as (_, names):
            return names

    def test_image(self, version: int, image_number: int) -> TestImage:
        """One of the test images that a version was judged by; of all of them no more is read.

        Raises:
            NoSuchModelError: the version kept no test images, or has not this one.
            RegistryError: the registry cannot be reached, or holds something else.
        """
        manifest = self._read(f"{version}/manifest.json") or {}
        data = cast("Mapping[str, object]", manifest.get("data") or {})
        name = data.get("test_images")
        if not isinstance(name, str):
            raise NoSuchModelError(f"version {version} kept no test images")
        with self._predictions(version, image_number) as (columns, names):
            start = IDX_HEADER + IMAGE_BYTES * image_number
            try:
                pixels = obstore.get_range(
                    self._store, f"data/{name}", start=start, length=IMAGE_BYTES
                )
            except FileNotFoundError as error:
                raise NoSuchModelError(f"version {version} kept no test images") from error
            except (BaseError, OSError, ValueError) as error:
                raise self._registry_error(error) from error
            return TestImage(
                pixels=bytes(pixels),
                actual=names[int(columns["label"][image_number])],
                classes=names,
            )

    @contextmanager
    def _predictions(
        self, version: int, image_number: int
    ) -> Generator[tuple[Mapping[str, list[float]], list[str]]]:
        """A version's answers by column and the names of the classes; checks the image's number."""
        path = f"{version}/predictions.json"
        document = self._read(path)
        if document is None:
            raise NoSuchModelError(f"version {version} kept no answers to the test images")
        try:
            columns = cast("Mapping[str, list[float]]", document)
            count = len(columns["label"])
            if not 0 <= image_number < count:
                raise NoSuchModelError(f"version {version} knows the images 0 to {count - 1}")
            names = cast("list[object]", document["classes"])
            yield columns, [single_line(str(name), 60) for name in names]
        except _INCOMPLETE as error:
            raise RegistryContentError(
                f"{path} is not complete: {_describe(error)}, in {self._location}"
            ) from error

    def promote(self, version: int, reason: str) -> Champion:
        """Make a version the champion; it stays if it is.

        Raises:
            NoSuchModelError: there is no such version, or it is being removed.
            RegistryError: the registry cannot be reached, the champion moved meanwhile, or the
                server ignores conditions.
        """
        champion = self.champion()
        if champion and champion.version == version:
            return champion
        return self._move(champion, version, reason, "promote")

    def rollback(self, reason: str) -> Champion:
        """Make that version the champion which was it before; done twice it is as it was.

        Raises:
            NoSuchModelError: there was no other champion.
            RegistryError: as `promote`.
        """
        champion = self.champion()
        for move in reversed(self._numbers("champion")):
            previous_move = self._read(_move(move)) or {}
            version = previous_move.get("version")
            if not champion or not isinstance(version, int) or version == champion.version:
                continue
            if self._read(f"{version}/manifest.json") is not None:
                return self._move(champion, version, reason, "rollback")
        raise NoSuchModelError("no other version has served before")

    def _move(
        self, champion: Champion | None, version: int, reason: str, moved_by: str
    ) -> Champion:
        manifest = self._read(f"{version}/manifest.json")
        if manifest is None:
            raise NoSuchModelError(f"there is no version {version}")
        result = _result(manifest)
        sequence = champion.sequence + 1 if champion else 1
        moved = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        move = {
            "version": version,
            "run_id": result.run_id,
            "moved_at": moved.replace("+00:00", "Z"),
            # By which the pipeline knows that what it may make again was rolled back from.
            "moved_by": moved_by,
            "reason": reason,
        }
        # Like the pipeline's: whoever puts the next number first has moved the champion.
        # A put whose answer was lost is tried again and meets itself.
        if not self._create(_move(sequence), move) and self._read(_move(sequence)) != move:
            raise RegistryError("the champion was moved meanwhile; look again first")
        # Like the pipeline's: whoever removes it puts the tombstone and then looks at the moves.
        if self._read(_tombstone(version)) is not None:
            raise NoSuchModelError(f"version {version} is being removed; the champion stays")
        return Champion(version=version, result=result, sequence=sequence)

    def _create(self, path: str, data: Mapping[str, object]) -> bool:
        """Put an object if it does not exist; False where it does."""
        with self._errors():
            return self._writes.create(path, json.dumps(data).encode())

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Turn what writing raises into this module's errors."""
        try:
            yield
        except UnsafeStoreError as error:
            raise UnsafeRegistryError(error.reason, error.remedy) from error
        except (BaseError, OSError) as error:
            raise self._registry_error(error) from error

    def _numbers(self, prefix: str) -> list[int]:
        """The numbers of the objects PREFIX/00000001.json and so on, ascending."""
        try:
            listed: object = obstore.list(self._store, prefix)  # pyright: ignore[reportUnknownMemberType]
            pages = cast("Iterable[Sequence[Mapping[str, str]]]", listed)
            names = [PurePosixPath(entry["path"]).stem for page in pages for entry in page]
        except (BaseError, OSError) as error:
            raise self._registry_error(error) from error
        return sorted(int(name) for name in names if name.isdecimal())

    def _folders(self) -> list[int]:
        """The numbers of the folders of versions, ascending."""
        try:
            listed: object = obstore.list_with_delimiter(self._store)  # pyright: ignore[reportUnknownMemberType]
            names = cast("Mapping[str, Sequence[str]]", listed)["common_prefixes"]
        except (BaseError, OSError) as error:
            raise self._registry_error(error) from error
        return sorted(int(name) for name in names if name.isdecimal())

    def _read(self, path: str) -> Mapping[str, object] | None:
        try:
            content = obstore.get(self._store, path).bytes()
        except FileNotFoundError:
            return None
        except (BaseError, OSError, ValueError) as error:
            # ValueError: an id from elsewhere that is no part of a path.
            raise self._registry_error(error) from error
        try:
            data = json.loads(bytes(content))
        except (RecursionError, ValueError):
            data = None
        if not isinstance(data, dict):
            raise RegistryContentError(f"{path} is not a JSON object, in {self._location}")
        return cast("dict[str, object]", data)

    def _registry_error(self, error: Exception) -> RegistryError:
        # In obstore's error a list that is refused looks like any other; S3's own code is in the text.
        code = _S3_CODE.search(str(error))
        if code and code[1] in _REFUSALS:
            return RegistryRefusedError(
                f"object storage answers {code[1]}: {self._location}", _REFUSALS[code[1]]
            )
        # obstore's messages go on for a page; the first line says what happened.
        lines = str(error).strip().splitlines() or [repr(error)]
        return RegistryError(
            f"object storage {self._location} cannot be read: {single_line(lines[0], 150)}"
        )


def _move(sequence: int) -> str:
    return f"champion/{sequence:08d}.json"


def _tombstone(version: int) -> str:
    return f"removed/{version:08d}.json"


def _check_schema(document: Mapping[str, object], kind: str) -> None:
    if document.get("schema_version") != SCHEMA_VERSION:
        raise RegistryContentError(
            f"a {kind} has schema_version {str(document.get('schema_version'))[:40]!r} where this charm "
            f"reads {SCHEMA_VERSION}: upgrade the charm"
        )


def _report(document: Mapping[str, object]) -> Report:
    _check_schema(document, "report")
    try:
        accuracy = document.get("accuracy")
        return Report(
            run_id=single_line(str(document["run_id"]), 256),
            version=int(cast("int", document["version"])),
            images=int(cast("int", document["images"])),
            drift=_numbers(document["drift"]),
            created_at=_time(document.get("created_at")),
            accuracy=None if accuracy is None else float(cast("float", accuracy)),
            recalls=_numbers(document.get("recall", {})),
            is_inaccurate="accuracy" in cast("list[object]", document.get("drifted", [])),
        )
    except _INCOMPLETE as error:
        raise RegistryContentError(f"a report is not complete: {_describe(error)}") from error


def _result(manifest: Mapping[str, object]) -> Result:
    _check_schema(manifest, "manifest")
    try:
        metrics = cast("Mapping[str, Mapping[str, float]]", manifest["metrics"])
        verdict = cast("Mapping[str, object]", manifest["verdict"])
        reasons = cast("list[object]", verdict["reasons"])
        data = cast("Mapping[str, object]", manifest.get("data", {}))
        return Result(
            run_id=single_line(str(manifest["run_id"]), 256),
            accuracy=float(metrics["test"]["accuracy"]),
            accepted=verdict["status"] == "accepted",
            # Earlier releases did not say.
            unchanged=verdict.get("unchanged") is True,
            reasons=tuple(single_line(str(reason), 300) for reason in reasons),
            created_at=_time(manifest.get("created_at")),
            loss=float(metrics["test"]["loss"]) if "loss" in metrics["test"] else None,
            recalls=_numbers(metrics.get("recall", {})),
            drift=_numbers(data.get("drift", {})),
            reason=single_line(str(manifest.get("reason", "")), 300),
            source=str(data.get("source", "")),
            etags={
                single_line(name, 300): str(etag) for name, etag in _items(data.get("etags", {}))
            },
        )
    except _INCOMPLETE as error:
        raise RegistryContentError(f"a manifest is not complete: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    return single_line(repr(error), 150)


def _items(mapping: object) -> Iterable[tuple[str, object]]:
    return cast("Mapping[str, object]", mapping).items()


def _numbers(mapping: object) -> dict[str, float]:
    return {single_line(name, 60): float(cast("float", value)) for name, value in _items(mapping)}


def _time(value: object) -> datetime.datetime | None:
    if not value:
        return None
    # Python 3.10 does not read the Z.
    moment = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"{str(value)!r} has no time zone")
    return moment.astimezone(datetime.timezone.utc)
