"""Find why a run failed, was canceled or is stuck, from its pods, its workflow and records."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kfp_ops import KubernetesError, Run, RunState, kubernetes
from kfp_ops.kubernetes import RunIssue
from reconciler import pipelines
from reconciler.context import Context

if TYPE_CHECKING:
    import lightkube

logger = logging.getLogger(__name__)


def find_issue(context: Context, run: Run | None) -> RunIssue | None:
    """Find why a run failed, was canceled or is stuck, in at most 4 calls to Kubernetes.

    Return None if there is no issue, or if the charm may not read pods. A terminated run's pods only
    show that they were stopped, so return the issue recorded before; do the same if pods are deleted.
    """
    if run is None or run.state in (RunState.SUCCEEDED, RunState.SKIPPED):
        return None
    known = context.peer_data.runs.issue(run)
    terminated = run.state in (RunState.CANCELING, RunState.CANCELED)
    if terminated and known:
        return known
    try:
        cluster = kubernetes.connect(context.app, context.juju_model)
        issue = kubernetes.find_pod_issue(
            cluster,
            namespace=context.namespace,
            run_id=run.run_id,
            steps=pipelines.steps(run.parameters),
            only_waiting=terminated,
        )
    except KubernetesError as error:
        # Not worth a warning: the issue only adds detail to Kubeflow's state.
        logger.info("cannot read the pods of run %s: %s", run.run_id, error)
        return known
    if run.state is not RunState.FAILED:
        return issue
    return (
        issue
        # Pods may be deleted before the workflow.
        or context.peer_data.runs.issue(run, only_ended=True)
        or _workflow_issue(context, cluster, run)
        or known
    )


def _workflow_issue(context: Context, cluster: lightkube.Client, run: Run) -> RunIssue | None:
    try:
        return kubernetes.find_workflow_issue(
            cluster, namespace=context.namespace, run_id=run.run_id
        )
    except KubernetesError as error:
        logger.info("cannot read the workflow of run %s: %s", run.run_id, error)
        return None


def record_termination(context: Context, run: Run) -> None:
    """Record that the charm terminates a run, and the run's issue, which is lost afterwards."""
    context.peer_data.runs.set_terminated(run)
    issue = find_issue(context, run)
    context.peer_data.runs.set_issue(run, issue)
