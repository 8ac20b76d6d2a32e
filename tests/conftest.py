"""Settings and fixtures for all tests."""

import importlib.util
import os

import pytest
import yaml

# ops.testing reads and writes the charm's metadata at each event. PyYAML's Python code takes longer
# for that than the charm takes for the event; its C code takes a tenth of that time.
yaml.SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

# The integration tests have their own environment, whose packages are absent here.
collect_ignore = [] if importlib.util.find_spec("pytest_operator") else ["integration"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
    """Save a worker's coverage before it exits: xdist kills workers that take ten seconds to do so."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import coverage  # absent from the environment of the integration tests

        measured = coverage.Coverage.current()
        if measured:
            measured.save()


@pytest.fixture
def kubernetes(httpserver, tmp_path, monkeypatch):
    """A fake Kubernetes API, to which KUBECONFIG leads."""
    # The environment of the integration tests has no werkzeug.
    from tests.fakes.kubernetes import Kubernetes

    kubernetes = Kubernetes(httpserver)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": kubernetes.url}}],
        "users": [{"name": "test", "user": {"token": "the-charms-own"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return kubernetes
