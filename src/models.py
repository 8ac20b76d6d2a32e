"""What the actions tell of models, and how they move the champion: flat results in kebab-case."""

from __future__ import annotations

import datetime

from config import ListParams, PredictParams, PromoteParams, RollbackParams, TrainerConfig
from connection import Connection
from kfp_ops import TrainedModel
from registry import Champion, NoSuchModelError, Result
from runs import moment, table

# Every version's SavedModel has this one: docs/reference/registry.md.
SIGNATURE = {
    "inputs": {"images": {"dtype": "uint8", "shape": [-1, 28, 28]}},
    "outputs": {"probabilities": {"dtype": "float32", "shape": [-1, 10]}},
}


def listing(there: Connection, params: ListParams) -> dict[str, str]:
    """The newest versions, a line for each.

    Its columns: version, test accuracy, class with the least recall, why it was trained, when it was
    made, run, and since when it serves or from when it served last.

    Raises:
        RegistryError: the registry cannot be read.
    """
    champion = there.registry.champion()
    moves = there.registry.moves(params.limit)
    serving = champion.version if champion else None
    rows = [
        (
            f"v{version}",
            f"{result.accuracy:.4f}",
            _worst(result),
            result.reason or "-",
            moment(result.created_at) or "-",
            result.run_id,
            _served(moves.get(version), serves=version == serving),
        )
        for version, result in there.registry.versions(params.limit).items()
    ]
    told = {"count": str(len(rows)), "models": table(rows)}
    return told if serving is None else {**told, "champion": str(serving)}


def _worst(result: Result) -> str:
    if not result.recalls:
        return "-"
    name = min(result.recalls, key=lambda name: result.recalls[name])
    return f"{name} {result.recalls[name]:.4f}"


def _served(moved: datetime.datetime | None, *, serves: bool) -> str:
    since = moment(moved)
    if serves:
        return f"serves since {since}" if since else "serves"
    return f"served from {since}" if since else ""


def published(config: TrainerConfig, champion: Champion) -> TrainedModel:
    """The model that serves, for the relation trained-model."""
    return TrainedModel(
        name=config.registry_prefix.rsplit("/", 1)[-1],
        version=champion.version,
        uri=f"s3://{config.registry_bucket}/{config.registry_prefix}/{champion.version}",
        format="tensorflow-saved-model",
        accuracy=champion.result.accuracy,
        run_id=champion.result.run_id,
        signature=SIGNATURE,
    )


def predict(there: Connection, params: PredictParams) -> dict[str, str]:
    """What a version, or the model that serves, sees in a test image.

    Raises:
        NoSuchModelError: there is no such version or image, or no model serves yet.
        RegistryError: the registry cannot be read.
    """
    version = params.version
    if version is None:
        champion = there.registry.champion()
        if champion is None:
            raise NoSuchModelError("no model serves yet")
        version = champion.version
    said = there.registry.prediction(version, params.image_number)
    return {
        "version": str(version),
        "image-number": str(params.image_number),
        "prediction": said.predicted,
        "confidence": f"{said.confidence:.4f}",
        "actual": said.actual,
    }


def promote(there: Connection, params: PromoteParams) -> dict[str, str]:
    """Make a version the champion.

    Raises:
        NoSuchModelError: there is no such version.
        RegistryError: the registry cannot be reached, or the champion moved meanwhile.
    """
    return _told(there.registry.promote(params.version, params.reason))


def rollback(there: Connection, params: RollbackParams) -> dict[str, str]:
    """Make that version the champion which was it before.

    Raises:
        NoSuchModelError: there was no other champion.
        RegistryError: the registry cannot be reached, or the champion moved meanwhile.
    """
    return _told(there.registry.rollback(params.reason))


def _told(champion: Champion) -> dict[str, str]:
    return {
        "champion": str(champion.version),
        "accuracy": f"{champion.result.accuracy:.4f}",
        "run-id": champion.result.run_id,
    }
