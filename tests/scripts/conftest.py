"""Fixtures for the tests of scripts/."""

import pytest

from tests.fakes.machine import Machine


@pytest.fixture
def machine(tmp_path):
    """A machine whose commands are stubs."""
    return Machine(tmp_path)
