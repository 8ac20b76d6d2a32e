"""The TFJob against a real Kubernetes API server with the Training Operator's own schema.

CLUSTER_KUBECONFIG=FILE names an administrator's kubeconfig of a cluster that is there to be tried on, and
TFJOB_CRDS=FILE the operator's CustomResourceDefinition. No operator runs: the test plays its part.
"""

import base64
import contextlib
import os
import threading
from pathlib import Path

import httpx
import pytest
import yaml
from lightkube import ApiError
from lightkube.codecs import load_all_yaml
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.core_v1 import Namespace, Pod, ServiceAccount, ServiceAccountToken
from lightkube.types import PatchType

from fashion_mnist.distributed import tfjob
from fashion_mnist.kubernetes import RefusedError
from fashion_mnist.model.strategy import WorkersError
from tests.cluster import CLUSTER, connect, until

CRDS = os.environ.get("TFJOB_CRDS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CLUSTER, reason="no cluster to try on: CLUSTER_KUBECONFIG is not set"),
    pytest.mark.skipif(not CRDS, reason="no schema of TFJob: TFJOB_CRDS is not set"),
]

NAMESPACE = "trainer-test-tfjob"
TFJob = create_namespaced_resource("kubeflow.org", "v1", "TFJob", "tfjobs")
# What the profile's account default-editor may do with it: Kubeflow's ClusterRole kubeflow-edit.
STEP = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: editor, namespace: {NAMESPACE}}}
rules:
- apiGroups: [kubeflow.org]
  resources: [tfjobs]
  verbs: [create, get, list, watch, delete]
- apiGroups: ['']
  resources: [pods, pods/log]
  verbs: [get, list]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: editor, namespace: {NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: editor}}
subjects:
- {{kind: ServiceAccount, name: default-editor, namespace: {NAMESPACE}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: step, namespace: {NAMESPACE}}}
spec:
  serviceAccountName: default-editor
  automountServiceAccountToken: false
  schedulingGates: [{{name: trainer.test/never}}]
  containers:
  - name: main
    image: example.invalid/tensorflow:2
    resources: {{limits: {{cpu: '1', memory: 1Gi}}}}
    env:
    - name: AWS_ACCESS_KEY_ID
      valueFrom: {{secretKeyRef: {{name: mlpipeline-minio-artifact, key: accesskey}}}}
"""


@pytest.fixture(scope="module")
def admin():
    return connect()


@pytest.fixture(scope="module")
def cluster(admin, tmp_path_factory):
    """A client in the namespace with the rights of a step's account."""
    (definition,) = load_all_yaml(Path(CRDS).read_text())
    existing = None
    with contextlib.suppress(ApiError):
        existing = admin.get(CustomResourceDefinition, "tfjobs.kubeflow.org")
    if existing is None:
        admin.apply(definition)

    def is_served():
        # Before it is, the answer is no object of Kubernetes', but a page.
        with contextlib.suppress(ApiError, httpx.HTTPStatusError):
            return list(admin.list(TFJob, namespace="default")) is not None

    until(is_served, "the kind TFJob")
    admin.apply(Namespace(metadata=ObjectMeta(name=NAMESPACE)))
    admin.apply(ServiceAccount(metadata=ObjectMeta(name="default-editor", namespace=NAMESPACE)))
    for resource in load_all_yaml(STEP):
        admin.apply(resource)
    spec = TokenRequestSpec(audiences=[], expirationSeconds=3600)
    token = admin.create(
        ServiceAccountToken(metadata=ObjectMeta(), spec=spec), "default-editor", namespace=NAMESPACE
    ).status.token
    cluster_config = yaml.safe_load(Path(CLUSTER).read_text())["clusters"][0]["cluster"]
    authority = tmp_path_factory.mktemp("tls") / "ca.crt"
    if "certificate-authority" in cluster_config:
        authority = Path(cluster_config["certificate-authority"])
    else:
        authority.write_bytes(base64.b64decode(cluster_config["certificate-authority-data"]))
    yield tfjob.Cluster(cluster_config["server"], NAMESPACE, lambda: token, authority)
    admin.delete(Namespace, NAMESPACE)
    if existing is None:
        admin.delete(CustomResourceDefinition, "tfjobs.kubeflow.org")


@pytest.fixture
def step(cluster):
    """The step's pod."""
    path = "/api/v1/namespaces/{namespace}/pods/step"
    return cluster.call("GET", path)


DRY = f"{tfjob.TFJOBS}?fieldValidation=Strict&dryRun=All"


def test_tfjob_matches_the_operators_schema(cluster, step):
    environment = {"WORK_ADDRESS": "s3://b"}
    job = tfjob.manifest(
        step, name="train-dry", workers=2, command=["work"], environment=environment
    )
    assert cluster.call("POST", DRY, job)["spec"]["tfReplicaSpecs"]["Worker"]["replicas"] == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda job: job["spec"].update(workers=2), 'unknown field "spec.workers"'),
        (
            lambda job: job["spec"]["tfReplicaSpecs"]["Worker"].update(replicas="two"),
            "replicas: Invalid value",
        ),
        (lambda job: job["spec"].pop("tfReplicaSpecs"), "tfReplicaSpecs: Required value"),
    ],
)
def test_tfjob_with_a_wrong_field_is_rejected(cluster, step, spoil, message):
    job = tfjob.manifest(step, name="train-dry", workers=2, command=["work"], environment={})
    spoil(job)
    with pytest.raises(RefusedError, match=message):
        cluster.call("POST", DRY, job)


def status(admin, name, kind):
    conditions = [{"type": kind, "status": "True", "message": "by a test"}]
    patch = {"status": {"conditions": conditions, "replicaStatuses": {}}}
    admin.patch(TFJob.Status, name, patch, namespace=NAMESPACE, patch_type=PatchType.MERGE)


@pytest.mark.parametrize("end", ["Succeeded", "Failed"])
def test_real_tfjob_is_created_followed_and_removed(cluster, admin, monkeypatch, end):
    # GIVEN a TFJob that the step created, owned by the step's pod
    monkeypatch.setenv("KFP_POD_NAME", "step")
    for variable in ("CODE", "CODE_SHA256", "CODE_ENDPOINT"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(tfjob, "POLL_SECONDS", 0.5)
    name = tfjob.start(cluster, 2, {"WORK_ADDRESS": "s3://b/p", "WORK_ENDPOINT": ""})
    job = admin.get(TFJob, name, namespace=NAMESPACE)
    pod = admin.get(Pod, "step", namespace=NAMESPACE)
    assert job.metadata.ownerReferences[0].uid == pod.metadata.uid
    # WHEN the operator changes its status
    failed, messages = [], []

    def follow():
        try:
            tfjob.follow(cluster, name, messages.append)
        except WorkersError as error:
            failed.append(str(error))

    thread = threading.Thread(target=follow)
    thread.start()
    status(admin, name, "Running")
    until(lambda: any("Running" in line for line in messages), "the step's word")
    status(admin, name, end)
    thread.join(60)
    # THEN the step observes it, and deletes the TFJob
    assert not thread.is_alive()
    assert bool(failed) == (end == "Failed")

    def is_gone():
        try:
            admin.get(TFJob, name, namespace=NAMESPACE)
        except ApiError as error:
            return error.status.code == 404

    until(is_gone, "its end")
