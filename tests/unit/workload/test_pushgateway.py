"""The Pushgateway's container: start, restart, failures."""

import dataclasses
import datetime
import re

import ops
import ops.testing
import pytest

from tests.builders import PUSHGATEWAY, pushgateway_of, unrelated_state, with_pushgateway
from workload import pushgateway


@pytest.mark.parametrize(
    "error", [ops.pebble.TimeoutError("too slow"), ops.pebble.ProtocolError("no answer")]
)
def test_pebble_error_is_logged_and_retried(ctx, state, gateway, error, monkeypatch):
    def replan(_):
        raise error

    monkeypatch.setattr(ops.Container, "replan", replan)
    up = with_pushgateway(state)
    ctx.run(ctx.on.pebble_ready(pushgateway_of(up)), up)
    assert any(f"cannot configure Pushgateway: {error}" in log.message for log in ctx.juju_log)


@pytest.fixture
def failing_workload(monkeypatch):
    """A workload whose program ends at its start; `broken.append` of anything repairs it."""
    mended = []
    task = ops.pebble.Task(
        ops.pebble.TaskID("1"),
        *("start", 'Start service "pushgateway"', "Error", ["no such\x07 file"]),
        *(ops.pebble.TaskProgress("", 1, 1), datetime.datetime.now(), None),
    )
    change = ops.pebble.Change(
        ops.pebble.ChangeID("1"),
        *("replan", "Replan", "Error", [task], True, "exited quickly with code 1"),
        *(datetime.datetime.now(), None),
    )
    replan = ops.Container.replan

    def fail(container):
        if not mended:
            raise ops.pebble.ChangeError("exited quickly with code 1", change)
        replan(container)

    monkeypatch.setattr(ops.Container, "replan", fail)
    return mended


def test_failed_pushgateway_shows_in_the_status_until_it_starts(
    ctx, state, gateway, failing_workload, runs
):
    # GIVEN a program that ends at its start
    up = with_pushgateway(state)
    out = ctx.run(ctx.on.pebble_ready(pushgateway_of(up)), up)
    # THEN training continues, and the status shows the reason and the command
    assert len(runs()) == 1
    for event in (ctx.on.update_status(), ctx.on.config_changed()):
        out = ctx.run(event, out)
        assert isinstance(out.unit_status, ops.WaitingStatus)
        assert re.fullmatch(
            r"run PENDING; Pushgateway is not running: exited "
            r".*; see: juju debug-log --include trainer",
            out.unit_status.message,
        )
    # WHEN the program can run again, THEN the next event starts it
    failing_workload.append("with another image")
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert "Pushgateway" not in out.unit_status.message
    assert pushgateway_of(out).service_statuses["pushgateway"] is ops.pebble.ServiceStatus.ACTIVE


def test_failed_pushgateway_does_not_hide_another_problem(ctx, gateway, failing_workload):
    up = with_pushgateway(unrelated_state(leader=True))
    out = ctx.run(ctx.on.pebble_ready(pushgateway_of(up)), up)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "no relation kfp-api; add it with: juju" in out.unit_status.message
    assert "Pushgateway is not running; " in out.unit_status.message


def test_ended_pushgateway_is_restarted(ctx, state, gateway):
    up = with_pushgateway(state)
    out = ctx.run(ctx.on.pebble_ready(pushgateway_of(up)), up)
    statuses = {"pushgateway": ops.pebble.ServiceStatus.ERROR}
    out = dataclasses.replace(
        out, containers={dataclasses.replace(pushgateway_of(out), service_statuses=statuses)}
    )
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert pushgateway_of(out).service_statuses["pushgateway"] is ops.pebble.ServiceStatus.ACTIVE


def test_pushgateway_has_a_health_check(ctx, state, gateway):
    up = with_pushgateway(state)
    out = ctx.run(ctx.on.pebble_ready(pushgateway_of(up)), up)
    plan = pushgateway_of(out).plan
    service = plan.services["pushgateway"]
    assert service.command == "/bin/pushgateway --web.listen-address=:9091"
    assert service.startup == "enabled"
    assert pushgateway_of(out).service_statuses["pushgateway"] is ops.pebble.ServiceStatus.ACTIVE
    assert plan.checks["ready"].http == {"url": f"{pushgateway.URL}/-/ready"}


def test_unreachable_pushgateway_does_not_block(ctx, state, monkeypatch, runs):
    monkeypatch.setattr(pushgateway, "URL", "http://127.0.0.1:1")
    out = ctx.run(ctx.on.config_changed(), with_pushgateway(state))
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert len(runs()) == 1
    assert any("cannot push metrics" in log.message for log in ctx.juju_log)


def test_container_that_is_not_ready_is_not_configured(ctx, state):
    out = ctx.run(ctx.on.config_changed(), state)
    assert pushgateway_of(out) == PUSHGATEWAY
