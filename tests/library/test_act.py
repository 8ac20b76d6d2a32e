"""The steps, carried out against a server that keeps no promise."""

from pathlib import Path

import pytest

from kfp_ops import (
    Client,
    KfpError,
    Observed,
    PipelineSpec,
    RunRequest,
    Schedule,
    ServerError,
    Wanted,
    act,
    observe,
    plan,
)
from sandbox import Sandbox
from tests.unit.conftest import FaultProxy

ROOT = Path(__file__).parents[2]
ONE = RunRequest(name="one", parameters={})
NIGHTLY = Schedule(name="schedule-n", cron="0 0 3 * * *", parameters={})


@pytest.fixture
def proxy(tmp_path):
    with (
        Sandbox(tmp_path / "sandbox", execute=False) as sandbox,
        FaultProxy(sandbox.api_url) as proxy,
    ):
        yield proxy


@pytest.fixture
def client(proxy):
    with Client(f"http://127.0.0.1:{proxy.port}") as client:
        yield client


def wanted(**more):
    spec = PipelineSpec.load(ROOT / "examples/digits/src/pipelines/digits.yaml")
    return Wanted(pipeline="p", spec=spec, experiment="e", **more)


def carried_out(client, what):
    seen = observe(client, what)
    return act(client, what, seen, plan(what, seen))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_a_proxy_says_of_a_server_that_did_it_is_looked_into(proxy, client, status):
    # GIVEN a proxy that does not wait for what is created, though it is
    proxy.trouble = lambda moment, _, method, __: (
        status if (moment, method) == ("after", "POST") else None
    )
    # WHEN all is asked for, THEN it is there, once
    done = carried_out(client, wanted(runs=(ONE,), schedule=NIGHTLY))
    assert done.runs["one"].display_name == "one"
    there = observe(client, wanted(runs=(ONE,), schedule=NIGHTLY))
    assert there.runs["one"].run_id == done.runs["one"].run_id
    assert there.schedules == done.schedules
    assert len(client.list_runs(there.experiment.experiment_id, limit=9)) == 1


def test_what_the_server_did_not_do_stays_its_error(proxy, client):
    proxy.trouble = lambda moment, _, method, __: (
        500 if (moment, method) == ("before", "POST") else None
    )
    with pytest.raises(ServerError) as caught:
        carried_out(client, wanted(runs=(ONE,)))
    assert caught.value.seen == Observed()


def test_an_error_says_what_was_there_before_it(proxy, client):
    # GIVEN a server that takes runs, and no schedules
    proxy.trouble = lambda moment, _, method, path: (
        500 if (moment, method) == ("before", "POST") and "recurringruns" in path else None
    )
    # WHEN both are asked for, THEN the error knows the run
    with pytest.raises(KfpError) as caught:
        carried_out(client, wanted(runs=(ONE,), schedule=NIGHTLY))
    run = caught.value.seen.runs["one"]
    assert client.get_run(run.run_id).display_name == "one"
    assert caught.value.seen.latest == run
