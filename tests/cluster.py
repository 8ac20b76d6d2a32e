"""A real Kubernetes cluster to try on, where CLUSTER_KUBECONFIG names an administrator's kubeconfig."""

import os
import time

import lightkube
from lightkube import KubeConfig

CLUSTER = os.environ.get("CLUSTER_KUBECONFIG", "")


def connect():
    """The cluster, as its administrator."""
    return lightkube.Client(KubeConfig.from_file(CLUSTER), field_manager="test", trust_env=False)


def until(true, what, seconds=120):
    """What comes to be true of the cluster in time."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.5)
    return found
