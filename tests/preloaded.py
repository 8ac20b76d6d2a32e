"""What processes that are forked have imported from the beginning: see processes.py."""

import sys
from pathlib import Path

# As pyproject.toml has it for pytest.
sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "lib", "training")]

import pytest  # noqa: E402, F401

import sandbox.server  # noqa: E402, F401
import tests.library.publisher  # noqa: E402, F401
