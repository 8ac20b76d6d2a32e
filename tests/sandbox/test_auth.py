"""A multi-user sandbox, as a charm's client sees it."""

import datetime
import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from kfp_ops import Client, ForbiddenError, RequestError, UnauthorizedError
from sandbox import Sandbox, User

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "src" / "pipelines" / "train.yaml").read_text()
TRAINER = "system:serviceaccount:kubeflow:trainer"
USERS = [
    User(TRAINER, "token-t", {"team-a": "edit"}),
    User("reader@example.com", "token-r", {"team-a": "view"}),
    User("other@example.com", "token-o", {"team-b": "edit"}),
]


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path, execute=False, users=USERS) as sandbox:
        yield sandbox


@pytest.fixture
def connect(sandbox):
    clients = []

    def connect(token, namespace="team-a"):
        client = Client(sandbox.api_url, namespace=namespace, token=token and (lambda: token))
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def submit(client):
    version = client.upload_version(client.create_pipeline("p").pipeline_id, "v", SPEC)
    experiment = client.create_experiment("e")
    return client.create_run(
        name="r", experiment_id=experiment.experiment_id, version=version, parameters={}
    )


def test_editor_works_in_its_namespace_as_the_profiles_service_account(connect, sandbox):
    client = connect("token-t")
    run = submit(client)
    assert client.find_experiment("e").experiment_id == run.experiment_id
    assert client.find_run(run.experiment_id, "r").run_id == run.run_id
    (row,) = sandbox.store.select("runs")
    assert (row["namespace"], row["service_account"]) == ("team-a", "default-editor")
    client.terminate_run(run.run_id)


def test_viewer_can_only_read(connect):
    run = submit(connect("token-t"))
    viewer = connect("token-r")
    assert viewer.get_run(run.run_id) == run
    assert viewer.find_pipeline("p") is not None
    with pytest.raises(ForbiddenError, match="is not authorized"):
        viewer.terminate_run(run.run_id)
    with pytest.raises(ForbiddenError, match="PermissionDenied"):
        viewer.create_experiment("x")
    with pytest.raises(ForbiddenError, match="PermissionDenied"):
        viewer.create_pipeline("x")
    # An upload's refusal is a 400 without a reason.
    with pytest.raises(RequestError, match="Failed to create a pipeline version"):
        viewer.upload_version(viewer.find_pipeline("p").pipeline_id, "w", SPEC)


def test_namespaces_are_isolated(connect):
    run = submit(connect("token-t"))
    other = connect("token-o", "team-b")
    assert other.find_pipeline("p") is None
    assert other.find_experiment("e") is None
    for call in (
        lambda: other.get_run(run.run_id),
        lambda: other.list_runs(run.experiment_id),
        lambda: other.list_recurring_runs(run.experiment_id),
        lambda: connect("token-o", "team-a").find_pipeline("p"),
    ):
        with pytest.raises(ForbiddenError):
            call()
    # The same names are available in the other namespace.
    assert submit(other).run_id != run.run_id


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_missing_user_is_401_and_missing_namespace_is_400(connect, token):
    with pytest.raises(UnauthorizedError):
        connect(token).find_experiment("e")
    with pytest.raises(RequestError, match="empty namespace"):
        connect("token-t", "").find_experiment("e")


def test_recurring_runs_are_authorized_and_pass_on_their_namespace(connect, sandbox):
    client = connect("token-t")
    run = submit(client)
    schedule = client.create_recurring_run(
        name="s",
        experiment_id=run.experiment_id,
        version=client.find_version(client.find_pipeline("p").pipeline_id, "v"),
        cron="0 0 3 * * *",
        parameters={},
    )
    viewer = connect("token-r")
    for call in (
        viewer.enable_recurring_run,
        viewer.disable_recurring_run,
        viewer.delete_recurring_run,
    ):
        with pytest.raises(ForbiddenError, match="Resource:jobs"):
            call(schedule.recurring_run_id)
    now = datetime.datetime.now(datetime.timezone.utc)
    for days in (0, 2):
        sandbox.pass_time(now + datetime.timedelta(days=days))
    assert sandbox.store.count("runs") == 2
    assert {run["namespace"] for run in sandbox.store.select("runs")} == {"team-a"}


def test_user_header_of_the_mesh_identifies_the_user(sandbox):
    response = httpx.get(
        f"{sandbox.api_url}/apis/v2beta1/experiments",
        params={"namespace": "team-a"},
        headers={"kubeflow-userid": TRAINER},
    )
    assert response.json() == {}


def test_command_line_is_multi_user_with_a_users_file(tmp_path):
    users = tmp_path / "users.json"
    users.write_text(json.dumps([{"name": "a", "token": "t", "roles": {"n": "edit"}}]))
    options = ["--api-port", "0", "--s3-port", "0", "--users", str(users)]
    command = [sys.executable, "-m", "sandbox", "--root", str(tmp_path / "s"), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[2].rstrip(",")
        try:
            assert httpx.get(f"{url}/apis/v2beta1/healthz").json()["multi_user"] is True
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
