"""The client sends only what the real server accepted on record or documents."""

import inspect
import json
import re

import pytest
from werkzeug import Response

from kfp_ops import Client
from tests.contract.calls import CALLS, ID
from tests.contract.transcripts import TRANSCRIPTS, template

# One row with the ids of all of the API's objects.
ROW = {
    "pipeline_id": ID,
    "pipeline_version_id": ID,
    "experiment_id": ID,
    "run_id": ID,
    "recurring_run_id": ID,
}
# Not in the record, but in the API's reference and the sources of servers 2.5.0 and
# 2.15.0: request -> keys of queries, of bodies, filters.
DOCUMENTED = {
    "GET /apis/v2beta1/pipelines/names/NAME": ({"namespace"}, set(), set()),
    "POST /apis/v2beta1/pipelines": (set(), {"namespace"}, set()),
    "GET /apis/v2beta1/pipelines/ID/versions": ({"filter"}, set(), {("EQUALS", "name")}),
    # One filter for all lists: IN is on record with the names of pipelines.
    "GET /apis/v2beta1/runs": (set(), set(), {("IN", "state")}),
    "POST /apis/v2beta1/runs": (set(), {"description"}, set()),
    "POST /apis/v2beta1/recurringruns": (set(), {"description"}, set()),
}


def keys(value, where=""):
    """Return the path of every key in an object, without those below `parameters`."""
    if not isinstance(value, dict):
        return set()
    paths = set()
    for key, inner in value.items():
        paths.add(f"{where}{key}")
        if key != "parameters":
            paths |= keys(inner, f"{where}{key}.")
    return paths


def operations(query):
    """Return a filter's pairs of operation and key."""
    predicates = json.loads(query.get("filter", "{}")).get("predicates", [])
    return {(predicate["operation"], predicate["key"]) for predicate in predicates}


@pytest.fixture(scope="module")
def accepted():
    """Keys of queries and bodies, and filters, of recorded requests with status 200, by endpoint."""
    if not TRANSCRIPTS:
        pytest.skip("no transcripts; KFP_TRANSCRIPTS says where they are")
    recorded = {}
    for path in TRANSCRIPTS:
        for exchange in json.loads(path.read_text())["exchanges"]:
            request = exchange["request"]
            if exchange["response"]["status"] != 200:
                continue
            queries, bodies, filters = recorded.setdefault(template(request), (set(), set(), set()))
            queries |= set(request["query"])
            bodies |= keys(request.get("json"))
            try:
                filters |= operations(request["query"])
            except (ValueError, KeyError, TypeError):
                continue  # a filter of the old form, which the client never sends
    return recorded


def test_every_call_of_the_client_is_tried():
    public = {
        name
        for name, _ in inspect.getmembers(Client, inspect.isfunction)
        if not name.startswith("_") and name != "close"
    }
    assert set(CALLS) == public


@pytest.mark.parametrize("namespace", ["", "team-a"])
@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_every_call_sends_only_recorded_or_documented_fields(httpserver, accepted, call, namespace):
    # GIVEN a server that responds to every request with a valid object
    lists = {"pipeline_versions", "experiments", "runs", "recurringRuns"}
    response = json.dumps({**ROW, **{name: [ROW] for name in lists}})
    httpserver.expect_request(re.compile(".*")).respond_with_handler(
        lambda _: Response(response, content_type="application/json")
    )
    # WHEN the client calls
    with Client(httpserver.url_for("").rstrip("/"), namespace=namespace) as client:
        call(client)
    # THEN method, path, fields and filters are recorded ones
    ((request, _),) = httpserver.log
    endpoint = template({"method": request.method, "path": request.path})
    recorded, documented = accepted[endpoint], DOCUMENTED.get(endpoint, (set(), set(), set()))
    queries, bodies, filters = (a | b for a, b in zip(recorded, documented, strict=True))
    assert set(request.args) <= queries
    assert operations(request.args) <= filters
    if request.is_json:
        assert keys(request.get_json()) <= bodies
