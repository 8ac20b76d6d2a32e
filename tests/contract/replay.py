"""Send a transcript of the real server to another one, and report where the responses differ.

An exchange of an unknown form is a difference too, and the others are still replayed.

A transcript is a list of exchanges (see the README beside them). The other server's ids and page
tokens differ from the recorded ones: they are taken from its responses and used in later requests.
Times, ids, tokens and values that depend on the cluster are compared by their form only.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_PAGE_TOKEN = re.compile(r"pageToken: \S+,")
# Argo appends five characters to the name of a workflow.
_WORKFLOW = re.compile(r"(?<=\bName:)([a-z0-9-]+)-[a-z0-9]{5}(?=,)")
# A recurring run's runs are named RESOURCE-NUMBER-HASH; RESOURCE ends in five such characters, too.
_FIRED = re.compile(r"^([a-z0-9-]+)[a-z0-9]{5}-(\d+)-\d{5,10}$")
_TOKENS = ("next_page_token", "page_token")


@dataclasses.dataclass(frozen=True)
class Difference:
    """One difference between two responses.

    Attributes:
        exchange: Number in the transcript, from 0.
        what: Method and path of the request, without ids.
        where: Path in the response, like `runs[0].state`; `status` for the status code.
        recorded, actual: Values in both responses.
    """

    exchange: int
    what: str
    where: str
    recorded: object
    actual: object

    def __str__(self) -> str:
        """Return the difference as one line."""
        return (
            f"#{self.exchange} {self.what} {self.where}: "
            f"recorded {short(self.recorded)}, actual {short(self.actual)}"
        )


def short(value: object) -> str:
    """Return a value as JSON of at most 160 characters."""
    return json.dumps(value, default=str)[:160]


class Replay:
    """One transcript against one server.

    Args:
        path: The transcript.
        url: The server.
        tick: Called before each request; advances the server's clock by a second or more.
        run_state: Called with a run's id and the recorded run before the run is read, so that a
            server that executes nothing can set its state.
        tokens: Bearer tokens of the identities that the transcript names.
        fire: Called with a recurring run's id and a recorded run of it that the server has not
            submitted yet, so that a server whose time does not pass submits it, in that state.
    """

    def __init__(
        self,
        path: Path,
        url: str,
        tick: Callable[[], None],
        run_state: Callable[[str, dict], None],
        tokens: Mapping[str, str] | None = None,
        fire: Callable[[str, dict], None] = lambda _, __: None,
    ):
        self._bearers = {name: f"Bearer {token}" for name, token in (tokens or {}).items()}
        self._tick = tick
        self.exchanges = json.loads(path.read_text())["exchanges"]
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=30)
        self._run_state = run_state
        self._fire = fire
        self._known: dict[str, str] = {}

    def differences(self) -> Iterator[Difference]:
        """Send all requests in order, and yield the differences."""
        with self._http:
            for number, exchange in enumerate(self.exchanges):
                self._tick()
                try:
                    yield from self._exchange(number, exchange)
                except (LookupError, TypeError, ValueError, httpx.HTTPError) as error:
                    what = f"cannot be replayed: {type(error).__name__}: {error}"
                    yield Difference(number, _endpoint(exchange), "exchange", exchange, what)

    def _exchange(self, number: int, exchange: dict) -> Iterator[Difference]:
        self._prepare(exchange)
        identity = exchange.get("identity")
        if identity and identity not in self._bearers:
            raise LookupError(f"no token is given for {identity!r}")
        response = self._send(exchange["request"], identity)
        yield from self._compare(number, exchange, response)

    def _prepare(self, exchange: dict) -> None:
        body = exchange["response"].get("json")
        rows = [body, *body.get("runs", [])] if isinstance(body, dict) else []
        for row in rows:
            if not isinstance(row, dict) or "state" not in row:
                continue
            run_id = self._known.get(row.get("run_id", ""))
            schedule = self._known.get(row.get("recurring_run_id", ""))
            if run_id and "run_details" in row:
                self._run_state(run_id, row)
            elif schedule and not run_id:
                self._fire(schedule, row)

    def _translate(self, text: str) -> str:
        for recorded, actual in self._known.items():
            text = text.replace(recorded, actual)
        return text

    def _send(self, request: dict, identity: str | None) -> httpx.Response:
        arguments: dict = {"headers": dict(request["headers"])}
        if identity:
            arguments["headers"]["authorization"] = self._bearers[identity]
        if "json" in request:
            arguments["content"] = self._translate(json.dumps(request["json"]))
            arguments["headers"].setdefault("content-type", "application/json")
        elif "text" in request:
            arguments["content"] = self._translate(request["text"])
        elif "multipart" in request:
            part = request["multipart"]
            arguments["headers"].pop("content-type", None)
            name = part["filename"]
            arguments["files"] = {part["field"]: (name, part["content"].encode())}
        return self._http.request(
            request["method"],
            self._translate(request["path"]),
            params={k: self._translate(str(v)) for k, v in request["query"].items()},
            **arguments,
        )

    def _compare(
        self, number: int, exchange: dict, response: httpx.Response
    ) -> Iterator[Difference]:
        recorded = exchange["response"]
        what = _endpoint(exchange)
        if response.status_code != recorded["status"]:
            actual = f"{response.status_code} {response.text}"
            expected = f"{recorded['status']} {recorded.get('json', recorded.get('text'))}"
            yield Difference(number, what, "status", expected, actual)
            return
        kind = recorded["headers"].get("content-type", "").split(";")[0]
        actual_kind = response.headers.get("content-type", "").split(";")[0]
        if kind != actual_kind:
            yield Difference(number, what, "content-type", kind, actual_kind)
        if "json" not in recorded:
            if recorded.get("text", "") != response.text:
                yield Difference(number, what, "text", recorded.get("text"), response.text)
            return
        try:
            body = response.json()
        except ValueError:
            yield Difference(number, what, "json", recorded["json"], response.text)
            return
        for where, old, new in self._walk("", recorded["json"], body):
            yield Difference(number, what, where or ".", old, new)

    def _walk(self, where: str, recorded: object, actual: object) -> Iterator[tuple]:
        if isinstance(recorded, dict) and isinstance(actual, dict):
            for key in sorted({*recorded, *actual}):
                inner = f"{where}.{key}" if where else key
                if key not in actual:
                    yield inner, recorded[key], None
                elif key not in recorded:
                    yield inner, None, actual[key]
                elif key in _TOKENS:
                    self._known[recorded[key]] = actual[key]
                else:
                    yield from self._walk(inner, recorded[key], actual[key])
        elif (
            isinstance(recorded, list) and isinstance(actual, list) and len(recorded) == len(actual)
        ):
            actual = self._aligned(recorded, actual)
            for index, (old, new) in enumerate(zip(recorded, actual, strict=True)):
                yield from self._walk(f"{where}[{index}]", old, new)
        elif isinstance(recorded, str) and isinstance(actual, str):
            if not self._same(recorded, actual):
                yield where, recorded, actual
        elif recorded != actual or type(recorded) is not type(actual):
            yield where, recorded, actual

    def _same(self, recorded: str, actual: str) -> bool:
        if _UUID.fullmatch(recorded) and _UUID.fullmatch(actual):
            return self._known.setdefault(recorded, actual) == actual
        if _TIME.fullmatch(recorded) and _TIME.fullmatch(actual):
            return recorded.startswith(("1970", "0001")) == actual.startswith(("1970", "0001"))
        # Go stack traces are cut after their first line; page tokens are opaque.
        recorded = self._translate(recorded).split("\ngithub.com/")[0]
        return _stable(recorded) == _stable(actual)

    def _aligned(self, recorded: list, actual: list) -> list:
        """Return the rows in the recorded order if the record is ordered by random ids.

        The server orders objects that were created in the same second by id.
        """
        times = {row.get("created_at") for row in recorded if isinstance(row, dict)}
        ids = [self._known.get(_identity(row), "") for row in recorded]
        by_id = {_identity(row): row for row in actual}
        if len(times) == 1 and all(ids) and set(ids) == set(by_id):
            return [by_id[id_] for id_ in ids]
        return actual


def _stable(text: str) -> str:
    """Replace page tokens and generated names in a text."""
    return _FIRED.sub(r"\1-\2", _WORKFLOW.sub(r"\1-GENERATED", _PAGE_TOKEN.sub("", text)))


def _endpoint(exchange: dict) -> str:
    """Return the method and path of an exchange's request, without ids, "?" for what is missing."""
    request = exchange.get("request", {})
    return f"{request.get('method', '?')} {_UUID.sub('ID', request.get('path', '?'))}"


def _identity(row: object) -> str:
    names = ("run_id", "recurring_run_id", "pipeline_version_id", "pipeline_id", "experiment_id")
    ids = [row[name] for name in names if name in row] if isinstance(row, dict) else []
    return ids[0] if ids else ""
