"""Whatever a server sends, the client returns valid objects or raises its own errors."""

import contextlib
import dataclasses
import gzip
import json
import socket
import threading
import time

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

import kfp_ops
from kfp_ops import Client
from tests.contract.calls import CALLS, ID
from tests.fuzz import fuzz

TOKEN = "a-token-that-nobody-else-may-see"
RUN = {
    "run_id": ID,
    "experiment_id": ID,
    "pipeline_id": ID,
    "pipeline_version_id": ID,
    "recurring_run_id": ID,
    "display_name": "n",
    "description": "d",
    "state": "RUNNING",
    "status": "ENABLED",
    "created_at": "2026-11-24T02:17:23Z",
    "finished_at": "1970-01-01T00:00:00Z",
    "runtime_config": {"parameters": {"epochs": 2, "rate": 0.5, "note": "x"}},
    "run_details": {"task_details": [{"display_name": "train", "state": "RUNNING"}]},
}
ANSWER = {
    **RUN,
    **{name: [RUN] for name in ("pipeline_versions", "experiments", "runs", "recurringRuns")},
}
ERROR = {"code": 5, "message": "not found", "details": [{"code": 5, "message": "not found"}]}
UPLOAD_ERROR = {"error_message": "Failed", "error_details": "Failed\ngo.stack\n\tx.go:1"}


class RawServer:
    """Respond to each request with the pieces in `answer`, with pauses, and close the connection."""

    def __init__(self):
        self.answer: list[bytes] = []
        self.pause = 0.0
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                self.requests.append(self._read(connection))
                for piece in self.answer:
                    connection.sendall(piece)
                    if self.pause:
                        time.sleep(self.pause)  # the test needs a slow server
                connection.shutdown(socket.SHUT_WR)

    def _read(self, connection):
        request = b""
        while b"\r\n\r\n" not in request:
            chunk = connection.recv(65536)
            if not chunk:
                return request
            request += chunk
        head, _, rest = request.partition(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-le")]
        length_header = int(length[0].split(b":")[1]) if length else 0
        while len(rest) < length_header:
            chunk = connection.recv(65536)
            if not chunk:
                break
            rest += chunk
        return head + b"\r\n\r\n" + rest

    def close(self):
        # To shut down wakes the thread that accepts; to close alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)


@pytest.fixture(scope="module")
def server():
    server = RawServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def other_server():
    """The server that a redirect points to."""
    server = RawServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def client(server):
    with Client(server.url, token=lambda: TOKEN, timeout=5, max_bytes=20_000) as client:
        yield client


@pytest.fixture(autouse=True)
def _reset_server(server):
    server.pause = 0.0
    server.requests.clear()


# Answers ------------------------------------------------------------------------------------

texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["\ud800", "\x00", "../..", "a\nb", "x" * 70_000, "2026-11-24", "\u202e"]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
times = st.sampled_from(
    ["2026-11-24", "2026-11-24T02:17:23", "9999-12-31T23:59:59-12:00", "0001-02-01T00:00:00+14:00"]
)


@st.composite
def altered_bodies(draw):
    """A response body with one value replaced."""
    body = json.loads(json.dumps(draw(st.sampled_from([ANSWER, ANSWER, ERROR, UPLOAD_ERROR]))))
    place = body
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else [0]))
        inner = place[key]
        if not isinstance(inner, (dict, list)) or not inner or draw(st.booleans()):
            break
        place = inner
    place[key] = draw(st.one_of(values, times))
    return json.dumps(body).encode()


@st.composite
def bodies(draw):
    good = json.dumps(draw(st.sampled_from([ANSWER, {}, ERROR, UPLOAD_ERROR]))).encode()
    kind = draw(st.sampled_from(["good", "wrong", "wrong", "any", "cut", "bytes", "huge", "text"]))
    event(f"body: {kind}")
    if kind == "wrong":
        return draw(altered_bodies())
    if kind == "any":
        return json.dumps(draw(values)).encode()
    if kind == "cut":
        return good[: draw(st.integers(0, len(good)))]
    if kind == "bytes":
        at = draw(st.integers(0, len(good)))
        return good[:at] + draw(st.binary(min_size=1, max_size=6)) + good[at:]
    if kind == "huge":
        return draw(st.sampled_from([b" ", b"[", b'{"a":', b"9"])) * draw(
            st.sampled_from([5_000, 19_999, 30_000])
        )
    return draw(st.text(max_size=30)).encode() if kind == "text" else good


@st.composite
def answers(draw):
    """The bytes of a response, and whether it is complete HTTP."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=60))
    body = draw(bodies())
    status = draw(
        st.sampled_from([200] * 8 + [101, 103, 204, 301, 302, 307, 308, 400, 401, 403, 404])
        | st.sampled_from([409, 418, 429, 500, 502, 503, 599, 999])
    )
    headers = [b"connection: close"]
    framing = draw(st.sampled_from(["length"] * 5 + ["none", "longer", "shorter", "chunks", "bad"]))
    if framing == "chunks":
        headers.append(b"transfer-encoding: chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    elif framing == "bad":
        headers.append(draw(st.sampled_from([b"content-length: -1", b"content-length: many"])))
    elif framing != "none":
        length = len(body) + {"longer": 7, "shorter": -3}.get(framing, 0)
        headers.append(b"content-length: %d" % max(0, length))
    extra_fields = [
        b"content-encoding: gzip",
        b"content-encoding: deflate",
        b"content-type: text/html; charset=\xff",
        b"set-cookie: \xff\xfe=1",
        b"location: ELSEWHERE/apis/v2beta1/runs",
        b"location: //\xff",
        b"location: http://[",
        b"no header at all",
        b"x: " + b"y" * 5000,
    ]
    headers += draw(st.lists(st.sampled_from(extra_fields), max_size=2))
    return b"HTTP/1.1 %d Any\r\n%s\r\n\r\n%s" % (status, b"\r\n".join(headers), body)


def ok(body, *headers, status=200):
    lines = [b"content-length: %d" % len(body), b"connection: close", *headers]
    return b"HTTP/1.1 %d OK\r\n%s\r\n\r\n%s" % (status, b"\r\n".join(lines), body)


def readable(value):
    """Check that every text in a returned object is printable and can be sent."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.name != "parameters":
                readable(getattr(value, field.name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            readable(item)
    elif isinstance(value, str):
        value.encode()
    elif hasattr(value, "isoformat"):
        assert value.utcoffset() is not None
        value.isoformat()


@pytest.mark.exhaustive
@fuzz(400)
@given(name=st.sampled_from(sorted(CALLS)), response=answers())
@example(name="get_run", response=ok(json.dumps({**RUN, "display_name": "\ud800"}).encode()))
@example(
    name="get_run", response=ok(json.dumps({**RUN, "created_at": "2026-11-24T01:01:01"}).encode())
)
@example(name="find_run", response=ok(json.dumps(ERROR).encode()))
@example(name="find_run", response=ok(b'{"code": 13, "message": "\\ud800"}', status=500))
def test_only_documented_errors_are_raised(server, other_server, client, name, response):
    server.answer = [response.replace(b"ELSEWHERE", other_server.url.encode())]
    before = time.monotonic()
    try:
        readable(CALLS[name](client))
        event("it returned")
    except kfp_ops.KfpError as error:
        event(f"{type(error).__name__}")
        message = str(error)
        message.encode()
        assert len(message) < 1000
        assert "\n" not in message
        assert TOKEN not in message
    assert time.monotonic() - before < 5
    assert other_server.requests == []


@fuzz(300)
@given(identity=texts | st.text(max_size=30))
@example(identity="\ud800")
@example(identity="../pipelines/x?cascade=true#")
@example(identity="")
@example(identity="..")
def test_id_from_the_server_is_one_path_segment(server, client, identity):
    server.requests.clear()
    server.answer = [ok(b"{}")]
    with contextlib.suppress(kfp_ops.KfpError):
        client.delete_recurring_run(identity)
    for request in server.requests:
        path = request.split(b" ")[1]
        assert path.startswith(b"/apis/v2beta1/recurringruns/"), path
        assert path.count(b"/") == 4
        assert path.rsplit(b"/", 1)[1] not in (b"", b".", b"..")
        assert not {b"?", b"#"} & {path[i : i + 1] for i in range(len(path))}


@pytest.mark.exhaustive
@fuzz(1000)
@given(data=altered_bodies())
def test_objects_are_parsed_or_rejected(data):
    body = json.loads(data)
    for kind in (
        kfp_ops.Pipeline,
        kfp_ops.PipelineVersion,
        kfp_ops.Experiment,
        kfp_ops.Run,
        kfp_ops.RecurringRun,
    ):
        with contextlib.suppress(kfp_ops.AnswerError):
            readable(kind.from_json(body))


# What chance does not find --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["find_run", "find_experiment", "find_version", "list_runs", "list_recurring_runs"]
)
@pytest.mark.parametrize("body", [ERROR, UPLOAD_ERROR, {"error": "login"}, {"runs_": []}])
def test_error_with_status_200_is_not_an_empty_list(server, client, name, body):
    server.answer = [ok(json.dumps(body).encode())]
    with pytest.raises(kfp_ops.AnswerError):
        CALLS[name](client)


@pytest.mark.parametrize("body", [{}, {"total_size": 0}, {"next_page_token": ""}])
def test_empty_list_is_empty(server, client, body):
    server.answer = [ok(json.dumps(body).encode())]
    assert client.list_runs(ID) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed_with_a_token(server, other_server, client, status):
    location = b"location: " + other_server.url.encode()
    server.answer = [ok(b"", location, status=status)]
    with pytest.raises(kfp_ops.AnswerError, match=f"unexpected status {status}"):
        client.get_run(ID)
    assert other_server.requests == []


def test_compression_bomb_is_not_decompressed(server, client):
    # GIVEN 100 MB compressed twice into some hundred bytes
    bomb = gzip.compress(gzip.compress(bytes(100_000_000), 1), 9)
    server.answer = [ok(bomb, b"content-encoding: gzip, gzip")]
    # WHEN it is received, THEN it is rejected without decompression
    with pytest.raises(kfp_ops.AnswerError, match="content-encoding"):
        client.get_run(ID)
    (request,) = server.requests
    assert b"accept-encoding: identity" in request.lower()


def test_endless_response_is_bounded(server, client):
    server.answer = [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"] + [b" " * 65536] * 2000
    with pytest.raises(kfp_ops.AnswerError, match="larger than 20000 bytes"):
        client.get_run(ID)


DRIPS = {
    "status": [b"HTTP/1.1 200 O" + b"K" * 50],
    "headers": [b"HTTP/1.1 200 OK\r\n", b"x-drip: " + b"y" * 50],
    "chunk size": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0" * 50],
    "body": [b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", b" " * 50],
    "informational": [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50],
}


@pytest.mark.parametrize("drips", DRIPS.values(), ids=list(DRIPS))
def test_timeout_applies_to_every_part_of_a_response(drips):
    # GIVEN a server that keeps sending small pieces
    server = RawServer()
    *first, last = drips
    size = 27 if last.startswith(b"HTTP/1.1 103") else 1
    server.answer = [*first, *(last[at : at + size] for at in range(0, len(last), size))]
    server.pause = 0.06
    before = time.monotonic()
    # WHEN a call is made, THEN it ends at its timeout
    with Client(server.url, timeout=0.4) as client, pytest.raises(kfp_ops.UnreachableError):
        client.get_run(ID)
    assert time.monotonic() - before < 1
    server.close()
