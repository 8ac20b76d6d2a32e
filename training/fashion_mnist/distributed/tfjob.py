"""Run a TFJob of Kubeflow's Training Operator with workers like the step's own pod.

Source: https://www.kubeflow.org/docs/components/trainer/legacy-v1/user-guides/tensorflow/.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from fashion_mnist.errors import PermanentError
from fashion_mnist.kubernetes import Cluster, RefusedError
from fashion_mnist.model.strategy import WorkersError

TFJOBS = "/apis/kubeflow.org/v1/namespaces/{namespace}/tfjobs"
# Seconds that a training may take, a little less than the step.
TIMEOUT = 110 * 60
POLL_SECONDS = 5
# Variables that a site sets so that its steps reach pip's index and object storage.
_SITE_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_INHERITED = ("AWS_", "PIP_")


class NoOperatorError(WorkersError, PermanentError):
    """A cluster without the Training Operator."""


def manifest(
    pod: Mapping[str, Any],
    *,
    name: str,
    workers: int,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Return a TFJob whose workers are like a step's pod. Pure.

    Args:
        pod: pod of the step, which owns the TFJob: Kubernetes deletes both together.
        name: name of the TFJob.
        workers: number of workers.
        command: command of each worker.
        environment: further variables of the workers, no secrets.
    """
    spec = pod["spec"]
    main = next(
        pod_container for pod_container in spec["containers"] if pod_container["name"] == "main"
    )
    # Credentials are references to a Secret, not values.
    inherited = [variable for variable in main.get("env", []) if _is_inherited(variable["name"])]
    mounts = _mounts(spec, main, inherited)
    container = {
        "name": "tensorflow",  # the operator gives TF_CONFIG to the container of this name
        "image": main["image"],
        "command": command,
        "env": [*inherited, *({"name": key, "value": text} for key, text in environment.items())],
        "resources": main.get("resources", {}),
        **({"volumeMounts": list(mounts.values())} if mounts else {}),
    }
    volumes = [volume for volume in spec.get("volumes", []) if volume["name"] in mounts]
    copied = ("imagePullSecrets", "nodeSelector", "tolerations", "serviceAccountName")
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": {
            "name": name,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": pod["metadata"]["name"],
                    "uid": pod["metadata"]["uid"],
                }
            ],
        },
        "spec": {
            "runPolicy": {
                "activeDeadlineSeconds": TIMEOUT,
                "backoffLimit": 0,
                # Delete only running pods: finished ones keep their logs as long as the TFJob.
                "cleanPodPolicy": "Running",
                "ttlSecondsAfterFinished": 3600,
            },
            "tfReplicaSpecs": {
                "Worker": {
                    "replicas": workers,
                    "restartPolicy": "Never",
                    "template": {
                        # Workers use TensorFlow's protocol, which Istio does not support.
                        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
                        "spec": {
                            "containers": [container],
                            **({"volumes": volumes} if volumes else {}),
                            "automountServiceAccountToken": False,
                            **{key: spec[key] for key in copied if key in spec},
                        },
                    },
                }
            },
        },
    }


def _is_inherited(name: str) -> bool:
    """Return whether the workers need this environment variable of the step's pod."""
    # Variables of proxies exist in both cases.
    return name.upper() in _SITE_VARIABLES or name.startswith(_INHERITED)


def _mounts(
    spec: Mapping[str, Any], main: Mapping[str, Any], environment: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the mounts of files in the environment, such as a site's certificates, by volume.

    Only ConfigMaps and Secrets count, which any number of pods can mount.
    """
    shared = [
        volume["name"]
        for volume in spec.get("volumes", [])
        if {"configMap", "secret"} & set(volume)
    ]
    files = [PurePosixPath(variable.get("value", "")) for variable in environment]
    return {
        mount["name"]: mount
        for mount in main.get("volumeMounts", [])
        if mount["name"] in shared
        and any(file.is_relative_to(mount["mountPath"]) for file in files)
    }


def start(cluster: Cluster, workers: int, environment: Mapping[str, str]) -> str:
    """Create a TFJob with workers like this pod, and return its name.

    Args:
        cluster: cluster of this pod.
        workers: number of workers.
        environment: further variables of the workers, no secrets.

    Raises:
        NoOperatorError: The cluster has no Training Operator.
        RefusedError: The cluster refused the TFJob.
    """
    # Kubeflow Pipelines sets this; the host name is truncated to 63 characters.
    name = os.environ["KFP_POD_NAME"]
    pod = cluster.call("GET", f"/api/v1/namespaces/{{namespace}}/pods/{name}")
    name = f"train-{secrets.token_hex(4)}"
    job = manifest(
        pod, name=name, workers=workers, command=worker_command(), environment=environment
    )
    try:
        cluster.call("POST", f"{TFJOBS}?fieldValidation=Strict", job)
    except RefusedError as error:
        if error.status == 404:
            raise NoOperatorError(
                "the cluster has no TFJob (kubeflow.org/v1): install Kubeflow's Training Operator, "
                "or train on one worker: juju config trainer workers=1"
            ) from error
        raise
    return name


def follow(
    cluster: Cluster,
    name: str,
    log: Callable[[str], None],
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until a TFJob has succeeded, and delete it in any case.

    Args:
        cluster: cluster of the TFJob.
        name: name of the TFJob.
        log: receives a line for each new condition, and the workers' logs if they fail.
        pause: called with the seconds between two polls.
        clock: returns monotonic seconds.

    Raises:
        WorkersError: The TFJob failed, or did not end in time.
        RefusedError: The TFJob was deleted, or may not be read.
    """
    path, last, end = f"{TFJOBS}/{name}", "", clock() + TIMEOUT
    try:
        while clock() < end:
            try:
                status = cluster.call("GET", path).get("status", {})
            except RefusedError as error:
                # The TFJob survives an API server that is down for a while.
                if not error.is_temporary:
                    raise
                status = {}
                log(str(error))
            conditions = [c for c in status.get("conditions", []) if c.get("status") == "True"]
            types = [condition["type"] for condition in conditions]
            if types and types[-1] != last:
                last = types[-1]
                log(f"TFJob {name}: {last}, {conditions[-1].get('message', '')}")
            if "Failed" in types:
                _log_workers(cluster, name, log)
                raise WorkersError(f"TFJob {name} failed; its workers' logs are above")
            if "Succeeded" in types:
                return
            pause(POLL_SECONDS)
        raise WorkersError(
            f"TFJob {name} did not end within {TIMEOUT} s; find out what it waits for"
        )
    finally:
        with contextlib.suppress(RefusedError):
            cluster.call("DELETE", f"{path}?propagationPolicy=Background")


def _log_workers(cluster: Cluster, name: str, log: Callable[[str], None]) -> None:
    pods = "/api/v1/namespaces/{namespace}/pods"
    with contextlib.suppress(RefusedError):
        label = f"training.kubeflow.org/job-name={name}"
        for pod in cluster.call("GET", f"{pods}?labelSelector={label}")["items"]:
            pod_name = pod["metadata"]["name"]
            with contextlib.suppress(RefusedError):
                text = cluster.call("GET", f"{pods}/{pod_name}/log?tailLines=20")
                log(f"{pod_name}:\n{text}")


def worker_command() -> list[str]:
    """Return the command of a worker, which fetches the code bundle the way this step did.

    The bundle contains the bootstrap beside the package `fashion_mnist`.
    """
    bootstrap = Path(__file__).parents[2] / "bootstrap.py"
    arguments = [os.environ[name] for name in ("CODE", "CODE_SHA256", "CODE_ENDPOINT")]
    module = ["python3", "-m", "fashion_mnist.distributed.workers"]
    return ["python3", "-c", bootstrap.read_text(encoding="utf-8"), *arguments, *module]
