"""What a scenario needs of a model, and Juju's command line as one that fills it."""

import dataclasses
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit as `juju status` tells of it."""

    name: str
    status: str
    message: str
    leader: bool


class ActionFailedError(Exception):
    """An action failed, with what it said."""


class Deployment(Protocol):
    """A model in which applications come and go."""

    def deploy(
        self,
        charm: Path,
        app: str,
        *,
        config: Mapping[str, Any] | None = None,
        resources: Mapping[str, str] | None = None,
        trust: bool = False,
    ) -> None: ...
    def deploy_bundle(self, bundle: Path) -> None: ...
    def integrate(self, one: str, other: str) -> None: ...
    def configure(self, app: str, **options: Any) -> None: ...
    def run_action(self, unit: str, action: str, **params: Any) -> dict[str, str]: ...
    def units(self, app: str) -> list[Unit]: ...
    def wait(self, until: Callable[[], bool], minutes: float) -> None: ...
    def scale(self, app: str, units: int) -> None: ...
    def kill(self, unit: str) -> None: ...
    def refresh(self, app: str, charm: Path, resources: Mapping[str, str]) -> None: ...
    def remove(self, app: str) -> None: ...


class CommandLine:
    """A model through Juju's client, 2.9 to 4.

    Args:
        juju: runs the client in the model and returns its output; raises when it fails.
        model: the model's name, which is its namespace in Kubernetes.
        kubectl: the command that deletes a pod, in words.
    """

    def __init__(self, juju: Callable[..., str], model: str, kubectl: list[str]):
        self._juju = juju
        self._model = model
        self._kubectl = kubectl
        self._major = int(juju("version").partition(".")[0])

    def deploy(self, charm, app, *, config=None, resources=None, trust=False):
        words = [str(charm.resolve()), app, *(["--trust"] if trust else [])]
        for name, value in (config or {}).items():
            words += ["--config", f"{name}={_word(value)}"]
        self._juju("deploy", *words, *_resources(resources or {}))

    def deploy_bundle(self, bundle):
        self._juju("deploy", str(bundle.resolve()), "--trust")

    def integrate(self, one, other):
        self._juju("relate" if self._major < 3 else "integrate", one, other)

    def configure(self, app, **options):
        pairs = (f"{name.replace('_', '-')}={_word(value)}" for name, value in options.items())
        self._juju("config", app, *pairs)

    def run_action(self, unit, action, **params):
        pairs = [f"{name.replace('_', '-')}={_word(value)}" for name, value in params.items()]
        verb = "run-action" if self._major < 3 else "run"
        said = self._juju(verb, unit, action, *pairs, "--wait=90m", "--format=json")
        (task,) = json.loads(said).values()
        if task["status"] != "completed":
            raise ActionFailedError(task.get("message") or task["status"])
        return task.get("results") or {}

    def units(self, app):
        said = json.loads(self._juju("status", "--format=json"))
        found = (said["applications"].get(app) or {}).get("units") or {}
        return [
            Unit(
                name=name,
                status=unit["workload-status"]["current"],
                message=unit["workload-status"].get("message", ""),
                leader=unit.get("leader", False),
            )
            for name, unit in sorted(found.items())
        ]

    def wait(self, until, minutes):
        end = time.monotonic() + 60 * minutes
        while not until():
            if time.monotonic() > end:
                raise TimeoutError(f"after {minutes} minutes:\n{self._juju('status')}")
            time.sleep(5)

    def scale(self, app, units):
        self._juju("scale-application", app, str(units))

    def kill(self, unit):
        pod = unit.replace("/", "-")
        words = [*self._kubectl, "delete", "pod", pod, "--namespace", self._model, "--wait=true"]
        subprocess.run(words, check=True)

    def refresh(self, app, charm, resources):
        self._juju("refresh", app, "--path", str(charm.resolve()), *_resources(resources))

    def remove(self, app):
        asked = [] if self._major < 3 else ["--no-prompt"]
        self._juju("remove-application", app, *asked)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _resources(resources: Mapping[str, str]) -> list[str]:
    return [word for pair in resources.items() for word in ("--resource", "=".join(pair))]
