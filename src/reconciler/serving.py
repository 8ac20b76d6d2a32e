"""Serve the champion according to the option `serving`."""

from __future__ import annotations

from errors import as_charm_errors
from k8s.inference_service import Served
from model_registry import Champion
from reconciler.context import Context


@as_charm_errors()
def serve(context: Context, champion: Champion | None, *, dry_run: bool) -> Served | None:
    """Create, update or delete the InferenceService, and return its status; None if there is none.

    Args:
        context: Options, clients and names.
        champion: Version to serve; None changes nothing.
        dry_run: Change nothing.

    Raises:
        KubernetesError: Kubernetes cannot be reached, denies access, or lacks KServe.
    """
    config, service = context.config, context.service
    if service is None:
        return None
    if config.serving == "none":
        if not dry_run:
            service.remove()
        return None
    if champion is None or dry_run:
        return service.get_status()
    return service.serve(
        champion.version,
        uri=config.model_uri(champion.version),
        endpoint=context.storage.url,
        canary=config.canary_traffic,
    )
