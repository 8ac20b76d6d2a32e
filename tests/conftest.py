"""What holds for all tests."""

import importlib.util
import os

import pytest
import yaml

# ops.testing writes the charm's metadata at each event. PyYAML's Python code takes longer for that than
# the charm for the event, its C code a tenth; how YAML is read stays as it is for the charm's users.
yaml.SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

pytest_plugins = ["sandbox.pytest_plugin"]

# It has an environment of its own, whose packages are absent here.
collect_ignore = [] if importlib.util.find_spec("pytest_operator") else ["integration"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
    """Save a worker's coverage before it exits: xdist kills workers that take ten seconds to do so."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import coverage  # absent from the environment of the integration tests

        measured = coverage.Coverage.current()
        if measured:
            measured.save()
