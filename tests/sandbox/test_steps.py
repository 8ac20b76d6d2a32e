"""What steps find where they are executed: what they would in a pod, and no more."""

import base64
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from kfp import compiler, dsl

from sandbox import Sandbox

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def look(checkout: str) -> str:
    import importlib.util
    import json
    import os
    import sys
    import tempfile
    from pathlib import Path

    names = ("training", "fashion_mnist", "model_registry", "sandbox", "charm", "kfp_ops", "tests")
    paths = [path for path in sys.path if Path(path or ".").resolve() == Path(checkout)]
    paths += [path for path in sys.path if Path(path or ".").resolve().parent == Path(checkout)]
    site = Path(os.environ["PIP_TARGET"])
    places = (Path.cwd(), Path.home(), Path(tempfile.gettempdir()), site)
    kfp_executes_from = [path.name for path in Path(tempfile.gettempdir()).iterdir()]
    found = {
        "modules": [name for name in names if importlib.util.find_spec(name)],
        "paths": paths,
        "left": [path.name for place in places if place.is_dir() for path in place.glob("left*")],
        "environment": sorted(os.environ),
        "temporary": len(kfp_executes_from),
        "packages": importlib.util.find_spec("numpy").origin,
    }
    print("FOUND", json.dumps(found))
    site.mkdir(parents=True, exist_ok=True)
    for number, place in enumerate(places):
        (place / f"left{number}.py").touch()
    return "done"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def need_the_bundle() -> str:
    import fashion_mnist

    return fashion_mnist.__file__


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def count(file: str, fails: int) -> str:
    from pathlib import Path

    path = Path(file)
    attempt = len(path.read_text()) if path.exists() else 0
    path.write_text("x" * (attempt + 1))
    if attempt < fails:
        raise ValueError(f"attempt {attempt}")
    return "done"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def step(number: int) -> int:
    print(f"step {number} was here")
    return number + 1


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def numbers() -> list:
    return [1, 2, 3, 4, 5, 6]


@dsl.pipeline(name="looking")
def looking(checkout: str):
    first = look(checkout=checkout).set_caching_options(False)
    look(checkout=checkout).after(first).set_caching_options(False)


@dsl.pipeline(name="bundled")
def bundled():
    need_the_bundle().set_caching_options(False)


@dsl.pipeline(name="once")
def once(file: str, fails: int):
    count(file=file, fails=fails).set_caching_options(False)


@dsl.pipeline(name="retried")
def retried(file: str, fails: int):
    task = count(file=file, fails=fails).set_caching_options(False)
    task.set_retry(2, backoff_duration="0s")


@dsl.pipeline(name="chain")
def chain():
    task = step(number=1)
    for _ in range(3):
        task = step(number=task.output)


@dsl.pipeline(name="loop")
def loop():
    with dsl.ParallelFor(numbers().output, parallelism=1) as number:
        step(number=number)


def compiled(tmp_path, pipeline, padding=0):
    """Return a compiled pipeline, its steps made larger by bytes that do not compress."""
    path = tmp_path / f"{pipeline.name}.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    spec = next(yaml.safe_load_all(path.read_text()))
    for name, executor in spec["deploymentSpec"]["executors"].items():
        noise = hashlib.shake_256(name.encode()).digest(padding * 3 // 4)
        executor["container"]["command"][-1] += f"\n# {base64.b64encode(noise).decode()}\n"
    return spec


@pytest.fixture
def sandbox(tmp_path):
    with Sandbox(tmp_path / "state") as sandbox:
        yield sandbox


@pytest.fixture
def execute(sandbox, tmp_path):
    """Execute a pipeline to its end; return the run as the API tells it, and the run's log."""

    def execute(pipeline, padding=0, **parameters):
        http = httpx.Client(trust_env=False)
        runs = f"{sandbox.api_url}/apis/v2beta1/runs"
        body = {
            "display_name": "r",
            "pipeline_spec": compiled(tmp_path, pipeline, padding),
            "runtime_config": {"parameters": parameters},
        }
        run_id = http.post(runs, json=body).raise_for_status().json()["run_id"]
        end = time.monotonic() + 240
        while True:
            run = http.get(f"{runs}/{run_id}").json()
            if run["state"] in ("SUCCEEDED", "FAILED"):
                return run, sandbox.run_log(run_id).read_text()
            assert time.monotonic() < end, run
            time.sleep(0.2)

    return execute


def test_steps_have_neither_the_checkout_nor_what_another_step_left(execute, monkeypatch):
    # GIVEN a machine whose environment has more than a pod's
    for name in ("AWS_PROFILE", "HTTP_PROXY", "KUBECONFIG", "PIP_INDEX_URL", "COVERAGE_FILE"):
        monkeypatch.setenv(name, "of-this-machine")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'training'}:{ROOT / 'lib'}")
    # WHEN two steps look around, and leave files where they may
    run, log = execute(looking, checkout=str(ROOT))
    # THEN neither finds a module of the checkout, and the second none of the first one's files
    assert run["state"] == "SUCCEEDED", log
    lines = [line for line in log.splitlines() if "FOUND" in line]
    looks = [json.loads(line.split("FOUND", 1)[1]) for line in lines]
    assert [(each["modules"], each["paths"], each["left"]) for each in looks] == [([], [], [])] * 2
    # AND the environment has what an image and a node give, and what its room is
    given = {"PATH", "TZ", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
    room = {"HOME", "TMPDIR", "PIP_TARGET", "PYTHONPATH"}
    shell = {"PWD", "OLDPWD", "SHLVL", "_", "_KFP_RUNTIME"}
    for each in looks:
        names = {name for name in each["environment"] if not name.startswith("LC_")}
        assert names <= given | room | shell
    assert len({each["temporary"] for each in looks}) == 1


def test_step_has_the_training_package_from_the_bundle_only(execute, tmp_path):
    # GIVEN an environment in which the package is installed, as editable
    program = "import fashion_mnist; print(fashion_mnist.__file__)"
    command = [sys.executable, "-I", "-c", program]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == ROOT / "training" / "fashion_mnist" / "__init__.py"
    # WHEN a step imports it without the code bundle, THEN it fails as it would in production
    run, log = execute(bundled)
    assert run["state"] == "FAILED"
    assert "ModuleNotFoundError: No module named 'fashion_mnist'" in log


def test_steps_run_where_the_interpreters_path_has_a_space(execute, tmp_path, monkeypatch):
    # GIVEN an interpreter as a checkout in such a folder has it
    environment = tmp_path / "a folder"
    environment.symlink_to(sys.prefix)
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))
    # WHEN a step is executed, THEN it has the packages of this environment
    run, log = execute(looking, checkout=str(ROOT))
    assert run["state"] == "SUCCEEDED", log
    found = next(line for line in log.splitlines() if "FOUND" in line)
    assert json.loads(found.split("FOUND", 1)[1])["packages"].startswith(f"{environment}/")


def test_step_without_a_retry_policy_is_executed_once(execute, tmp_path):
    run, _ = execute(once, file=str(tmp_path / "attempts"), fails=1)
    assert run["state"] == "FAILED"
    assert (tmp_path / "attempts").read_text() == "x"


@pytest.mark.parametrize(("fails", "state"), [(2, "SUCCEEDED"), (3, "FAILED")])
def test_step_is_retried_as_often_as_its_policy_says(execute, tmp_path, fails, state):
    run, log = execute(retried, file=str(tmp_path / "attempts"), fails=fails)
    assert run["state"] == state, log
    assert (tmp_path / "attempts").read_text() == "xxx"
    tasks = {task["display_name"]: task for task in run["run_details"]["task_details"]}
    assert tasks["count"]["state"] == state
    # AND a failed attempt is not the end of the step
    history = [entry["state"] for entry in tasks["count"]["state_history"]]
    assert history == ["RUNNING", state]


def test_too_large_workflow_fails_after_its_first_step_without_a_reason(execute):
    # GIVEN a pipeline of four steps whose containers make the workflow too large
    run, log = execute(chain, padding=90_000)
    # THEN the run fails, and no further step is executed
    assert run["state"] == "FAILED"
    assert "step 1 was here" in log
    assert "step 2 was here" not in log
    # AND the API does not tell why: neither the run nor a task has an error, and no task failed
    assert "error" not in run
    tasks = run["run_details"]["task_details"]
    assert {task["state"] for task in tasks} == {"SUCCEEDED"}
    assert not [task for task in tasks if "error" in task]
    # AND the log has what Argo writes into its object
    assert "workflow is longer than maximum allowed size" in log


def test_loop_over_a_list_from_a_step_fails_when_it_has_grown_too_large(execute):
    run, log = execute(loop, padding=90_000)
    assert run["state"] == "FAILED"
    assert "step 1 was here" in log
    assert "step 6 was here" not in log
    assert "workflow is longer than maximum allowed size" in log
