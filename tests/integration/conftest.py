"""One `Deployment` for all scenarios, filled by the driver that is asked for."""

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
    parser.addoption("--s3-access-key", default="")
    parser.addoption("--s3-secret-key", default="")
    parser.addoption("--kubectl", default="kubectl", help="such as 'microk8s kubectl'")


@pytest.fixture(scope="module")
def kit(request):
    option = request.config.getoption
    trainer = option("--charm-path")
    if option("--bundle"):
        return Kit(trainer=trainer, bundle=ROOT / "bundle.yaml")
    return Kit(
        trainer=trainer,
        stand_ins={
            app: CHARMS / app / f"{app}-stand-in_amd64.charm"
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
                "access-key": option("--s3-access-key"),
                "secret-key": option("--s3-secret-key"),
            },
        },
    )


@pytest.fixture(scope="module")
def there(request):
    kubectl = request.config.getoption("--kubectl").split()
    if request.config.getoption("--driver") == "pytest-operator":
        loop = request.getfixturevalue("event_loop")
        ops_test = request.getfixturevalue("ops_test")

        def juju(*words):
            return loop.run_until_complete(ops_test.juju(*words, check=True))[1]

        yield CommandLine(juju, ops_test.model_name, kubectl)
        return
    model = request.config.getoption("--juju-model")
    if model:
        client = jubilant.Juju(model=model)
        yield CommandLine(_in(client), model.rpartition(":")[2], kubectl)
        return
    with jubilant.temp_model() as client:
        yield CommandLine(_in(client), client.model.rpartition(":")[2], kubectl)


def _in(client):
    def juju(*words):
        return client.cli(*words, include_model=words[0] != "version")

    return juju
