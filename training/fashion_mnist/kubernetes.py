"""Call the Kubernetes API of the cluster that a step runs in, as the step's ServiceAccount.

This uses the standard library only, so that no step has to install a client for a few calls.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_registry import ConfigMap, UnsafeStoreError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONFIG_MAPS = "/api/v1/namespaces/{namespace}/configmaps"
# Seconds that an API server may be down, such as during an upgrade.
PATIENCE = 300
_POLL_SECONDS = 2


class RefusedError(RuntimeError):
    """A call that the API server refused, or did not receive."""

    status: int
    """HTTP status code. 0 if the server was not reached."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status

    @property
    def is_temporary(self) -> bool:
        """Whether the same call may succeed later."""
        return self.status in (0, 429) or self.status >= 500


class Cluster:
    """A namespace of a Kubernetes cluster.

    Args:
        url: URL of the API server.
        namespace: namespace of calls.
        token: returns a bearer token for each call.
        authority: PEM file with the API server's certificate authority, None for the system's.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        token: Callable[[], str],
        authority: Path | None = None,
    ):
        self.namespace = namespace
        self._url = url
        self._token = token
        self._opener = _opener(ssl.create_default_context(cafile=authority))

    @classmethod
    def in_cluster(cls) -> Cluster:
        """Return the cluster of this pod, with its ServiceAccount."""
        host, port = (os.environ[f"KUBERNETES_SERVICE_{part}"] for part in ("HOST", "PORT"))
        return cls(
            f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            (ACCOUNT / "namespace").read_text().strip(),
            # Kubernetes renews the token in place.
            lambda: (ACCOUNT / "token").read_text().strip(),
            ACCOUNT / "ca.crt",
        )

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Cluster:
        """Return the cluster of a kubeconfig's current context.

        Args:
            path: kubeconfig in JSON whose user has a token. `kubectl config view --raw --flatten
                --output=json` writes one.

        Raises:
            ValueError: The file is something else.
        """
        try:
            document = json.loads(path.read_text())
            context = _named(document["contexts"], document["current-context"])["context"]
            cluster = _named(document["clusters"], context["cluster"])["cluster"]
            token = _named(document["users"], context["user"])["user"]["token"]
            authority = cluster.get("certificate-authority-data")
            namespace = context.get("namespace", "default")
            result = cls(cluster["server"].rstrip("/"), namespace, lambda: token)
        except (KeyError, TypeError, StopIteration, ValueError) as error:
            raise ValueError(
                f"{path} is not a kubeconfig in JSON with a token ({error!r}); write one with: kubectl "
                "config view --raw --flatten --output=json"
            ) from error
        if authority:
            certificates = base64.b64decode(authority).decode()
            result._opener = _opener(ssl.create_default_context(cadata=certificates))
        return result

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        namespace: str = "",
    ) -> Any:
        """Return the API server's response, decoded if it is JSON.

        Args:
            method: HTTP method.
            path: path with `{namespace}` for the namespace's name.
            body: sent as JSON.
            namespace: namespace of this call, empty for the cluster's.

        Raises:
            RefusedError: The server refused, with its reason, or cannot be reached.
        """
        request = urllib.request.Request(  # noqa: S310 - the URL is the cluster's
            self._url + path.format(namespace=namespace or self.namespace),
            json.dumps(body).encode() if body is not None else None,
            {"authorization": f"Bearer {self._token()}", "content-type": "application/json"},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=30) as response:
                text = response.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            message = error.read(2000).decode(errors="replace")
            with contextlib.suppress(ValueError, TypeError, KeyError):
                message = json.loads(message)["message"]
            raise RefusedError(error.code, f"{method} {path}: {error.code} {message}") from error
        except (OSError, http.client.HTTPException) as error:
            raise RefusedError(0, f"{method} {path}: {error!r}") from error
        return json.loads(text) if text.startswith("{") else text


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    """Return an opener that ignores the environment's proxies, since Kubernetes is not behind them.

    Python ignores networks in NO_PROXY, such as the network of the cluster's services.
    """
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )


class ConfigMaps:
    """A cluster's ConfigMaps, with the interface of `model_registry.ConfigMaps`.

    Args:
        cluster: the cluster.
        pause: called with the seconds between two attempts while the API server is down.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        pause: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._cluster = cluster
        self._pause = pause
        self._clock = clock

    @classmethod
    def find(cls) -> ConfigMaps | None:
        """Return the ConfigMaps of this pod's cluster, or of the one in KUBECONFIG, or None.

        Raises:
            ValueError: KUBECONFIG is not the path of a kubeconfig in JSON.
        """
        if ACCOUNT.is_dir():
            return cls(Cluster.in_cluster())
        path = os.environ.get("KUBECONFIG")
        return cls(Cluster.from_kubeconfig(Path(path))) if path else None

    @property
    def namespace(self) -> str:
        """The step's namespace."""
        return self._cluster.namespace

    def get(self, namespace: str, name: str) -> ConfigMap | None:
        """Return a ConfigMap, or None if it does not exist."""
        return self._call("GET", f"{CONFIG_MAPS}/{name}", namespace, absent_at=404)

    def create(self, config_map: ConfigMap) -> ConfigMap | None:
        """Create a ConfigMap and return it as stored, or None if it exists already."""
        return self._call(
            "POST", CONFIG_MAPS, config_map.namespace, _body(config_map), absent_at=409
        )

    def replace(self, config_map: ConfigMap) -> ConfigMap | None:
        """Replace a ConfigMap, or return None if it was deleted or changed."""
        path = f"{CONFIG_MAPS}/{config_map.name}"
        body = _body(config_map)
        return self._call("PUT", path, config_map.namespace, body, absent_at=(404, 409))

    def _call(
        self,
        method: str,
        path: str,
        namespace: str,
        body: Mapping[str, Any] | None = None,
        *,
        absent_at: int | tuple[int, ...],
    ) -> ConfigMap | None:
        """Call until the server responds; return None for the status codes in `absent_at`.

        Raises:
            UnsafeStoreError: The step's ServiceAccount lacks the permission.
            RefusedError: The server refused for another reason, or is down for too long.
        """
        expected = absent_at if isinstance(absent_at, tuple) else (absent_at,)
        end = self._clock() + PATIENCE
        while True:
            try:
                return _config_map(self._cluster.call(method, path, body, namespace=namespace))
            except RefusedError as error:
                if error.status in expected:
                    return None
                if error.status in (401, 403):
                    raise UnsafeStoreError(
                        "the S3 server has no conditional writes, and the step's ServiceAccount may "
                        f"not write ConfigMaps in namespace {namespace}, which replace them",
                        f"bind it to the ClusterRole kubeflow-edit there ({error})",
                    ) from error
                if not error.is_temporary or self._clock() > end:
                    raise
            self._pause(_POLL_SECONDS)


def _body(config_map: ConfigMap) -> dict[str, Any]:
    metadata = {"name": config_map.name, "namespace": config_map.namespace}
    if config_map.resource_version:
        metadata["resourceVersion"] = config_map.resource_version
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": dict(config_map.data),
    }


def _config_map(response: Mapping[str, Any]) -> ConfigMap:
    metadata = response["metadata"]
    return ConfigMap(
        namespace=metadata["namespace"],
        name=metadata["name"],
        data=response.get("data") or {},
        resource_version=metadata["resourceVersion"],
    )


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)
