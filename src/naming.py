"""Names of experiments, runs and objects."""

from __future__ import annotations

# Name prefix of runs of the configuration.
CONFIGURATION = "config-"


def full_name(model: str, app: str) -> str:
    """Return the name of an application's objects, unique among all Juju models.

    With one hyphen, application c in model a-b and application b-c in model a would share a name. No
    application's name begins with a hyphen or has two in a row.
    """
    return f"{model}--{app}"


def experiments(model: str, app: str) -> tuple[str, str]:
    """Return the names of an application's experiments: training, monitoring."""
    name = full_name(model, app)
    # Use a dot: an application may be called NAME-monitor.
    return name, f"{name}.monitor"
