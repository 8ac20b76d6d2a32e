"""Why a run failed, or does not go on: what its pods say, and where none failed its workflow.

Kubeflow Pipelines gives no reason for a failed run, and lets one whose image cannot be pulled wait
for ever; the pods know. Argo's workflow controller labels each pod with the run's id and writes the
step's place in the pipeline to an annotation. What stops Argo itself is in the Workflow object alone.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from errors import KubernetesError
from k8s import step_log
from k8s.client import errors
from kfp_ops.text import printable, single_line

if TYPE_CHECKING:
    import lightkube

RUN_LABEL = "pipeline/runid"
NODE_ANNOTATION = "workflows.argoproj.io/node-name"
# The container with the step's own program. Argo adds `init` before it and `wait` beside it, which
# fetch and store files; clusters may add more.
MAIN = "main"
_ARGOS = (MAIN, "init", "wait")
# Ends of a container that others stopped, by SIGKILL and SIGTERM.
_STOPPED = (137, 143)
# Enough for a traceback, and for what the launcher writes after it.
LOG_LINES = 200
# Of the end of the log, which the kubelet cuts by lines alone.
LOG_CHARACTERS = 16_000
# Argo's own limit, and etcd's, the API server's and gRPC's.
_TOO_LARGE = re.compile(
    r"longer than maximum allowed size|request is too large|Request entity too large"
    r"|message larger than max"
)
# Those that pass by themselves.
_STARTING = {"ContainerCreating", "PodInitializing", ""}


_EXIT_CODE = re.compile(r"(: )?Error \(exit code \d+\)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PodIssue:
    """What is wrong with a run.

    Attributes:
        step: the pipeline's step it belongs to; empty where that is not known.
        pod: its pod; empty where it is the workflow's.
        reason: Kubernetes' word for it: Unschedulable, ImagePullBackOff, OOMKilled, Error ...
        message: what the step said last, or else Kubernetes' or Argo's sentence; may be empty.
        log: the end of the log of the container that failed.
    """

    step: str
    pod: str
    reason: str
    message: str = ""
    log: str = ""

    def __str__(self) -> str:
        """Return it in one line; an exit code only where there is no better word."""
        prefix = f"step {self.step}: " if self.step else ""
        reason = _EXIT_CODE.sub("", self.reason) if self.message else self.reason
        return prefix + ": ".join(filter(None, (reason, self.message[:300])))


@dataclasses.dataclass(frozen=True)
class _Failure:
    """How a pod failed; `container` is empty where the pod itself did, as when it was evicted."""

    reason: str
    message: str
    container: str = ""


def find_issue(
    kube: lightkube.Client,
    *,
    namespace: str,
    run_id: str,
    steps: frozenset[str],
    only_waiting: bool = False,
) -> PodIssue | None:
    """Find what is wrong with the pods of a run, in at most 3 calls.

    Args:
        kube: the cluster.
        namespace: in which the run's pods are.
        run_id: the run in Kubeflow Pipelines.
        steps: the names of the pipeline's steps.
        only_waiting: leave out pods that failed, as those of a run that is cancelled do.

    Raises:
        KubernetesForbiddenError: the charm may not look.
        KubernetesError: Kubernetes cannot be reached, or answers with an error.
    """
    from lightkube.resources.core_v1 import Pod

    with errors(f"pods in namespace {namespace}"):
        pods: list[Any] = list(kube.list(Pod, namespace=namespace, labels={RUN_LABEL: run_id}))  # pyright: ignore[reportUnknownMemberType]
        # One that failed tells more than one that waits, and the last one more than those before.
        pods.sort(key=_weight)
        for pod in reversed(pods):
            issue = _issue(kube, pod, namespace, steps, only_waiting=only_waiting)
            if issue:
                return issue
    return None


def find_workflow_issue(kube: lightkube.Client, *, namespace: str, run_id: str) -> PodIssue | None:
    """Find why Argo ended the workflow of a run, in one call.

    Raises:
        KubernetesForbiddenError: the charm may not look.
        NoSuchKindError: the cluster has no Argo.
        KubernetesError: Kubernetes cannot be reached, or answers with an error.
    """
    from lightkube.generic_resource import (
        create_namespaced_resource,  # pyright: ignore[reportUnknownVariableType]
    )

    kind: Any = create_namespaced_resource("argoproj.io", "v1alpha1", "Workflow", "workflows")
    with errors(f"workflows in namespace {namespace}"):
        found: Any = kube.list(kind, namespace=namespace, labels={RUN_LABEL: run_id})  # pyright: ignore[reportUnknownMemberType]
        workflows: list[Any] = list(found)
    for workflow in workflows:
        status: dict[str, object] = workflow.status or {}
        message = single_line(str(status.get("message") or ""), 1000)
        if _TOO_LARGE.search(message):
            return PodIssue(
                step="",
                pod="",
                reason="the workflow is too large for Kubernetes",
                message=f"{message}; tune with a smaller parallelism, or report it",
            )
        if message:
            return PodIssue(step="", pod="", reason="Argo ended the workflow", message=message)
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
) -> PodIssue | None:
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
) -> PodIssue:
    log = _log(kube, pod, namespace, failure.container or MAIN)
    said = step_log.reason(log)
    if failure.container == MAIN:
        return _pod_issue(pod, steps, failure.reason, said or failure.message, log)
    # Argo's containers leave a sentence where Kubernetes finds it.
    prefix = f"{failure.container}: " if failure.container else ""
    return _pod_issue(pod, steps, f"{prefix}{failure.reason}", failure.message or said, log)


def _pod_issue(
    pod: Any, steps: frozenset[str], reason: str, message: str, log: str = ""
) -> PodIssue:
    return PodIssue(
        step=_step(pod, steps),
        pod=pod.metadata.name,
        reason=single_line(reason, 100),
        message=single_line(message, 1000),
        log=printable(log, LOG_CHARACTERS),
    )


def _containers(pod: Any) -> list[Any]:
    """The containers' states: the step's own first, then Argo's, then others'."""
    status = pod.status
    containers = [*(status.initContainerStatuses or ()), *(status.containerStatuses or ())]
    order = {name: number for number, name in enumerate(_ARGOS)}
    return sorted(containers, key=lambda container: order.get(container.name, len(order)))


def _failed(pod: Any) -> _Failure | None:
    """How the pod failed; None where it did not."""
    status = pod.status
    if status.phase == "Succeeded":
        return None
    if status.phase == "Failed" and status.reason:
        # Evicted, or past its deadline: the containers were stopped, and say nothing.
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
    """Reason and message of a pod that cannot start."""
    for container in _containers(pod):
        waiting = container.state and container.state.waiting
        if waiting and (waiting.reason or "") not in _STARTING:
            return waiting.reason, waiting.message or ""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.reason or "Unschedulable", condition.message or ""
    return None


def _last_warning(kube: lightkube.Client, pod: Any, namespace: str) -> tuple[str, str] | None:
    """The last warning on a pod: a volume that cannot be mounted is told nowhere else."""
    from lightkube.resources.core_v1 import Event

    fields = {"involvedObject.name": pod.metadata.name, "type": "Warning"}
    warnings: list[Any] = list(kube.list(Event, namespace=namespace, fields=fields))  # pyright: ignore[reportUnknownMemberType]
    if not warnings:
        return None
    last = max(warnings, key=lambda event: str(event.lastTimestamp or event.eventTime or ""))
    return last.reason or "Warning", last.message or ""


def _log(kube: lightkube.Client, pod: Any, namespace: str, container: str) -> str:
    """Return the end of a container's log; empty where it is gone."""
    try:
        with errors("log"):
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
    """The innermost step in a node's name, such as `train-x7p2l.root.evaluate(0).executor`."""
    annotations: dict[str, str] = pod.metadata.annotations or {}
    for part in reversed(annotations.get(NODE_ANNOTATION, "").split(".")):
        name = re.sub(r"\(.*\)$", "", part)
        for step in (name, name.removesuffix("-driver")):
            if step in steps:
                return step
    return ""
