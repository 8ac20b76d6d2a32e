"""What the peer relation records about runs that the server forgets."""

import dataclasses
import json

import ops
import ops.testing
import pytest

from tests.builders import image_pull_error, terminated

PODS = "/api/v1/namespaces/kubeflow/pods"
EVENTS = "/api/v1/namespaces/kubeflow/events"


@pytest.fixture
def end_run_without_request(sandbox):
    """End a run as a server does that lost the request to cancel it."""

    def end(run_id):
        sandbox.set_run_state(run_id, "FAILED")
        history = json.loads(sandbox.store.get("runs", run_id)["history"])
        history = [entry for entry in history if entry["state"] != "CANCELING"]
        sandbox.store.update("runs", run_id, history=json.dumps(history))

    return end


def test_cancelled_run_stays_cancelled_if_the_server_loses_the_request(
    ctx, with_peers, kubernetes, submitted, end_run_without_request
):
    out = ctx.run(ctx.on.action("cancel-run"), with_peers)
    end_run_without_request(submitted)
    # WHEN another leader takes over
    out = dataclasses.replace(out, unit_status=ops.testing.UnknownStatus())
    out = ctx.run(ctx.on.leader_elected(), out)
    # THEN it is not a failure, in the status and in actions
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert "CANCELED; train again:" in out.unit_status.message
    ctx.run(ctx.on.action("get-run"), out)
    assert ctx.action_results["state"] == "CANCELED"
    ctx.run(ctx.on.action("list-runs"), out)
    assert "CANCELED" in ctx.action_results["runs"]
    # AND in actions of a follower
    ctx.run(ctx.on.action("list-runs"), dataclasses.replace(out, leader=False))
    assert "CANCELED" in ctx.action_results["runs"]


def test_image_pull_error_is_reported_after_cancel(
    ctx, with_peers, kubernetes, submitted, pod, end_run_without_request
):
    # GIVEN a run that waits for its image, which an operator cancels before any other event
    pod("train-1", **image_pull_error())
    out = ctx.run(ctx.on.action("cancel-run"), with_peers)
    assert "ErrImagePull" in out.unit_status.message
    # WHEN Argo has deleted the pod
    kubernetes.lists[PODS].clear()
    end_run_without_request(submitted)
    # THEN the reason is still shown
    out = ctx.run(ctx.on.update_status(), out)
    expected = "CANCELED at step train: ErrImagePull: no such tag; train again:"
    assert expected in out.unit_status.message
    ctx.run(ctx.on.action("get-run"), out)
    assert ctx.action_results["issue"] == "step train: ErrImagePull: no such tag"
    assert ctx.action_results["pod"] == "train-1"


def test_pods_stopped_by_cancel_are_not_an_issue(
    ctx, with_peers, submitted, pod, end_run_without_request
):
    out = ctx.run(ctx.on.action("cancel-run"), with_peers)
    pod("train-1", phase="Failed", containerStatuses=terminated(143, "Error"))
    end_run_without_request(submitted)
    out = ctx.run(ctx.on.update_status(), out)
    assert "CANCELED; train again:" in out.unit_status.message


def test_timed_out_run_keeps_its_reason(
    ctx, with_peers, kubernetes, sandbox, submitted, pod, end_run_without_request
):
    pod("train-1", **image_pull_error())
    out = dataclasses.replace(with_peers, config={**with_peers.config, "run-timeout": 1})
    # GIVEN a run that began long ago
    long_ago = "2026-01-01T00:00:00Z"
    history = [{"state": "PENDING", "update_time": long_ago}]
    sandbox.store.update("runs", submitted, created_at=long_ago, history=json.dumps(history))
    out = ctx.run(ctx.on.update_status(), out)
    kubernetes.lists[PODS].clear()
    end_run_without_request(submitted)
    out = ctx.run(ctx.on.update_status(), out)
    assert "exceeded run-timeout after " in out.unit_status.message


def test_replaced_run_is_listed_as_cancelled(
    ctx, with_peers, kubernetes, submitted, end_run_without_request
):
    out = ctx.run(
        ctx.on.config_changed(),
        dataclasses.replace(with_peers, config={**with_peers.config, "epochs": 3}),
    )
    end_run_without_request(submitted)
    ctx.run(ctx.on.action("list-runs"), out)
    states = [line.split()[1] for line in ctx.action_results["runs"].splitlines()]
    assert states == ["PENDING", "CANCELED"]


def test_run_that_ended_before_cancel_keeps_its_state(ctx, with_peers, sandbox, proxy, submitted):
    # GIVEN a run that fails between the charm's observation and its request
    def fails(moment, _, __, path):
        if moment == "before" and path.endswith(":terminate"):
            sandbox.set_run_state(submitted, "FAILED")

    proxy.fault = fails
    with pytest.raises(ops.testing.ActionFailed):
        ctx.run(ctx.on.action("cancel-run"), with_peers)
    out = ctx.run(ctx.on.update_status(), with_peers)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "failed" in out.unit_status.message


def test_retried_run_that_fails_is_a_failure(
    ctx, with_peers, sandbox, submitted, end_run_without_request
):
    # GIVEN a run that was cancelled, and that a person retried in Kubeflow's dashboard
    out = ctx.run(ctx.on.action("cancel-run"), with_peers)
    end_run_without_request(submitted)
    history = [{"state": "RUNNING", "update_time": "2036-01-01T00:00:00Z"}]
    sandbox.store.update("runs", submitted, history=json.dumps(history))
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.BlockedStatus)


def test_issue_is_dropped_when_the_run_continues(ctx, with_peers, kubernetes, submitted, pod):
    pod("train-1", **image_pull_error())
    out = ctx.run(ctx.on.update_status(), with_peers)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    kubernetes.lists[PODS].clear()
    out = ctx.run(ctx.on.update_status(), out)
    assert "ErrImagePull" not in peer_relation(out).local_app_data["runs"]


def peer_relation(out):
    (relation,) = (r for r in out.relations if r.endpoint == "peers")
    return relation


def test_records_are_bounded_and_tolerate_invalid_data(ctx, with_peers, kubernetes, submitted, pod):
    # GIVEN records of many earlier runs, or invalid data
    for records_text in (
        json.dumps({f"run-{n}": {"terminated": True, "reason": "x" * 300} for n in range(60)}),
        "[",
        "[1]",
        '{"a": 1}',
        json.dumps({submitted: {"begun": "then", "terminated": True}}),
    ):
        peers = dataclasses.replace(
            peer_relation(with_peers), local_app_data={"runs": records_text}
        )
        relations = {*with_peers.relations} - {peer_relation(with_peers)} | {peers}
        state = dataclasses.replace(with_peers, relations=relations)
        # WHEN one more record is added
        pod("train-1", **image_pull_error())
        out = ctx.run(ctx.on.update_status(), state)
        # THEN the newest are kept
        records = json.loads(peer_relation(out).local_app_data["runs"])
        assert len(records) <= 50
        assert list(records)[-1] == submitted
        assert records[submitted]["reason"] == "ErrImagePull"


def test_cancel_is_reported_without_a_peer_relation(
    ctx, state, kubernetes, proxy, submitted, end_run_without_request
):
    # GIVEN a server that ends the run at once and loses the request
    def ends(moment, _, __, path):
        if moment == "after" and path.endswith(":terminate"):
            end_run_without_request(submitted)

    proxy.fault = ends
    out = ctx.run(ctx.on.action("cancel-run"), state)
    assert ctx.action_results["state"] == "CANCELED"
    assert "CANCELED; train again:" in out.unit_status.message
