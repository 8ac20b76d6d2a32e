"""What the operator types, in the words of the Juju at hand."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commands:
    """Commands for one application on one version of Juju."""

    app: str
    """The application's name."""

    juju: int = 3
    """The controller's major version."""

    @property
    def train(self) -> str:
        """Run the action `train`."""
        return self.run("train")

    @property
    def trust(self) -> str:
        """Give the application access to the whole cluster."""
        return f"juju trust {self.app} --scope=cluster"

    @property
    def log(self) -> str:
        """Show the charm's log."""
        return f"juju debug-log --include {self.app}"

    @property
    def status(self) -> str:
        """Show the application's status."""
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
