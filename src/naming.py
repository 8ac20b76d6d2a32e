"""Names of experiments, runs and objects."""

from __future__ import annotations

# How the names of configurations' runs begin.
CONFIGURATION = "config-"


def full_name(model: str, app: str) -> str:
    """What belongs to an application of a Juju model is called so where others' things are, too.

    With one hyphen, application c of model a-b and b-c of a would share it; no application's name has
    two in a row, or begins with one.
    """
    return f"{model}--{app}"


def experiments(model: str, app: str) -> tuple[str, str]:
    """The names of the experiments of an application in a Juju model: training, and monitoring."""
    name = full_name(model, app)
    # A dot, since an application may be called NAME-monitor.
    return name, f"{name}.monitor"
