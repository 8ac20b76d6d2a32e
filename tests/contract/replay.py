"""Send a transcript of the real server to another one, and report where the responses differ.

An exchange of a form that this module does not know is a difference too, and the others go on.

A transcript is a list of exchanges (see the README beside them). Ids and page tokens that the other
server gives differ from the recorded ones: they are learnt from its answers, and put into what is
sent after. Times, ids, tokens and what follows from the cluster are compared by their form only.
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
# Argo adds five characters of its own to the name of a workflow.
_WORKFLOW = re.compile(r"(?<=\bName:)([a-z0-9-]+)-[a-z0-9]{5}(?=,)")
# A recurring run's run is called RESOURCE-NUMBER-HASH, and RESOURCE ends in five such characters too.
_FIRED = re.compile(r"^([a-z0-9-]+)[a-z0-9]{5}-(\d+)-\d{5,10}$")
_TOKENS = ("next_page_token", "page_token")


@dataclasses.dataclass(frozen=True)
class Difference:
    """One difference between two responses.

    Attributes:
        exchange: its number in the transcript, from 0.
        what: method and path of the request, ids left out.
        where: the path in the answer, like `runs[0].state`; `status` for the status code.
        recorded, given: what is there.
    """

    exchange: int
    what: str
    where: str
    recorded: object
    given: object

    def __str__(self) -> str:
        """One line."""
        return (
            f"#{self.exchange} {self.what} {self.where}: "
            f"recorded {short(self.recorded)}, given {short(self.given)}"
        )


def short(value: object) -> str:
    """Return a value as JSON of at most 160 characters."""
    return json.dumps(value, default=str)[:160]


class Replay:
    """One transcript against one server.

    Args:
        path: the transcript.
        url: the server.
        tick: called before each request; moves the server's clock on by a second or more.
        run_state: called with a run's id and the recorded run, before the run is looked at, so that
            a server that executes nothing has it in that state.
        tokens: bearer tokens for the identities that the transcript names.
        fire: called with a recurring run's id and a recorded run of it that the server has not
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
        """Send all, in order; where the answers differ."""
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
            raise LookupError(f"nobody has said what token {identity!r} has")
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
        for recorded, given in self._known.items():
            text = text.replace(recorded, given)
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

    def _compare(self, number: int, exchange: dict, answer: httpx.Response) -> Iterator[Difference]:
        recorded = exchange["response"]
        what = _endpoint(exchange)
        if answer.status_code != recorded["status"]:
            given = f"{answer.status_code} {answer.text}"
            wanted = f"{recorded['status']} {recorded.get('json', recorded.get('text'))}"
            yield Difference(number, what, "status", wanted, given)
            return
        kind = recorded["headers"].get("content-type", "").split(";")[0]
        given_kind = answer.headers.get("content-type", "").split(";")[0]
        if kind != given_kind:
            yield Difference(number, what, "content-type", kind, given_kind)
        if "json" not in recorded:
            if recorded.get("text", "") != answer.text:
                yield Difference(number, what, "text", recorded.get("text"), answer.text)
            return
        try:
            body = answer.json()
        except ValueError:
            yield Difference(number, what, "json", recorded["json"], answer.text)
            return
        for where, old, new in self._walk("", recorded["json"], body):
            yield Difference(number, what, where or ".", old, new)

    def _walk(self, where: str, recorded: object, given: object) -> Iterator[tuple]:
        if isinstance(recorded, dict) and isinstance(given, dict):
            for key in sorted({*recorded, *given}):
                inner = f"{where}.{key}" if where else key
                if key not in given:
                    yield inner, recorded[key], None
                elif key not in recorded:
                    yield inner, None, given[key]
                elif key in _TOKENS:
                    self._known[recorded[key]] = given[key]
                else:
                    yield from self._walk(inner, recorded[key], given[key])
        elif isinstance(recorded, list) and isinstance(given, list) and len(recorded) == len(given):
            given = self._aligned(recorded, given)
            for index, (old, new) in enumerate(zip(recorded, given, strict=True)):
                yield from self._walk(f"{where}[{index}]", old, new)
        elif isinstance(recorded, str) and isinstance(given, str):
            if not self._same(recorded, given):
                yield where, recorded, given
        elif recorded != given or type(recorded) is not type(given):
            yield where, recorded, given

    def _same(self, recorded: str, given: str) -> bool:
        if _UUID.fullmatch(recorded) and _UUID.fullmatch(given):
            return self._known.setdefault(recorded, given) == given
        if _TIME.fullmatch(recorded) and _TIME.fullmatch(given):
            return recorded.startswith(("1970", "0001")) == given.startswith(("1970", "0001"))
        # Where the server puts Go's stack trace, the first line counts; page tokens are opaque.
        recorded = self._translate(recorded).split("\ngithub.com/")[0]
        return _stable(recorded) == _stable(given)

    def _aligned(self, recorded: list, given: list) -> list:
        """What is given in the recorded order, where the record's order is that of random ids.

        That is so for things which were made in the same second.
        """
        times = {row.get("created_at") for row in recorded if isinstance(row, dict)}
        ids = [self._known.get(_identity(row), "") for row in recorded]
        by_id = {_identity(row): row for row in given}
        if len(times) == 1 and all(ids) and set(ids) == set(by_id):
            return [by_id[each] for each in ids]
        return given


def _stable(text: str) -> str:
    """Replace page tokens and generated names in a text."""
    return _FIRED.sub(r"\1-\2", _WORKFLOW.sub(r"\1-GENERATED", _PAGE_TOKEN.sub("", text)))


def _endpoint(exchange: dict) -> str:
    """Return the method and path of an exchange's request, ids left out, as far as it has them."""
    request = exchange.get("request", {})
    return f"{request.get('method', '?')} {_UUID.sub('ID', request.get('path', '?'))}"


def _identity(row: object) -> str:
    names = ("run_id", "recurring_run_id", "pipeline_version_id", "pipeline_id", "experiment_id")
    found = [row[name] for name in names if name in row] if isinstance(row, dict) else []
    return found[0] if found else ""
