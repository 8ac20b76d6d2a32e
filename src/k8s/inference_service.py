"""Serve the champion with a KServe InferenceService (serving.kserve.io/v1beta1) in a profile.

KServe downloads the champion's SavedModel from object storage and serves it with TensorFlow Serving. The
charm applies the InferenceService at each event, so that it follows promotions and rollbacks.

A ServiceAccount and a Secret of the same name belong to it: KServe reads credentials for object storage
only from a Secret that the pod's ServiceAccount references, under other key names than those in the
profile's Secret (https://kserve.github.io/website, S3). The charm therefore copies the profile's Secret.
The credentials of its own relation may grant more, and are not exposed.

The ServiceAccount is created first and deleted last, so if it does not exist, nothing else does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from errors import NoKServeError, NoStorageSecretError, ServedModelError
from kfp_ops.kubernetes import as_kubernetes_errors, delete, find

if TYPE_CHECKING:
    import lightkube

# Kubeflow creates it in each profile; the pipeline's steps use it too.
PROFILE_SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - a name
_KEYS = {"AWS_ACCESS_KEY_ID": "accesskey", "AWS_SECRET_ACCESS_KEY": "secretkey"}
# Height and width of an image, in pixels.
SIDE = 28
_VERSION_LABEL = "app.kubernetes.io/version"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """Status of the InferenceService."""

    name: str
    """Name of the InferenceService, and of the model that it serves."""

    version: int
    """Version that it should serve."""

    is_ready: bool
    """Whether it serves that version."""

    reason: str = ""
    """Why it is not ready, from KServe."""

    url: str = ""
    """Address in the cluster; empty until known."""

    canary: int = 0
    """Percentage of requests that go to this version; 0 for all."""


class InferenceService:
    """The InferenceService of an application, with its ServiceAccount and Secret.

    Args:
        kube: Client of the cluster.
        namespace: Namespace of the profile.
        name: Name of all three objects.
    """

    def __init__(self, kube: lightkube.Client, *, namespace: str, name: str):
        self._kube = kube
        self._namespace = namespace
        self._name = name

    def serve(self, version: int, *, uri: str, endpoint: str, canary: int = 0) -> Served:
        """Apply the objects that serve a version, and return the status.

        Args:
            version: Number of the version.
            uri: s3://BUCKET/PREFIX, the base path with the SavedModel in a folder of that number.
            endpoint: http(s)://HOST:PORT of the S3 server.
            canary: Percentage of requests that go to this version; KServe sends the rest to the version
                that last received all of them. 0 for all.

        Raises:
            NoKServeError: The cluster has no InferenceService resource type.
            NoStorageSecretError: The profile has no credentials for object storage.
            KubernetesForbiddenError: The application is not trusted.
            KubernetesError: Kubernetes cannot be reached, or returned another error.
        """
        previous = self.get_status()
        self._apply_credentials(endpoint)
        predictor: dict[str, object] = {
            "serviceAccountName": self._name,
            "model": {
                "modelFormat": {"name": "tensorflow", "version": "2"},
                "protocolVersion": "v1",
                "storageUri": uri,
            },
        }
        if canary:
            predictor["canaryTrafficPercent"] = canary
        kind = _kind()
        desired = kind(metadata=self._metadata(labels={_VERSION_LABEL: str(version)}))
        desired["spec"] = {"predictor": predictor}
        with as_kubernetes_errors(self._describe("inferenceservice"), no_such_kind=NoKServeError):
            served = _served(self._kube.apply(desired, force=True))
        if previous and previous.version == version:
            return served
        # Until KServe has processed the change, its status describes the previous version.
        return dataclasses.replace(served, is_ready=False, reason=f"v{version} was just applied")

    def get_status(self) -> Served | None:
        """Return the status of the InferenceService, or None if it does not exist.

        Raises:
            NoKServeError: The cluster has no InferenceService resource type.
            KubernetesForbiddenError: The application is not trusted.
            KubernetesError: Kubernetes cannot be reached, or returned another error.
        """
        with as_kubernetes_errors(self._describe("inferenceservice"), no_such_kind=NoKServeError):
            service = find(self._kube, _kind(), self._name, self._namespace)
        return None if service is None else _served(service)

    def remove(self) -> None:
        """Delete the three objects; send a single request if they do not exist.

        Raises:
            KubernetesForbiddenError: The application is not trusted.
            KubernetesError: Kubernetes cannot be reached, or returned an error.
        """
        from lightkube.resources.core_v1 import Secret, ServiceAccount

        with as_kubernetes_errors(self._describe("serviceaccount")):
            if not find(self._kube, ServiceAccount, self._name, self._namespace):
                return
        with (
            suppress(NoKServeError),
            as_kubernetes_errors(self._describe("inferenceservice"), no_such_kind=NoKServeError),
        ):
            delete(self._kube, _kind(), self._name, self._namespace)
        with as_kubernetes_errors(self._describe("secret")):
            delete(self._kube, Secret, self._name, self._namespace)
        with as_kubernetes_errors(self._describe("serviceaccount")):
            delete(self._kube, ServiceAccount, self._name, self._namespace)

    def _apply_credentials(self, endpoint: str) -> None:
        """Apply the ServiceAccount of the pods and the Secret with credentials for object storage."""
        from lightkube.models.core_v1 import ObjectReference
        from lightkube.resources.core_v1 import Secret, ServiceAccount

        secret_name = f"secret {PROFILE_SECRET} in namespace {self._namespace}"
        with as_kubernetes_errors(secret_name):
            profile_secret = find(self._kube, Secret, PROFILE_SECRET, self._namespace)
        keys: Mapping[str, str] = (profile_secret.data if profile_secret else None) or {}
        if not all(keys.get(key) for key in _KEYS.values()):
            raise NoStorageSecretError(
                f"{secret_name} is missing or incomplete; KServe needs its credentials"
            )
        scheme, _, host = endpoint.partition("://")
        settings = {
            "s3-endpoint": host,
            "s3-usehttps": "1" if scheme == "https" else "0",
            "s3-region": "us-east-1",
            "s3-usevirtualbucket": "false",
        }
        account = ServiceAccount(
            metadata=self._metadata(), secrets=[ObjectReference(name=self._name)]
        )
        secret = Secret(
            metadata=self._metadata(
                annotations={f"serving.kserve.io/{key}": value for key, value in settings.items()}
            ),
            data={name: keys[key] for name, key in _KEYS.items()},
        )
        with as_kubernetes_errors(self._describe("serviceaccount")):
            self._kube.apply(account, force=True)
        with as_kubernetes_errors(self._describe("secret")):
            self._kube.apply(secret, force=True)

    def _metadata(self, **fields: Mapping[str, str]) -> Any:
        from lightkube.models.meta_v1 import ObjectMeta

        return ObjectMeta(name=self._name, namespace=self._namespace, **cast("Any", fields))

    def _describe(self, kind: str) -> str:
        return f"{kind} {self._name} in namespace {self._namespace}"


def predict(served: Served, pixels: bytes) -> list[float]:
    """Return the served model's probability of each class for one raw image of 784 bytes.

    Use the V1 protocol of https://www.tensorflow.org/tfx/serving/api_rest. The URL names the version, so
    that no other version answers, except during a canary, when requests are split between two.

    Raises:
        ServedModelError: The model cannot be reached, or returned something other than probabilities.
    """
    import httpx

    rows = [list(pixels[start : start + SIDE]) for start in range(0, SIDE * SIDE, SIDE)]
    version_path = "" if 0 < served.canary < 100 else f"/versions/{served.version}"
    url = f"{served.url.rstrip('/')}/v1/models/{served.name}{version_path}:predict"
    try:
        # The cluster is not behind the Juju model's proxy.
        response = httpx.post(url, json={"instances": [rows]}, timeout=10, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServedModelError(f"{url} cannot be reached: {error}") from error
    if response.status_code != 200:
        raise ServedModelError(
            f"{url} returned {response.status_code}: {response.text.strip()[:200]}"
        )
    try:
        (probabilities,) = response.json()["predictions"]
        return [float(probability) for probability in probabilities]
    except (KeyError, TypeError, ValueError) as error:
        raise ServedModelError(f"{url} returned no probabilities: {response.text[:200]}") from error


def _kind() -> Any:
    from lightkube.generic_resource import (
        create_namespaced_resource,  # pyright: ignore[reportUnknownVariableType]
    )

    return create_namespaced_resource(
        "serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"
    )


def _served(service: Any) -> Served:
    """Read the status from the object."""
    status: Mapping[str, Any] = service.get("status") or {}
    nothing: Mapping[str, str] = {}
    conditions: Sequence[Mapping[str, str]] = status.get("conditions") or ()
    ready = next(
        (condition for condition in conditions if condition.get("type") == "Ready"), nothing
    )
    model: Mapping[str, Any] = status.get("modelStatus") or {}
    # During a rolling update the service stays ready while the next version loads.
    is_loaded = model.get("transitionStatus", "") in ("", "UpToDate")
    is_ready = ready.get("status") == "True" and is_loaded
    details: Mapping[str, str] = ready if is_loaded else model.get("lastFailureInfo") or ready
    reasons = [str(details[part]) for part in ("reason", "message") if details.get(part)]
    address: Mapping[str, str] = status.get("address") or {}
    labels: Mapping[str, str] = service.metadata.labels or {}
    version = labels.get(_VERSION_LABEL, "")
    spec: Mapping[str, Mapping[str, Any]] = service.get("spec") or {}
    return Served(
        name=str(service.metadata.name),
        version=int(version) if version.isdecimal() else 0,
        is_ready=is_ready,
        reason="" if is_ready else ": ".join(reasons)[:200] or "no status yet",
        url=address.get("url", ""),
        canary=int(spec.get("predictor", {}).get("canaryTrafficPercent") or 0),
    )
