"""Juju commands that statuses and errors suggest, in the syntax of the controller's version."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commands:
    """Commands for one application on one version of Juju."""

    app: str
    """Name of the application."""

    juju: int = 3
    """Major version of the controller."""

    @property
    def train(self) -> str:
        """Command that runs the action `train`."""
        return self.run("train")

    @property
    def trust(self) -> str:
        """Command that gives the application access to the whole cluster."""
        return f"juju trust {self.app} --scope=cluster"

    @property
    def log(self) -> str:
        """Command that shows the charm's log."""
        return f"juju debug-log --include {self.app}"

    @property
    def status(self) -> str:
        """Command that shows the application's status."""
        return f"juju status {self.app}"

    def run(self, action: str) -> str:
        """Return the command that runs an action on the leader."""
        if self.juju < 3:
            return f"juju run-action {self.app}/leader {action} --wait"
        return f"juju run {self.app}/leader {action}"

    def config(self, option: str, value: str = "VALUE") -> str:
        """Return the command that sets an option."""
        return f"juju config {self.app} {option}={value}"

    def relate(self, endpoint: str, remote: str) -> str:
        """Return the command that adds a relation."""
        verb = "relate" if self.juju < 3 else "integrate"
        return f"juju {verb} {self.app}:{endpoint} {remote}:{endpoint}"
