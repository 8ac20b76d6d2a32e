"""What the charm tells of a run that fails or does not go on: the reason is in its pods."""

import dataclasses
import socket

import ops
import ops.testing
import pytest

from tests.unit.conftest import sdi

NODE = "workflows.argoproj.io/node-name"
PODS = "/api/v1/namespaces/kubeflow/pods"
EVENTS = "/api/v1/namespaces/kubeflow/events"


@pytest.fixture
def submitted(ctx, kubernetes, state, runs):
    """The run of the configuration."""
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    return run["run_id"]


@pytest.fixture
def pod(kubernetes, submitted):
    """Give the run a pod with this status."""

    def add(name="train-x-1", node="train-x.root.train(0).executor", run=submitted, **status):
        age = len(kubernetes.lists.get(PODS, []))
        kubernetes.lists.setdefault(PODS, []).append(
            {
                "metadata": {
                    "name": name,
                    "labels": {"pipeline/runid": run},
                    "annotations": {NODE: node},
                    "creationTimestamp": f"2026-01-01T00:00:{age:02d}Z",
                },
                "status": status,
            }
        )

    return add


@pytest.fixture
def told(ctx, state):
    def update():
        return ctx.run(ctx.on.update_status(), state).unit_status

    return update


def container(**state):
    return [
        {
            "name": "main",
            "image": "i",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
    ]


def ended(code, reason=None, **more):
    return container(terminated={"exitCode": code, "reason": reason, **more})


def test_a_step_that_was_killed_is_told_with_the_end_of_its_log(
    ctx, state, sandbox, kubernetes, submitted, pod, told
):
    # GIVEN a run whose first try of a step ended well, and the second was killed
    pod(
        "ingest-1",
        node="train-x.root.ingest.executor",
        phase="Succeeded",
        containerStatuses=ended(0),
    )
    pod("train-2", phase="Failed", containerStatuses=ended(137, "OOMKilled"))
    kubernetes.logs["train-2"] = "epoch 2\nepoch 3\n"
    sandbox.set_run_state(submitted, "FAILED")

    # THEN the status names step, reason, and what was said last; and what to do
    status = told()
    assert isinstance(status, ops.BlockedStatus)
    assert "failed at step train: OOMKilled (exit code 137): epoch 3;" in status.message
    assert "juju run trainer/leader get-run" in status.message

    # AND get-run has the pod and the log
    ctx.run(ctx.on.action("get-run"), state)
    assert ctx.action_results["trouble"] == "step train: OOMKilled (exit code 137): epoch 3"
    assert ctx.action_results["pod"] == "train-2"
    assert ctx.action_results["log"] == "epoch 2\nepoch 3\n"
    assert kubernetes.logs_asked[-1].items() >= {"container": "main", "tailLines": "20"}.items()


def test_the_last_failure_counts(sandbox, kubernetes, submitted, pod, told):
    pod("train-1", phase="Failed", containerStatuses=ended(1, "Error"))
    pod("train-2", phase="Failed", reason="Evicted", message="The node was low on memory.")
    pod(
        "late",
        node="",
        phase="Pending",
        containerStatuses=container(waiting={"reason": "ContainerCreating"}),
    )
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed at step train: Evicted: The node was low on memory.;" in told().message


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (
            {"containerStatuses": container(waiting={"reason": "ImagePullBackOff", "message": "no such tag"})},
            "step train: ImagePullBackOff: no such tag",
        ),
        (
            {"initContainerStatuses": container(waiting={"reason": "CreateContainerConfigError", "message": "secret mlpipeline-minio-artifact not found"})},
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
def test_a_run_that_cannot_go_on_says_why(pod, told, status, says):
    pod(phase="Pending", **status)
    told_status = told()
    assert isinstance(told_status, ops.WaitingStatus)
    assert told_status.message.endswith(says)


def test_a_volume_that_cannot_be_mounted_is_in_the_events_only(kubernetes, pod, told):
    pod(phase="Pending", containerStatuses=container(waiting={"reason": "ContainerCreating"}))
    assert isinstance(told(), ops.ActiveStatus)
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
    assert told().message.endswith("step train: FailedMount: no such claim")


def test_a_driver_belongs_to_its_step_and_a_stranger_to_none(pod, told):
    waiting = container(waiting={"reason": "ErrImagePull"})
    pod("d", node="train-x.root.train-driver", phase="Pending", containerStatuses=waiting)
    assert told().message.endswith("; step train: ErrImagePull")
    pod("e", node="train-x.root-driver", phase="Pending", containerStatuses=waiting)
    assert told().message.endswith("done; ErrImagePull")


def test_pods_of_other_runs_and_of_runs_that_succeeded_are_not_looked_at(
    sandbox, kubernetes, submitted, pod, told
):
    pod(run="another", phase="Failed", containerStatuses=ended(1))
    assert isinstance(told(), ops.ActiveStatus)
    pod(phase="Running", containerStatuses=container(running={}))
    assert isinstance(told(), ops.ActiveStatus)
    sandbox.set_run_state(submitted, "SUCCEEDED")
    before = len(kubernetes.requests)
    told()
    assert not [line for line, _ in kubernetes.requests[before:] if "/pods" in line]


def test_what_a_pod_says_can_be_shown_whatever_it_is(act, kubernetes, submitted, pod, sandbox):
    # GIVEN a step that failed, whose log no tool of Juju takes as an argument
    message = "m\x00\ud800" * 100_000
    pod("train-1", phase="Failed", containerStatuses=ended(1, "Err\x00or", message=message))
    kubernetes.logs["train-1"] = "a line\n" * 100_000 + "\x1b[31mred\x00 \u2603\n"
    sandbox.set_run_state(submitted, "FAILED")
    # WHEN an operator asks, THEN its end is told without what cannot be shown
    told = act("get-run")
    assert told["log"].endswith("a line\n\ufffd[31mred\ufffd \u2603\n")
    assert "Err\ufffdor (exit code 1): \ufffd[31mred\ufffd \u2603" in told["trouble"]
    assert max(len(text.encode()) for text in told.values()) < 100_000


def test_without_the_right_to_look_the_status_is_kubeflows(sandbox, kubernetes, submitted, told):
    kubernetes.refuse[f"GET {PODS}"] = 403
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed; see: juju run trainer/leader get-run" in told().message


def test_a_log_that_is_gone_is_done_without(sandbox, submitted, pod, told):
    pod(phase="Failed", containerStatuses=ended(1, "Error", message="bad data"))
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed at step train: Error (exit code 1): bad data;" in told().message


def test_a_single_users_pods_are_where_its_kubeflow_is(
    ctx, kubernetes, state, kfp_api, proxy, monkeypatch
):
    # GIVEN a server in another namespace than the charm
    name, find = "ml-pipeline.pipelines", socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **kw: find("127.0.0.1" if host == name else host, *more, **kw),
    )
    server = {"service-name": name, "service-port": str(proxy.port)}
    elsewhere = {sdi("kfp-api", "kfp-api", server) if r is kfp_api else r for r in state.relations}
    # WHEN it has a run, THEN that is where its pods are looked for
    ctx.run(ctx.on.config_changed(), dataclasses.replace(state, relations=elsewhere))
    lines = [line for line, _ in kubernetes.requests if line.endswith("/pods")]
    assert lines == ["GET /api/v1/namespaces/pipelines/pods"]


def test_the_pods_are_in_the_profiles_namespace(ctx, kubernetes, proxy, configured, sandbox):
    state = configured(profile="team-a")
    ctx.run(ctx.on.config_changed(), state)
    ctx.run(ctx.on.update_status(), state)
    assert any(line == "GET /api/v1/namespaces/team-a/pods" for line, _ in kubernetes.requests)
