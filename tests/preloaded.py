"""What processes that are forked have imported from the beginning: see processes.py."""

import pytest  # noqa: F401

import sandbox.server  # noqa: F401
import tests.library.publisher  # noqa: F401
