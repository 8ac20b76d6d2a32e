"""The champion behind KServe: an InferenceService (serving.kserve.io/v1beta1) in a profile.

KServe copies the champion's SavedModel out of object storage and answers with TensorFlow Serving. It is
applied anew with each event, so that a promotion and a rollback move it. A ServiceAccount and a Secret
go with it, all three of one name: KServe takes the keys of object storage only from a Secret that the
pod's ServiceAccount names, and only under its own key names, which are not those of the profile's
Secret (https://kserve.github.io/website, S3). So the charm copies that one; the keys of its own
relation, which may open more, stay where they are.

The ServiceAccount is the first to come and the last to go: where there is none, nothing is left.
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

# Kubeflow puts it into each profile; the pipeline's steps use it too.
PROFILE_SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - a name
_KEYS = {"AWS_ACCESS_KEY_ID": "accesskey", "AWS_SECRET_ACCESS_KEY": "secretkey"}
# Pixels of an image, each way.
SIDE = 28
_VERSION = "app.kubernetes.io/version"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """What KServe says of the champion's service.

    Attributes:
        name: of the InferenceService, and of the model that it serves.
        version: the version that it was told to serve.
        is_ready: whether it does.
        reason: why not, in KServe's words.
        url: where it answers in the cluster; empty as long as that is not known.
        canary: percent of requests that go to this version; 0: all.
    """

    name: str
    version: int
    is_ready: bool
    reason: str = ""
    url: str = ""
    canary: int = 0


class InferenceService:
    """The one service of an application in a namespace.

    Args:
        kube: the cluster.
        namespace: the profile's.
        name: of the service and of what goes with it.
    """

    def __init__(self, kube: lightkube.Client, *, namespace: str, name: str):
        self._kube = kube
        self._namespace = namespace
        self._name = name

    def serve(self, version: int, *, uri: str, endpoint: str, canary: int = 0) -> Served:
        """Have a version served.

        Args:
            version: its number.
            uri: s3://BUCKET/PREFIX, the base path with the SavedModel in a folder of that number.
            endpoint: http(s)://HOST:PORT of the S3 server.
            canary: percent of requests that go to it, while KServe leaves the rest to the version
                that had all of them last; 0: all.

        Raises:
            NoKServeError: this cluster knows no InferenceServices.
            NoStorageSecretError: the profile has no keys of object storage.
            KubernetesForbiddenError: the application is not trusted.
            KubernetesError: Kubernetes cannot be reached, or answers with another error.
        """
        previous = self.seen()
        self._apply_access(endpoint)
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
        wanted = kind(metadata=self._metadata(labels={_VERSION: str(version)}))
        wanted["spec"] = {"predictor": predictor}
        with as_kubernetes_errors(self._describe("inferenceservice"), no_such_kind=NoKServeError):
            served = _served(self._kube.apply(wanted, force=True))
        if previous and previous.version == version:
            return served
        # What it says is of the version before, until KServe has seen this one.
        return dataclasses.replace(served, is_ready=False, reason=f"v{version} was just put there")

    def seen(self) -> Served | None:
        """What KServe says of the service; None where there is none.

        Raises:
            NoKServeError: this cluster knows no InferenceServices.
            KubernetesForbiddenError: the application is not trusted.
            KubernetesError: Kubernetes cannot be reached, or answers with another error.
        """
        with as_kubernetes_errors(self._describe("inferenceservice"), no_such_kind=NoKServeError):
            service = find(self._kube, _kind(), self._name, self._namespace)
        return None if service is None else _served(service)

    def remove(self) -> None:
        """Take the service and what goes with it away; one request where there is nothing.

        Raises:
            KubernetesForbiddenError: the application is not trusted.
            KubernetesError: Kubernetes cannot be reached, or answers with an error.
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

    def _apply_access(self, endpoint: str) -> None:
        """The ServiceAccount of the service's pods, and its keys to object storage."""
        from lightkube.models.core_v1 import ObjectReference
        from lightkube.resources.core_v1 import Secret, ServiceAccount

        secret_name = f"secret {PROFILE_SECRET} in namespace {self._namespace}"
        with as_kubernetes_errors(secret_name):
            profile_secret = find(self._kube, Secret, PROFILE_SECRET, self._namespace)
        keys: Mapping[str, str] = (profile_secret.data if profile_secret else None) or {}
        if not all(keys.get(key) for key in _KEYS.values()):
            raise NoStorageSecretError(
                f"{secret_name}, whose keys KServe needs, is not there or has none"
            )
        secure, _, host = endpoint.partition("://")
        settings = {
            "s3-endpoint": host,
            "s3-usehttps": "1" if secure == "https" else "0",
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


def ask(served: Served, pixels: bytes) -> list[float]:
    """The served model's probabilities, a value for each class, of one raw image, 784 bytes.

    Over the V1 protocol of https://www.tensorflow.org/tfx/serving/api_rest. The version is asked for by
    its number, so that no other answers in its name, unless requests are spread over two.

    Raises:
        ServedModelError: it does not answer, or something else than probabilities.
    """
    import httpx

    rows = [list(pixels[start : start + SIDE]) for start in range(0, SIDE * SIDE, SIDE)]
    version_path = "" if 0 < served.canary < 100 else f"/versions/{served.version}"
    url = f"{served.url.rstrip('/')}/v1/models/{served.name}{version_path}:predict"
    try:
        # The cluster is not behind the model's proxy.
        response = httpx.post(url, json={"instances": [rows]}, timeout=10, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServedModelError(f"{url} cannot be reached: {error}") from error
    if response.status_code != 200:
        raise ServedModelError(
            f"{url} answers {response.status_code}: {response.text.strip()[:200]}"
        )
    try:
        (probabilities,) = response.json()["predictions"]
        return [float(share) for share in probabilities]
    except (KeyError, TypeError, ValueError) as error:
        raise ServedModelError(f"{url} answers no probabilities: {response.text[:200]}") from error


def _kind() -> Any:
    from lightkube.generic_resource import (
        create_namespaced_resource,  # pyright: ignore[reportUnknownVariableType]
    )

    return create_namespaced_resource(
        "serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"
    )


def _served(service: Any) -> Served:
    """From the object as Kubernetes has it."""
    status: Mapping[str, Any] = service.get("status") or {}
    nothing: Mapping[str, str] = {}
    conditions: Sequence[Mapping[str, str]] = status.get("conditions") or ()
    ready = next(
        (condition for condition in conditions if condition.get("type") == "Ready"), nothing
    )
    model: Mapping[str, Any] = status.get("modelStatus") or {}
    # With pods that are replaced one by one the service stays ready while the next version loads.
    is_loaded = model.get("transitionStatus", "") in ("", "UpToDate")
    is_ready = ready.get("status") == "True" and is_loaded
    details: Mapping[str, str] = ready if is_loaded else model.get("lastFailureInfo") or ready
    reasons = [str(details[part]) for part in ("reason", "message") if details.get(part)]
    address: Mapping[str, str] = status.get("address") or {}
    labels: Mapping[str, str] = service.metadata.labels or {}
    version = labels.get(_VERSION, "")
    spec: Mapping[str, Mapping[str, Any]] = service.get("spec") or {}
    return Served(
        name=str(service.metadata.name),
        version=int(version) if version.isdecimal() else 0,
        is_ready=is_ready,
        reason="" if is_ready else ": ".join(reasons)[:200] or "no word of it yet",
        url=address.get("url", ""),
        canary=int(spec.get("predictor", {}).get("canaryTrafficPercent") or 0),
    )
