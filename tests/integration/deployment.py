"""The interface to a model that scenarios need, and its implementation by Juju's command line."""

import dataclasses
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit in `juju status`.

    Attributes:
        idle: whether its agent runs no hook, and has the charm that its application has.
    """

    name: str
    status: str
    message: str
    leader: bool
    idle: bool


class ActionFailedError(Exception):
    """An action failed with this message."""


class Deployment(Protocol):
    """A model in which scenarios deploy and remove applications."""

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
    def pod(self, unit: str) -> str: ...
    def kill(self, unit: str) -> None: ...
    def revision(self, app: str) -> int: ...
    def refresh(self, app: str, charm: Path, resources: Mapping[str, str]) -> None: ...
    def remove(self, app: str) -> None: ...


class CommandLine:
    """A model through Juju's client, 2.9 to 4.

    Args:
        juju: runs the client in the model and returns its output; raises CalledProcessError, with the
            output, when it fails, and TimeoutError or TimeoutExpired after `minutes`.
        model: the model's name, which is its namespace in Kubernetes.
        kubectl: the command that asks for and deletes pods, in words.
        poll: seconds between two looks at what is waited for.
    """

    def __init__(
        self, juju: Callable[..., str], model: str, *, kubectl: list[str], poll: float = 5
    ):
        self._client = juju
        self._model = model
        self._kubectl = kubectl
        self._poll = poll
        self._major = int(self._juju("version").partition(".")[0])

    def _juju(self, *words: str, minutes: float = 5) -> str:
        return self._client(*words, minutes=minutes)

    def deploy(self, charm, app, *, config=None, resources=None, trust=False):
        charm = charm.resolve()
        words = [str(charm), app, *(["--trust"] if trust else [])]
        # From a file, for keys are no arguments; beside the charm, where Juju's snap may read.
        with tempfile.NamedTemporaryFile("w", dir=charm.parent, suffix=".yaml") as file:
            json.dump({app: dict(config or {})}, file)
            file.flush()
            words += ["--config", file.name]
            self._juju("deploy", *words, *_resources(resources or {}))

    def deploy_bundle(self, bundle):
        self._juju("deploy", str(bundle.resolve()), "--trust", minutes=30)

    def integrate(self, one, other):
        self._juju("relate" if self._major < 3 else "integrate", one, other)

    def configure(self, app, **options):
        pairs = (f"{name.replace('_', '-')}={_word(value)}" for name, value in options.items())
        self._juju("config", app, *pairs)

    def run_action(self, unit, action, **params):
        pairs = [f"{name.replace('_', '-')}={_word(value)}" for name, value in params.items()]
        verb = "run-action" if self._major < 3 else "run"
        try:
            words = verb, unit, action, *pairs, "--wait=90m", "--format=json"
            output = self._juju(*words, minutes=95)
        except subprocess.CalledProcessError as error:
            # From Juju 3 on the client fails if the action fails, with the reason on its output.
            if not (error.stdout or "").startswith("{"):
                raise
            output = error.stdout
        (task,) = json.loads(output).values()
        if task["status"] != "completed":
            raise ActionFailedError(task.get("message") or task["status"])
        return task.get("results") or {}

    def units(self, app):
        units_ = self._application(app).get("units") or {}
        return [
            Unit(
                name=name,
                status=unit["workload-status"]["current"],
                message=unit["workload-status"].get("message", ""),
                leader=unit.get("leader", False),
                idle=unit["juju-status"]["current"] == "idle" and "upgrading-from" not in unit,
            )
            for name, unit in sorted(units_.items())
        ]

    def wait(self, until, minutes):
        end = time.monotonic() + 60 * minutes
        while not until():
            if time.monotonic() > end:
                raise TimeoutError(f"after {minutes} minutes:\n{self._juju('status')}")
            time.sleep(self._poll)

    def scale(self, app, units):
        self._juju("scale-application", app, str(units))

    def pod(self, unit):
        """Return the uid of a unit's pod, empty if it has none."""
        words = "--ignore-not-found", "--output=jsonpath={.metadata.uid}"
        return self._pods("get", unit, *words)

    def kill(self, unit):
        self._pods("delete", unit, "--wait=true")

    def revision(self, app):
        return self._application(app)["charm-rev"]

    def refresh(self, app, charm, resources):
        self._juju("refresh", app, "--path", str(charm.resolve()), *_resources(resources))

    def remove(self, app):
        options = [] if self._major < 3 else ["--no-prompt"]
        self._juju("remove-application", app, *options)

    def _application(self, app: str) -> dict[str, Any]:
        return json.loads(self._juju("status", "--format=json"))["applications"].get(app) or {}

    def _pods(self, verb: str, unit: str, *words: str) -> str:
        command = [*self._kubectl, verb, "pod", unit.replace("/", "-"), "--namespace", self._model]
        process = subprocess.run(
            [*command, *words], check=True, stdout=subprocess.PIPE, text=True, timeout=300
        )
        return process.stdout


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _resources(resources: Mapping[str, str]) -> list[str]:
    return [word for pair in resources.items() for word in ("--resource", "=".join(pair))]
