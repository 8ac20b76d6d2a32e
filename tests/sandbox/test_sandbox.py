"""The sandbox with the official client, and after crashes."""

import base64
import datetime
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import kfp
import pytest
import yaml
from kfp import compiler, dsl, kubernetes

from sandbox import Sandbox

ROOT = Path(__file__).parents[2]


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def double(value: int) -> int:
    print(f"doubling {value}")
    if value < 0:
        raise ValueError("negative")
    return 2 * value


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def wait(seconds: int):
    import time

    print("waiting", flush=True)
    time.sleep(seconds)


@dsl.pipeline(name="doubling")
def doubling(value: int = 1):
    double(value=value).set_caching_options(False)


@dsl.pipeline(name="waiting")
def waiting(seconds: int = 600):
    wait(seconds=seconds).set_caching_options(False)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def has_key():
    import os

    print("a key of", len(os.environ["KEY"]))


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def has_none():
    import os

    print("no key" if "KEY" not in os.environ else "a key of another step")
    print("hidden", sorted(name for name in os.environ if name.startswith("SANDBOX_")))


@dsl.pipeline(name="keyed")
def with_key():
    task = has_key().set_caching_options(False)
    kubernetes.use_secret_as_env(task, "mlpipeline-minio-artifact", {"accesskey": "KEY"})
    has_none().set_caching_options(False)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def write(folder: str, text: str):
    from pathlib import Path

    (Path(folder) / "note").write_text(text)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def read(folder: str, fails: bool):
    from pathlib import Path

    print("read", (Path(folder) / "note").read_text())
    if fails:
        raise ValueError("made to fail")


@dsl.pipeline(name="sharing")
def sharing(text: str = "", fails: bool = False):
    run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    with dsl.ExitHandler(kubernetes.DeletePVC(pvc_name=run_id)):
        create = kubernetes.CreatePVC(
            pvc_name=run_id, access_modes=["ReadWriteOnce"], size="1Gi", storage_class_name="any"
        )
        written = write(folder="/shared", text=text).after(create)
        for step in (written, read(folder="/shared", fails=fails).after(written)):
            step.set_caching_options(False)
            kubernetes.mount_pvc(step, run_id, "/shared")


@dsl.pipeline(name="naming")
def name_predicate():
    create = kubernetes.CreatePVC(
        pvc_name_suffix="-x", access_modes=["ReadWriteOnce"], size="1Gi", storage_class_name="any"
    )
    kubernetes.mount_pvc(write(folder="/shared", text=""), create.outputs["name"], "/shared")


PIPELINES = {
    "doubling": doubling,
    "waiting": waiting,
    "keyed": with_key,
    "sharing": sharing,
    "naming": name_predicate,
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    for name, pipeline in PIPELINES.items():
        compiler.Compiler().compile(pipeline, str(folder / f"{name}.yaml"))
    return folder


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path / "state") as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return kfp.Client(host=sandbox.api_url)


def submit(client, packages, name, **arguments):
    run = client.create_run_from_pipeline_package(
        str(packages / f"{name}.yaml"),
        arguments=arguments,
        run_name=name,
        experiment_name="tests",
        enable_caching=False,
    )
    return run.run_id


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("value", "state", "step", "message"),
    [(21, "SUCCEEDED", "SUCCEEDED", "doubling 21"), (-1, "FAILED", "FAILED", "negative")],
)
def test_official_client_runs_a_pipeline(sandbox, client, packages, value, state, step, message):
    run_id = submit(client, packages, "doubling", value=value)
    run = client.wait_for_run_completion(run_id, 60, sleep_duration=0.3)
    assert run.state == state
    tasks = {task.display_name: task.state for task in run.run_details.task_details}
    assert tasks["double"] == step
    assert message in sandbox.run_log(run_id).read_text()


def test_kubernetes_settings_apply_in_a_spec_sent_with_the_run(sandbox, client, packages):
    run_id = submit(client, packages, "keyed")
    run = client.wait_for_run_completion(run_id, 60, sleep_duration=0.3)
    assert run.state == "SUCCEEDED"
    log = sandbox.run_log(run_id).read_text()
    assert f"a key of {len(sandbox.access_key)}" in log
    # AND the step that names no Secret has none, as in a cluster
    assert "no key" in log
    assert "hidden []" in log
    assert set(run.pipeline_spec) == {"pipeline_spec", "platform_spec"}


@pytest.mark.parametrize(("fails", "state"), [(False, "SUCCEEDED"), (True, "FAILED")])
def test_volume_is_a_directory_deleted_with_the_run(sandbox, client, packages, fails, state):
    # GIVEN a pipeline that creates a volume, writes and reads there, and deletes it at its end
    run_id = submit(client, packages, "sharing", text="hello", fails=fails)
    run = client.wait_for_run_completion(run_id, 60, sleep_duration=0.3)
    # THEN a step reads what the previous one wrote
    assert "read hello" in sandbox.run_log(run_id).read_text()
    # AND nothing remains after any end, and the server's own steps are listed
    tasks = {task.display_name: task.state for task in run.run_details.task_details}
    assert (run.state, tasks["read"]) == (state, state)
    assert tasks["createpvc"] == tasks["deletepvc"] == tasks["write"] == "SUCCEEDED"
    folder = sandbox.run_log(run_id).parent
    assert list((folder / "volumes").iterdir()) == []


def test_volume_named_by_a_step_is_rejected_with_a_message(sandbox, client, packages):
    run_id = submit(client, packages, "naming")
    assert client.wait_for_run_completion(run_id, 60, sleep_duration=0.3).state == "FAILED"
    assert "volume whose name another step gives" in sandbox.run_log(run_id).read_text()


def test_terminated_run_ends_failed_as_on_the_real_server(sandbox, client, packages):
    run_id = submit(client, packages, "waiting")
    until(
        lambda: (
            sandbox.run_log(run_id).exists() and "waiting" in sandbox.run_log(run_id).read_text()
        )
    )
    client.terminate_run(run_id)
    until(lambda: client.get_run(run_id).state == "FAILED")
    history = [entry.state for entry in client.get_run(run_id).state_history]
    # CANCELING is not in the history of a run that ends before its workflow is reported once more.
    assert history == ["PENDING", "RUNNING", "FAILED"]
    response = httpx.post(f"{sandbox.api_url}/apis/v2beta1/runs/{run_id}:terminate")
    assert response.status_code == 400


def test_runs_survive_a_kill(tmp_path, packages):
    # GIVEN a sandbox in a separate process, with a running and a pending run
    command = [
        sys.executable,
        "-m",
        "sandbox",
        "--root",
        str(tmp_path / "s"),
        "--api-port",
        "0",
        "--s3-port",
        "0",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        api = process.stdout.readline().split()[2].rstrip(",") + "/apis/v2beta1"
        spec = (packages / "waiting.yaml").read_bytes()
        pipeline = httpx.post(
            f"{api}/pipelines/upload", params={"name": "w"}, files={"uploadfile": ("w.yaml", spec)}
        ).json()
        ids = [
            httpx.post(
                f"{api}/runs",
                json={
                    "display_name": f"run {seconds}",
                    "pipeline_version_reference": {"pipeline_id": pipeline["pipeline_id"]},
                    "runtime_config": {"parameters": {"seconds": seconds}},
                },
            ).json()["run_id"]
            for seconds in (600, 0)
        ]
        log = tmp_path / "s" / "artifacts" / ids[0] / "log"
        until(lambda: log.exists() and "waiting" in log.read_text())
        # WHEN it is killed
        os.kill(process.pid, signal.SIGKILL)
    # THEN after a restart the first has failed, and the second runs to its end
    with Sandbox(tmp_path / "s") as sandbox:
        states = lambda: [sandbox.store.get("runs", i)["state"] for i in ids]  # noqa: E731
        until(lambda: states() == ["FAILED", "SUCCEEDED"])


def test_schedules_fire_once_at_a_time(sandbox, packages):
    api = f"{sandbox.api_url}/apis/v2beta1"
    spec = (packages / "waiting.yaml").read_bytes()
    pipeline = httpx.post(
        f"{api}/pipelines/upload", params={"name": "w"}, files={"uploadfile": ("w.yaml", spec)}
    ).json()
    response = httpx.post(
        f"{api}/recurringruns",
        json={
            "display_name": "each second",
            "pipeline_version_reference": {"pipeline_id": pipeline["pipeline_id"]},
            "runtime_config": {"parameters": {"seconds": 60}},
            "max_concurrency": 1,
            "mode": "ENABLE",
            "trigger": {"cron_schedule": {"cron": "* * * * * *"}},
        },
    ).json()
    until(lambda: sandbox.store.count("runs", "state = 'RUNNING'") == 1)
    httpx.post(f"{api}/recurringruns/{response['recurring_run_id']}:disable")
    assert sandbox.store.count("runs") == 1
    (run,) = sandbox.store.select("runs")
    assert run["recurring_run_id"] == response["recurring_run_id"]
    assert re.fullmatch(r"eachsecond[0-9a-f]{5}-1-\d+", run["name"])
    # WHEN it is deleted, THEN the run that goes on loses its workflow, and nobody hears of it again
    httpx.delete(f"{api}/recurringruns/{response['recurring_run_id']}")
    httpx.post(f"{api}/runs/{run['id']}:terminate")
    reference = {"pipeline_id": pipeline["pipeline_id"]}
    settings = {"parameters": {"seconds": 0}}
    after = httpx.post(
        f"{api}/runs",
        json={
            "display_name": "after it",
            "pipeline_version_reference": reference,
            "runtime_config": settings,
        },
    ).json()
    until(lambda: sandbox.store.get("runs", after["run_id"])["state"] == "SUCCEEDED")
    assert sandbox.store.get("runs", run["id"])["state"] == "CANCELING"


def test_errors_have_the_recorded_forms(tmp_path):
    with Sandbox(tmp_path / "state", execute=False) as sandbox:
        api = f"{sandbox.api_url}/apis/v2beta1"
        missing = httpx.get(f"{api}/runs/not-a-uuid")
        assert (missing.status_code, missing.json()["code"]) == (404, 5)
        assert missing.json()["details"][0]["message"] == "Run not-a-uuid not found"
        unknown = httpx.post(f"{api}/runs", json={"display_name": "x", "colour": "red"})
        assert unknown.status_code == 400
        assert 'unknown field "colour"' in unknown.json()["message"]
        assert httpx.put(f"{api}/experiments", json={}).status_code == 501
        name = {"display_name": "twice"}
        assert httpx.post(f"{api}/experiments", json=name).status_code == 200
        assert httpx.post(f"{api}/experiments", json=name).status_code == 409
        token = json.dumps(
            {"predicates": [{"key": "colour", "operation": "EQUALS", "string_value": "x"}]}
        )
        assert httpx.get(f"{api}/runs", params={"filter": token}).status_code == 400


def test_lists_come_in_pages(tmp_path):
    with Sandbox(tmp_path / "state", execute=False) as sandbox:
        api = f"{sandbox.api_url}/apis/v2beta1/experiments"
        for number in range(5):
            httpx.post(api, json={"display_name": f"e{number}"})
        names, token = [], ""
        while True:
            page = httpx.get(
                api, params={"page_size": 2, "sort_by": "name", "page_token": token}
            ).json()
            names += [experiment["display_name"] for experiment in page["experiments"]]
            token = page.get("next_page_token", "")
            if not token:
                break
        assert names == ["Default", "e0", "e1", "e2", "e3", "e4"]
        assert page["total_size"] == 6


def test_invalid_list_request_is_rejected(tmp_path):
    # GIVEN a page's token that somebody else has written, and a field that versions do not have
    token = {"column": "(SELECT 1)", "descending": False, "filter": "", "value": 1, "id": ""}
    written = base64.b64encode(json.dumps(token).encode()).decode()
    with Sandbox(tmp_path, execute=False) as sandbox:
        api = f"{sandbox.api_url}/apis/v2beta1"
        pipeline = httpx.post(f"{api}/pipelines", json={"display_name": "p"}).json()
        # WHEN they are requested, THEN the response is 400 with the reason
        response = httpx.get(f"{api}/pipelines", params={"page_token": written})
        assert (response.status_code, "Invalid package token" in response.text) == (400, True)
        response = httpx.get(
            f"{api}/pipelines/{pipeline['pipeline_id']}/versions", params={"sort_by": "namespace"}
        )
        assert (response.status_code, "Invalid sorting field" in response.text) == (400, True)


def encoded(state):
    return base64.b64encode(json.dumps(state).encode()).decode()


TOKEN = {"column": "name", "descending": False, "filter": "", "value": "a", "id": "1"}
PREDICATE = {"key": "name", "operation": "IN", "string_values": {"values": ["a"]}}


def predicates(*predicates_):
    return {"filter": json.dumps({"predicates": predicates_})}


@pytest.mark.parametrize(
    "query",
    [
        {"page_token": "a"},
        {"page_token": "abcde"},
        {"page_token": encoded([])},
        {"page_token": encoded({**TOKEN, "value": {}})},
        {"page_token": encoded({**TOKEN, "filter": 1.5, "id": []})},
        {"filter": "[]"},
        {"filter": '{"predicates": {}}'},
        predicates("a"),
        predicates({**PREDICATE, "string_values": {}}),
        predicates({**PREDICATE, "string_values": {"values": [{}]}}),
        predicates({**PREDICATE, "string_values": {"values": "a"}}),
    ],
    ids=str,
)
def test_malformed_list_parameters_are_rejected(tmp_path, query):
    with Sandbox(tmp_path, execute=False) as sandbox:
        response = httpx.get(f"{sandbox.api_url}/apis/v2beta1/experiments", params=query)
        assert response.status_code == 400, response.text


def test_restart_keeps_addresses_and_free_ports(tmp_path):
    # GIVEN a sandbox that ran once
    with Sandbox(tmp_path, execute=False) as sandbox:
        first = sandbox.api_url, sandbox.s3_url

    # WHEN it restarts, THEN its addresses are the same
    with Sandbox(tmp_path, execute=False) as sandbox:
        assert (sandbox.api_url, sandbox.s3_url) == first

    # WHEN its port is in use, THEN it takes another
    port = int(first[0].rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)), Sandbox(tmp_path, execute=False) as sandbox:
        assert sandbox.api_url != first[0]
        assert httpx.get(f"{sandbox.api_url}/apis/v2beta1/experiments").status_code == 200


def test_requested_port_in_use_is_an_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        sandbox = Sandbox(tmp_path, api_port=other.getsockname()[1], execute=False)
        with pytest.raises(OSError, match="in use"):
            sandbox.start()


def test_step_state_stays_while_another_step_runs(tmp_path):
    # GIVEN a run of which two steps have ended, at the same time
    now = [datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)]
    with Sandbox(tmp_path, execute=False, clock=lambda: now[0]) as sandbox:
        train = (ROOT / "src" / "pipelines" / "train.yaml").read_text()
        response = httpx.post(
            f"{sandbox.api_url}/apis/v2beta1/runs",
            json={"display_name": "r", "pipeline_spec": next(yaml.safe_load_all(train))},
        ).json()

        def tell(**states):
            sandbox.set_run_state(response["run_id"], "RUNNING", states)
            url = f"{sandbox.api_url}/apis/v2beta1/runs/{response['run_id']}"
            return httpx.get(url).json()["run_details"]["task_details"]

        before = tell(ingest="SUCCEEDED", train="SUCCEEDED")
        # WHEN a third one ends later
        now[0] += datetime.timedelta(minutes=1)
        after = tell(evaluate="SUCCEEDED")
        # THEN the others, their drivers and executors are told as they were, each as one of its own
        assert after[: len(before)] == before
        assert len(after) > len(before)
        assert len({task["task_id"] for task in after}) == len(after)


def test_run_process_imports_no_servers():
    process = subprocess.run(
        [sys.executable, "-c", "import sandbox.run, sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sandbox.run" in process.stdout.split()
    assert {"sandbox.server", "moto", "flask", "werkzeug"}.isdisjoint(process.stdout.split())
