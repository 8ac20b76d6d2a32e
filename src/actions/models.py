"""Actions on models: list, predict, promote, roll back."""

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

    The columns are version, test accuracy, class with the lowest recall, reason for training, creation
    time, run, and whether it is or was the champion, with the time of its last promotion.

    Raises:
        RegistryError: The registry cannot be read.
    """
    champion = context.registry.champion()
    serving_version = champion.version if champion else None
    rows = [
        (
            f"v{version.number}",
            f"{version.manifest.accuracy:.4f}",
            _lowest_recall(version.manifest),
            version.manifest.reason or "-",
            timestamp(version.manifest.created_at) or "-",
            version.manifest.run_id,
            _champion_period(version.promoted_at, serves=version.number == serving_version),
        )
        for version in context.registry.history(params.limit)
    ]
    results = {"count": str(len(rows)), "models": table(rows)}
    return results if serving_version is None else {**results, "champion": str(serving_version)}


def _lowest_recall(manifest: Manifest) -> str:
    if not manifest.recalls:
        return "-"
    name = min(manifest.recalls, key=lambda name: manifest.recalls[name])
    return f"{name} {manifest.recalls[name]:.4f}"


def _champion_period(promoted_at: datetime.datetime | None, *, serves: bool) -> str:
    since = timestamp(promoted_at)
    if serves:
        return f"serves since {since}" if since else "serves"
    return f"served from {since}" if since else ""


def predict(context: Context, params: PredictParams) -> dict[str, str]:
    """Predict the class of a test image or of the operator's own image.

    If KServe serves the champion, send it the image. Otherwise, return the prediction that was published
    with the version, which exists for test images only.

    Raises:
        NoSuchModelError: There is no such version or image, or no model serves yet.
        RegistryError: The registry cannot be read.
        KubernetesError: The InferenceService cannot be read.
        NotServedError: The image is the operator's own, and no model is served.
        ServedModelError: The served model returned no valid response.
    """
    version, number = params.version, params.image_number or 0
    if version is None:
        service = context.service if context.config.serving == "kserve" else None
        served = service.get_status() if service else None
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
        raise NotServedError("predicting an image needs a served model", is_due=False)
    if served is None:
        raise NotServedError("KServe serves no model yet", is_due=True)
    if not served.is_ready:
        raise NotServedError(
            f"KServe does not serve v{served.version} yet: {served.reason}", is_due=True
        )


def _served_prediction(
    context: Context, served: Served, image_number: int, own_pixels: bytes | None
) -> dict[str, str]:
    """Return the served model's prediction of a test image, or of the operator's own image."""
    if own_pixels is None:
        image = context.registry.test_image(served.version, image_number)
        pixels, classes = image.pixels, image.classes
        extra = {"image-number": str(image_number), "actual": image.actual}
    else:
        pixels, classes = own_pixels, context.registry.classes(served.version)
        extra = dict[str, str]()
    probabilities = inference_service.predict(served, pixels)
    if len(probabilities) != len(classes):
        raise ServedModelError(
            f"{served.url} returned {len(probabilities)} probabilities for {len(classes)} classes"
        )
    predicted = max(range(len(probabilities)), key=probabilities.__getitem__)
    results = {
        "version": str(served.version),
        "served-by": "kserve",
        "prediction": classes[predicted],
        "confidence": f"{probabilities[predicted]:.4f}",
        **extra,
    }
    # During a canary, the response does not say which of the two versions answered.
    return {**results, "canary-traffic": str(served.canary)} if served.canary else results


def promote(context: Context, params: PromoteParams) -> dict[str, str]:
    """Make a version the champion.

    Raises:
        NoSuchModelError: There is no such version.
        RegistryError: The registry cannot be reached, or the champion changed meanwhile.
    """
    return _champion_results(context.registry.promote(params.version, params.reason))


def rollback(context: Context, params: RollbackParams) -> dict[str, str]:
    """Make the previous champion the champion again.

    Raises:
        NoSuchModelError: There was no other champion.
        RegistryError: The registry cannot be reached, or the champion changed meanwhile.
    """
    return _champion_results(context.registry.rollback(params.reason))


def _champion_results(champion: Champion) -> dict[str, str]:
    return {
        "champion": str(champion.version),
        "accuracy": f"{champion.manifest.accuracy:.4f}",
        "run-id": champion.manifest.run_id,
    }
