"""Keys and tokens do not leak: all output and all written files are searched."""

import dataclasses
import logging
import sqlite3
import time

import httpx
import ops.testing
import pytest
from kfp import compiler, dsl
from kfp import kubernetes as kfp_kubernetes

from sandbox import Sandbox, User

TOKEN = "token for pipelines.kubeflow.org"  # from the fixture `kubernetes`
USER = "system:serviceaccount:kubeflow:trainer"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def use_keys() -> int:
    import os

    print("the step has its keys")
    return len(os.environ["AWS_ACCESS_KEY_ID"]) + len(os.environ["AWS_SECRET_ACCESS_KEY"])


@dsl.pipeline(name="using-keys")
def using_keys():
    task = use_keys().set_caching_options(False)
    names = {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}
    kfp_kubernetes.use_secret_as_env(
        task, secret_name="mlpipeline-minio-artifact", secret_key_to_env=names
    )


@pytest.fixture
def sandbox(tmp_path):
    users = [User(USER, TOKEN, {"fashion-mnist": "edit"})]
    with Sandbox(tmp_path / "sandbox", execute=False, users=users) as sandbox:
        yield sandbox


def files_under(root):
    """Return the files under a folder and their texts, except for the file with the keys."""
    for path in root.rglob("*"):
        if path.is_file() and path.name != "keys.json":
            yield str(path), path.read_bytes()


def rows(path):
    """Return a database's rows as text."""
    with sqlite3.connect(path) as database:
        return "\n".join(database.iterdump())


def places_with(secrets, texts):
    """Return the places of secrets in texts."""
    return [
        (name, place)
        for place, text in texts
        for name, secret in secrets.items()
        if secret.encode() in (text if isinstance(text, bytes) else str(text).encode())
    ]


def test_secret_search_finds_a_planted_secret(tmp_path, sandbox):
    (tmp_path / "leak").write_text(f"key={sandbox.secret_key};")
    places = places_with({"secret": sandbox.secret_key}, files_under(tmp_path))
    assert places == [("secret", str(tmp_path / "leak"))]


def test_charm_output_contains_no_secret(ctx, state, sandbox, proxy, kubernetes, caplog):
    # GIVEN a related trainer in a profile, with debug logging
    caplog.set_level(logging.DEBUG)
    secrets = {
        "access key": sandbox.access_key,
        "secret key": sandbox.secret_key,
        "token": TOKEN,
        "the pod's token": "the-charms-own",
    }
    state = dataclasses.replace(state, config={})
    texts = []

    def run(event, before):
        try:
            after = ctx.run(event, before)
        except ops.testing.ActionFailed as failed:
            texts.append(("failure", failed.message))
            after = before
        texts.append(("status", after.unit_status))
        texts.append(("results", ctx.action_results))
        texts.append(("relations", [relation.local_app_data for relation in after.relations]))
        texts.append(
            ("relations of units", [relation.local_unit_data for relation in after.relations])
        )
        texts.append(("stored", after.stored_states))
        return after

    # WHEN it handles a run, actions, and server errors
    after = run(ctx.on.config_changed(), state)
    assert isinstance(after.unit_status, ops.testing.ActiveStatus)
    for action in ("train", "list-runs", "get-run", "list-models", "rollback", "cancel-run"):
        run(ctx.on.action(action), after)
    for trouble in ("cut", 401, 403, 500):
        proxy.fault = lambda moment, number, method, path, fault=trouble: (
            fault if moment == "before" else None
        )
        run(ctx.on.update_status(), after)
        run(ctx.on.action("get-run"), after)
    proxy.fault = lambda *_: None
    run(ctx.on.remove(), after)
    # THEN output, logs and submissions contain no secret
    assert {headers["authorization"] for headers in proxy.headers} == {f"Bearer {TOKEN}"}
    texts += [("juju log", [line.message for line in ctx.juju_log])]
    texts += [("log", caplog.text), ("history", ctx.unit_status_history)]
    texts += [
        ("kubernetes", kubernetes.objects),
        ("requests", [*proxy.requests, kubernetes.requests]),
    ]
    texts += [("database", rows(sandbox.root / "kfp.sqlite")), *files_under(sandbox.root)]
    assert sandbox.store.count("runs") == 2
    assert places_with(secrets, texts) == []


def test_run_output_contains_no_keys(tmp_path, capfd):
    # GIVEN a step that reads its keys from the Secret
    package = tmp_path / "package.yaml"
    compiler.Compiler().compile(using_keys, str(package))
    with Sandbox(tmp_path / "state") as sandbox:
        api = f"{sandbox.api_url}/apis/v2beta1"
        # WHEN it is executed
        pipeline = httpx.post(
            f"{api}/pipelines/upload",
            params={"name": "p"},
            files={"uploadfile": ("p.yaml", package.read_bytes())},
        ).json()
        reference = {"pipeline_id": pipeline["pipeline_id"]}
        run = httpx.post(
            f"{api}/runs", json={"display_name": "r", "pipeline_version_reference": reference}
        ).json()
        end = time.monotonic() + 60
        while httpx.get(f"{api}/runs/{run['run_id']}").json()["state"] != "SUCCEEDED":
            assert time.monotonic() < end, sandbox.run_log(run["run_id"]).read_text()
            time.sleep(0.1)
        assert "the step has its keys" in sandbox.run_log(run["run_id"]).read_text()
        secrets = {"access key": sandbox.access_key, "secret key": sandbox.secret_key}
        texts = [("API", httpx.get(f"{api}{path}").text) for path in ("/runs", "/pipelines")]
        texts += [("output", part) for part in capfd.readouterr()]
        # THEN files and responses do not contain them, and their file is private
        assert places_with(secrets, [*texts, *files_under(tmp_path)]) == []
        assert (sandbox.root / "keys.json").stat().st_mode & 0o077 == 0
