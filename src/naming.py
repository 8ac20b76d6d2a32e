"""Names of experiments, runs and objects."""

from __future__ import annotations

# How the names of configurations' runs begin.
CONFIGURATION = "config-"


def full_name(model: str, app: str) -> str:
    """Return the name of what belongs to an application, among things of others.

    With one hyphen, application c of model a-b and application b-c of model a would share it. No
    application's name has two hyphens in a row, or begins with one.
    """
    return f"{model}--{app}"


def experiments(model: str, app: str) -> tuple[str, str]:
    """Return the names of an application's experiments: for training, and for monitoring."""
    name = full_name(model, app)
    # A dot, since an application may be called NAME-monitor.
    return name, f"{name}.monitor"
