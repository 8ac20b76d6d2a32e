"""TFJobs: created, followed and removed."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fashion_mnist.distributed import tfjob
from fashion_mnist.kubernetes import RefusedError
from fashion_mnist.model.strategy import WorkersError
from training import compile as compiling

POD = {
    "metadata": {"name": "train-1", "uid": "11111111-2222"},
    "spec": {
        "serviceAccountName": "default-editor",
        "imagePullSecrets": [{"name": "regcred"}],
        "containers": [
            {"name": "wait", "image": "argoexec"},
            {
                "name": "main",
                "image": "registry.local/tensorflow:2",
                "resources": {"limits": {"cpu": "4", "memory": "4Gi"}},
                "env": [
                    {
                        "name": "AWS_SECRET_ACCESS_KEY",
                        "valueFrom": {"secretKeyRef": {"name": "minio", "key": "secretkey"}},
                    },
                    {"name": "KFP_POD_NAME", "value": "train-1"},
                ],
            },
        ],
    },
}


def test_tfjob_workers_match_the_step_and_are_owned_by_it():
    job = tfjob.manifest(
        POD,
        name="train-1",
        workers=3,
        command=["work"],
        environment={"WORK_ADDRESS": "s3://b/p"},
    )
    replicas = job["spec"]["tfReplicaSpecs"]["Worker"]
    (container,) = replicas["template"]["spec"]["containers"]
    assert replicas["replicas"] == 3
    assert job["metadata"]["ownerReferences"][0]["uid"] == "11111111-2222"
    assert container["image"] == "registry.local/tensorflow:2"
    assert container["resources"] == {"limits": {"cpu": "4", "memory": "4Gi"}}
    assert replicas["template"]["spec"]["serviceAccountName"] == "default-editor"
    assert replicas["template"]["spec"]["imagePullSecrets"] == [{"name": "regcred"}]
    # AND the keys are references
    assert [variable["name"] for variable in container["env"]] == [
        "AWS_SECRET_ACCESS_KEY",
        "WORK_ADDRESS",
    ]
    assert "value" not in container["env"][0]


def test_workers_have_the_steps_endpoints_and_keys():
    # GIVEN a site behind a proxy, with its own package index and certificates
    named = {
        "HTTPS_PROXY": "http://proxy:3128",
        "http_proxy": "http://proxy:3128",
        "no_proxy": ".svc,10.0.0.0/8",
        "PIP_INDEX_URL": "https://pypi.local/simple",
        "PIP_CACHE_DIR": "/cache/pip",
        "SSL_CERT_FILE": "/etc/site/ca.pem",
        "REQUESTS_CA_BUNDLE": "/etc/site/ca.pem",
    }
    main = {
        "name": "main",
        "image": "tensorflow",
        "env": [{"name": name, "value": value} for name, value in named.items()]
        + [{"name": "KFP_POD_UID", "value": "1"}, {"name": "HOME", "value": "/root"}],
        "volumeMounts": [
            {"name": "certificates", "mountPath": "/etc/site", "readOnly": True},
            {"name": "token", "mountPath": "/etc/other"},
            {"name": "cache", "mountPath": "/cache"},
        ],
    }
    volumes = [
        {"name": "certificates", "configMap": {"name": "site-ca"}},
        {"name": "token", "secret": {"secretName": "token"}},
        {"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}},
    ]
    pod = {**POD, "spec": {"containers": [main], "volumes": volumes}}
    # WHEN its workers are created THEN they have these settings, and nothing else of the step
    job = tfjob.manifest(
        pod,
        name="train-1",
        workers=2,
        command=["work"],
        environment={"WORK_ADDRESS": "s3://b/p"},
    )
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]
    (container,) = worker["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert variables == {**named, "WORK_ADDRESS": "s3://b/p"}
    # AND the certificates, by a mount that several pods can share
    assert [mount["name"] for mount in container["volumeMounts"]] == ["certificates"]
    assert worker["volumes"] == [volumes[0]]


def test_worker_fetches_the_bundle_that_its_step_runs(tmp_path, monkeypatch):
    # GIVEN a step that runs from the code bundle
    bundle = compiling.bundle()
    (tmp_path / "bundle").write_bytes(bundle)
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        archive.extractall(tmp_path / "step")
    step = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path / "step"),
        "CODE": str(tmp_path / "bundle"),
        "CODE_SHA256": hashlib.sha256(bundle).hexdigest(),
        "CODE_ENDPOINT": "",
    }
    source = "import json; from fashion_mnist.distributed import tfjob; print(json.dumps(tfjob.worker_command()))"
    process = subprocess.run(
        [sys.executable, "-c", source], env=step, capture_output=True, text=True
    )
    command = json.loads(process.stdout)
    # THEN its workers' command stays far below Linux's limit of 128 KiB for an argument
    assert max(len(argument) for argument in command) < 32 * 1024
    # WHEN a worker executes it THEN it runs the bundle's code, and lacks only its task
    command[0] = sys.executable
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "fashion_mnist/distributed/workers.py" in done.stderr
    assert str(Path(tfjob.__file__).parent) not in done.stderr
    assert "KeyError: 'WORK_ADDRESS'" in done.stderr


class Operator:
    """An API server whose TFJob has the next of these conditions at each request."""

    def __init__(self, httpserver, *looks):
        self.looks = list(looks)
        self.calls = []
        self.log = []
        httpserver.expect_request("/api/v1/namespaces/team/pods").respond_with_json(
            {"items": [{"metadata": {"name": "train-x-worker-0"}}]}
        )
        httpserver.expect_request(
            "/api/v1/namespaces/team/pods/train-x-worker-0/log"
        ).respond_with_data("out of memory")
        path = "/apis/kubeflow.org/v1/namespaces/team/tfjobs/train-x"
        httpserver.expect_request(path).respond_with_handler(self.answer)
        self.cluster = tfjob.Cluster(httpserver.url_for("").rstrip("/"), "team", lambda: "token")

    def answer(self, request):
        from werkzeug import Response

        self.calls.append((request.method, request.headers["authorization"]))
        if request.method == "DELETE":
            return Response("{}")
        status = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(status, int):
            return Response(json.dumps({"message": "made to refuse"}), status)
        conditions = [{"type": kind, "status": "True", "message": "so"} for kind in status]
        return Response(json.dumps({"status": {"conditions": conditions}}))

    def follow(self):
        clock = iter(range(0, 10**9, 1000))
        tfjob.follow(self.cluster, "train-x", self.log.append, lambda _: None, lambda: next(clock))


@pytest.mark.filterwarnings("ignore")
def test_tfjob_is_followed_until_it_succeeds_and_removed(httpserver):
    operator = Operator(httpserver, [], 503, ["Created"], ["Created", "Running"], ["Succeeded"])
    operator.follow()
    assert operator.calls[-1] == ("DELETE", "Bearer token")
    log = "\n".join(operator.log)
    assert "503 made to refuse" in log
    assert log.index("Created") < log.index("Running") < log.index("Succeeded")


@pytest.mark.parametrize(
    ("looks", "message"),
    [
        ([["Created", "Failed"]], "TFJob train-x failed; its workers' logs are above"),
        ([["Created"]], "did not end within 6600 s"),
        ([404], "404 made to refuse"),
    ],
)
def test_failed_tfjob_is_an_error_and_removed(httpserver, looks, message):
    operator = Operator(httpserver, *looks)
    with pytest.raises((WorkersError, RefusedError), match=message):
        operator.follow()
    assert operator.calls[-1][0] == "DELETE"
    assert ("out of memory" in "".join(operator.log)) == (
        "Failed" in looks[0] if looks != [404] else False
    )


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "install Kubeflow's Training Operator"), (403, "tfjobs is forbidden")],
)
def test_cluster_without_tfjobs_names_the_remedy(httpserver, monkeypatch, status, message):
    httpserver.expect_request("/api/v1/namespaces/team/pods/train-1").respond_with_json(POD)
    monkeypatch.setenv("KFP_POD_NAME", "train-1")
    httpserver.expect_request("/apis/kubeflow.org/v1/namespaces/team/tfjobs").respond_with_json(
        {"message": "tfjobs is forbidden"}, status
    )
    for name in ("CODE", "CODE_SHA256", "CODE_ENDPOINT"):
        monkeypatch.setenv(name, "")
    cluster = tfjob.Cluster(httpserver.url_for("").rstrip("/"), "team", lambda: "token")
    with pytest.raises((WorkersError, RefusedError), match=message):
        tfjob.start(cluster, 2, {})
