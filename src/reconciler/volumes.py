"""The volume that a run's steps share: find its StorageClass, and delete it after the run.

Kubeflow Pipelines creates the PersistentVolumeClaim and needs the name of a StorageClass: without one it
uses "standard", and an empty name disables provisioning. So look up the cluster's default.

The pipeline deletes its claim in an exit handler. But the claim stays Terminating while completed pods
that mounted it exist, and the exit handler does not run if Argo ends the workflow with an error or the
run is terminated. So delete the remaining claims and pods of ended runs.
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
from reconciler import desired_state, run_issues
from reconciler.context import Context

if TYPE_CHECKING:
    import lightkube

logger = logging.getLogger(__name__)

# Number of ended runs, the newest, whose volumes are deleted.
_RUNS = 20
_ENDED = (RunState.SUCCEEDED, RunState.SKIPPED, RunState.FAILED, RunState.CANCELED)
# Maximum difference between the clocks of Kubeflow Pipelines and Kubernetes.
_CLOCK_SKEW = datetime.timedelta(minutes=1)
# https://kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass
_IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def with_storage_class(context: Context) -> TrainerConfig:
    """Return the options, with the cluster's default StorageClass if they name none.

    Raises:
        OptionError: The cluster has no default.
        KubernetesError: The storage classes cannot be read.
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
    # Like Kubernetes, use the newest of several defaults.
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
    """Delete the claims of the trainer's ended runs, and completed pods that mount them.

    Do nothing if neither the options nor observed runs use a volume; otherwise, list with one call to
    Kubeflow Pipelines and two to Kubernetes. Do not touch finalizers. The next event retries failures.
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
        logger.warning("cannot delete the volumes of ended runs: %s", error)


def _uses_volumes(context: Context, observed: ObservedState) -> bool:
    latest = (observed.latest,) if observed.latest else ()
    runs = (
        *latest,
        *observed.runs.values(),
        *(run for group in observed.runs_by_prefix.values() for run in group),
    )
    return bool(context.config.workspace_size) or any(map(_has_volume, runs))


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
        all_pods: list[Any] = list(kube.list(Pod, namespace=namespace, labels={RUN_LABEL: ids}))  # pyright: ignore[reportUnknownMemberType]
    # Process the oldest first: only the last recorded issue keeps its log.
    for run in sorted((own[name] for name in ids), key=lambda run: str(run.created_at)):
        pods = [pod for pod in all_pods if _mounts_claim(pod, run)]
        if run.state is not RunState.SUCCEEDED and pods:
            _record_issue(context, run)
        (claim,) = (claim for claim in claims if claim.metadata.name == run.run_id)
        _delete(kube, namespace, PersistentVolumeClaim, claim)
        for pod in pods:
            _delete(kube, namespace, Pod, pod)


def _is_of(claim: Any, run: Run | None) -> bool:
    """Return whether the claim belongs to the run.

    Its name is the run's unique ID, it has no owner, and it is not older than the run.
    """
    if run is None or run.created_at is None or claim.metadata.ownerReferences:
        return False
    labels: dict[str, str] = claim.metadata.labels or {}
    created: datetime.datetime = claim.metadata.creationTimestamp
    return (
        labels.get(RUN_LABEL, run.run_id) == run.run_id and created > run.created_at - _CLOCK_SKEW
    )


def _mounts_claim(pod: Any, run: Run) -> bool:
    """Return whether the pod is a completed pod of the run and mounts its claim."""
    claims = (volume.persistentVolumeClaim for volume in pod.spec.volumes or ())
    return (
        pod.metadata.labels[RUN_LABEL] == run.run_id
        and pod.status.phase in ("Succeeded", "Failed")
        and any(claim and claim.claimName == run.run_id for claim in claims)
    )


def _record_issue(context: Context, run: Run) -> None:
    """Record why a run failed, before its pods are deleted."""
    run = context.peer_data.runs.as_known(run)
    issue = run_issues.find_issue(context, run)
    if issue:
        context.peer_data.runs.set_issue(run, issue, with_log=True)


def _delete(kube: lightkube.Client, namespace: str, kind: Any, resource: Any) -> None:
    name = resource.metadata.name
    if resource.metadata.deletionTimestamp:
        return
    with as_kubernetes_errors(f"{kind.__name__} {name} in namespace {namespace}"):
        delete(kube, kind, name, namespace)
    logger.info("deleted %s %s of an ended run", kind.__name__, name)
