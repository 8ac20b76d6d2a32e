"""Fixtures for the tests of the reconciler."""

import dataclasses

import numpy as np
import obstore
import ops.testing
import pytest

from fashion_mnist import data

PODS = "/api/v1/namespaces/kubeflow/pods"


@pytest.fixture
def submitted(ctx, kubernetes, state, runs):
    """The id of the configuration run, which the charm submitted."""
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    return run["run_id"]


@pytest.fixture
def pod(kubernetes, submitted):
    """Add a pod of a run, with this status."""

    def add(name="train-x-1", node="train-x.root.train(0).executor", run=submitted, **status):
        age = len(kubernetes.lists.get(PODS, []))
        kubernetes.lists.setdefault(PODS, []).append(
            {
                "metadata": {
                    "name": name,
                    "labels": {"pipeline/runid": run},
                    "annotations": {"workflows.argoproj.io/node-name": node},
                    "creationTimestamp": f"2026-01-01T00:00:{age:02d}Z",
                },
                "status": status,
            }
        )

    return add


@pytest.fixture
def update_status(ctx, state):
    """Send update-status and return the unit's status."""

    def update():
        return ctx.run(ctx.on.update_status(), state).unit_status

    return update


@pytest.fixture
def with_peers(state):
    """`state` with the peer relation."""
    return dataclasses.replace(
        state, relations={*state.relations, ops.testing.PeerRelation("peers")}
    )


@pytest.fixture
def bucket(sandbox, registry, monkeypatch, tmp_path_factory):
    """Put the four data files under s3://mlpipeline/data, and set the keys that a step has."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_key)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    store = sandbox.objects("data")
    path = tmp_path_factory.mktemp("idx") / "file"

    def put(seed):
        generator = np.random.default_rng(seed)
        for name, file in data.FILES.items():
            shape = (20, 28, 28) if "images" in name else (20,)
            data.write_idx(path, generator.integers(0, 10, shape))
            obstore.put(store, file, path.read_bytes())

    put(0)
    return put


@pytest.fixture
def in_profile(configured):
    return configured(profile="team-a")
