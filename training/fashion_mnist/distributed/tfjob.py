"""A TFJob of Kubeflow's Training Operator, whose workers are like the step's own pod.

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
# Seconds that a training may take; the step itself may take no longer.
DEADLINE = 110 * 60
POLL_SECONDS = 5
# What a site sets for its steps, so that pip and object storage are reached from where they run.
_SITES_OWN = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_INHERITED = ("AWS_", "PIP_")


class NoOperatorError(WorkersError, PermanentError):
    """The cluster has no Training Operator."""


def manifest(
    pod: Mapping[str, Any],
    *,
    name: str,
    workers: int,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Return the TFJob whose workers are like a step's pod. Pure.

    Args:
        pod: the step's; it owns the TFJob, which goes with it.
        name: of the TFJob.
        workers: how many.
        command: what each worker executes.
        environment: what the workers need to know, by name; no secrets.
    """
    spec = pod["spec"]
    main = next(
        pod_container for pod_container in spec["containers"] if pod_container["name"] == "main"
    )
    # Keys are references to a Secret, and not in the manifest themselves.
    inherited = [variable for variable in main.get("env", []) if _is_inherited(variable["name"])]
    mounts = _mounts(spec, main, inherited)
    container = {
        "name": "tensorflow",  # the operator looks for this name, and gives it TF_CONFIG
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
                "activeDeadlineSeconds": DEADLINE,
                "backoffLimit": 0,
                # Running: what is over keeps its log until the TFJob goes.
                "cleanPodPolicy": "Running",
                "ttlSecondsAfterFinished": 3600,
            },
            "tfReplicaSpecs": {
                "Worker": {
                    "replicas": workers,
                    "restartPolicy": "Never",
                    "template": {
                        # Workers speak to each other by TensorFlow's protocol, past Istio.
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
    """Whether the workers need what the step's pod has in this variable of its environment."""
    # Proxies are named in both cases.
    return name.upper() in _SITES_OWN or name.startswith(_INHERITED)


def _mounts(
    spec: Mapping[str, Any], main: Mapping[str, Any], environment: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """How files are mounted that the environment names, such as a site's certificates, by volume.

    Only from ConfigMaps and Secrets, which any number of pods can mount.
    """
    shared = [
        each["name"] for each in spec.get("volumes", []) if {"configMap", "secret"} & set(each)
    ]
    files = [PurePosixPath(each.get("value", "")) for each in environment]
    return {
        mount["name"]: mount
        for mount in main.get("volumeMounts", [])
        if mount["name"] in shared
        and any(file.is_relative_to(mount["mountPath"]) for file in files)
    }


def start(cluster: Cluster, workers: int, environment: Mapping[str, str]) -> str:
    """Create the TFJob, whose workers are like this pod; returns its name.

    Raises:
        WorkersError: the cluster knows no TFJob.
        RefusedError: the cluster does not take it.
    """
    # Kubeflow Pipelines tells it: the host's name is cut off after 63 characters.
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
                "the cluster knows no TFJob (kubeflow.org/v1): install Kubeflow's Training Operator, "
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
    """Look at a TFJob until it has succeeded, and remove it, whatever comes.

    Args:
        cluster: where it is.
        name: its name.
        log: given a line for each new condition, and the workers' logs when they fail.
        pause: called with the seconds between two looks.
        clock: seconds that only grow.

    Raises:
        WorkersError: it failed, or the time is up.
        RefusedError: it is gone, or may not be looked at.
    """
    path, last, end = f"{TFJOBS}/{name}", "", clock() + DEADLINE
    try:
        while clock() < end:
            try:
                status = cluster.call("GET", path).get("status", {})
            except RefusedError as error:
                # A server that cannot be reached for a while has not lost it.
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
        raise WorkersError(f"TFJob {name} did not end within {DEADLINE} s; see why it waits")
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
    """Return the command of a worker, which fetches the code bundle as this step did.

    The bundle holds the bootstrap's source beside this package.
    """
    bootstrap = Path(__file__).parents[2] / "bootstrap.py"
    where = [os.environ[name] for name in ("CODE", "CODE_SHA256", "CODE_ENDPOINT")]
    module = ["python3", "-m", "fashion_mnist.distributed.workers"]
    return ["python3", "-c", bootstrap.read_text(encoding="utf-8"), *where, *module]
