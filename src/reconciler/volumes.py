"""The volume that steps of a run share: which StorageClass provides it, and that it ends with the run.

Kubeflow Pipelines makes the claim itself and needs a class by name: without one it takes "standard",
and an empty one means to Kubernetes that nothing is provisioned. So the cluster's default is looked up.

The pipeline deletes its claim in an exit handler. Kubernetes then keeps it, Terminating, as long as
completed pods exist that mounted it; and where Argo ends the workflow with an error, or someone
terminates the run, the exit handler never runs. So the charm removes what is left of ended runs.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from config import TrainerConfig
from errors import OptionError
from kfp_ops import KfpError, ObservedState, Run, RunState
from kfp_ops.kubernetes import RUN_LABEL, as_kubernetes_errors, connect, delete
from reconciler import desired_state, pipelines, run_issues
from reconciler.context import Context

if TYPE_CHECKING:
    import lightkube

logger = logging.getLogger(__name__)

# Ended runs whose volumes are looked for: the newest.
_RUNS = 20
_ENDED = (RunState.SUCCEEDED, RunState.SKIPPED, RunState.FAILED, RunState.CANCELED)
# By how much the clocks of Kubeflow Pipelines and Kubernetes may differ.
_CLOCKS = datetime.timedelta(minutes=1)
# https://kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass
_IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def with_storage_class(context: Context) -> TrainerConfig:
    """Return the options with the cluster's default storage class if they name none.

    Raises:
        OptionError: the cluster has no default.
        KubernetesError: Kubernetes did not tell.
    """
    config = context.config
    if not config.workspace_size or config.storage_class:
        return config
    from lightkube.resources.storage_v1 import StorageClass

    kube = connect(context.app, context.juju_model)
    with as_kubernetes_errors("the cluster's storage classes"):
        classes: list[Any] = list(kube.list(StorageClass))  # pyright: ignore[reportUnknownMemberType]
    defaults = [
        storage_class
        for storage_class in classes
        if _is_default(storage_class.metadata.annotations or {})
    ]
    if not defaults:
        raise OptionError("storage_class", "", "set, as this cluster has no default")
    # Of several defaults Kubernetes takes the newest too.
    newest = max(
        defaults,
        key=lambda storage_class: (
            storage_class.metadata.creationTimestamp,
            storage_class.metadata.name,
        ),
    )
    return dataclasses.replace(config, storage_class=newest.metadata.name)


def _is_default(annotations: Mapping[str, str]) -> bool:
    return annotations.get(_IS_DEFAULT) == "true"


def remove_leftovers(context: Context, observed: ObservedState) -> None:
    """Delete the claims of ended runs that the trainer submitted, and completed pods that hold them.

    It looks only where runs with a volume are wanted or among those observed, with one call to Kubeflow
    Pipelines and two to Kubernetes. Finalizers are left to those who set them. What cannot be removed
    now is tried again at the next event.
    """
    experiment = observed.experiment
    if experiment is None or not _uses_volumes(context, observed):
        return
    try:
        ended = context.client.list_runs(experiment.experiment_id, limit=_RUNS, state=_ENDED)
        own = {
            run.run_id: run for run in ended if _has_volume(run) and desired_state.is_submitted(run)
        }
        if own:
            _remove(context, own)
    except KfpError as error:
        logger.warning("the volume of a run may be left: %s", error)


def _uses_volumes(context: Context, observed: ObservedState) -> bool:
    latest = (observed.latest,) if observed.latest else ()
    seen = (
        *latest,
        *observed.runs.values(),
        *(r for f in observed.runs_by_prefix.values() for r in f),
    )
    return bool(context.config.workspace_size) or any(map(_has_volume, seen))


def _has_volume(run: Run) -> bool:
    return bool(run.parameters.get("workspace_size"))


def _remove(context: Context, own: Mapping[str, Run]) -> None:
    from lightkube.resources.core_v1 import PersistentVolumeClaim, Pod

    kube, namespace = connect(context.app, context.juju_model), context.namespace
    with as_kubernetes_errors(f"volumes in namespace {namespace}"):
        claims: list[Any] = list(kube.list(PersistentVolumeClaim, namespace=namespace))  # pyright: ignore[reportUnknownMemberType]
        claims = [claim for claim in claims if _is_of(claim, own.get(claim.metadata.name))]
        if not claims:
            return
        ids = [claim.metadata.name for claim in claims]
        found: list[Any] = list(kube.list(Pod, namespace=namespace, labels={RUN_LABEL: ids}))  # pyright: ignore[reportUnknownMemberType]
    # The oldest first, so that the newest reason is kept in full.
    for run in sorted((own[name] for name in ids), key=lambda run: str(run.created_at)):
        pods = [pod for pod in found if _holds(pod, run)]
        if run.state is not RunState.SUCCEEDED and pods:
            _keep_reason(context, run)
        (claim,) = (claim for claim in claims if claim.metadata.name == run.run_id)
        _delete(kube, namespace, PersistentVolumeClaim, claim)
        for pod in pods:
            _delete(kube, namespace, Pod, pod)


def _is_of(claim: Any, run: Run | None) -> bool:
    """Whether the claim is the run's own.

    It is named after the run, whose id nobody else has. Kubeflow Pipelines gives it no owner, and the
    claim cannot be older than the run.
    """
    if run is None or run.created_at is None or claim.metadata.ownerReferences:
        return False
    labels: dict[str, str] = claim.metadata.labels or {}
    created: datetime.datetime = claim.metadata.creationTimestamp
    return labels.get(RUN_LABEL, run.run_id) == run.run_id and created > run.created_at - _CLOCKS


def _holds(pod: Any, run: Run) -> bool:
    """Whether the pod is a completed one of the run, and mounts its claim."""
    claims = (volume.persistentVolumeClaim for volume in pod.spec.volumes or ())
    return (
        pod.metadata.labels[RUN_LABEL] == run.run_id
        and pod.status.phase in ("Succeeded", "Failed")
        and any(claim and claim.claimName == run.run_id for claim in claims)
    )


def _keep_reason(context: Context, run: Run) -> None:
    """Keep why a run failed, since its pods go."""
    run = context.peer_data.runs.as_known(run)
    issue = run_issues.find_issue(context, run, pipelines.steps(run.parameters))
    if issue:
        context.peer_data.runs.set_issue(run, issue, with_log=True)


def _delete(kube: lightkube.Client, namespace: str, kind: Any, found: Any) -> None:
    name = found.metadata.name
    if found.metadata.deletionTimestamp:
        return
    with as_kubernetes_errors(f"{kind.__name__} {name} in namespace {namespace}"):
        delete(kube, kind, name, namespace)
    logger.info("deleted %s %s of a run that has ended", kind.__name__, name)
