"""Reasons of failed and stuck runs, read from their pods, events and workflows."""

import dataclasses
import socket

import ops
import ops.testing
import pytest

from tests.builders import container_statuses, image_pull_error, sdi, terminated

PODS = "/api/v1/namespaces/kubeflow/pods"
EVENTS = "/api/v1/namespaces/kubeflow/events"


def test_killed_step_is_reported_with_the_end_of_its_log(
    ctx, state, sandbox, kubernetes, submitted, pod, update_status
):
    # GIVEN a run with a succeeded pod and a killed one
    pod(
        "ingest-1",
        node="train-x.root.ingest.executor",
        phase="Succeeded",
        containerStatuses=terminated(0),
    )
    pod("train-2", phase="Failed", containerStatuses=terminated(137, "OOMKilled"))
    kubernetes.logs["train-2"] = "epoch 2\nepoch 3\n"
    sandbox.set_run_state(submitted, "FAILED")

    # THEN the status names step, reason and last log line, and the next command
    status = update_status()
    assert isinstance(status, ops.BlockedStatus)
    assert "failed at step train: OOMKilled (exit code 137): epoch 3;" in status.message
    assert "juju run trainer/leader get-run" in status.message

    # AND get-run has the pod and the log
    ctx.run(ctx.on.action("get-run"), state)
    assert ctx.action_results["issue"] == "step train: OOMKilled (exit code 137): epoch 3"
    assert ctx.action_results["pod"] == "train-2"
    assert ctx.action_results["log"] == "epoch 2\nepoch 3\n"
    assert kubernetes.log_requests[-1].items() >= {"container": "main", "tailLines": "200"}.items()


def test_last_failure_is_reported(sandbox, kubernetes, submitted, pod, update_status):
    pod("train-1", phase="Failed", containerStatuses=terminated(1, "Error"))
    pod("train-2", phase="Failed", reason="Evicted", message="The node was low on memory.")
    pod(
        "late",
        node="",
        phase="Pending",
        containerStatuses=container_statuses(waiting={"reason": "ContainerCreating"}),
    )
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed at step train: Evicted: The node was low on memory.;" in update_status().message


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            {"containerStatuses": container_statuses(waiting={"reason": "ImagePullBackOff", "message": "no such tag"})},
            "step train: ImagePullBackOff: no such tag",
        ),
        (
            {"initContainerStatuses": container_statuses(waiting={"reason": "CreateContainerConfigError", "message": "secret mlpipeline-minio-artifact not found"})},
            "CreateContainerConfigError: secret mlpipeline-minio-artifact not found",
        ),
        (
            {
                "conditions": [
                    {"type": "Initialized", "status": "True"},
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: Insufficient memory"},
                ]
            },
            "Unschedulable: 0/1 nodes: Insufficient memory",
        ),
    ],
)  # fmt: skip
def test_status_shows_why_a_pod_is_pending(pod, update_status, status, message):
    pod(phase="Pending", **status)
    status = update_status()
    assert isinstance(status, ops.WaitingStatus)
    assert f": {message}"[:36] in status.message


def test_mount_failure_is_read_from_events(kubernetes, pod, update_status):
    pod(
        phase="Pending",
        containerStatuses=container_statuses(waiting={"reason": "ContainerCreating"}),
    )
    assert isinstance(update_status(), ops.ActiveStatus)
    event = {
        "metadata": {},
        "involvedObject": {"name": "train-x-1"},
        "type": "Warning",
        "reason": "FailedMount",
        "message": "no such claim",
        "lastTimestamp": "2026-01-01T00:00:02Z",
    }
    first = {**event, "reason": "Early", "lastTimestamp": "2026-01-01T00:00:01Z"}
    kubernetes.lists[EVENTS] = [first, event, {**event, "type": "Normal"}]
    assert "PENDING: step train: FailedMount: no such claim; see: " in update_status().message


def test_driver_pod_belongs_to_its_step(pod, update_status):
    waiting = container_statuses(waiting={"reason": "ErrImagePull"})
    pod("d", node="train-x.root.train-driver", phase="Pending", containerStatuses=waiting)
    assert "PENDING: step train: ErrImagePull; see: " in update_status().message
    pod("e", node="train-x.root-driver", phase="Pending", containerStatuses=waiting)
    assert "PENDING: ErrImagePull; see: " in update_status().message


def test_pods_of_other_or_succeeded_runs_are_ignored(
    sandbox, kubernetes, submitted, pod, update_status
):
    pod(run="another", phase="Failed", containerStatuses=terminated(1))
    assert isinstance(update_status(), ops.ActiveStatus)
    pod(phase="Running", containerStatuses=container_statuses(running={}))
    assert isinstance(update_status(), ops.ActiveStatus)
    sandbox.set_run_state(submitted, "SUCCEEDED")
    before = len(kubernetes.requests)
    update_status()
    assert not [line for line, _ in kubernetes.requests[before:] if "/pods" in line]


def test_pod_messages_are_made_printable(run_action, kubernetes, submitted, pod, sandbox):
    # GIVEN a failed step whose log is no valid argument of a hook tool
    message = "m\x00\ud800" * 100_000
    pod("train-1", phase="Failed", containerStatuses=terminated(1, "Err\x00or", message=message))
    kubernetes.logs["train-1"] = "a line\n" * 100_000 + "\x1b[31mred\x00 \u2603\n"
    sandbox.set_run_state(submitted, "FAILED")
    # WHEN an operator runs get-run, THEN the log's end is printable
    results = run_action("get-run")
    assert results["log"].endswith("a line\n\ufffd[31mred\ufffd \u2603\n")
    assert "Err\ufffdor (exit code 1): \ufffd[31mred\ufffd \u2603" in results["issue"]
    assert max(len(text.encode()) for text in results.values()) < 100_000


def test_status_falls_back_to_kubeflows_without_permission(
    sandbox, kubernetes, submitted, update_status
):
    kubernetes.refuse[f"GET {PODS}"] = 403
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed; see: juju run trainer/leader get-run" in update_status().message


def test_missing_log_is_tolerated(sandbox, submitted, pod, update_status):
    pod(phase="Failed", containerStatuses=terminated(1, "Error", message="bad data"))
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed at step train: bad data;" in update_status().message


def test_single_user_pods_are_in_kubeflows_namespace(
    ctx, kubernetes, state, kfp_api, proxy, monkeypatch
):
    # GIVEN a server in another namespace than the charm's
    name, find = "ml-pipeline.pipelines", socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *arguments, **kw: find(
            "127.0.0.1" if host == name else host, *arguments, **kw
        ),
    )
    server = {"service-name": name, "service-port": str(proxy.port)}
    relations = {sdi("kfp-api", "kfp-api", server) if r is kfp_api else r for r in state.relations}
    # WHEN it has a run, THEN its pods are listed in that namespace
    ctx.run(ctx.on.config_changed(), dataclasses.replace(state, relations=relations))
    lines = [line for line, _ in kubernetes.requests if line.endswith("/pods")]
    assert lines == ["GET /api/v1/namespaces/pipelines/pods"]


def test_multi_user_pods_are_in_the_profiles_namespace(ctx, kubernetes, proxy, configured, sandbox):
    state = configured(profile="team-a")
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.update_status(), state)
    assert any(line == "GET /api/v1/namespaces/team-a/pods" for line, _ in kubernetes.requests)


WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows"
FAILED_LOG = """\
I1128 21:06:58.123456      14 env.go:155] cannot find launcher configmap: name="kfp-launcher"
Traceback (most recent call last):
  File "/tmp/tmp.x/ephemeral_component.py", line 12, in ingest
    raise DataError("no such bucket")
DataError: no such bucket
F1128 21:07:12.123456      14 main.go:58] failed to execute component: exit status 1
time="2026-11-28T21:07:12.311Z" level=info msg="sub-process exited" argo=true error="exit status 1"
Error: exit status 1
"""


def named_container_statuses(**states):
    """Return the statuses of containers by name."""
    return [{**container_statuses(**state)[0], "name": name} for name, state in states.items()]


def test_failed_step_shows_its_exception(
    sandbox, kubernetes, submitted, pod, update_status, run_action
):
    pod("train-1", phase="Failed", containerStatuses=terminated(1, "Error"))
    kubernetes.logs["train-1"] = FAILED_LOG
    sandbox.set_run_state(submitted, "FAILED")
    assert "step train: DataError: no such bucket; see:" in update_status().message
    assert run_action("get-run")["log"] == FAILED_LOG


@pytest.mark.parametrize("field", ["containerStatuses", "initContainerStatuses"])
def test_failed_argo_container_is_named(sandbox, kubernetes, submitted, pod, update_status, field):
    # GIVEN a pod whose step succeeded, or has not started, and a failed Argo container
    name = "wait" if field == "containerStatuses" else "init"
    message = "failed to put file: The specified bucket does not exist"
    failed = {"terminated": {"exitCode": 64, "reason": "Error", "message": message}}
    fine = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    statuses = {"containerStatuses": named_container_statuses(main=fine)}
    statuses[field] = named_container_statuses(**{name: failed}) + (statuses.get(field) or [])
    pod("train-1", phase="Failed", **statuses)
    kubernetes.logs["train-1"] = "mean 17.5\n"
    sandbox.set_run_state(submitted, "FAILED")
    assert f"at step train: {name}: failed to put file" in update_status().message
    # AND the log is that container's
    assert kubernetes.log_requests[-1]["container"] == name


def test_stopped_sidecar_is_not_a_failure(sandbox, kubernetes, submitted, pod, update_status):
    stopped = {"terminated": {"exitCode": 143, "reason": "Error"}}
    fine = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    failed = {"terminated": {"exitCode": 1, "reason": "Error"}}
    pod("a", phase="Running", containerStatuses=named_container_statuses(main=fine, proxy=stopped))
    assert isinstance(update_status(), ops.ActiveStatus)
    pod(
        "b",
        phase="Failed",
        containerStatuses=named_container_statuses(proxy=stopped, wait=fine, main=failed),
    )
    assert "step train: Error (exit code 1)" in update_status().message


def workflow(run_id, message):
    return {"metadata": {"labels": {"pipeline/runid": run_id}}, "status": {"message": message}}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "workflow is longer than maximum allowed size. compressed size 1200000 > maxSize 1048576",
            "failed: the workflow is too large for Kubernetes: workflow is longer than maximum allowed "
            "size. compressed size 1200000 > maxSize 1048576; tune with a smaller parallelism",
        ),
        (
            "etcdserver: request is too large",
            "failed: the workflow is too large for Kubernetes: etcdserver: request is too large; tune",
        ),
        (
            'pods is forbidden: service account "nobody" not found',
            'failed: Argo ended the workflow: pods is forbidden: service account "nobody" not found; see:',
        ),
    ],
)  # fmt: skip
def test_workflow_message_is_used_if_no_pod_failed(
    sandbox, kubernetes, submitted, pod, update_status, message, expected
):
    # GIVEN a run that was stuck first, continued, and had no failed pod
    pod("ingest-1", **image_pull_error())
    assert "ErrImagePull" in update_status().message
    kubernetes.lists[PODS].clear()
    pod("ingest-1", phase="Succeeded", containerStatuses=terminated(0))
    kubernetes.lists[WORKFLOWS] = [workflow("another", "no"), workflow(submitted, message)]
    assert isinstance(update_status(), ops.ActiveStatus)
    sandbox.set_run_state(submitted, "FAILED")
    assert expected[:40] in update_status().message


def test_workflow_message_overrides_an_earlier_issue(
    ctx, with_peers, sandbox, kubernetes, submitted, pod
):
    # GIVEN a run that was stuck, and whose workflow failed between events
    pod("ingest-1", **image_pull_error())
    out = ctx.run(ctx.on.update_status(), with_peers)
    kubernetes.lists[PODS].clear()
    kubernetes.lists[WORKFLOWS] = [workflow(submitted, "etcdserver: request is too large")]
    sandbox.set_run_state(submitted, "FAILED")
    out = ctx.run(ctx.on.update_status(), out)
    assert "failed: the workflow is too large for Kubernetes" in out.unit_status.message
    # WHEN the workflow is deleted too THEN its reason is still shown
    kubernetes.lists[WORKFLOWS].clear()
    out = ctx.run(ctx.on.update_status(), out)
    assert "failed: the workflow is too large for Kubernetes" in out.unit_status.message


@pytest.mark.parametrize("status", [None, 403, 500])
def test_unreadable_workflow_is_tolerated(sandbox, kubernetes, submitted, update_status, status):
    # GIVEN no Argo in the cluster, no permission to read workflows, or a failing server
    if status:
        kubernetes.refuse[f"GET {WORKFLOWS}"] = status
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed; see: juju run trainer/leader get-run" in update_status().message


def test_run_without_a_state_is_pending(ctx, state, sandbox, submitted, update_status):
    sandbox.store.update("runs", submitted, state="RUNTIME_STATE_UNSPECIFIED")
    assert update_status().message.endswith(" PENDING")
    ctx.run(ctx.on.action("get-run"), state)
    assert ctx.action_results["state"] == "PENDING"
    ctx.run(ctx.on.action("list-runs"), state)
    assert "UNSPECIFIED" not in ctx.action_results["runs"]
