"""A real Kubernetes cluster for tests: CLUSTER_KUBECONFIG names an administrator's kubeconfig."""

import base64
import contextlib
import json
import os
import time
from pathlib import Path

import lightkube
import yaml
from lightkube import KubeConfig
from lightkube.codecs import load_all_yaml
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, ServiceAccountToken

CLUSTER = os.environ.get("CLUSTER_KUBECONFIG", "")
# A profile's account, with what Kubeflow's ClusterRole kubeflow-edit gives it on ConfigMaps:
# https://github.com/kubeflow/manifests/blob/v1.10.0/common/kubeflow-roles/base/cluster-roles.yaml
EDITOR = """
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: default-editor, namespace: {namespace}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: kubeflow-edit, namespace: {namespace}}}
rules:
- apiGroups: ['']
  resources: [configmaps]
  verbs: [get, list, watch, create, delete, deletecollection, patch, update]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: default-editor, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: kubeflow-edit}}
subjects:
- {{kind: ServiceAccount, name: default-editor, namespace: {namespace}}}
"""


def connect():
    """Return a client with the administrator's rights."""
    return lightkube.Client(KubeConfig.from_file(CLUSTER), field_manager="test", trust_env=False)


def until(true, description, seconds=120):
    """Wait until a condition holds, and return its value."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, f"{description} did not come within {seconds} s"
        time.sleep(0.5)
    return value


@contextlib.contextmanager
def editor(namespace, folder):
    """Create a profile's namespace, and yield the kubeconfig of its account default-editor."""
    admin = connect()
    for resource in load_all_yaml(EDITOR.format(namespace=namespace)):
        admin.apply(resource)
    try:
        spec = TokenRequestSpec(audiences=[], expirationSeconds=3600)
        token = admin.create(
            ServiceAccountToken(metadata=ObjectMeta(), spec=spec),
            "default-editor",
            namespace=namespace,
        ).status.token
        cluster = yaml.safe_load(Path(CLUSTER).read_text())["clusters"][0]["cluster"]
        if authority := cluster.pop("certificate-authority", ""):
            content = base64.b64encode(Path(authority).read_bytes()).decode()
            cluster["certificate-authority-data"] = content
        context = {"cluster": "c", "user": "u", "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "editor",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "editor", "context": context}],
        }
        path = folder / "editor.kubeconfig"
        path.write_text(json.dumps(document))
        yield path
    finally:
        admin.delete(Namespace, namespace)
