"""What the charm tells of a run that fails or does not go on: the reason is in its pods."""

import dataclasses
import json
import socket

import ops
import ops.testing
import pytest

from tests.builders import sdi

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
    assert ctx.action_results["issue"] == "step train: OOMKilled (exit code 137): epoch 3"
    assert ctx.action_results["pod"] == "train-2"
    assert ctx.action_results["log"] == "epoch 2\nepoch 3\n"
    assert kubernetes.log_requests[-1].items() >= {"container": "main", "tailLines": "200"}.items()


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
    assert f": {says}"[:36] in told_status.message


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
    assert "PENDING: step train: FailedMount: no such claim; see: " in told().message


def test_a_driver_belongs_to_its_step_and_a_stranger_to_none(pod, told):
    waiting = container(waiting={"reason": "ErrImagePull"})
    pod("d", node="train-x.root.train-driver", phase="Pending", containerStatuses=waiting)
    assert "PENDING: step train: ErrImagePull; see: " in told().message
    pod("e", node="train-x.root-driver", phase="Pending", containerStatuses=waiting)
    assert "PENDING: ErrImagePull; see: " in told().message


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


def test_what_a_pod_says_can_be_shown_whatever_it_is(
    run_action, kubernetes, submitted, pod, sandbox
):
    # GIVEN a step that failed, whose log no tool of Juju takes as an argument
    message = "m\x00\ud800" * 100_000
    pod("train-1", phase="Failed", containerStatuses=ended(1, "Err\x00or", message=message))
    kubernetes.logs["train-1"] = "a line\n" * 100_000 + "\x1b[31mred\x00 \u2603\n"
    sandbox.set_run_state(submitted, "FAILED")
    # WHEN an operator asks, THEN its end is told without what cannot be shown
    told = run_action("get-run")
    assert told["log"].endswith("a line\n\ufffd[31mred\ufffd \u2603\n")
    assert "Err\ufffdor (exit code 1): \ufffd[31mred\ufffd \u2603" in told["issue"]
    assert max(len(text.encode()) for text in told.values()) < 100_000


def test_without_the_right_to_look_the_status_is_kubeflows(sandbox, kubernetes, submitted, told):
    kubernetes.refuse[f"GET {PODS}"] = 403
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed; see: juju run trainer/leader get-run" in told().message


def test_a_log_that_is_gone_is_done_without(sandbox, submitted, pod, told):
    pod(phase="Failed", containerStatuses=ended(1, "Error", message="bad data"))
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed at step train: bad data;" in told().message


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


# What the step says, and what Argo does -----------------------------------------------------------

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


def several(**states):
    """The states of containers by name."""
    return [{**container(**state)[0], "name": name} for name, state in states.items()]


def test_step_says_why_it_failed_in_its_own_words(
    sandbox, kubernetes, submitted, pod, told, run_action
):
    pod("train-1", phase="Failed", containerStatuses=ended(1, "Error"))
    kubernetes.logs["train-1"] = FAILED_LOG
    sandbox.set_run_state(submitted, "FAILED")
    assert "step train: DataError: no such bucket; see:" in told().message
    assert run_action("get-run")["log"] == FAILED_LOG


@pytest.mark.parametrize("where", ["containerStatuses", "initContainerStatuses"])
def test_argo_container_that_fails_alone_is_named(sandbox, kubernetes, submitted, pod, told, where):
    # GIVEN a pod whose step succeeded, or has not begun, and a container of Argo's that failed
    name = "wait" if where == "containerStatuses" else "init"
    message = "failed to put file: The specified bucket does not exist"
    failed = {"terminated": {"exitCode": 64, "reason": "Error", "message": message}}
    fine = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    statuses = {"containerStatuses": several(main=fine)}
    statuses[where] = several(**{name: failed}) + (statuses.get(where) or [])
    pod("train-1", phase="Failed", **statuses)
    kubernetes.logs["train-1"] = "mean 17.5\n"
    sandbox.set_run_state(submitted, "FAILED")
    assert f"at step train: {name}: failed to put file" in told().message
    # AND the log is that container's
    assert kubernetes.log_requests[-1]["container"] == name


def test_sidecar_that_was_stopped_is_no_failure(sandbox, kubernetes, submitted, pod, told):
    stopped = {"terminated": {"exitCode": 143, "reason": "Error"}}
    fine = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    failed = {"terminated": {"exitCode": 1, "reason": "Error"}}
    pod("a", phase="Running", containerStatuses=several(main=fine, proxy=stopped))
    assert isinstance(told(), ops.ActiveStatus)
    pod("b", phase="Failed", containerStatuses=several(proxy=stopped, wait=fine, main=failed))
    assert "step train: Error (exit code 1)" in told().message


def workflow(run_id, message):
    return {"metadata": {"labels": {"pipeline/runid": run_id}}, "status": {"message": message}}


@pytest.mark.parametrize(
    ("message", "says"),
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
def test_workflow_says_why_where_no_pod_failed(
    sandbox, kubernetes, submitted, pod, told, message, says
):
    # GIVEN a run that waited at first, went on, and had no failed pod
    pod("ingest-1", **BAD_IMAGE)
    assert "ErrImagePull" in told().message
    kubernetes.lists[PODS].clear()
    pod("ingest-1", phase="Succeeded", containerStatuses=ended(0))
    kubernetes.lists[WORKFLOWS] = [workflow("another", "no"), workflow(submitted, message)]
    assert isinstance(told(), ops.ActiveStatus)
    sandbox.set_run_state(submitted, "FAILED")
    assert says[:40] in told().message


def test_workflow_counts_before_what_was_wrong_earlier(
    ctx, with_peers, sandbox, kubernetes, submitted, pod
):
    # GIVEN a run that waited, and whose workflow failed while nobody looked
    pod("ingest-1", **BAD_IMAGE)
    out = ctx.run(ctx.on.update_status(), with_peers)
    kubernetes.lists[PODS].clear()
    kubernetes.lists[WORKFLOWS] = [workflow(submitted, "etcdserver: request is too large")]
    sandbox.set_run_state(submitted, "FAILED")
    out = ctx.run(ctx.on.update_status(), out)
    assert "failed: the workflow is too large for Kubernetes" in out.unit_status.message
    # WHEN the workflow is gone too THEN its reason is still there
    kubernetes.lists[WORKFLOWS].clear()
    out = ctx.run(ctx.on.update_status(), out)
    assert "failed: the workflow is too large for Kubernetes" in out.unit_status.message


@pytest.mark.parametrize("status", [None, 403, 500])
def test_workflow_that_cannot_be_read_is_done_without(sandbox, kubernetes, submitted, told, status):
    # GIVEN no Argo in the cluster, no right to read its workflows, or a server that fails
    if status:
        kubernetes.refuse[f"GET {WORKFLOWS}"] = status
    sandbox.set_run_state(submitted, "FAILED")
    assert "failed; see: juju run trainer/leader get-run" in told().message


# What the charm knows, and the server forgets -----------------------------------------------------


@pytest.fixture
def forget(sandbox):
    """End a run as the server does that lost the request to cancel it."""

    def end(run_id):
        sandbox.set_run_state(run_id, "FAILED")
        history = json.loads(sandbox.store.get("runs", run_id)["history"])
        history = [entry for entry in history if entry["state"] != "CANCELING"]
        sandbox.store.update("runs", run_id, history=json.dumps(history))

    return end


@pytest.fixture
def with_peers(state):
    return dataclasses.replace(
        state, relations={*state.relations, ops.testing.PeerRelation("peers")}
    )


BAD_IMAGE = {"phase": "Pending", "containerStatuses": container(waiting={"reason": "ErrImagePull", "message": "no such tag"})}  # fmt: skip


def test_run_that_the_charm_cancelled_stays_cancelled_where_the_server_forgot(
    ctx, with_peers, kubernetes, submitted, forget
):
    out = ctx.run(ctx.on.action("cancel-run"), with_peers)
    forget(submitted)
    # WHEN another leader takes over
    out = dataclasses.replace(out, unit_status=ops.testing.UnknownStatus())
    out = ctx.run(ctx.on.leader_elected(), out)
    # THEN it is no failure, to it and to whoever asks
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert "CANCELED; train again:" in out.unit_status.message
    ctx.run(ctx.on.action("get-run"), out)
    assert ctx.action_results["state"] == "CANCELED"
    ctx.run(ctx.on.action("list-runs"), out)
    assert "CANCELED" in ctx.action_results["runs"]
    # AND to whoever asks a unit that does not lead
    ctx.run(ctx.on.action("list-runs"), dataclasses.replace(out, leader=False))
    assert "CANCELED" in ctx.action_results["runs"]


def test_image_that_cannot_be_pulled_is_named_after_the_cancel(
    ctx, with_peers, kubernetes, submitted, pod, forget
):
    # GIVEN a run that waits for its image, at which nobody looked yet, and an operator who cancels it
    pod("train-1", **BAD_IMAGE)
    out = ctx.run(ctx.on.action("cancel-run"), with_peers)
    assert "ErrImagePull" in out.unit_status.message
    # WHEN Argo has deleted the pod
    kubernetes.lists[PODS].clear()
    forget(submitted)
    # THEN the reason is still there
    out = ctx.run(ctx.on.update_status(), out)
    says = "CANCELED at step train: ErrImagePull: no such tag; train again:"
    assert says in out.unit_status.message
    ctx.run(ctx.on.action("get-run"), out)
    assert ctx.action_results["issue"] == "step train: ErrImagePull: no such tag"
    assert ctx.action_results["pod"] == "train-1"


def test_pods_that_the_cancel_stopped_are_no_reason(ctx, with_peers, submitted, pod, forget):
    out = ctx.run(ctx.on.action("cancel-run"), with_peers)
    pod("train-1", phase="Failed", containerStatuses=ended(143, "Error"))
    forget(submitted)
    out = ctx.run(ctx.on.update_status(), out)
    assert "CANCELED; train again:" in out.unit_status.message


def test_run_that_took_too_long_keeps_its_reason(
    ctx, with_peers, kubernetes, sandbox, submitted, pod, forget
):
    pod("train-1", **BAD_IMAGE)
    out = dataclasses.replace(with_peers, config={**with_peers.config, "run-timeout": 1})
    # GIVEN a run that began long ago
    long_ago = "2026-01-01T00:00:00Z"
    history = [{"state": "PENDING", "update_time": long_ago}]
    sandbox.store.update("runs", submitted, created_at=long_ago, history=json.dumps(history))
    out = ctx.run(ctx.on.update_status(), out)
    kubernetes.lists[PODS].clear()
    forget(submitted)
    out = ctx.run(ctx.on.update_status(), out)
    assert "exceeded run-timeout after " in out.unit_status.message


def test_superseded_run_is_listed_as_cancelled(ctx, with_peers, kubernetes, submitted, forget):
    out = ctx.run(
        ctx.on.config_changed(),
        dataclasses.replace(with_peers, config={**with_peers.config, "epochs": 3}),
    )
    forget(submitted)
    ctx.run(ctx.on.action("list-runs"), out)
    states = [line.split()[1] for line in ctx.action_results["runs"].splitlines()]
    assert states == ["PENDING", "CANCELED"]


def test_run_that_ended_before_the_cancel_keeps_its_state(
    ctx, with_peers, sandbox, proxy, submitted
):
    # GIVEN a run that fails between the charm's look and its request
    def fails(moment, _, __, path):
        if moment == "before" and path.endswith(":terminate"):
            sandbox.set_run_state(submitted, "FAILED")

    proxy.fault = fails
    with pytest.raises(ops.testing.ActionFailed):
        ctx.run(ctx.on.action("cancel-run"), with_peers)
    out = ctx.run(ctx.on.update_status(), with_peers)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "failed" in out.unit_status.message


def test_retried_run_that_fails_is_a_failure(ctx, with_peers, sandbox, submitted, forget):
    # GIVEN a run that was cancelled, and that a person retried in Kubeflow's dashboard
    out = ctx.run(ctx.on.action("cancel-run"), with_peers)
    forget(submitted)
    history = [{"state": "RUNNING", "update_time": "2036-01-01T00:00:00Z"}]
    sandbox.store.update("runs", submitted, history=json.dumps(history))
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.BlockedStatus)


def test_reason_goes_when_the_run_goes_on(ctx, with_peers, kubernetes, submitted, pod):
    pod("train-1", **BAD_IMAGE)
    out = ctx.run(ctx.on.update_status(), with_peers)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    kubernetes.lists[PODS].clear()
    out = ctx.run(ctx.on.update_status(), out)
    assert "ErrImagePull" not in out_peers(out).local_app_data["runs"]


def out_peers(out):
    (relation,) = (r for r in out.relations if r.endpoint == "peers")
    return relation


def test_records_are_bounded_and_forgiving(ctx, with_peers, kubernetes, submitted, pod):
    # GIVEN records of many runs before, or something else altogether
    for kept in (
        json.dumps({f"run-{n}": {"terminated": True, "reason": "x" * 300} for n in range(60)}),
        "[",
        "[1]",
        '{"a": 1}',
        json.dumps({submitted: {"begun": "then", "terminated": True}}),
    ):
        peers = dataclasses.replace(out_peers(with_peers), local_app_data={"runs": kept})
        relations = {*with_peers.relations} - {out_peers(with_peers)} | {peers}
        state = dataclasses.replace(with_peers, relations=relations)
        # WHEN one more comes
        pod("train-1", **BAD_IMAGE)
        out = ctx.run(ctx.on.update_status(), state)
        # THEN the newest are kept
        records = json.loads(out_peers(out).local_app_data["runs"])
        assert len(records) <= 50
        assert list(records)[-1] == submitted
        assert records[submitted]["reason"] == "ErrImagePull"


def test_without_a_peer_relation_an_event_still_knows_what_it_cancelled(
    ctx, state, kubernetes, proxy, submitted, forget
):
    # GIVEN a server that ends the run at once, and keeps no request
    def ends(moment, _, __, path):
        if moment == "after" and path.endswith(":terminate"):
            forget(submitted)

    proxy.fault = ends
    out = ctx.run(ctx.on.action("cancel-run"), state)
    assert ctx.action_results["state"] == "CANCELED"
    assert "CANCELED; train again:" in out.unit_status.message


def test_run_without_a_state_yet_is_pending(ctx, state, sandbox, submitted, told):
    sandbox.store.update("runs", submitted, state="RUNTIME_STATE_UNSPECIFIED")
    assert told().message.endswith(" PENDING")
    ctx.run(ctx.on.action("get-run"), state)
    assert ctx.action_results["state"] == "PENDING"
    ctx.run(ctx.on.action("list-runs"), state)
    assert "UNSPECIFIED" not in ctx.action_results["runs"]
