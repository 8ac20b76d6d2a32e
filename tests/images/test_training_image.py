"""A step in the training image starts without installing anything, in a real pod."""

import json
import os
import subprocess
import uuid
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBECONFIG, IMAGE = os.environ.get("CLUSTER_KUBECONFIG"), os.environ.get("TRAINING_IMAGE")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (KUBECONFIG and IMAGE), reason="no CLUSTER_KUBECONFIG, TRAINING_IMAGE"),
]


def kubectl(*words, text=None):
    command = ["kubectl", "--kubeconfig", KUBECONFIG, *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=300)


@pytest.fixture
def pod():
    """Run a program in a pod of the image as a step does; return phase and log."""
    name = f"training-image-{uuid.uuid4().hex[:8]}"

    def run(command):
        # pip has no index: a step that installs anything fails.
        container = {
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": command,
            "env": [{"name": "PIP_NO_INDEX", "value": "1"}],
        }
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["127.0.0.1"]},
            "containers": [container],
        }
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        created = kubectl("apply", "--filename", "-", text=json.dumps(body))
        assert created.returncode == 0, created.stderr
        terminated = "--for=jsonpath={.status.containerStatuses[0].state.terminated}"
        waited = kubectl("wait", f"pod/{name}", terminated, "--timeout=240s")
        log = kubectl("logs", name).stdout
        assert waited.returncode == 0, waited.stderr + log
        # The phase follows the containers' states.
        process = kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded")
        return process.returncode == 0, log

    yield run
    kubectl("delete", "pod", name, "--grace-period=0", "--force")


def test_step_starts_without_network_from_the_bundle_in_the_image(pod):
    # GIVEN the start of the step train, before kfp's executor, and no address of the code bundle
    spec = next(yaml.safe_load_all((ROOT / "src" / "pipelines" / "train.yaml").read_text()))
    command = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["command"]
    digest = spec["root"]["inputDefinitions"]["parameters"]["code_sha256"]["defaultValue"]
    program = (
        "import kfp, obstore, tensorflow, fashion_mnist.storage; "
        "print(kfp.__version__, tensorflow.__version__, 'obstore' in obstore.__file__)"
    )
    # WHEN it imports what the steps import
    start = [*command[:3], "", digest, ""]
    succeeded, log = pod([*start, "env", "_KFP_RUNTIME=true", "python3", "-c", program])
    # THEN the bundle was in the image and nothing was installed
    assert succeeded, log
    assert log.strip().splitlines()[-1] == "2.17.0 2.21.0 True"
