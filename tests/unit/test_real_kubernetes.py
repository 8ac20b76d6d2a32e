"""The charm against a real Kubernetes: its rights with and without trust, its token, its pods' reasons.

CLUSTER_KUBECONFIG=FILE names an administrator's kubeconfig of a cluster that is there to be tried on:
the tests make and remove namespaces, cluster roles and, where there is none, the kind Profile.
KSERVE_CRDS=FOLDER names config/crd/full of KServe's sources, whose kind InferenceService is tried on then.
"""

import base64
import contextlib
import dataclasses
import os
import textwrap
from pathlib import Path

import lightkube
import ops
import pytest
import yaml
from lightkube import ApiError
from lightkube.codecs import load_all_yaml
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.authorization_v1 import ResourceAttributes, SubjectAccessReviewSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.authorization_v1 import SubjectAccessReview
from lightkube.resources.core_v1 import (
    Namespace,
    PersistentVolumeClaim,
    Pod,
    Secret,
    ServiceAccount,
    ServiceAccountToken,
)
from lightkube.resources.rbac_authorization_v1 import ClusterRole, ClusterRoleBinding, RoleBinding

from tests.cluster import CLUSTER, connect, until

KSERVE_CRDS = os.environ.get("KSERVE_CRDS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CLUSTER, reason="no cluster to try on: CLUSTER_KUBECONFIG is not set"),
]

MODEL, PROFILE, BINDING = "trainer-test-model", "trainer-test-profile", "trainer-test-trust"
Profile = create_global_resource("kubeflow.org", "v1", "Profile", "profiles")
InferenceService = create_namespaced_resource(
    "serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"
)
# The required part of Kubeflow: https://github.com/kubeflow/kubeflow, profile controller, and
# https://github.com/kubeflow/pipelines, manifests for many users.
KUBEFLOW = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: profiles.kubeflow.org}
spec:
  group: kubeflow.org
  scope: Cluster
  names: {kind: Profile, listKind: ProfileList, plural: profiles, singular: profile}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              owner:
                type: object
                required: [kind, name]
                properties: {apiGroup: {type: string}, kind: {type: string}, name: {type: string}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kubeflow-pipelines-edit}
rules:
- apiGroups: [pipelines.kubeflow.org]
  resources: [runs, jobs, experiments, pipelines, pipelineversions]
  verbs: [get, list, create, delete, terminate, retry, enable, disable]
"""
# The permissions that Juju grants a trusted application.
TRUST = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {BINDING}}}
rules:
- apiGroups: ['*']
  resources: ['*']
  verbs: ['*']
- nonResourceURLs: ['*']
  verbs: ['*']
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {BINDING}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {BINDING}}}
subjects:
- {{kind: ServiceAccount, name: trainer, namespace: {MODEL}}}
"""


@pytest.fixture(scope="module")
def admin():
    return connect()


@pytest.fixture(scope="module", autouse=True)
def kubeflow(admin):
    for resource in load_all_yaml(KUBEFLOW):
        # An installed Kubeflow has its own.
        if not exists(admin, type(resource), resource.metadata.name):
            admin.apply(resource)

    def served():
        with contextlib.suppress(Exception):
            return list(admin.list(Profile)) is not None

    until(served, "the kind Profile")


def exists(admin, kind, name):
    try:
        return admin.get(kind, name) is not None
    except ApiError as error:
        if error.status.code != 404:
            raise
        return False


def wait_until_gone(admin, kind, name):
    with contextlib.suppress(ApiError):
        admin.delete(kind, name)

    def absent():
        try:
            admin.get(kind, name)
        except ApiError as error:
            return error.status.code == 404

    until(absent, f"the end of {name}")


@pytest.fixture
def untrusted(admin, tmp_path, monkeypatch):
    """Create the application's ServiceAccount, and a kubeconfig with its token."""
    admin.apply(Namespace(metadata=ObjectMeta(name=MODEL)))
    admin.apply(ServiceAccount(metadata=ObjectMeta(name="trainer", namespace=MODEL)))
    spec = TokenRequestSpec(audiences=[], expirationSeconds=3600)
    token = admin.create(
        ServiceAccountToken(metadata=ObjectMeta(), spec=spec), "trainer", namespace=MODEL
    ).status.token
    document = yaml.safe_load(Path(CLUSTER).read_text())
    document["users"] = [{"name": "charm", "user": {"token": token}}]
    document["contexts"] = [
        {"name": "charm", "context": {"cluster": document["clusters"][0]["name"], "user": "charm"}}
    ]
    document["current-context"] = "charm"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("KUBECONFIG", str(path))
    yield
    for name in (PROFILE, f"{PROFILE}-2"):
        wait_until_gone(admin, Profile, name)
        wait_until_gone(admin, Namespace, name)
    wait_until_gone(admin, Namespace, MODEL)


@pytest.fixture
def trusted(admin, untrusted):
    for resource in load_all_yaml(TRUST):
        admin.apply(resource)
    yield
    for kind in (ClusterRoleBinding, ClusterRole):
        wait_until_gone(admin, kind, BINDING)


@pytest.fixture
def in_profile(configured):
    state = configured(profile=PROFILE, profile_owner="anna@example.com")
    return dataclasses.replace(state, model=dataclasses.replace(state.model, name=MODEL))


def controller(admin, name=PROFILE):
    """Create the profile's namespace, as the profile controller does."""
    admin.apply(Namespace(metadata=ObjectMeta(name=name)))


def bindings(admin, namespace=PROFILE):
    return list(admin.list(RoleBinding, namespace=namespace))


def test_untrusted_charm_creates_nothing_and_shows_the_command(
    ctx, admin, untrusted, in_profile, proxy
):
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "juju trust trainer --scope=cluster" in out.unit_status.message
    assert not [profile for profile in admin.list(Profile) if profile.metadata.name == PROFILE]
    assert not proxy.requests


def test_trusted_charm_creates_binds_and_uses_the_profile(ctx, admin, trusted, in_profile, proxy):
    # WHEN there is no profile, THEN it is created, and the charm waits for its namespace
    out = ctx.run(ctx.on.config_changed(), in_profile)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert admin.get(Profile, PROFILE).spec["owner"]["name"] == "anna@example.com"
    assert not proxy.requests

    # WHEN the namespace exists, THEN the charm's account is bound by server-side apply
    controller(admin)
    out = ctx.run(ctx.on.update_status(), in_profile)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    (binding,) = bindings(admin)
    assert binding.roleRef.name == "kubeflow-pipelines-edit"
    assert [(field.manager, field.operation) for field in binding.metadata.managedFields] == [
        (f"juju-{MODEL}-trainer", "Apply")
    ]

    # AND the token is of the charm's account, for Kubeflow only, and short-lived
    bearer = proxy.headers[-1]["authorization"].removeprefix("Bearer ")
    payload = bearer.split(".")[1]
    claims = yaml.safe_load(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["aud"] == ["pipelines.kubeflow.org"]
    assert claims["sub"] == f"system:serviceaccount:{MODEL}:trainer"
    assert claims["exp"] - claims["iat"] <= 600

    # AND a second event changes nothing
    version = binding.metadata.resourceVersion
    ctx.run(ctx.on.update_status(), in_profile)
    assert bindings(admin)[0].metadata.resourceVersion == version


def test_role_binding_grants_pipelines_access_only(ctx, admin, trusted, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    controller(admin)
    ctx.run(ctx.on.update_status(), in_profile)
    admin.delete(ClusterRoleBinding, BINDING)

    def may(verb, group, resource, namespace):
        attributes = ResourceAttributes(
            group=group, resource=resource, verb=verb, namespace=namespace
        )
        user = f"system:serviceaccount:{MODEL}:trainer"
        spec = SubjectAccessReviewSpec(resourceAttributes=attributes, user=user)
        return admin.create(SubjectAccessReview(spec=spec, metadata=ObjectMeta())).status.allowed

    until(lambda: not may("list", "", "secrets", PROFILE), "the end of the trust")
    assert may("create", "pipelines.kubeflow.org", "runs", PROFILE)
    assert not may("create", "pipelines.kubeflow.org", "runs", "default")


def test_profile_change_and_removal_delete_role_bindings(ctx, admin, trusted, in_profile):
    ctx.run(ctx.on.config_changed(), in_profile)
    controller(admin)
    ctx.run(ctx.on.update_status(), in_profile)
    other = f"{PROFILE}-2"
    state = dataclasses.replace(in_profile, config={**in_profile.config, "profile": other})
    controller(admin, other)
    ctx.run(ctx.on.config_changed(), state)
    assert bindings(admin) == []
    assert len(bindings(admin, other)) == 1
    ctx.run(ctx.on.remove(), dataclasses.replace(state, planned_units=0))
    assert bindings(admin, other) == []
    assert admin.get(Profile, PROFILE)
    assert admin.get(Profile, other)


def test_status_shows_why_a_run_cannot_start(ctx, admin, trusted, in_profile, runs):
    # GIVEN a run with a pod whose image cannot be pulled
    ctx.run(ctx.on.config_changed(), in_profile)
    controller(admin)
    ctx.run(ctx.on.update_status(), in_profile)
    (run,) = runs()
    pod = f"""
    apiVersion: v1
    kind: Pod
    metadata:
      name: train-1
      namespace: {PROFILE}
      labels: {{pipeline/runid: {run["run_id"]}}}
      annotations: {{workflows.argoproj.io/node-name: trainer-x.root.train(0).executor}}
    spec:
      automountServiceAccountToken: false
      containers:
      - {{name: main, image: "example.invalid/none:1", imagePullPolicy: Never}}
    """
    (pod,) = load_all_yaml(pod)
    until(lambda: list(admin.list(ServiceAccount, namespace=PROFILE)), "the default account")
    admin.create(pod)

    def stuck():
        for container in (
            admin.get(Pod, "train-1", namespace=PROFILE).status.containerStatuses or ()
        ):
            return container.state.waiting and container.state.waiting.reason != "ContainerCreating"
        return False

    until(stuck, "kubelet's word")
    out = ctx.run(ctx.on.update_status(), in_profile)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "step train: ErrImageNeverPull" in out.unit_status.message


# Volumes and workflows of ended runs --------------------------------------------------------------

# The part of the kind that the charm reads: https://github.com/argoproj/argo-workflows, manifests.
ARGO = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: workflows.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {kind: Workflow, listKind: WorkflowList, plural: workflows, singular: workflow}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
Workflow = create_namespaced_resource("argoproj.io", "v1alpha1", "Workflow", "workflows")


@pytest.fixture
def argo(admin):
    """Create the kind Workflow if the cluster has no Argo."""
    (crd,) = load_all_yaml(ARGO)
    existing = exists(admin, CustomResourceDefinition, crd.metadata.name)
    if not existing:
        admin.create(crd)

    def served():
        with contextlib.suppress(Exception):
            return list(admin.list(Workflow, namespace="default")) is not None

    until(served, "the kind Workflow")
    yield
    if not existing:
        wait_until_gone(admin, CustomResourceDefinition, crd.metadata.name)


@pytest.fixture
def workspace(ctx, admin, trusted, in_profile):
    """The state of a trainer in a profile with a volume for each run, and one run submitted."""
    config = {**in_profile.config, "workspace-size": "1Gi"}
    relations = {*in_profile.relations, ops.testing.PeerRelation("peers")}
    state = dataclasses.replace(in_profile, config=config, relations=relations)
    ctx.run(ctx.on.config_changed(), state)
    controller(admin)
    until(lambda: list(admin.list(ServiceAccount, namespace=PROFILE)), "the default account")
    return ctx.run(ctx.on.update_status(), state)


@pytest.fixture
def mounted(admin, workspace, runs):
    """The run's claim, bound, and pods that mounted it and have ended; gives the run's id.

    No image is needed: Kubernetes ends a pod past its deadline.
    """
    run_id = runs()[0]["run_id"]
    manifests = f"""
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {{name: {run_id}, namespace: {PROFILE}}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
    """
    for name in ("train-1", "train-2"):
        manifests += f"""
    ---
    apiVersion: v1
    kind: Pod
    metadata:
      name: {name}
      namespace: {PROFILE}
      labels: {{pipeline/runid: {run_id}}}
      annotations: {{workflows.argoproj.io/node-name: trainer-x.root.train(0).executor}}
    spec:
      automountServiceAccountToken: false
      activeDeadlineSeconds: 5
      restartPolicy: Never
      containers:
      - name: main
        image: example.invalid/none:1
        imagePullPolicy: Never
        volumeMounts: [{{name: workspace, mountPath: /workspace}}]
      volumes: [{{name: workspace, persistentVolumeClaim: {{claimName: {run_id}}}}}]
    """
    for resource in load_all_yaml(textwrap.dedent(manifests)):
        admin.create(resource)

    def ended():
        claim = admin.get(PersistentVolumeClaim, run_id, namespace=PROFILE)
        pods = admin.list(Pod, namespace=PROFILE, labels={"pipeline/runid": run_id})
        ends = [pod.spec.nodeName and pod.status.phase == "Failed" for pod in pods]
        return claim.status.phase == "Bound" and all(ends)

    until(ended, "the end of the pods")
    return run_id


def claims(admin):
    return {
        claim.metadata.name: claim for claim in admin.list(PersistentVolumeClaim, namespace=PROFILE)
    }


def pods_of(admin, run_id):
    return list(admin.list(Pod, namespace=PROFILE, labels={"pipeline/runid": run_id}))


def test_claim_held_by_completed_pods_is_deleted_with_them(ctx, admin, workspace, mounted, sandbox):
    # GIVEN a claim that the pipeline deleted, held by completed pods
    other = f"""
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {{name: somebody-elses, namespace: {PROFILE}}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
    """
    admin.create(*load_all_yaml(textwrap.dedent(other)))
    admin.delete(PersistentVolumeClaim, mounted, namespace=PROFILE)
    assert claims(admin)[mounted].metadata.deletionTimestamp
    # WHEN its run is active THEN nothing is removed
    out = ctx.run(ctx.on.update_status(), workspace)
    assert len(pods_of(admin, mounted)) == 2
    # WHEN its run has ended THEN the pods are deleted, and Kubernetes deletes the claim
    sandbox.set_run_state(mounted, "SUCCEEDED")
    ctx.run(ctx.on.update_status(), out)
    until(lambda: mounted not in claims(admin), "the end of the claim")
    assert pods_of(admin, mounted) == []
    # AND other objects stay
    assert not claims(admin)["somebody-elses"].metadata.deletionTimestamp


def test_claim_of_a_failed_run_is_deleted_and_its_reason_kept(
    ctx, admin, workspace, mounted, sandbox
):
    sandbox.set_run_state(mounted, "FAILED")
    # GIVEN ended pods that Argo has not processed yet
    finalizer = "workflows.argoproj.io/status"
    for pod in pods_of(admin, mounted):
        change = {"metadata": {"finalizers": [finalizer]}}
        admin.patch(Pod, pod.metadata.name, change, namespace=PROFILE)
    out = ctx.run(ctx.on.update_status(), workspace)
    # THEN they are deleted, but keep Argo's finalizer
    pods = pods_of(admin, mounted)
    assert all(p.metadata.deletionTimestamp and p.metadata.finalizers == [finalizer] for p in pods)
    assert len(pods) == 2
    # WHEN Argo removes its finalizer THEN Kubernetes deletes the claim
    for pod in pods:
        change = {"metadata": {"finalizers": None}}
        admin.patch(Pod, pod.metadata.name, change, namespace=PROFILE)
    until(lambda: mounted not in claims(admin), "the end of the claim")
    # AND the reason is still there
    out = ctx.run(ctx.on.update_status(), out)
    assert pods_of(admin, mounted) == []
    assert "failed at step train: DeadlineExceeded" in out.unit_status.message


@pytest.mark.usefixtures("argo")
def test_workflow_message_is_read_if_no_pod_failed(ctx, admin, workspace, runs, sandbox):
    (run,) = runs()
    message = "workflow is longer than maximum allowed size. compressed size 9 > maxSize 1"
    workflow = Workflow(
        apiVersion="argoproj.io/v1alpha1",
        kind="Workflow",
        metadata=ObjectMeta(
            name="trainer-x",
            namespace=PROFILE,
            # An installed Argo does not use it.
            labels={"pipeline/runid": run["run_id"], "workflows.argoproj.io/completed": "true"},
        ),
        spec={"entrypoint": "e", "templates": []},
        status={"phase": "Error", "message": message},
    )
    admin.create(workflow)
    sandbox.set_run_state(run["run_id"], "FAILED")
    out = ctx.run(ctx.on.update_status(), workspace)
    assert "failed: the workflow is too large for Kubernetes" in out.unit_status.message


# KServe ------------------------------------------------------------------------------------------


SERVICE = f"{MODEL}--trainer"
OURS = (InferenceService, Secret, ServiceAccount)


@pytest.fixture(scope="module")
def kserve(admin):
    """Create KServe's kind InferenceService without KServe."""
    if not KSERVE_CRDS:
        pytest.skip("no schema of KServe to try on: KSERVE_CRDS is not set")
    path = Path(KSERVE_CRDS, "serving.kserve.io_inferenceservices.yaml")
    (crd,) = load_all_yaml(path.read_text())
    # Its webhook, which converts between versions, is absent.
    crd.spec.conversion = None
    admin.apply(crd, force=True)

    def served():
        with contextlib.suppress(Exception):
            return list(admin.list(InferenceService, namespace="default")) is not None

    until(served, "the kind InferenceService")
    yield
    wait_until_gone(admin, CustomResourceDefinition, crd.metadata.name)


@pytest.fixture
def served_state(ctx, admin, trusted, in_profile, three_versions):
    """The state of a trainer that serves with KServe in a profile."""
    ctx.run(ctx.on.config_changed(), in_profile)
    controller(admin)
    until(lambda: list(admin.list(ServiceAccount, namespace=PROFILE)), "the default account")
    keys = {"accesskey": "profiles-own", "secretkey": "profiles-secret"}
    metadata = ObjectMeta(name="mlpipeline-minio-artifact", namespace=PROFILE)
    admin.create(Secret(metadata=metadata, stringData=keys))
    return dataclasses.replace(in_profile, config={**in_profile.config, "serving": "kserve"})


def service(admin):
    return admin.get(InferenceService, SERVICE, namespace=PROFILE)


def remaining(admin, kinds=OURS):
    return [
        kind.__name__
        for kind in kinds
        if any(item.metadata.name == SERVICE for item in admin.list(kind, namespace=PROFILE))
    ]


def set_status(admin, **status):
    """Write the service's status, as KServe does."""
    admin.patch(
        InferenceService.Status,
        SERVICE,
        {"status": status},
        namespace=PROFILE,
        patch_type=lightkube.types.PatchType.MERGE,
    )


def test_missing_kserve_shows_the_remedy(ctx, admin, served_state):
    if any(
        "inferenceservices" in crd.metadata.name for crd in admin.list(CustomResourceDefinition)
    ):
        pytest.skip("this cluster has KServe")
    out = ctx.run(ctx.on.config_changed(), served_state)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "juju config trainer serving=none" in out.unit_status.message
    assert remaining(admin, (Secret, ServiceAccount)) == []


@pytest.mark.usefixtures("kserve")
def test_kserve_schema_accepts_every_field_of_the_service(ctx, admin, served_state):
    state = dataclasses.replace(served_state, config={**served_state.config, "canary-traffic": 25})
    out = ctx.run(ctx.on.config_changed(), state)
    assert (
        "v3 serves, accuracy 0.9300, KServe not ready: v3 was just applied"
        in out.unit_status.message
    )
    # The server would drop fields that the schema lacks.
    predictor = service(admin)["spec"]["predictor"]
    assert predictor["canaryTrafficPercent"] == 25
    assert predictor["serviceAccountName"] == SERVICE
    assert predictor["model"]["modelFormat"] == {"name": "tensorflow", "version": "2"}
    assert predictor["model"]["storageUri"] == "s3://mlpipeline/models/fashion-mnist/3/serving"
    (secret,) = admin.get(ServiceAccount, SERVICE, namespace=PROFILE).secrets
    kept_secret = admin.get(Secret, secret.name, namespace=PROFILE)
    assert base64.b64decode(kept_secret.data["AWS_SECRET_ACCESS_KEY"]) == b"profiles-secret"
    # AND emptying the option removes the field
    out = ctx.run(ctx.on.config_changed(), served_state)
    assert "canaryTrafficPercent" not in service(admin)["spec"]["predictor"]
    # AND an event that changes nothing writes nothing
    version = service(admin).metadata.resourceVersion
    ctx.run(ctx.on.update_status(), out)
    assert service(admin).metadata.resourceVersion == version


@pytest.mark.usefixtures("kserve")
def test_service_is_followed_moved_and_removed(ctx, admin, served_state):
    out = ctx.run(ctx.on.config_changed(), served_state)
    now = "2026-01-01T00:00:00Z"
    failed = {"type": "Ready", "status": "False", "reason": "PredictorNotReady"}
    set_status(admin, conditions=[{**failed, "message": "no runtime", "lastTransitionTime": now}])
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "KServe not ready: PredictorNotReady: no runtime" in out.unit_status.message
    # WHEN KServe is ready THEN the status shows it, and applying again keeps KServe's status
    set_status(
        admin,
        conditions=[{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        address={"url": f"http://{SERVICE}.{PROFILE}.svc.cluster.local"},
        modelStatus={"transitionStatus": "UpToDate"},
    )
    out = ctx.run(ctx.on.update_status(), out)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert "v3 serves, accuracy 0.9300, KServe ready" in out.unit_status.message
    # WHEN the champion moves THEN the service follows
    out = ctx.run(ctx.on.action("rollback"), out)
    model = service(admin)["spec"]["predictor"]["model"]
    assert model["storageUri"] == "s3://mlpipeline/models/fashion-mnist/2/serving"
    # WHEN serving is off THEN its objects are deleted, and the profile's Secret stays
    state = dataclasses.replace(out, config={**out.config, "serving": "none"})
    ctx.run(ctx.on.config_changed(), state)
    assert remaining(admin) == []
    assert admin.get(Secret, "mlpipeline-minio-artifact", namespace=PROFILE)
