"""What the client relies on, tested on a live server in a separate experiment.

`KFP_API_URL=http://... make contract` asks any server, with KFP_TOKEN and KFP_NAMESPACE where it is
multi-user. Without the address it is two sandboxes, each in a process of its own. Everything that is
made has `contract-` and a random word in its name, and is deleted at the end.
"""

import contextlib
import dataclasses
import datetime
import email.utils
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import pytest
from kfp import compiler, dsl

import kfp_ops
from kfp_ops import Client, DesiredState, PipelineSpec, RunSpec, RunState

ROOT = Path(__file__).parents[2]
API = "/apis/v2beta1"
NOWHERE = "00000000-0000-0000-0000-000000000000"
ACTIVE = {"PENDING", "RUNNING"}
LIVE = os.environ.get("KFP_API_URL", "")
TEAM = [{"name": "trainer", "token": "live-token", "roles": {"team-a": "edit"}}]


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def wait(seconds: int, note: str):
    import time

    time.sleep(seconds)


@dsl.pipeline(name="contract")
def contract(note: str, seconds: int = 600):
    wait(seconds=seconds, note=note).set_caching_options(False)


@dataclasses.dataclass
class Server:
    """A live server and the objects that this suite created on it."""

    url: str
    token: str
    namespace: str
    word: str = dataclasses.field(default_factory=lambda: f"contract-{uuid.uuid4().hex[:8]}")
    made: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        self.http = httpx.Client(
            base_url=self.url + API, headers=headers, trust_env=False, timeout=30
        )

    @property
    def scope(self):
        return {"namespace": self.namespace} if self.namespace else {}

    def client(self):
        token = (lambda: self.token) if self.token else None
        return Client(self.url, namespace=self.namespace, token=token)

    def get(self, path, **query):
        return self.http.get(path, params=query)

    def now(self):
        """Return the server's time, in whole seconds."""
        return email.utils.parsedate_to_datetime(self.get("/healthz").headers["date"])

    def post(self, path, body):
        response = self.http.post(path, json=body)
        if response.status_code == 200 and ":" not in path:
            kind = path.strip("/")
            self.made.append(f"{path}/{response.json()[kind_id(kind)]}")
        return response

    def listed(self, path, field, *, filters=(), **query):
        """Return the objects of one page; filters are (key, operation, value)."""
        predicates = [
            {"key": key, "operation": operation, "string_value": value}
            for key, operation, value in filters
        ]
        filter_query = {"filter": json.dumps({"predicates": predicates})} if predicates else {}
        response = self.get(path, **filter_query, **query)
        assert response.status_code == 200, response.text
        return response.json().get(field, [])

    def clean(self):
        """Delete the created objects, runs first: without their experiment they are inaccessible."""
        order = ("/runs", "/recurringruns", "/pipelines", "/experiments")
        remaining = sorted(self.made, key=lambda path: order.index(path.rsplit("/", 1)[0]))
        # Delete the newest first: a pending run would start when the one before it ends.
        runs = [path for path in remaining if path.startswith("/runs")][::-1]
        for path in runs:
            self.http.post(f"{path}:terminate")
        for path in runs + [path for path in remaining if path not in runs]:
            if path.startswith("/pipelines/"):  # servers before 2.15 know no cascade=true
                for version in self.get(f"{path}/versions").json().get("pipeline_versions", []):
                    self.http.delete(f"{path}/versions/{version['pipeline_version_id']}")
            response = self.http.delete(path)
            assert response.status_code in (200, 404), f"{path}: {response.text}"
        self.http.close()


def kind_id(kind):
    return {
        "runs": "run_id",
        "recurringruns": "recurring_run_id",
        "pipelines": "pipeline_id",
        "experiments": "experiment_id",
    }[kind]


@contextlib.contextmanager
def sandbox(folder, *options):
    command = [sys.executable, "-m", "sandbox", "--root", str(folder)]
    command += ["--api-port", "0", "--s3-port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[2].rstrip(",")
        finally:
            process.terminate()


@pytest.fixture(scope="module", params=["live"] if LIVE else ["single-user", "multi-user"])
def server(request, tmp_path_factory):
    with contextlib.ExitStack() as stack:
        if request.param == "live":
            live_server = Server(
                LIVE.rstrip("/"),
                os.environ.get("KFP_TOKEN", ""),
                os.environ.get("KFP_NAMESPACE", ""),
            )
        elif request.param == "single-user":
            folder = tmp_path_factory.mktemp("single")
            live_server = Server(stack.enter_context(sandbox(folder)), "", "")
        else:
            folder = tmp_path_factory.mktemp("multi")
            (folder / "users.json").write_text(json.dumps(TEAM))
            options = ["--no-execute", "--users", str(folder / "users.json")]
            url = stack.enter_context(sandbox(folder / "state", *options))
            live_server = Server(url, "live-token", "team-a")
        stack.callback(live_server.clean)
        yield live_server


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "contract.yaml"
    compiler.Compiler().compile(contract, str(path))
    return path


@pytest.fixture(scope="module")
def workspace(server, package):
    """A pipeline with a version, and an experiment, created by the client."""
    with server.client() as client:
        pipeline = client.create_pipeline(server.word)
        server.made.append(f"/pipelines/{pipeline.pipeline_id}")
        version = client.upload_version(pipeline.pipeline_id, "v1", package.read_text())
        experiment = client.create_experiment(server.word)
        server.made.append(f"/experiments/{experiment.experiment_id}")
    return version, experiment


@pytest.fixture(scope="module")
def runs(server, workspace):
    """Five runs created in different seconds, oldest first."""
    run_ids = []
    for number in range(5):
        run = submit(server, workspace, f"run {number}").json()
        created = datetime.datetime.fromisoformat(run["created_at"].replace("Z", "+00:00"))
        wait_until(lambda created=created: server.now() > created)
        run_ids.append(run)
    return run_ids


def wait_until(condition, seconds=60):
    """Wait until a condition holds: a server's controllers report later than its API responds.

    Raises:
        AssertionError: it does not hold in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


def body(workspace, name, parameters=None, **fields):
    version, experiment = workspace
    return {
        "display_name": name,
        "experiment_id": experiment.experiment_id,
        "pipeline_version_reference": {
            "pipeline_id": version.pipeline_id,
            "pipeline_version_id": version.pipeline_version_id,
        },
        "runtime_config": {"parameters": {"note": "n"} if parameters is None else parameters},
        **fields,
    }


def submit(server, workspace, name, parameters=None):
    return server.post("/runs", body(workspace, name, parameters))


def code(response):
    """Check the form of an API error, and return its HTTP status and code."""
    document = response.json()
    assert isinstance(document["message"], str)
    assert document["message"]
    for detail in document.get("details", []):
        assert detail["code"] == document["code"]
    return response.status_code, document["code"]


# Names --------------------------------------------------------------------------------------


def test_server_is_healthy(server):
    document = server.get("/healthz")
    assert document.status_code == 200
    assert isinstance(document.json()["multi_user"], bool)


def test_duplicate_name_is_a_conflict_except_for_runs(server, workspace, package, runs):
    version, _ = workspace
    with server.client() as client:
        with pytest.raises(kfp_ops.ConflictError):
            client.create_pipeline(server.word)
        with pytest.raises(kfp_ops.ConflictError):
            client.create_experiment(server.word)
        with pytest.raises(kfp_ops.ConflictError):
            client.upload_version(version.pipeline_id, "v1", package.read_text())
    assert submit(server, workspace, "run 0").json()["run_id"] != runs[0]["run_id"]


def test_objects_are_found_by_their_full_name(server, workspace):
    version, experiment = workspace
    with server.client() as client:
        assert client.find_pipeline(server.word).pipeline_id == version.pipeline_id
        assert client.find_pipeline(server.word[:-1]) is None
        assert client.find_experiment(server.word) == experiment
        assert client.find_experiment(server.word[:-1]) is None
        assert client.find_version(version.pipeline_id, "v1") == version
        assert client.find_version(version.pipeline_id, "v") is None


def test_absent_object_is_404_with_code_5(server):
    for path in ("/runs/", "/experiments/", "/recurringruns/", "/pipelines/"):
        assert code(server.get(path + NOWHERE)) == (404, 5)
    assert code(server.get("/pipelines/names/" + server.word + "x", **server.scope)) == (404, 5)
    with server.client() as client, pytest.raises(kfp_ops.NotFoundError):
        client.terminate_run(NOWHERE)


# Lists --------------------------------------------------------------------------------------


def in_experiment(workspace):
    return {"experiment_id": workspace[1].experiment_id}


def test_lists_are_sorted_both_ways(server, workspace, runs):
    names = [run["run_id"] for run in runs]
    for order, expected in (("created_at desc", names[::-1]), ("created_at asc", names)):
        found_runs = server.listed(
            "/runs",
            "runs",
            sort_by=order,
            page_size=100,
            **in_experiment(workspace),
            **server.scope,
        )
        assert [run["run_id"] for run in found_runs if run["run_id"] in names] == expected
    with server.client() as client:
        newest = client.list_runs(workspace[1].experiment_id, limit=2)
    assert newest[0].created_at >= newest[1].created_at


def test_pages_list_everything_once(server, workspace, runs):
    run_ids, token, totals = [], "", set()
    for _ in range(20):
        page = server.get(
            "/runs", page_size=2, page_token=token, **in_experiment(workspace), **server.scope
        ).json()
        run_ids += [run["run_id"] for run in page["runs"]]
        totals.add(page["total_size"])
        token = page.get("next_page_token", "")
        if not token:
            break
    assert len(run_ids) == len(set(run_ids))
    assert {run["run_id"] for run in runs} <= set(run_ids)
    assert totals == {len(run_ids)}


def test_filters_match_names_or_substrings_and_exclude_archived(server, workspace, runs):
    listed = lambda *filters: {  # noqa: E731
        row["run_id"]
        for row in server.listed(
            "/runs",
            "runs",
            filters=filters,
            page_size=50,
            **in_experiment(workspace),
            **server.scope,
        )
    }
    ids = [run["run_id"] for run in runs]
    assert listed(("display_name", "EQUALS", "run 3")) == {ids[3]}
    assert listed(("name", "IS_SUBSTRING", "un 3")) == {ids[3]}
    assert listed(("display_name", "EQUALS", "run")) == set()
    assert server.post(f"/runs/{ids[4]}:archive", {}).status_code == 200
    available = listed(("storage_state", "EQUALS", "AVAILABLE"))
    assert ids[3] in available
    assert ids[4] not in available
    assert server.post(f"/runs/{ids[4]}:unarchive", {}).status_code == 200


def test_names_with_url_and_pattern_characters_are_found(server, workspace):
    experiment_id = workspace[1].experiment_id
    names = ["100% a_b+c", "100% aXb+c"]
    for name in names:
        assert submit(server, workspace, name).status_code == 200
    with server.client() as client:
        for name in names:
            assert client.find_run(experiment_id, name).display_name == name
            (run,) = client.list_runs(experiment_id, name_contains=name, limit=10)
            assert run.display_name == name


def test_empty_list_is_an_object_with_at_most_its_size(server, workspace):
    never = json.dumps(
        {"predicates": [{"key": "name", "operation": "EQUALS", "string_value": "never"}]}
    )
    assert (
        server.get("/runs", filter=never, **in_experiment(workspace), **server.scope).json() == {}
    )


@pytest.mark.parametrize(
    "query",
    [
        {"page_token": "nonsense"},
        {"page_size": "-1"},
        {"page_size": "many"},
        {"sort_by": "colour"},
        {"sort_by": "created_at sideways"},
        {"filter": "nonsense"},
        {
            "filter": '{"predicates": [{"key": "colour", "operation": "EQUALS", "string_value": ""}]}'
        },
        {"filter": '{"predicates": [{"key": "name", "operation": "LIKES", "string_value": ""}]}'},
    ],
    ids=lambda query: next(iter(query.items()))[1][:60],
)
def test_invalid_list_request_is_rejected(server, workspace, query):
    response = server.get("/runs", **{**in_experiment(workspace), **server.scope, **query})
    assert code(response) == (400, 3)


# Runs ---------------------------------------------------------------------------------------


def test_run_has_the_requested_fields(server, workspace, runs):
    path = f"/runs/{runs[0]['run_id']}"
    # Just after its submission a run's state may be RUNTIME_STATE_UNSPECIFIED.
    wait_until(lambda: server.get(path).json()["state"] in ACTIVE)
    run = server.get(path).json()
    request = body(workspace, "run 0")
    for key in ("display_name", "experiment_id", "pipeline_version_reference", "runtime_config"):
        assert run[key] == request[key]
    assert run["finished_at"].startswith("1970-")
    assert run["state_history"][0]["state"] in {"PENDING", "RUNTIME_STATE_UNSPECIFIED"}
    with server.client() as client:
        read = client.get_run(runs[0]["run_id"])
    assert read.parameters == {"note": "n"}
    assert read.finished_at is None
    assert not read.state.is_final


def test_run_is_terminated_once(server, workspace):
    run_id = submit(server, workspace, "to be terminated").json()["run_id"]
    with server.client() as client:
        client.terminate_run(run_id)
        ending = (RunState.CANCELING, RunState.CANCELED, RunState.FAILED)
        wait_until(lambda: client.get_run(run_id).state in ending)
        with pytest.raises(kfp_ops.RequestError) as refused:
            client.terminate_run(run_id)
    assert refused.value.status == 400


def test_deleted_run_is_not_found(server, workspace):
    run_id = submit(server, workspace, "to be deleted").json()["run_id"]
    assert server.http.delete(f"/runs/{run_id}").status_code == 200
    assert server.get(f"/runs/{run_id}").status_code == 404
    assert server.http.delete(f"/runs/{run_id}").status_code == 404


@pytest.mark.parametrize(
    "parameters",
    [
        {"note": "n", "seconds": "600"},
        {"note": "n", "seconds": True},
        {"note": 5},
        {"note": "n", "colour": "red"},
        {},
    ],
    ids=json.dumps,
)
def test_parameters_of_wrong_types_are_rejected(server, workspace, parameters):
    assert code(submit(server, workspace, "wrong", parameters)) == (400, 3)


def test_run_without_a_pipeline_is_rejected(server, workspace):
    for change in (
        {"pipeline_version_reference": {"pipeline_id": NOWHERE, "pipeline_version_id": NOWHERE}},
        {"display_name": ""},
    ):
        assert server.post("/runs", body(workspace, "wrong", **change)).status_code in (
            400,
            404,
            500,
        )
    missing = server.post("/runs", body(workspace, "wrong", experiment_id=NOWHERE))
    assert code(missing) == (404, 5)


# Recurring runs -----------------------------------------------------------------------------


def recurring(workspace, name, **fields):
    trigger = {"cron_schedule": {"cron": "0 0 3 1 1 *"}}
    return body(
        workspace, name, **{"max_concurrency": 1, "mode": "DISABLE", "trigger": trigger, **fields}
    )


def test_recurring_run_is_disabled_enabled_and_deleted(server, workspace):
    version, experiment = workspace
    with server.client() as client:
        created = client.create_recurring_run(
            name=f"{server.word} schedule",
            experiment_id=experiment.experiment_id,
            version=version,
            cron="0 0 3 1 1 *",
            parameters={"note": "n"},
            enabled=False,
        )
        server.made.append(f"/recurringruns/{created.recurring_run_id}")
        list_recurring_runs = lambda: client.list_recurring_runs(  # noqa: E731
            experiment.experiment_id, name_contains="schedule"
        )
        assert list_recurring_runs() == [created]
        assert not created.enabled
        client.enable_recurring_run(created.recurring_run_id)
        wait_until(
            lambda: [recurring_run.enabled for recurring_run in list_recurring_runs()] == [True]
        )
        client.disable_recurring_run(created.recurring_run_id)
        # The controller may report the old state once more.
        wait_until(
            lambda: [recurring_run.enabled for recurring_run in list_recurring_runs()] == [False]
        )
        client.delete_recurring_run(created.recurring_run_id)
        assert list_recurring_runs() == []
        for call in (
            client.enable_recurring_run,
            client.disable_recurring_run,
            client.delete_recurring_run,
        ):
            with pytest.raises(kfp_ops.NotFoundError):
                call(created.recurring_run_id)


def test_runs_are_filtered_by_recurring_run_and_state(server, workspace, runs):
    _, experiment = workspace
    with server.client() as client:
        assert client.list_runs(experiment.experiment_id)
        # These runs have no recurring run, and this id does not exist.
        ids = [str(uuid.uuid4()), str(uuid.uuid4())]
        going = (kfp_ops.RunState.PENDING, kfp_ops.RunState.RUNNING)
        assert client.list_runs(experiment.experiment_id, state=going, recurring_run_ids=ids) == []


def test_recurring_run_has_the_recorded_form(server, workspace):
    recurring_run = server.post(
        "/recurringruns", recurring(workspace, "form", no_catchup=True)
    ).json()
    assert recurring_run["max_concurrency"] == "1"
    assert recurring_run["status"] == "DISABLED"
    assert recurring_run["no_catchup"] is True
    assert recurring_run["trigger"] == {"cron_schedule": {"cron": "0 0 3 1 1 *"}}


@pytest.mark.parametrize(
    "change",
    [
        {"trigger": {"cron_schedule": {"cron": "whenever"}}},
        {"trigger": {"cron_schedule": {"cron": "0 3 * *"}}},
        {"trigger": {"periodic_schedule": {"interval_second": 0}}},
        {"max_concurrency": 0},
        {"max_concurrency": 11},
        {"mode": "SOMETIMES"},
        {"runtime_config": {"parameters": {"note": "n", "seconds": "many"}}},
    ],
    ids=json.dumps,
)
def test_invalid_recurring_run_is_rejected(server, workspace, change):
    assert code(server.post("/recurringruns", recurring(workspace, "wrong", **change))) == (400, 3)


# Errors -------------------------------------------------------------------------------------


def test_invalid_bodies_are_rejected(server, workspace):
    send = lambda content: server.http.post(  # noqa: E731
        "/experiments", content=content, headers={"content-type": "application/json"}
    )
    unknown = server.post(
        "/experiments", {"display_name": f"{server.word}-red", "colour": "red", **server.scope}
    )
    # Server 2.5 accepts unknown fields.
    assert unknown.status_code == 200 or code(unknown) == (400, 3)
    for content in (
        '{"display_name": 5}',
        '{"display_name": "x"',
        "nonsense",
        "[]",
    ):
        response = send(content)
        assert code(response) == (400, 3), content


def test_unknown_paths_and_methods_are_rejected(server):
    # Server 2.5 responds to both in plain text.
    assert server.get("/nothing-here").status_code == 404
    assert server.http.put("/experiments", json={}).status_code in (405, 501)


def test_invalid_upload_is_rejected_in_the_uploads_error_form(server, workspace):
    version, _ = workspace
    response = server.http.post(
        "/pipelines/upload_version",
        params={"name": "broken", "pipelineid": version.pipeline_id},
        files={"uploadfile": ("pipeline.yaml", b"no: pipeline\n")},
    )
    assert response.status_code in (400, 500)
    assert response.json()["error_message"]
    with server.client() as client, pytest.raises(kfp_ops.ApiError) as caught:
        client.upload_version(version.pipeline_id, "broken", "no: pipeline\n")
    assert caught.value.message == " ".join(response.json()["error_message"].split())[:300]


def test_pipeline_with_versions_is_not_deleted(server, workspace):
    assert code(server.http.delete(f"/pipelines/{workspace[0].pipeline_id}")) == (400, 3)


def test_multi_user_server_requires_user_and_namespace(server):
    if not server.get("/healthz").json()["multi_user"]:
        pytest.skip("a single-user server")
    nobody = httpx.get(f"{server.url}{API}/experiments", params=server.scope, trust_env=False)
    assert code(nobody) == (401, 16)
    assert code(server.get("/experiments")) == (400, 3)
    assert code(server.get("/experiments", namespace="contract-of-nobody")) == (403, 7)


# The library, all of it -----------------------------------------------------------------------


def test_repeated_reconciling_makes_one_run(server, package):
    name = f"{server.word}-wish"
    spec = PipelineSpec.load(package)
    desired = DesiredState(
        pipeline=name,
        spec=spec,
        experiment=name,
        runs=(RunSpec(name="config-1", parameters={"note": "n"}),),
    )
    with server.client() as client:
        for _ in range(3):
            observed = kfp_ops.observe(client, desired)
            observed = kfp_ops.apply(client, desired, observed, kfp_ops.plan(desired, observed))
        listed = client.list_runs(observed.experiment.experiment_id, limit=10)
        pipeline = client.find_pipeline(name)
    server.made += [
        f"/pipelines/{pipeline.pipeline_id}",
        f"/experiments/{observed.experiment.experiment_id}",
        *(f"/runs/{run.run_id}" for run in listed),
    ]
    assert [run.display_name for run in listed] == ["config-1"]
