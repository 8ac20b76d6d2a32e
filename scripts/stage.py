"""Shared parts of the demos: a Juju model in this process, connected to a sandbox.

ops.testing runs the charm's class through the same events as Juju.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import ops.testing
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from charm import FashionMnistTrainerCharm
from fashion_mnist import storage
from kfp_ops import Client, PipelineSpec, Run
from model_registry import Registry
from sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[1]
# Lines of a run's log to show; the file has all.
SHOWN = re.compile(
    r"Task '|Epoch|accuracy|verdict|version \d|Prediction:|images from|[Ee]rror:|run failed"
)
COLOURS = {"active": "green", "blocked": "red", "waiting": "yellow", "maintenance": "yellow"}
console = Console(highlight=False, soft_wrap=True)
logging.basicConfig(handlers=[logging.NullHandler()])


class Model:
    """A Juju model with one application, `trainer`, whose charm runs in this process."""

    def __init__(self):
        self.context = ops.testing.Context(FashionMnistTrainerCharm, app_name="trainer")
        self.state = ops.testing.State(
            leader=True,
            # There is no workload, so its container never comes up.
            containers={ops.testing.Container("pushgateway", can_connect=False)},
            model=ops.testing.Model(name="kubeflow", uuid=str(uuid.uuid4())),
        )

    @property
    def status(self) -> str:
        """The unit's status, as in `juju status`."""
        return f"{self.state.unit_status.name}: {self.state.unit_status.message}"

    def emit(self, event: ops.testing.Event | object, command: str) -> None:
        """Run an event; print the operator's command and the unit's status."""
        self.state = self.context.run(event, self.state)  # type: ignore[arg-type]
        status = self.state.unit_status
        table = Table.grid(padding=(0, 2))
        table.add_row(
            "trainer/0*", f"[{COLOURS[status.name]}]{status.name}[/]", status.message or "-"
        )
        console.print(f"\n[bold]$ {command}[/]")
        console.print(table)

    def update_status(self) -> None:
        """Run the event update-status."""
        self.emit(self.context.on.update_status(), "juju status trainer")

    def relate(self, endpoint: str, remote: str, published: dict[str, str]) -> None:
        """Add a relation whose remote application has published its data."""
        relation = ops.testing.Relation(endpoint, remote_app_name=remote, remote_app_data=published)
        self.state = dataclasses.replace(self.state, relations={*self.state.relations, relation})
        self.emit(
            self.context.on.relation_changed(relation),
            f"juju integrate trainer:{endpoint} {remote}:{endpoint}",
        )

    def join(self, sandbox: Sandbox) -> None:
        """Relate to the sandbox instead of Kubeflow Pipelines and object storage."""
        use_cluster(sandbox)
        databags = sandbox.databags()
        self.relate("kfp-api", "kfp-api", databags["kfp-api"])
        self.relate("object-storage", "minio", databags["object-storage"])

    def configure(self, **options: object) -> None:
        """Set options, named with underscores for dashes."""
        config = {name.replace("_", "-"): value for name, value in options.items()}
        self.state = dataclasses.replace(self.state, config={**self.state.config, **config})
        command = " ".join(f"{name}={value}" for name, value in config.items())
        self.emit(self.context.on.config_changed(), f"juju config trainer {command}")

    def run_action(self, action: str, **params: object) -> dict[str, str]:
        """Run an action and return its results."""
        command = " ".join(f"{name}={value}" for name, value in params.items())
        self.emit(
            self.context.on.action(action, params=params),
            f"juju run trainer/leader {action} {command}",
        )
        results = dict(self.context.action_results or {})
        for key, value in results.items():
            console.print(f"  {key}: {value}", markup=False)
        return results


def use_cluster(sandbox: Sandbox) -> None:
    """Point the charm at the sandbox's ConfigMaps, if any, and at no other cluster."""
    os.environ.pop("KUBECONFIG", None)
    if sandbox.kubeconfig:
        os.environ["KUBECONFIG"] = str(sandbox.kubeconfig)


def add_s3_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that makes the sandbox's S3 server behave like Charmed MinIO."""
    parser.add_argument(
        "--s3-without-conditional-writes",
        action="store_true",
        help="use an S3 server that ignores If-None-Match, like Charmed MinIO",
    )


def open_registry(sandbox: Sandbox) -> Registry:
    """Return the demos' model registry, opened like in a step."""
    os.environ["AWS_ACCESS_KEY_ID"] = sandbox.access_key
    os.environ["AWS_SECRET_ACCESS_KEY"] = sandbox.secret_key
    os.environ["AWS_REGION"] = "us-east-1"
    return storage.open_registry("s3://mlpipeline/models/fashion-mnist", sandbox.s3_url)


def follow(
    model: Model, sandbox: Sandbox, client: Client, run: Run, pipeline: str = "train"
) -> Run:
    """Show a run's log and progress until it ends, and run update-status after each step.

    Args:
        model: Juju model with the trainer.
        sandbox: Sandbox that executes the run.
        client: Client of the sandbox.
        run: Run as it was submitted.
        pipeline: Name of the run's pipeline, a file in src/pipelines.
    """
    steps = PipelineSpec.load(ROOT / "src" / "pipelines" / f"{pipeline}.yaml").steps
    lines = _log_lines(Path(sandbox.run_log(run.run_id)))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"{run.display_name} steps", total=len(steps))
        done = 0
        while True:
            final = run.state.is_final
            for line in lines:
                if line is None:
                    break
                if SHOWN.search(line):
                    console.print(f"  {line.rstrip()}", markup=False, style="dim")
            now = sum(state.is_final for state in run.steps(steps).values())
            progress.update(bar, completed=now, description=f"{run.display_name} {run.state.value}")
            if now > done and not final:
                done = now
                model.update_status()
            if final:
                break
            time.sleep(0.3)
            run = client.get_run(run.run_id)
    model.update_status()
    return run


def _log_lines(path: Path) -> Iterator[str | None]:
    """Yield the lines of a growing file, and None when there are no new ones."""
    rest, at = "", 0
    while True:
        if path.exists():
            with path.open(encoding="utf-8", errors="replace") as file:
                file.seek(at)
                *lines, rest = (rest + file.read()).split("\n")
                at = file.tell()
            yield from lines
        yield None
