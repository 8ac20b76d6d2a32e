"""tests/integration has an environment of its own, whose packages are absent here."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("pytest_operator") else ["integration"]
