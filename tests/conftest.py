"""Hooks for all tests. tests/integration has an environment of its own, whose packages are absent here."""

import importlib.util
import os

import pytest

collect_ignore = [] if importlib.util.find_spec("pytest_operator") else ["integration"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
    """Save a worker's coverage before it exits: xdist kills workers that take ten seconds to do so."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import coverage  # absent from the environment of the integration tests

        measured = coverage.Coverage.current()
        if measured:
            measured.save()
