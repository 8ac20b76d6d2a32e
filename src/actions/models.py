"""The actions about models: list, predict, promote, roll back."""

from __future__ import annotations

import datetime

from actions.params import ListParams, PredictParams, PromoteParams, RollbackParams
from errors import NotServedError, ServedModelError
from formatting import table, timestamp
from k8s import inference_service
from k8s.inference_service import Served
from model_registry import Champion, Manifest, NoSuchModelError
from reconciler.context import Context


def list_models(context: Context, params: ListParams) -> dict[str, str]:
    """List the newest versions, one per line.

    The columns are version, test accuracy, class with the lowest recall, why it was trained, when it was
    created, run, and since when it has been served or when it was served last.

    Raises:
        RegistryError: the registry cannot be read.
    """
    champion = context.registry.champion()
    serving_version = champion.version if champion else None
    rows = [
        (
            f"v{version.number}",
            f"{version.manifest.accuracy:.4f}",
            _worst(version.manifest),
            version.manifest.reason or "-",
            timestamp(version.manifest.created_at) or "-",
            version.manifest.run_id,
            _served(version.promoted_at, serves=version.number == serving_version),
        )
        for version in context.registry.history(params.limit)
    ]
    results = {"count": str(len(rows)), "models": table(rows)}
    return results if serving_version is None else {**results, "champion": str(serving_version)}


def _worst(manifest: Manifest) -> str:
    if not manifest.recalls:
        return "-"
    name = min(manifest.recalls, key=lambda name: manifest.recalls[name])
    return f"{name} {manifest.recalls[name]:.4f}"


def _served(moved: datetime.datetime | None, *, serves: bool) -> str:
    since = timestamp(moved)
    if serves:
        return f"serves since {since}" if since else "serves"
    return f"served from {since}" if since else ""


def predict(context: Context, params: PredictParams) -> dict[str, str]:
    """Predict the class of a test image or of an operator's own image.

    If KServe serves the champion, ask it; else return the version's prediction from when it was
    published, which exists for test images only.

    Raises:
        NoSuchModelError: there is no such version or image, or no model serves yet.
        RegistryError: the registry cannot be read.
        KubernetesError: Kubernetes cannot be asked where the champion is served.
        NotServedError: no model is served that could be asked about an image of the operator's own.
        ServedModelError: the served model does not answer.
    """
    version, number = params.version, params.image_number or 0
    if version is None:
        service = context.service if context.config.serving == "kserve" else None
        served = service.seen() if service else None
        if params.pixels is not None:
            _check_ready(context, served)
        if served and served.is_ready:
            return _served_prediction(context, served, number, params.pixels)
        champion = context.registry.champion()
        if champion is None:
            raise NoSuchModelError("no model serves yet")
        version = champion.version
    prediction = context.registry.prediction(version, number)
    return {
        "version": str(version),
        "served-by": "registry",
        "image-number": str(number),
        "prediction": prediction.predicted,
        "confidence": f"{prediction.confidence:.4f}",
        "actual": prediction.actual,
    }


def _check_ready(context: Context, served: Served | None) -> None:
    if context.config.serving != "kserve":
        raise NotServedError("no model is served that can be asked about an image", is_due=False)
    if served is None or not served.is_ready:
        subject, reason = (
            (f"v{served.version}", served.reason) if served else ("a model", "none is there")
        )
        raise NotServedError(f"KServe does not serve {subject} yet: {reason}", is_due=True)


def _served_prediction(
    context: Context, served: Served, image_number: int, raw: bytes | None
) -> dict[str, str]:
    """Ask the served model about a test image, or about the operator's own."""
    if raw is None:
        image = context.registry.test_image(served.version, image_number)
        pixels, classes = image.pixels, image.classes
        extra = {"image-number": str(image_number), "actual": image.actual}
    else:
        pixels, classes, extra = raw, context.registry.classes(served.version), dict[str, str]()
    probabilities = inference_service.ask(served, pixels)
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


def promote(context: Context, params: PromoteParams) -> dict[str, str]:
    """Make a version the champion.

    Raises:
        NoSuchModelError: there is no such version.
        RegistryError: the registry cannot be reached, or the champion moved meanwhile.
    """
    return _champion_results(context.registry.promote(params.version, params.reason))


def rollback(context: Context, params: RollbackParams) -> dict[str, str]:
    """Make the previous champion the champion again.

    Raises:
        NoSuchModelError: there was no other champion.
        RegistryError: the registry cannot be reached, or the champion moved meanwhile.
    """
    return _champion_results(context.registry.rollback(params.reason))


def _champion_results(champion: Champion) -> dict[str, str]:
    return {
        "champion": str(champion.version),
        "accuracy": f"{champion.manifest.accuracy:.4f}",
        "run-id": champion.manifest.run_id,
    }
