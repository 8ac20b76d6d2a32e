"""Why a run failed or is stuck, from its pods or, if none of them failed, its workflow.

Kubeflow Pipelines gives no reason for a failed run, and lets a run whose image cannot be pulled wait
forever, so read the pods. Argo's workflow controller labels each pod with the run's ID and annotates it
with the step. Argo's own errors are in the Workflow object only.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from kfp_ops._api_types import Run, RunState
from kfp_ops._errors import KubernetesError
from kfp_ops.kubernetes._cluster import as_kubernetes_errors
from kfp_ops.kubernetes._step_log import find_reason
from kfp_ops.text import printable, single_line

if TYPE_CHECKING:
    import lightkube

RUN_LABEL = "pipeline/runid"
"""Label of a run's pods and workflow; its value is the run's ID."""
NODE_ANNOTATION = "workflows.argoproj.io/node-name"
# Container of the step's own program. Argo adds the containers `init` and `wait`, which transfer files;
# clusters may add more.
MAIN = "main"
_ARGOS = (MAIN, "init", "wait")
# Exit codes of containers stopped by SIGKILL and SIGTERM.
_STOPPED = (137, 143)
# Enough for a traceback and the launcher's lines after it.
LOG_LINES = 200
# Maximum characters of the log's end: the kubelet limits only lines.
LOG_CHARACTERS = 16_000
# Size limits of Argo, etcd, the API server and gRPC.
_TOO_LARGE = re.compile(
    r"longer than maximum allowed size|request is too large|Request entity too large"
    r"|message larger than max"
)
# Normal reasons of a starting container.
_STARTING = {"ContainerCreating", "PodInitializing", ""}
_EXIT_CODE = re.compile(r"(: )?Error \(exit code \d+\)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunIssue:
    """Why a run failed or is stuck."""

    step: str
    """Step of the pipeline; empty if unknown."""

    pod: str
    """Name of the step's pod; empty if the workflow itself failed."""

    reason: str
    """Reason from Kubernetes: Unschedulable, ImagePullBackOff, OOMKilled, Error ..."""

    message: str = ""
    """Last message of the step, or else of Kubernetes or Argo; may be empty."""

    log: str = ""
    """End of the log of the container that failed."""

    def __str__(self) -> str:
        """Return it in one line, with the exit code only if there is no message."""
        prefix = f"step {self.step}: " if self.step else ""
        reason = _EXIT_CODE.sub("", self.reason) if self.message else self.reason
        return prefix + ": ".join(filter(None, (reason, self.message[:300])))


@dataclasses.dataclass(frozen=True)
class _Failure:
    """How a pod failed."""

    reason: str
    message: str
    container: str = ""
    """Container that failed; empty if the pod itself did, as when it was evicted."""


def find_issue(
    kube: lightkube.Client, run: Run, *, namespace: str, steps: frozenset[str]
) -> RunIssue | None:
    """Return why a run failed, was canceled or is stuck, or None; in at most 4 calls.

    Args:
        kube: Client from ``connect``.
        run: Run to explain.
        namespace: Namespace of the run's pods: the profile's, or that of Kubeflow Pipelines.
        steps: Names of the pipeline's steps, from ``PipelineSpec.steps``.

    Raises:
        KubernetesForbiddenError: The application may not list pods or workflows.
        KubernetesError: Kubernetes cannot be reached, or fails.
    """
    if run.state in (RunState.SUCCEEDED, RunState.SKIPPED):
        return None
    is_canceled = run.state in (RunState.CANCELING, RunState.CANCELED)
    issue = find_pod_issue(
        kube, namespace=namespace, run_id=run.run_id, steps=steps, only_waiting=is_canceled
    )
    if issue or run.state is not RunState.FAILED:
        return issue
    return find_workflow_issue(kube, namespace=namespace, run_id=run.run_id)


def find_pod_issue(
    kube: lightkube.Client,
    *,
    namespace: str,
    run_id: str,
    steps: frozenset[str],
    only_waiting: bool = False,
) -> RunIssue | None:
    """Return why a run's pods failed or cannot start, or None; in at most 3 calls.

    Args:
        kube: Client from ``connect``.
        namespace: Namespace of the run's pods.
        run_id: ID of the run in Kubeflow Pipelines.
        steps: Names of the pipeline's steps, from ``PipelineSpec.steps``.
        only_waiting: Ignore pods that failed, as those of a canceled run do.

    Raises:
        KubernetesForbiddenError: The application may not list pods.
        KubernetesError: Kubernetes cannot be reached, or fails.
    """
    from lightkube.resources.core_v1 import Pod

    with as_kubernetes_errors(f"pods in namespace {namespace}"):
        pods: list[Any] = list(kube.list(Pod, namespace=namespace, labels={RUN_LABEL: run_id}))  # pyright: ignore[reportUnknownMemberType]
        # A failed pod says more than a waiting one, and the newest one more than those before.
        pods.sort(key=_weight)
        for pod in reversed(pods):
            issue = _issue(kube, pod, namespace, steps, only_waiting=only_waiting)
            if issue:
                return issue
    return None


def find_workflow_issue(kube: lightkube.Client, *, namespace: str, run_id: str) -> RunIssue | None:
    """Return why Argo ended a run's workflow, or None; in one call.

    Args:
        kube: Client from ``connect``.
        namespace: Namespace of the run's workflow.
        run_id: ID of the run in Kubeflow Pipelines.

    Raises:
        KubernetesForbiddenError: The application may not list workflows.
        NoSuchKindError: The cluster has no Argo Workflows.
        KubernetesError: Kubernetes cannot be reached, or fails.
    """
    from lightkube.generic_resource import (
        create_namespaced_resource,  # pyright: ignore[reportUnknownVariableType]
    )

    kind: Any = create_namespaced_resource("argoproj.io", "v1alpha1", "Workflow", "workflows")
    with as_kubernetes_errors(f"workflows in namespace {namespace}"):
        found: Any = kube.list(kind, namespace=namespace, labels={RUN_LABEL: run_id})  # pyright: ignore[reportUnknownMemberType]
        workflows: list[Any] = list(found)
    for workflow in workflows:
        status: dict[str, object] = workflow.status or {}
        message = single_line(str(status.get("message") or ""), 1000)
        if _TOO_LARGE.search(message):
            return RunIssue(
                step="",
                pod="",
                reason="the workflow is too large for Kubernetes",
                message=f"{message}; run fewer tasks in parallel",
            )
        if message:
            return RunIssue(step="", pod="", reason="Argo ended the workflow", message=message)
    return None


def _weight(pod: Any) -> tuple[bool, str]:
    return _failed(pod) is not None, str(pod.metadata.creationTimestamp or "")


def _issue(
    kube: lightkube.Client,
    pod: Any,
    namespace: str,
    steps: frozenset[str],
    *,
    only_waiting: bool,
) -> RunIssue | None:
    failure = _failed(pod)
    if failure:
        return None if only_waiting else _failure_issue(kube, pod, namespace, steps, failure)
    state = _waiting(pod)
    if state is None and pod.status.phase == "Pending":
        state = _last_warning(kube, pod, namespace)
    if state is None:
        return None
    reason, message = state
    return _pod_issue(pod, steps, reason, message)


def _failure_issue(
    kube: lightkube.Client, pod: Any, namespace: str, steps: frozenset[str], failure: _Failure
) -> RunIssue:
    log = _log(kube, pod, namespace, failure.container or MAIN)
    logged = find_reason(log)
    if failure.container == MAIN:
        return _pod_issue(pod, steps, failure.reason, logged or failure.message, log)
    # Argo's containers leave a sentence where Kubernetes finds it.
    prefix = f"{failure.container}: " if failure.container else ""
    return _pod_issue(pod, steps, f"{prefix}{failure.reason}", failure.message or logged, log)


def _pod_issue(
    pod: Any, steps: frozenset[str], reason: str, message: str, log: str = ""
) -> RunIssue:
    return RunIssue(
        step=_step(pod, steps),
        pod=pod.metadata.name,
        reason=single_line(reason, 100),
        message=single_line(message, 1000),
        log=printable(log, LOG_CHARACTERS),
    )


def _containers(pod: Any) -> list[Any]:
    """Return the containers' states: the step's own first, then Argo's, then others."""
    status = pod.status
    containers = [*(status.initContainerStatuses or ()), *(status.containerStatuses or ())]
    order = {name: number for number, name in enumerate(_ARGOS)}
    return sorted(containers, key=lambda container: order.get(container.name, len(order)))


def _failed(pod: Any) -> _Failure | None:
    """Return how the pod failed, or None."""
    status = pod.status
    if status.phase == "Succeeded":
        return None
    if status.phase == "Failed" and status.reason:
        # Evicted, or past its deadline: the containers were stopped and give no reason.
        return _Failure(status.reason, status.message or "")
    for container in _containers(pod):
        terminated = container.state and container.state.terminated
        if not terminated or not terminated.exitCode:
            continue
        # Argo stops what runs beside the step when the step has ended.
        if container.name not in _ARGOS and terminated.exitCode in _STOPPED:
            continue
        reason = f"{terminated.reason or 'Error'} (exit code {terminated.exitCode})"
        return _Failure(reason, terminated.message or "", container.name)
    return _Failure("Failed", status.message or "") if status.phase == "Failed" else None


def _waiting(pod: Any) -> tuple[str, str] | None:
    """Return reason and message of a pod that cannot start, or None."""
    for container in _containers(pod):
        waiting = container.state and container.state.waiting
        if waiting and (waiting.reason or "") not in _STARTING:
            return waiting.reason, waiting.message or ""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.reason or "Unschedulable", condition.message or ""
    return None


def _last_warning(kube: lightkube.Client, pod: Any, namespace: str) -> tuple[str, str] | None:
    """Return the last warning about a pod: nothing else reports a volume that cannot be mounted."""
    from lightkube.resources.core_v1 import Event

    fields = {"involvedObject.name": pod.metadata.name, "type": "Warning"}
    warnings: list[Any] = list(kube.list(Event, namespace=namespace, fields=fields))  # pyright: ignore[reportUnknownMemberType]
    if not warnings:
        return None
    last = max(warnings, key=lambda event: str(event.lastTimestamp or event.eventTime or ""))
    return last.reason or "Warning", last.message or ""


def _log(kube: lightkube.Client, pod: Any, namespace: str, container: str) -> str:
    """Return the end of a container's log; empty if it is gone."""
    try:
        with as_kubernetes_errors("log"):
            lines = kube.log(
                pod.metadata.name,
                namespace=namespace,
                container=container,
                tail_lines=LOG_LINES,
            )
            return "".join(lines)[-LOG_CHARACTERS:]
    except KubernetesError:
        return ""


def _step(pod: Any, steps: frozenset[str]) -> str:
    """Return the innermost step in a node's name, such as `train-x7p2l.root.evaluate(0).executor`."""
    annotations: dict[str, str] = pod.metadata.annotations or {}
    for part in reversed(annotations.get(NODE_ANNOTATION, "").split(".")):
        name = re.sub(r"\(.*\)$", "", part)
        for step in (name, name.removesuffix("-driver")):
            if step in steps:
                return step
    return ""
