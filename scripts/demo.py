"""`make demo`: the whole loop on this machine, with the real charm and real training.

A sandbox speaks Kubeflow Pipelines' REST API and S3 and executes the compiled pipeline. The charm's
own class is driven through Juju's events by ops.testing, as Juju would: deploy, relate, configure,
the action `train`, and update-status until the runs are done.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), *(str(ROOT / room) for room in ("src", "lib", "training"))]

import ops.testing  # noqa: E402
import yaml  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: E402
from rich.table import Table  # noqa: E402

from charm import FashionMnistTrainerCharm  # noqa: E402
from fashion_mnist import data  # noqa: E402
from fashion_mnist.registry import Registry  # noqa: E402
from kfp_ops import Client, PipelineSpec, Run, RunState  # noqa: E402
from sandbox import Sandbox  # noqa: E402

STEPS = PipelineSpec.load(ROOT / "src" / "pipelines" / "train.yaml").steps
# What to try by hand after each recipe.
BETTER = {"notebook": "fast", "fast": "balanced"}
# Of a log, what tells of the training; the file has all.
SHOWN = re.compile(
    r"Task '|Epoch|accuracy|verdict|version \d|Prediction:|images from|[Ee]rror:|run failed"
)
COLOURS = {"active": "green", "blocked": "red", "waiting": "yellow", "maintenance": "yellow"}
console = Console(highlight=False, soft_wrap=True)


class Model:
    """A Juju model with one application, `trainer`, whose charm runs in this process."""

    def __init__(self):
        self.context = ops.testing.Context(FashionMnistTrainerCharm, app_name="trainer")
        self.state = ops.testing.State(
            leader=True,
            # There is no workload here; its container has not come up.
            containers={ops.testing.Container("pushgateway", can_connect=False)},
            model=ops.testing.Model(name="kubeflow", uuid=str(uuid.uuid4())),
        )

    def emit(self, event: ops.testing.Event | object, said: str) -> None:
        """Let an event happen; prints what an operator would type and then see."""
        self.state = self.context.run(event, self.state)  # type: ignore[arg-type]
        status = self.state.unit_status
        table = Table.grid(padding=(0, 2))
        table.add_row(
            "trainer/0*", f"[{COLOURS[status.name]}]{status.name}[/]", status.message or "-"
        )
        console.print(f"\n[bold]$ {said}[/]")
        console.print(table)

    def relate(self, endpoint: str, remote: str, published: dict[str, object]) -> None:
        """Add a relation whose other side has published its data."""
        relation = ops.testing.Relation(
            endpoint,
            remote_app_name=remote,
            remote_app_data={
                "_supported_versions": "- v1\n",
                "data": yaml.safe_dump(published),
            },
        )
        self.state = dataclasses.replace(self.state, relations={*self.state.relations, relation})
        self.emit(
            self.context.on.relation_changed(relation),
            f"juju integrate trainer:{endpoint} {remote}:{endpoint}",
        )

    def configure(self, config: dict[str, object]) -> None:
        """Set options."""
        self.state = dataclasses.replace(self.state, config={**self.state.config, **config})
        said = " ".join(f"{name}={value}" for name, value in config.items())
        self.emit(self.context.on.config_changed(), f"juju config trainer {said}")

    def act(self, **params: object) -> dict[str, str]:
        """Run the action `train`; returns its results."""
        said = " ".join(f"{name}={value}" for name, value in params.items())
        self.emit(
            self.context.on.action("train", params=params), f"juju run trainer/leader train {said}"
        )
        results = dict(self.context.action_results or {})
        for key, value in results.items():
            console.print(f"  {key}: {value}")
        return results


def configured_run(client: Client, recipe: str, epochs: int) -> Run:
    """The run of this configuration, which an earlier demo may have made."""
    experiment = client.find_experiment("kubeflow-trainer")
    for run in client.list_runs(experiment.experiment_id, limit=100) if experiment else []:
        asked = run.parameters.get("recipe"), run.parameters.get("epochs")
        if run.display_name.startswith("config-") and asked == (recipe, epochs):
            return client.get_run(run.run_id)
    raise SystemExit("the charm has submitted no run; its status above says why")


def log_lines(path: Path) -> Iterator[str | None]:
    """The lines of a growing file; None whenever there is nothing new."""
    rest, at = "", 0
    while True:
        if path.exists():
            with path.open(encoding="utf-8", errors="replace") as file:
                file.seek(at)
                *lines, rest = (rest + file.read()).split("\n")
                at = file.tell()
            yield from lines
        yield None


def follow(model: Model, sandbox: Sandbox, client: Client, run: Run) -> Run:
    """Show a run's log and progress until it ends; one update-status for each step that ends."""
    lines = log_lines(Path(sandbox.run_log(run.run_id)))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"{run.display_name} steps", total=len(STEPS))
        done = 0
        while True:
            final = run.state.is_final
            for line in lines:
                if line is None:
                    break
                if SHOWN.search(line):
                    console.print(f"  {line.rstrip()}", markup=False, style="dim")
            now = sum(state.is_final for state in run.steps(STEPS).values())
            progress.update(bar, completed=now, description=f"{run.display_name} {run.state.value}")
            if now > done and not final:
                done = now
                model.emit(model.context.on.update_status(), "juju status trainer")
            if final:
                break
            time.sleep(0.3)
            run = client.get_run(run.run_id)
    model.emit(model.context.on.update_status(), "juju status trainer")
    return run


def summary(root: Path, sandbox: Sandbox, run: Run) -> None:
    """Say what came of it, and copy the reports of the run and of the champion."""
    os.environ["AWS_ACCESS_KEY_ID"] = sandbox.access_key
    os.environ["AWS_SECRET_ACCESS_KEY"] = sandbox.secret_key
    os.environ["AWS_REGION"] = "us-east-1"
    registry = Registry.open("s3://mlpipeline/models/fashion-mnist", sandbox.s3_url)
    champion = registry.champion()
    log = sandbox.run_log(run.run_id)
    console.rule("what came of it")
    console.print(line_in(log, "verdict "))
    console.print(line_in(log, "test accuracy"))
    console.print(line_in(log, "Prediction:"))
    reports = sorted(log.parent.glob("*/evaluate/report"))
    if reports:
        kept = root / "report.html"
        shutil.copy(reports[-1], kept)
        console.print(f"report of the run: {kept}")
    if champion:
        registry.fetch(champion.version, root / "champion")
        accuracy = champion.manifest["metrics"]["test"]["accuracy"]
        console.print(
            f"champion: version {champion.version}, accuracy {accuracy:.4f}, "
            f"in {root / 'champion'} with its report.html"
        )


def line_in(log: Path, start: str) -> str:
    """The first line of the log with this in it, from there on."""
    found = [line for line in log.read_text(errors="replace").splitlines() if start in line]
    return found[0][found[0].index(start) :].strip() if found else ""


def source(text: str) -> str:
    """Where the data are: a folder by its whole path, since steps run elsewhere, or an address."""
    return str(Path(text).resolve()) if text and "://" not in text else text


def main() -> int:
    """Run the demo; 0 when every run succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="fast", help="notebook, fast, ...")
    parser.add_argument("--epochs", type=int, default=0, help="0: the recipe's own")
    parser.add_argument("--data", type=source, default="", help="folder or address; or it is found")
    parser.add_argument("--root", type=Path, default=ROOT / ".demo", help="where all is kept")
    options = parser.parse_args()
    logging.basicConfig(handlers=[logging.NullHandler()])

    console.rule("Fashion-MNIST")
    cache = options.root / "data"
    try:
        images = data.load(options.data, cache=cache)
    except data.DataError as error:
        console.print(f"{error}\nor with the four files in a folder: make demo DATA=FOLDER")
        return 1
    console.print(f"data: {images.source} ({len(images.train_images)} + {len(images.test_images)})")

    with Sandbox(options.root / "sandbox") as sandbox:
        console.print(f"sandbox: Kubeflow Pipelines {sandbox.api_url}, S3 {sandbox.s3_url}")
        client = Client(sandbox.api_url)
        console.rule("deploy, relate, configure")
        model = Model()
        model.configure(
            {
                "profile": "",
                "data-path": images.source,
                "recipe": options.recipe,
                "epochs": options.epochs,
            }
        )
        host, port = sandbox.api_url.removeprefix("http://").split(":")
        model.relate("kfp-api", "kfp-api", {"service-name": host, "service-port": port})
        host, port = sandbox.s3_url.removeprefix("http://").split(":")
        model.relate(
            "object-storage",
            "minio",
            {
                "access-key": sandbox.access_key,
                "secret-key": sandbox.secret_key,
                "namespace": None,
                "port": int(port),
                "secure": False,
                "service": host,
            },
        )
        console.rule("the configuration's run")
        model.emit(model.context.on.update_status(), "juju status trainer")
        run = configured_run(client, options.recipe, options.epochs)
        if run.state.is_final:
            console.print(f"{run.display_name} is there from an earlier demo: {run.state.value}")
        else:
            follow(model, sandbox, client, run)
        console.rule("a run by hand, judged against the champion")
        asked = model.act(recipe=BETTER.get(options.recipe, "fast"), note="is this one better?")
        run = follow(model, sandbox, client, client.get_run(asked["run-id"]))
        if run.state is not RunState.SUCCEEDED:
            console.print(f"the run failed; its log: {sandbox.run_log(run.run_id)}")
            return 1
        summary(options.root, sandbox, run)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
