"""One `Deployment` for all scenarios, by the selected driver."""

import asyncio
import json
import subprocess
from pathlib import Path

import jubilant
import pytest
from deployment import CommandLine
from scenarios import Kit

ROOT = Path(__file__).parents[2]
CHARMS = Path(__file__).parent / "charms"


def pytest_addoption(parser):
    parser.addoption("--driver", choices=["pytest-operator", "jubilant"], default="jubilant")
    parser.addoption("--juju-model", help="an existing model, for jubilant")
    parser.addoption("--charm-path", type=Path, default=ROOT / "fashion-mnist-trainer_amd64.charm")
    parser.addoption("--bundle", action="store_true", help="deploy bundle.yaml whole")
    parser.addoption("--kfp-service", default="", help="host of Kubeflow Pipelines' API")
    parser.addoption("--kfp-port", type=int, default=8888)
    parser.addoption("--s3-service", default="", help="host of the S3 server")
    parser.addoption("--s3-port", type=int, default=9000)
    parser.addoption("--s3-keys", type=Path, help='a file with ["ACCESS KEY", "SECRET KEY"]')
    parser.addoption("--kubectl", default="kubectl", help="such as 'microk8s kubectl'")
    parser.addoption("--stand-ins", type=Path, help="where their charms are, in one folder")
    parser.addoption("--poll", type=float, default=5, help="seconds between two looks at a model")


@pytest.fixture(scope="module")
def kit(request):
    option = request.config.getoption
    trainer = _packed(option("--charm-path"), "make pack")
    if option("--bundle"):
        return Kit(trainer=trainer, bundle=ROOT / "bundle.yaml")
    for name in "--kfp-service", "--s3-service", "--s3-keys":
        if not option(name):
            raise pytest.UsageError(f"{name} is missing; see CONTRIBUTING.md, or take --bundle")
    access_key, secret_key = json.loads(option("--s3-keys").read_text())
    folder = option("--stand-ins")
    return Kit(
        trainer=trainer,
        stand_ins={
            app: _packed(
                (folder or CHARMS / app) / f"{app}-stand-in_amd64.charm", "make pack-stand-ins"
            )
            for app in ("kfp-api", "object-storage")
        },
        options={
            "kfp-api": {
                "service-name": option("--kfp-service"),
                "service-port": option("--kfp-port"),
            },
            "object-storage": {
                "service": option("--s3-service"),
                "port": option("--s3-port"),
                "access-key": access_key,
                "secret-key": secret_key,
            },
        },
    )


@pytest.fixture(scope="module")
def deployed(request, kit):
    option = request.config.getoption
    words = {"kubectl": option("--kubectl").split(), "poll": option("--poll")}
    if option("--driver") == "pytest-operator":
        loop = request.getfixturevalue("event_loop")
        ops_test = request.getfixturevalue("ops_test")

        def juju(*words, minutes):
            call = asyncio.wait_for(ops_test.juju(*words), timeout=60 * minutes)
            code, out, err = loop.run_until_complete(call)
            if code:
                raise subprocess.CalledProcessError(code, ["juju", *words], out, err)
            return out

        yield CommandLine(juju, ops_test.model_name, **words)
        return
    model = option("--juju-model")
    if option("--bundle") and not model:
        raise pytest.UsageError("Kubeflow's model must be called kubeflow: --juju-model kubeflow")
    if model:
        client = jubilant.Juju(model=model)
        yield CommandLine(_in(client), model.rpartition(":")[2], **words)
        return
    with jubilant.temp_model() as client:
        yield CommandLine(_in(client), client.model.rpartition(":")[2], **words)


def _in(client):
    def juju(*words, minutes):
        # jubilant's `cli` has no timeout.
        model = [] if words[0] == "version" else ["--model", client.model]
        command = [client.cli_binary, words[0], *model, *words[1:]]
        process = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60 * minutes
        )
        return process.stdout

    return juju


def _packed(charm, remedy):
    if not charm.exists():
        raise pytest.UsageError(f"{charm} is not there; make it with: {remedy}")
    return charm
