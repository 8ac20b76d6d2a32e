"""Why a run failed, was cancelled or does not go on, from its pods, its workflow and what was noted."""

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


def find_issue(context: Context, run: Run | None, steps: frozenset[str]) -> RunIssue | None:
    """Find why a run failed, was cancelled or does not go on, in at most 4 calls to Kubernetes.

    None where all is well, or the charm may not ask Kubernetes. The pods of a run that was terminated
    tell only that they were stopped, so what was known of it before counts; it counts too where the pods
    are deleted.
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
            steps=steps,
            only_waiting=terminated,
        )
    except KubernetesError as error:
        # Nobody asked for it, and what Kubeflow says is told without it.
        logger.info("no look at the pods of run %s: %s", run.run_id, error)
        return known
    if run.state is not RunState.FAILED:
        return issue
    return (
        issue
        # Its pods may be deleted while its workflow is still there.
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
        logger.info("no look at the workflow of run %s: %s", run.run_id, error)
        return None


def note_termination(context: Context, run: Run) -> None:
    """Keep that the charm terminates the run, and what is wrong with it, which is gone afterwards."""
    context.peer_data.runs.set_terminated(run)
    issue = find_issue(context, run, pipelines.steps(run.parameters))
    context.peer_data.runs.set_issue(run, issue)
