"""The champion behind KServe, as the option `serving` says."""

from __future__ import annotations

from errors import as_charm_errors
from k8s.inference_service import Served
from model_registry import Champion
from reconciler.context import Context


@as_charm_errors()
def serve(context: Context, champion: Champion | None, *, dry_run: bool) -> Served | None:
    """Have the champion served, or nothing, as the option `serving` says; what is seen of it.

    Args:
        context: what to ask, and where to act.
        champion: the model that serves; None changes nothing.
        dry_run: change nothing.

    Raises:
        KubernetesError: Kubernetes cannot be reached, refuses, or knows no KServe.
    """
    config, service = context.config, context.service
    if service is None:
        return None
    if config.serving == "none":
        if not dry_run:
            service.remove()
        return None
    if champion is None or dry_run:
        return service.seen()
    return service.serve(
        champion.version,
        uri=config.model_uri(champion.version),
        endpoint=context.storage.url,
        canary=config.canary_traffic,
    )
