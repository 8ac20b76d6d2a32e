"""Behaviour of Kubeflow Pipelines 2.15.0 that the recorded exchanges do not show."""

import datetime
import io
import json
import re
from urllib.parse import quote

import httpx
import pytest

from kfp_ops import Client
from sandbox import Sandbox
from sandbox.api import create_app
from sandbox.api.auth import Authorizer
from sandbox.schedule import Scheduler, run_name
from sandbox.store import Store

SPEC = json.dumps(
    {
        "pipelineInfo": {"name": "p"},
        "root": {"dag": {"tasks": {}}},
        "schemaVersion": "2.1.0",
        "deploymentSpec": {"executors": {}},
    }
)
NOW = datetime.datetime(2026, 11, 28, 21, 47, 13, tzinfo=datetime.timezone.utc)
END = "2026-11-28T22:00:30Z"


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path / "state", execute=False) as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox):
    with Client(sandbox.api_url) as client:
        yield client


@pytest.fixture
def version(client):
    return client.upload_version(client.create_pipeline("p").pipeline_id, "v", SPEC)


@pytest.fixture
def experiment_id(client):
    return client.create_experiment("e").experiment_id


@pytest.fixture
def submit(client, version, experiment_id):
    def submit(name="r"):
        return client.create_run(
            name=name, experiment_id=experiment_id, version=version, parameters={}
        ).run_id

    return submit


@pytest.fixture
def call(sandbox):
    def call(method, path, **arguments):
        return httpx.request(method, f"{sandbox.api_url}/apis/v2beta1{path}", **arguments)

    return call


@pytest.mark.parametrize(
    ("method", "verb"),
    [("POST", ":terminate"), ("POST", ":unarchive"), ("POST", ":retry"), ("DELETE", "")],
)
def test_run_of_a_deleted_experiment_stays_but_is_inaccessible(
    sandbox, call, submit, experiment_id, method, verb
):
    # GIVEN a running run of a deleted experiment
    run_id = submit()
    sandbox.set_run_state(run_id, "RUNNING")
    assert call("DELETE", f"/experiments/{experiment_id}").status_code == 200
    # WHEN it is terminated
    response = call(method, f"/runs/{run_id}{verb}")
    # THEN the server does not find the experiment, and the run continues
    assert (response.status_code, response.json()["code"]) == (404, 5)
    message = f"Experiment {experiment_id} not found"
    assert response.json()["details"][0]["message"] == message
    run = call("GET", f"/runs/{run_id}").json()
    assert (run["state"], run["storage_state"]) == ("RUNNING", "AVAILABLE")


def test_archived_run_continues_and_can_be_unarchived_twice(sandbox, call, submit):
    run_id = submit()
    sandbox.set_run_state(run_id, "RUNNING")
    for verb, state in (
        ("archive", "ARCHIVED"),
        ("unarchive", "AVAILABLE"),
        ("unarchive", "AVAILABLE"),
    ):
        assert call("POST", f"/runs/{run_id}:{verb}").status_code == 200
        run = call("GET", f"/runs/{run_id}").json()
        assert (run["storage_state"], run["state"]) == (state, "RUNNING")


def test_lists_show_archived_runs_unless_filtered(call, client, submit, experiment_id):
    run_id = submit()
    call("POST", f"/runs/{run_id}:archive")
    (row,) = call("GET", "/runs", params={"experiment_id": experiment_id}).json()["runs"]
    assert row["run_id"] == run_id
    assert client.list_runs(experiment_id) == []


def names(call, value, escaped):
    predicate = {"key": "display_name", "operation": "IS_SUBSTRING", "string_value": value}
    text = json.dumps({"predicates": [predicate]})
    response = call("GET", "/runs", params={"filter": quote(text) if escaped else text})
    if response.status_code != 200:
        return response.json()["message"]
    return {row["display_name"] for row in response.json().get("runs", [])}


def test_filter_is_unescaped_twice(call, submit):
    submit("50% done")
    message = names(call, "50% done", escaped=False)
    assert message.endswith('invalid URL escape "% d"')
    assert names(call, "50% done", escaped=True) == {"50% done"}


def test_substring_is_a_pattern_of_sql_and_the_client_checks_names(
    call, client, submit, experiment_id
):
    for name in ("a_b", "axb", "a%b", "ab"):
        submit(name)
    assert names(call, "a_b", escaped=True) == {"a_b", "axb", "a%b"}
    assert names(call, "a%b", escaped=True) == {"a_b", "axb", "a%b", "ab"}
    for name in ("a_b", "a%b"):
        runs = client.list_runs(experiment_id, name_contains=name, limit=10)
        assert [run.display_name for run in runs] == [name]
        assert client.find_run(experiment_id, name).display_name == name


def after(**duration):
    return NOW + datetime.timedelta(**duration)


class Server:
    """The API and the scheduler of a sandbox whose clock a test sets."""

    def __init__(self, path):
        self.store = Store(path, clock=lambda: NOW)
        self.http = create_app(self.store, Authorizer(None), lambda *_: None).test_client()
        self.tick = Scheduler(self.store, lambda *_: None).tick
        upload = {"uploadfile": (io.BytesIO(SPEC.encode()), "p.yaml")}
        pipeline = self.call("POST", "/pipelines/upload?name=p", data=upload)
        self.pipeline_id = pipeline["pipeline_id"]

    def call(self, method, path, **arguments):
        response = self.http.open(f"/apis/v2beta1{path}", method=method, **arguments)
        assert response.status_code == 200, response.text
        return response.json

    def schedule(self, no_catchup=True, **trigger):
        body = {
            "display_name": "Every Minute!",
            "pipeline_version_reference": {"pipeline_id": self.pipeline_id},
            "max_concurrency": 10,
            "no_catchup": no_catchup,
            "mode": "ENABLE",
            "trigger": trigger,
        }
        return self.call("POST", "/recurringruns", json=body)["recurring_run_id"]

    def fired(self):
        rows = self.store.select("runs", order="scheduled_at")
        return [row["scheduled_at"][11:] for row in rows]


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "kfp.sqlite")
    yield server
    server.store.close()


MINUTE = {"cron_schedule": {"cron": "0 * * * * *"}}


def test_new_schedule_misses_the_next_minute_and_fires_at_the_one_after(server):
    server.schedule(**MINUTE)
    for seconds in range(0, 120, 5):
        server.tick(after(seconds=seconds))
    assert server.fired() == ["21:49:00Z"]
    (run,) = server.call("GET", "/runs")["runs"]
    assert re.fullmatch(r"everyminute[0-9a-f]{5}-1-\d+", run["display_name"])
    # AND like the server it does not tell what was before the workflow went on, nor its account
    assert not {"state_history", "service_account"} & run.keys()


def test_run_name_ends_in_the_recorded_hash():
    assert run_name("tick 021207", "7qtxj-", 1) == "tick0212077qtxj-1-4277344604"
    assert run_name("! HaVe ä £unky name", "abcde", 2).startswith("haveunkynameabcde-2-")
    assert run_name("!", "abcde", 1).startswith("job-abcde-1-")


def test_schedule_without_its_version_fires_from_its_own_copy(server):
    server.schedule(**MINUTE)
    server.tick(NOW)
    versions = f"/pipelines/{server.pipeline_id}/versions"
    (version,) = server.call("GET", versions)["pipeline_versions"]
    server.call("DELETE", f"{versions}/{version['pipeline_version_id']}")
    server.tick(after(minutes=3))
    assert len(server.fired()) == 1


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (MINUTE, "22:47:00Z"),
        ({"cron_schedule": {**MINUTE["cron_schedule"], "end_time": END}}, "22:00:00Z"),
        ({"periodic_schedule": {"interval_second": "60"}}, "22:47:13Z"),
        ({"periodic_schedule": {"interval_second": "60", "end_time": END}}, "22:00:13Z"),
    ],
)
def test_enabled_schedule_fires_for_the_last_time_it_missed(server, trigger, expected):
    schedule = server.schedule(**trigger)
    server.tick(NOW)
    server.call("POST", f"/recurringruns/{schedule}:disable")
    server.tick(after(hours=1))
    assert server.fired() == []
    server.call("POST", f"/recurringruns/{schedule}:enable")
    server.tick(after(hours=1))
    assert server.fired() == [expected]


def test_schedule_with_catch_up_fires_for_each_time(server):
    server.schedule(no_catchup=False, **MINUTE)
    server.tick(NOW)
    for _ in range(4):
        server.tick(after(minutes=2))
    assert server.fired() == ["21:48:00Z", "21:49:00Z"]


def test_names_are_compared_without_case_and_the_client_checks_them(client, submit, experiment_id):
    for name in ("Night", "night"):
        submit(name)
    names = {name: client.find_run(experiment_id, name).display_name for name in ("Night", "night")}
    assert names == {"Night": "Night", "night": "night"}
    assert client.find_run(experiment_id, "NIGHT") is None


def test_terminated_run_has_canceling_in_its_history_only_if_reported(sandbox, call, submit):
    histories = []
    for reports in (["FAILED"], ["CANCELING", "FAILED"]):
        run_id = submit()
        sandbox.set_run_state(run_id, "RUNNING")
        assert call("POST", f"/runs/{run_id}:terminate").status_code == 200
        assert call("GET", f"/runs/{run_id}").json()["state"] == "CANCELING"
        for state in reports:
            sandbox.set_run_state(run_id, state)
        history = call("GET", f"/runs/{run_id}").json()["state_history"]
        histories.append([entry["state"] for entry in history])
    assert histories == [
        ["PENDING", "RUNNING", "FAILED"],
        ["PENDING", "RUNNING", "CANCELING", "FAILED"],
    ]
