"""What the actions tell of models, and how they move the champion: flat results in kebab-case."""

from __future__ import annotations

import datetime

import serving
from connection import Connection
from errors import NoSuchModelError, NotServedError, ServedModelError
from formatting import table, timestamp
from params import ListParams, PredictParams, PromoteParams, RollbackParams
from registry import Champion, Result
from serving import Served


def listing(connection: Connection, params: ListParams) -> dict[str, str]:
    """The newest versions, a line for each.

    Its columns: version, test accuracy, class with the least recall, why it was trained, when it was
    made, run, and since when it serves or from when it served last.

    Raises:
        RegistryError: the registry cannot be read.
    """
    champion = connection.registry.champion()
    moves = connection.registry.moves(params.limit)
    serving = champion.version if champion else None
    rows = [
        (
            f"v{version}",
            f"{result.accuracy:.4f}",
            _worst(result),
            result.reason or "-",
            timestamp(result.created_at) or "-",
            result.run_id,
            _served(moves.get(version), serves=version == serving),
        )
        for version, result in connection.registry.versions(params.limit).items()
    ]
    results = {"count": str(len(rows)), "models": table(rows)}
    return results if serving is None else {**results, "champion": str(serving)}


def _worst(result: Result) -> str:
    if not result.recalls:
        return "-"
    name = min(result.recalls, key=lambda name: result.recalls[name])
    return f"{name} {result.recalls[name]:.4f}"


def _served(moved: datetime.datetime | None, *, serves: bool) -> str:
    since = timestamp(moved)
    if serves:
        return f"serves since {since}" if since else "serves"
    return f"served from {since}" if since else ""


def serve(connection: Connection, champion: Champion | None, *, acts: bool) -> Served | None:
    """Have the champion served, or nothing, as the option `serving` says; what is seen of it.

    Args:
        connection: what to ask, and where to act.
        champion: the model that serves; None changes nothing.
        acts: False only looks.

    Raises:
        KubernetesError: Kubernetes cannot be reached, refuses, or knows no KServe.
    """
    config, service = connection.config, connection.service
    if service is None:
        return None
    if config.serving == "none":
        if acts:
            service.remove()
        return None
    if champion is None or not acts:
        return service.seen()
    return service.serve(
        champion.version,
        uri=config.model_uri(champion.version),
        endpoint=connection.storage.url,
        canary=config.canary_traffic,
    )


def predict(connection: Connection, params: PredictParams) -> dict[str, str]:
    """What a version, or the model that serves, sees in a test image or in an operator's own.

    Where KServe serves the champion it is asked; else it is told what the version answered when it
    was published, which it did for test images alone.

    Raises:
        NoSuchModelError: there is no such version or image, or no model serves yet.
        RegistryError: the registry cannot be read.
        KubernetesError: Kubernetes cannot be asked where the champion is served.
        NotServedError: no model is served that could be asked about an image of the operator's own.
        ServedModelError: the served model does not answer.
    """
    version, number = params.version, params.image_number or 0
    if version is None:
        service = connection.service if connection.config.serving == "kserve" else None
        served = service.seen() if service else None
        if params.pixels is not None:
            _check_ready(connection, served)
        if served and served.is_ready:
            return _served_prediction(connection, served, number, params.pixels)
        champion = connection.registry.champion()
        if champion is None:
            raise NoSuchModelError("no model serves yet")
        version = champion.version
    prediction = connection.registry.prediction(version, number)
    return {
        "version": str(version),
        "served-by": "registry",
        "image-number": str(number),
        "prediction": prediction.predicted,
        "confidence": f"{prediction.confidence:.4f}",
        "actual": prediction.actual,
    }


def _check_ready(connection: Connection, served: Served | None) -> None:
    if connection.config.serving != "kserve":
        raise NotServedError("no model is served that can be asked about an image", is_due=False)
    if served is None or not served.is_ready:
        subject, reason = (
            (f"v{served.version}", served.reason) if served else ("a model", "none is there")
        )
        raise NotServedError(f"KServe does not serve {subject} yet: {reason}", is_due=True)


def _served_prediction(
    connection: Connection, served: Served, image_number: int, raw: bytes | None
) -> dict[str, str]:
    """What the served model sees in a test image, or in the operator's own."""
    if raw is None:
        image = connection.registry.test_image(served.version, image_number)
        pixels, classes = image.pixels, image.classes
        extra = {"image-number": str(image_number), "actual": image.actual}
    else:
        pixels, classes, extra = raw, connection.registry.classes(served.version), dict[str, str]()
    probabilities = serving.ask(served, pixels)
    if len(probabilities) != len(classes):
        raise ServedModelError(
            f"{served.url} knows {len(probabilities)} classes: {classes} are ours"
        )
    predicted = max(range(len(probabilities)), key=probabilities.__getitem__)
    results = {
        "version": str(served.version),
        "served-by": "kserve",
        "prediction": classes[predicted],
        "confidence": f"{probabilities[predicted]:.4f}",
        **extra,
    }
    # While the version before has its share, nobody can tell which of the two answered.
    return {**results, "canary-traffic": str(served.canary)} if served.canary else results


def promote(connection: Connection, params: PromoteParams) -> dict[str, str]:
    """Make a version the champion.

    Raises:
        NoSuchModelError: there is no such version.
        RegistryError: the registry cannot be reached, or the champion moved meanwhile.
    """
    return _champion_results(connection.registry.promote(params.version, params.reason))


def rollback(connection: Connection, params: RollbackParams) -> dict[str, str]:
    """Make that version the champion which was it before.

    Raises:
        NoSuchModelError: there was no other champion.
        RegistryError: the registry cannot be reached, or the champion moved meanwhile.
    """
    return _champion_results(connection.registry.rollback(params.reason))


def _champion_results(champion: Champion) -> dict[str, str]:
    return {
        "champion": str(champion.version),
        "accuracy": f"{champion.result.accuracy:.4f}",
        "run-id": champion.result.run_id,
    }
