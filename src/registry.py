"""What the model registry in object storage says: the verdict on a run, and the champion.

The pipeline writes it (docs/reference/registry.md); the charm reads a few small objects an event,
however many models there are.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from kfp_ops import ObjectStorage

SCHEMA_VERSION = 1


class RegistryError(Exception):
    """The registry cannot be reached, or holds something else than it should."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What the registry keeps of a run: how good its model is, and whether it was accepted.

    Attributes:
        run_id: the run in Kubeflow Pipelines.
        accuracy: on the test set, 0 to 1.
        accepted: whether the gate let it through.
        reasons: the gate's sentences.
    """

    run_id: str
    accuracy: float
    accepted: bool
    reasons: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Champion:
    """The model that serves.

    Attributes:
        version: its number in the registry.
        result: the run that made it and how good it is.
    """

    version: int
    result: Result


class Registry:
    """A registry in object storage, read only.

    Args:
        storage: the S3 server.
        bucket: the bucket's name.
        prefix: the path in the bucket under which the registry lies.
    """

    def __init__(self, storage: ObjectStorage, *, bucket: str, prefix: str):
        self._where = f"{storage.url}/{bucket}"
        self._store = S3Store(
            bucket,
            prefix=prefix,
            endpoint=storage.url,
            access_key_id=storage.access_key,
            secret_access_key=storage.secret_key,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": not storage.secure, "timeout": "10s"},
            # A hook does not wait: the next event asks again.
            retry_config={"max_retries": 1, "retry_timeout": datetime.timedelta(seconds=5)},
        )

    def result(self, run_id: str) -> Result | None:
        """What came of a run; None as long as its evaluation has not been written.

        Raises:
            RegistryError: the registry cannot be reached, or the manifest is not one.
        """
        manifest = self._read(f"runs/{run_id}/manifest.json")
        return None if manifest is None else _result(manifest)

    def champion(self) -> Champion | None:
        """The model that serves; None as long as none was accepted.

        Raises:
            RegistryError: the registry cannot be reached, or what it holds makes no sense.
        """
        try:
            listed: object = obstore.list(self._store, "champion")  # pyright: ignore[reportUnknownMemberType]
            pages = cast("Iterable[Sequence[Mapping[str, str]]]", listed)
            moves = [entry["path"] for page in pages for entry in page]
        except (BaseError, OSError) as error:
            raise self._unreachable(error) from error
        if not moves:
            return None
        version = (self._read(max(moves)) or {}).get("version")
        manifest = self._read(f"{version}/manifest.json") if isinstance(version, int) else None
        if not isinstance(version, int) or manifest is None:
            raise RegistryError(f"{self._where}: {max(moves)} names a version that is not there")
        return Champion(version=version, result=_result(manifest))

    def _read(self, path: str) -> Mapping[str, object] | None:
        try:
            content = obstore.get(self._store, path).bytes()
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._unreachable(error) from error
        try:
            data = json.loads(bytes(content))
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise RegistryError(f"{self._where}: {path} is not a JSON object")
        return cast("dict[str, object]", data)

    def _unreachable(self, error: Exception) -> RegistryError:
        # obstore's messages go on for a page; the first line says what happened.
        lines = str(error).strip().splitlines() or [repr(error)]
        return RegistryError(f"object storage {self._where} cannot be read: {lines[0][:150]}")


def _result(manifest: Mapping[str, object]) -> Result:
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise RegistryError(
            f"a manifest has schema_version {manifest.get('schema_version')!r} where this charm "
            f"reads {SCHEMA_VERSION}: upgrade the charm"
        )
    try:
        metrics = cast("Mapping[str, Mapping[str, float]]", manifest["metrics"])
        verdict = cast("Mapping[str, object]", manifest["verdict"])
        reasons = cast("list[object]", verdict["reasons"])
        return Result(
            run_id=str(manifest["run_id"]),
            accuracy=float(metrics["test"]["accuracy"]),
            accepted=verdict["status"] == "accepted",
            reasons=tuple(str(reason) for reason in reasons),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(f"a manifest is not complete: {error!r}") from error
