"""Paths of what the charm applies for KServe, in the fake Kubernetes API."""

NAMESPACE = "/api/v1/namespaces/team-a"
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/team-a/inferenceservices/kubeflow--trainer"
ACCOUNT = f"{NAMESPACE}/serviceaccounts/kubeflow--trainer"
SECRET = f"{NAMESPACE}/secrets/kubeflow--trainer"
PROFILE_SECRET = f"{NAMESPACE}/secrets/mlpipeline-minio-artifact"
OWNED = {SERVICE, ACCOUNT, SECRET}
# The object storage keys of the profile.
KEYS = {"accesskey": "the-profiles-own", "secretkey": "the-profiles-secret"}
