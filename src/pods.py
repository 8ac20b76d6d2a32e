"""Why a run failed, or does not go on: what Kubernetes tells of its pods.

Kubeflow Pipelines gives no reason for a failed run, and lets one whose image cannot be pulled wait
for ever; the pods know. Argo's workflow controller labels each pod with the run's id and writes the
step's place in the pipeline to an annotation.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from errors import KubernetesError
from kfp_ops.texts import line, printable
from kube import errors

if TYPE_CHECKING:
    import lightkube

RUN_LABEL = "pipeline/runid"
NODE_ANNOTATION = "workflows.argoproj.io/node-name"
# The container with the step's own program; Argo adds others around it.
MAIN = "main"
LOG_LINES = 20
# Of the end of the log, which the kubelet cuts by lines alone.
LOG_CHARACTERS = 16_000
# Those that pass by themselves.
_STARTING = {"ContainerCreating", "PodInitializing", ""}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PodIssue:
    """What is wrong with a pod.

    Attributes:
        step: the pipeline's step it belongs to; empty where that is not known.
        pod: its name.
        reason: Kubernetes' word for it: Unschedulable, ImagePullBackOff, OOMKilled, Error ...
        message: Kubernetes' sentence on it; may be empty.
        log: the last lines of the step's log, of a step that ended with an error.
    """

    step: str
    pod: str
    reason: str
    message: str = ""
    log: str = ""

    def __str__(self) -> str:
        """In one line: the reason, and what was said of it last."""
        last = self.log.strip().rsplit("\n", 1)[-1].strip() or self.message
        prefix = f"step {self.step}: " if self.step else ""
        return f"{prefix}{self.reason}{': ' if last else ''}{last[:200]}"


def find_issue(
    kube: lightkube.Client, *, namespace: str, run_id: str, steps: frozenset[str]
) -> PodIssue | None:
    """What is wrong with the pods of a run, or None; at most 3 calls.

    Args:
        kube: the cluster.
        namespace: in which the run's pods are.
        run_id: the run in Kubeflow Pipelines.
        steps: the names of the pipeline's steps.

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
            issue = _issue(kube, pod, namespace, steps)
            if issue:
                return issue
    return None


def _weight(pod: Any) -> tuple[bool, str]:
    return _failed(pod) is not None, str(pod.metadata.creationTimestamp or "")


def _issue(
    kube: lightkube.Client, pod: Any, namespace: str, steps: frozenset[str]
) -> PodIssue | None:
    state = _failed(pod) or _waiting(pod)
    if state is None and pod.status.phase == "Pending":
        state = _last_warning(kube, pod, namespace)
    if state is None:
        return None
    reason, message = state
    return PodIssue(
        step=_step(pod, steps),
        pod=pod.metadata.name,
        reason=line(reason, 100),
        message=line(message, 1000),
        log=_log(kube, pod, namespace) if _failed(pod) else "",
    )


def _containers(pod: Any) -> list[Any]:
    status = pod.status
    return [*(status.initContainerStatuses or ()), *(status.containerStatuses or ())]


def _failed(pod: Any) -> tuple[str, str] | None:
    """Reason and message of a pod that has ended with an error."""
    for container in _containers(pod):
        terminated = container.state and container.state.terminated
        if terminated and terminated.exitCode:
            reason = terminated.reason or "Error"
            return f"{reason} (exit code {terminated.exitCode})", terminated.message or ""
    if pod.status.phase == "Failed":
        return pod.status.reason or "Failed", pod.status.message or ""
    return None


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


def _log(kube: lightkube.Client, pod: Any, namespace: str) -> str:
    """The end of the step's log; empty where it is gone."""
    names = [container.name for container in pod.status.containerStatuses or ()]
    try:
        with errors("log"):
            lines = kube.log(
                pod.metadata.name,
                namespace=namespace,
                container=MAIN if MAIN in names else None,
                tail_lines=LOG_LINES,
            )
            return printable("".join(lines)[-LOG_CHARACTERS:], LOG_CHARACTERS)
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
