"""Replay every recorded exchange: the sandbox responds as the real server did."""

import datetime
import functools
import json
import re
from pathlib import Path

import pytest
import yaml

from sandbox import Sandbox, User
from tests.contract.replay import Difference, Replay
from tests.contract.transcripts import TRANSCRIPTS, template

# The users of the recorded multi-user server; `nonsense` is an invalid token.
TEAM = {
    "editor": User("system:serviceaccount:team-a:editor", "editor", {"team-a": "edit"}),
    "viewer": User("system:serviceaccount:team-a:viewer", "viewer", {"team-a": "view"}),
    "stranger": User("system:serviceaccount:default:stranger", "stranger"),
    "wrong-audience": User(
        "system:serviceaccount:team-a:editor", "other", {"team-a": "edit"}, "somewhere-else"
    ),
}
TOKENS = {"nonsense": "nonsense", **{name: user.token for name, user in TEAM.items()}}
ACCEPTED = yaml.safe_load((Path(__file__).parent / "differences.yaml").read_text())

pytestmark = pytest.mark.skipif(
    not TRANSCRIPTS, reason="no transcripts; KFP_TRANSCRIPTS says where they are"
)


def covers(entry: dict, transcript: str, difference: Difference) -> bool:
    """Return whether an entry of differences.yaml covers a difference."""
    return (
        (entry["in"] == "*" or bool(re.fullmatch(entry["in"], transcript)))
        and bool(re.fullmatch(entry["request"], difference.what))
        and bool(re.fullmatch(entry["where"], difference.where))
    )


@functools.cache
def differences(path: Path, folder: Path) -> tuple[Difference, ...]:
    """Return the differences of the sandbox's responses from a transcript."""
    now = [datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)]

    def tick():
        now[0] += datetime.timedelta(seconds=1)

    def be_in_state(run_id, recorded):
        tasks = recorded.get("run_details", {}).get("task_details", [])
        states = {task["display_name"]: task["state"] for task in tasks if task.get("state")}
        # A terminated run is CANCELING before its workflow reports it.
        if recorded["state"] == recorded["state_history"][-1]["state"]:
            sandbox.set_run_state(run_id, recorded["state"], states)

    def fire(recurring_run_id, recorded):
        due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)
        sandbox.pass_time(due)
        (run,) = sandbox.store.select("runs", "recurring_run_id = ?", [recurring_run_id])
        be_in_state(run["id"], recorded)

    users = tuple(TEAM.values()) if path.stem.startswith("multi-user") else None
    with Sandbox(folder / path.stem, execute=False, clock=lambda: now[0], users=users) as sandbox:
        replay = Replay(path, sandbox.api_url, tick, be_in_state, TOKENS, fire)
        return tuple(replay.differences())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("replay")


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_every_recorded_exchange_has_the_same_response(path, folder):
    unexplained = [
        str(difference)
        for difference in differences(path, folder)
        if not any(covers(entry, path.stem, difference) for entry in ACCEPTED)
    ]
    assert not unexplained, "\n".join(unexplained)


def test_every_accepted_difference_still_exists(folder):
    found_differences = [
        (path.stem, difference) for path in TRANSCRIPTS for difference in differences(path, folder)
    ]
    stale = [
        entry
        for entry in ACCEPTED
        if not any(covers(entry, name, difference) for name, difference in found_differences)
    ]
    assert not stale


def test_every_recorded_endpoint_returns_its_status(folder):
    # GIVEN every endpoint of the record, by method and pattern of its path
    recorded, answered = set(), set()
    for path in TRANSCRIPTS:
        mismatched = {
            difference.exchange
            for difference in differences(path, folder)
            if difference.where == "status"
        }
        for number, exchange in enumerate(json.loads(path.read_text())["exchanges"]):
            endpoint = template(exchange["request"])
            recorded.add(endpoint)
            if number not in mismatched:
                answered.add(endpoint)
    # THEN the sandbox has all of them
    assert len(recorded) >= 40
    assert recorded - answered == set()


def test_unknown_exchange_is_a_difference_and_the_others_are_replayed(tmp_path):
    # GIVEN a transcript with unknown forms of exchanges and one known form
    health = {"method": "GET", "path": "/apis/v2beta1/healthz", "query": {}, "headers": {}}
    response = {"status": 404, "headers": {"content-type": "application/json"}, "json": {}}
    known = {"request": health, "response": response}
    exchanges = [
        {},
        {"request": {"method": "GRPC"}, "response": {}},
        {**known, "identity": "somebody"},
        known,
    ]
    path = tmp_path / "unknown.json"
    path.write_text(json.dumps({"exchanges": exchanges}))
    # WHEN it is replayed
    found_differences = differences(path, tmp_path)
    # THEN each is reported by its number, with the reason
    assert [(difference.exchange, difference.where) for difference in found_differences] == [
        (0, "exchange"),
        (1, "exchange"),
        (2, "exchange"),
        (3, "status"),
    ]
    assert "cannot be replayed: KeyError: 'response'" in str(found_differences[0])
    assert "no token is given for 'somebody'" in str(found_differences[2])


def test_replay_reports_differences(tmp_path):
    # GIVEN a transcript with a wrong status, a wrong field, a missing one and one too many
    path = tmp_path / "wrong.json"
    path.write_text(
        """{"exchanges": [
        {"request": {"method": "GET", "path": "/apis/v2beta1/healthz", "query": {}, "headers": {}},
         "response": {"status": 404, "headers": {"content-type": "application/json"}, "json": {}}},
        {"request": {"method": "POST", "path": "/apis/v2beta1/experiments", "query": {},
                     "headers": {}, "json": {"display_name": "mine"}},
         "response": {"status": 200, "headers": {"content-type": "text/plain"}, "json": {
            "experiment_id": "72dad848-85e6-42a1-8e29-a06e6697cde1", "display_name": "theirs",
            "created_at": "2026-11-24T00:38:14Z", "colour": "red"}}}
        ]}"""
    )
    # WHEN it is replayed
    places = {difference.where for difference in differences(path, tmp_path)}
    # THEN each is reported, and ids and times are not
    assert {"status", "content-type", "display_name", "colour", "storage_state"} <= places
    assert not {"experiment_id", "created_at"} & places
