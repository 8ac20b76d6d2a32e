"""The client against a scripted server: its requests, and how it reads responses."""

import itertools
import json
import socket
import threading
import time
from urllib.parse import unquote_plus

import pytest
from werkzeug import Response

import kfp_ops
from kfp_ops import AnswerError, Client, NotFoundError, PipelineVersion, RecurringRun, RunState

VERSION = PipelineVersion(pipeline_id="p", pipeline_version_id="v", display_name="f")
RUN = {
    "run_id": "r",
    "display_name": "config-1",
    "state": "RUNNING",
    "created_at": "2026-11-24T02:17:23Z",
    "finished_at": "1970-01-01T00:00:00Z",
    "experiment_id": "e",
    "runtime_config": {"parameters": {"epochs": 2}},
    "run_details": {
        "task_details": [
            {"display_name": "train-driver", "state": "SUCCEEDED"},
            {"display_name": "train", "state": "RUNNING"},
            {"display_name": "executor", "state": "PENDING"},
        ]
    },
}


@pytest.fixture
def client(httpserver):
    with Client(httpserver.url_for("/"), timeout=5) as client:
        yield client


def requests(httpserver):
    return [request for request, _ in httpserver.log]


# What is sent --------------------------------------------------------------------------------


def test_lists_request_one_page_with_a_filter(httpserver, client):
    # GIVEN an experiment with a run
    httpserver.expect_request("/apis/v2beta1/runs").respond_with_json({"runs": [RUN]})
    # WHEN the run is searched for
    run = client.find_run("e", "config-1")
    # THEN one request limits and filters on the server
    (request,) = requests(httpserver)
    assert request.args["page_size"] == "1"
    assert request.args["experiment_id"] == "e"
    assert request.args["sort_by"] == "created_at desc"
    assert json.loads(request.args["filter"]) == {
        "predicates": [{"key": "display_name", "operation": "EQUALS", "string_value": "config-1"}]
    }
    assert "namespace" not in request.args
    assert run is not None
    assert run.state is RunState.RUNNING


def test_every_call_sends_namespace_and_token(httpserver):
    # GIVEN a multi-user server and a token that changes
    tokens = iter(["first", "second"])
    httpserver.expect_request("/apis/v2beta1/experiments").respond_with_json({})
    with Client(httpserver.url_for("/"), namespace="team-a", token=lambda: next(tokens)) as client:
        # WHEN two calls are made
        assert client.find_experiment("x") is None
        assert client.find_experiment("y") is None
    # THEN each has the namespace and its token, and no identity header
    assert [r.args["namespace"] for r in requests(httpserver)] == ["team-a", "team-a"]
    assert [r.headers["authorization"] for r in requests(httpserver)] == [
        "Bearer first",
        "Bearer second",
    ]
    assert all("kubeflow-userid" not in r.headers for r in requests(httpserver))


def test_run_is_submitted_without_empty_fields(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/runs", method="POST").respond_with_json(RUN)
    client.create_run(name="config-1", experiment_id="e", version=VERSION, parameters={"epochs": 2})
    (request,) = requests(httpserver)
    assert request.json == {
        "display_name": "config-1",
        "experiment_id": "e",
        "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "v"},
        "runtime_config": {"parameters": {"epochs": 2}},
    }


def test_optional_fields_of_a_run_are_sent_when_given(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/runs", method="POST").respond_with_json(RUN)
    client.create_run(
        name="n",
        experiment_id="e",
        version=VERSION,
        parameters={},
        description="why",
        service_account="default-editor",
    )
    (request,) = requests(httpserver)
    assert request.json["description"] == "why"
    assert request.json["service_account"] == "default-editor"


def test_version_is_uploaded_as_a_file(httpserver, client):
    httpserver.expect_request(
        "/apis/v2beta1/pipelines/upload_version", method="POST"
    ).respond_with_json({"pipeline_id": "p", "pipeline_version_id": "v", "display_name": "f"})
    assert client.upload_version("p", "f", "a: pipeline\n") == VERSION
    (request,) = requests(httpserver)
    assert request.args.to_dict() == {"name": "f", "pipelineid": "p"}
    assert request.files["uploadfile"].filename == "pipeline.yaml"


def test_newest_runs_exclude_archived_ones(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/runs").respond_with_json({"runs": [RUN, RUN]})
    assert len(client.list_runs("e", limit=2)) == 2
    (request,) = requests(httpserver)
    assert request.args["sort_by"] == "created_at desc"
    assert request.args["page_size"] == "2"
    assert "AVAILABLE" in request.args["filter"]


def test_terminate_calls_the_api(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/runs/r:terminate", method="POST").respond_with_json({})
    client.terminate_run("r")
    assert len(httpserver.log) == 1


# What is read --------------------------------------------------------------------------------


def test_run_has_times_and_tasks(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_json(RUN)
    run = client.get_run("r")
    assert run.created_at is not None
    assert run.created_at.isoformat() == "2026-11-24T02:17:23+00:00"
    assert run.finished_at is None
    assert run.parameters == {"epochs": 2}
    assert run.steps(frozenset({"train", "evaluate"})) == {"train": RunState.RUNNING}
    assert not run.state.is_final


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["SUCCEEDED", "RUNNING", "SUCCEEDED"], "RUNNING"),
        (["SUCCEEDED", "RUNNING", "FAILED"], "FAILED"),
        (["SUCCEEDED", "SKIPPED", "FAILED"], "FAILED"),
        (["SUCCEEDED", "SUCCEEDED", "SUCCEEDED"], "SUCCEEDED"),
    ],
)
def test_step_in_a_loop_has_its_most_urgent_state(httpserver, client, states, expected, order):
    rows = [{"display_name": "trial", "state": states[at]} for at in order]
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_json(
        {**RUN, "run_details": {"task_details": rows}}
    )
    assert client.get_run("r").steps(frozenset({"trial"})) == {"trial": RunState(expected)}


def test_unknown_state_reads_as_unspecified(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_json(
        {"run_id": "r", "state": "DREAMING"}
    )
    assert client.get_run("r").state is RunState.UNSPECIFIED


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (["PENDING", "RUNNING", "CANCELING", "FAILED"], RunState.CANCELED),
        (["PENDING", "RUNNING", "FAILED"], RunState.FAILED),
        ([], RunState.FAILED),
    ],
)
def test_terminated_run_is_canceled(httpserver, client, history, expected):
    # The server calls both the same: tests/contract, run-terminated.
    entries = [{"update_time": "2026-11-24T02:05:13Z", "state": state} for state in history]
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_json(
        {"run_id": "r", "state": "FAILED", "state_history": entries}
    )
    assert client.get_run("r").state is expected


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"])
def test_final_states(state):
    assert RunState(state).is_final


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELING", "PAUSED", ""])
def test_active_states(state):
    assert not RunState(state).is_final


def test_absent_object_is_none(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/pipelines/names/x").respond_with_json(
        {"code": 5, "message": "not found"}, status=404
    )
    httpserver.expect_request("/apis/v2beta1/pipelines/p/versions").respond_with_json({})
    httpserver.expect_request("/apis/v2beta1/runs").respond_with_json({})
    assert client.find_pipeline("x") is None
    assert client.find_version("p", "x") is None
    assert client.find_run("e", "x") is None
    assert client.list_runs("e") == []


# Refusals and hostile answers ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, kfp_ops.RequestError),
        (401, kfp_ops.UnauthorizedError),
        (403, kfp_ops.ForbiddenError),
        (404, kfp_ops.NotFoundError),
        (409, kfp_ops.ConflictError),
        (429, kfp_ops.ServerError),
        (500, kfp_ops.ServerError),
        (503, kfp_ops.ServerError),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        '{"code": 3, "message": "the reason", "details": []}',
        '{"error_message": "the reason", "error_details": "the reason\\ngo.stack\\n\\tx.go:1"}',
        "the reason",
    ],
)
def test_each_refusal_has_its_error_and_the_servers_message(httpserver, client, status, kind, body):
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_data(body, status=status)
    with pytest.raises(kind, match="the reason") as caught:
        client.get_run("r")
    assert caught.value.status == status
    assert "\n" not in str(caught.value)


def test_long_server_messages_are_truncated(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_data("x" * 5000, status=500)
    with pytest.raises(kfp_ops.ServerError) as caught:
        client.get_run("r")
    assert len(str(caught.value)) < 400


def test_unprintable_server_messages_are_replaced(httpserver, client):
    body = '{"code": 13, "message": "a\\u0000b\\u001b[2J"}'
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_data(body, status=500)
    with pytest.raises(kfp_ops.ServerError, match="500 a\ufffdb\ufffd\\[2J"):
        client.get_run("r")


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe{}",
        b"<html>login</html>",
        b'{"run_id": 5}',
        b"{}",
        b'{"run_id": "r", "state": {}}',
        b'{"run_id": "r", "created_at": "yesterday"}',
        b'{"run_id": "r", "run_details": [1]}',
        b'{"run_id": "r", "run_details": {"task_details": {"a": 1}}}',
        b'{"run_id": "r", "run_details": {"task_details": ["x"]}}',
        b'{"error_message": "said with 200", "error_details": "x"}',
        b"[" * 100_000,
    ],
)
def test_invalid_response_is_a_response_error(httpserver, client, response):
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_data(response)
    with pytest.raises(kfp_ops.AnswerError):
        client.get_run("r")


def test_redirects_are_not_followed(httpserver):
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_data(
        "", status=302, headers={"location": httpserver.url_for("/elsewhere")}
    )
    with (
        Client(httpserver.url_for("/"), token=lambda: "secret") as client,
        pytest.raises(kfp_ops.AnswerError, match="unexpected status 302"),
    ):
        client.get_run("r")
    assert len(httpserver.log) == 1


def test_huge_response_is_not_read_completely(httpserver):
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_data(b"x" * 100_000)
    with (
        Client(httpserver.url_for("/"), max_bytes=50_000) as client,
        pytest.raises(kfp_ops.AnswerError, match="larger than 50000 bytes"),
    ):
        client.get_run("r")


def test_slow_response_times_out(httpserver):
    def respond_slowly(_request):
        def body():
            for _ in range(50):
                yield b" "
                time.sleep(0.05)  # the test needs a slow server

        return Response(body())

    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_handler(respond_slowly)
    with (
        Client(httpserver.url_for("/"), timeout=0.3) as client,
        pytest.raises(kfp_ops.UnreachableError, match=r"within 0\.3 s"),
    ):
        client.get_run("r")


def test_unrequested_encoding_is_a_response_error(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/runs/r").respond_with_data(
        b"not gzip", headers={"content-encoding": "gzip"}
    )
    with pytest.raises(kfp_ops.AnswerError, match="content-encoding 'gzip'"):
        client.get_run("r")


@pytest.fixture
def silent_port():
    """A port that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_server_without_a_response_is_unreachable(silent_port):
    with (
        Client(f"http://127.0.0.1:{silent_port}", timeout=0.2) as client,
        pytest.raises(kfp_ops.UnreachableError, match=r"no response within 0\.2 s"),
    ):
        client.get_run("r")


def test_closed_port_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        Client(f"http://127.0.0.1:{port}") as client,
        pytest.raises(kfp_ops.UnreachableError, match="cannot reach"),
    ):
        client.get_run("r")


def test_interrupted_connection_is_unreachable():
    # GIVEN a server that announces 100 bytes and closes after 10
    def serve(server):
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        # WHEN a call is made THEN the interruption is reported
        with (
            Client(f"http://127.0.0.1:{server.getsockname()[1]}") as client,
            pytest.raises(kfp_ops.UnreachableError),
        ):
            client.get_run("r")
        thread.join()


# Recurring runs ------------------------------------------------------------------------------


def test_recurring_run_is_sent_in_the_recorded_form(httpserver, client):
    # GIVEN a server that takes it
    path = "/apis/v2beta1/recurringruns"
    response = {"recurring_run_id": "r", "display_name": "schedule-1", "status": "DISABLED"}
    httpserver.expect_request(path, method="POST").respond_with_json(response)
    # WHEN a paused one is created
    version = PipelineVersion(pipeline_id="p", pipeline_version_id="v", display_name="f")
    created = client.create_recurring_run(
        name="schedule-1",
        experiment_id="e",
        version=version,
        cron="0 0 3 * * *",
        parameters={"epochs": 2},
        enabled=False,
    )
    # THEN the body is the recorded one: one run at a time, no catching up
    (request,) = requests(httpserver)
    assert request.get_json() == {
        "display_name": "schedule-1",
        "experiment_id": "e",
        "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "v"},
        "runtime_config": {"parameters": {"epochs": 2}},
        "trigger": {"cron_schedule": {"cron": "0 0 3 * * *"}},
        "max_concurrency": 1,
        "no_catchup": True,
        "mode": "DISABLE",
    }
    assert created == RecurringRun(recurring_run_id="r", display_name="schedule-1", enabled=False)


def test_recurring_runs_are_listed_from_their_camel_case_key(httpserver, client):
    row = {"recurring_run_id": "r", "display_name": "schedule-1", "status": "ENABLED"}
    httpserver.expect_request("/apis/v2beta1/recurringruns").respond_with_json(
        {"recurringRuns": [row], "total_size": 1}
    )
    (recurring_run,) = client.list_recurring_runs("e", name_contains="schedule-")
    assert recurring_run.enabled
    (request,) = requests(httpserver)
    assert json.loads(request.args["filter"])["predicates"] == [
        {"key": "display_name", "operation": "IS_SUBSTRING", "string_value": "schedule-"}
    ]


@pytest.mark.parametrize("method", ["enable", "disable"])
def test_recurring_run_is_enabled_and_disabled_by_id(httpserver, client, method):
    httpserver.expect_request(
        f"/apis/v2beta1/recurringruns/r:{method}", method="POST"
    ).respond_with_json({})
    getattr(client, f"{method}_recurring_run")("r")
    assert len(requests(httpserver)) == 1


def test_deleted_recurring_run_is_not_found(httpserver, client):
    httpserver.expect_request("/apis/v2beta1/recurringruns/r", method="DELETE").respond_with_json(
        {"code": 5, "message": "Job r not found"}, status=404
    )
    with pytest.raises(NotFoundError):
        client.delete_recurring_run("r")


# Names that a server's LIKE takes for others --------------------------------------------------------


def test_name_with_percent_and_plus_is_found(httpserver, client):
    # GIVEN a server that unescapes filters twice
    httpserver.expect_request("/apis/v2beta1/experiments").respond_with_json({})
    # WHEN a name with such characters is searched for
    assert client.find_experiment("50%+ done") is None
    # THEN the server reads the name unchanged
    ((request, _),) = httpserver.log
    (predicate,) = json.loads(unquote_plus(request.args["filter"]))["predicates"]
    assert predicate["string_value"] == "50%+ done"


def test_similar_names_are_skipped_and_the_next_page_is_read(httpserver, client):
    # GIVEN a server in whose filter `_` stands for any character
    pages = {
        "": {"runs": [{"run_id": "1", "display_name": "axb"}], "next_page_token": "more"},
        "more": {"runs": [{"run_id": "2", "display_name": "a_b"}], "next_page_token": "still"},
    }
    httpserver.expect_request("/apis/v2beta1/runs").respond_with_handler(
        lambda request: Response(
            json.dumps(pages[request.args.get("page_token", "")]), content_type="application/json"
        )
    )
    # WHEN a run is searched for by a part of its name
    (run,) = client.list_runs("e", name_contains="a_b")
    # THEN only the run with that part is returned
    assert run.run_id == "2"


def test_endless_pages_of_other_names_end_in_an_error(httpserver, client):
    page = {"runs": [{"run_id": "1", "display_name": "other"}], "next_page_token": "more"}
    httpserver.expect_request("/apis/v2beta1/runs").respond_with_json(page)
    with pytest.raises(AnswerError, match="more than 20 pages"):
        client.find_run("e", "mine")
    assert len(httpserver.log) == 20
