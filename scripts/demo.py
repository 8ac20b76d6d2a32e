"""`make demo`: train and promote models on this machine, with the real charm and real training.

A sandbox implements Kubeflow Pipelines' REST API and S3 and executes the compiled pipeline. The demo
deploys, relates and configures the charm, trains a better model with an action, and follows the runs.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from fashion_mnist import data
from kfp_ops import Client, Run, RunState
from sandbox import Sandbox
from stage import ROOT, Model, add_s3_argument, console, follow, open_registry

# Recipe of the second run, by that of the first.
BETTER = {"notebook": "fast", "fast": "balanced"}


def configured_run(client: Client, recipe: str, epochs: int) -> Run:
    """Return this configuration's run, which an earlier demo may have submitted."""
    experiment = client.find_experiment("kubeflow--trainer")
    for run in client.list_runs(experiment.experiment_id, limit=100) if experiment else []:
        settings = run.parameters.get("recipe"), run.parameters.get("epochs")
        if run.display_name.startswith("config-") and settings == (recipe, epochs):
            return client.get_run(run.run_id)
    raise SystemExit("the charm has submitted no run; its status above says why")


def summary(root: Path, sandbox: Sandbox, run: Run) -> None:
    """Print the results, and copy the reports of the run and of the champion."""
    registry = open_registry(sandbox)
    champion = registry.champion()
    log = sandbox.run_log(run.run_id)
    console.rule("results")
    console.print(line_in(log, "verdict "))
    console.print(line_in(log, "test accuracy"))
    console.print(line_in(log, "Prediction:"))
    reports = sorted(log.parent.glob("*/evaluate-and-predict/report"))
    if reports:
        target = root / "report.html"
        shutil.copy(reports[-1], target)
        console.print(f"report of the run: {target}")
    if champion:
        registry.fetch(champion.version, root / "champion")
        accuracy = champion.manifest.accuracy
        console.print(
            f"champion: version {champion.version}, accuracy {accuracy:.4f}, "
            f"in {root / 'champion'} with its report.html"
        )


def line_in(log: Path, start: str) -> str:
    """Return the first line of the log that contains a text, from that text on."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if start in line]
    return lines[0][lines[0].index(start) :].strip() if lines else ""


def source(text: str) -> str:
    """Return the location of the data, a folder as an absolute path: steps run elsewhere."""
    return str(Path(text).resolve()) if text and "://" not in text else text


def main() -> int:
    """Run the demo; return 0 if all runs succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="fast", help="notebook, fast, ...")
    parser.add_argument("--epochs", type=int, default=0, help="0 for the recipe's value")
    parser.add_argument("--data", type=source, default="", help="folder or URL of the data")
    parser.add_argument("--root", type=Path, default=ROOT / ".demo", help="folder for state")
    add_s3_argument(parser)
    options = parser.parse_args()

    console.rule("Fashion-MNIST")
    try:
        images = data.load(options.data, cache=ROOT / ".demo" / "data")
    except data.DataError as error:
        console.print(f"{error}, as in: make demo DATA=FOLDER")
        return 1
    console.print(f"data: {images.source} ({len(images.train_images)} + {len(images.test_images)})")

    with Sandbox(
        options.root / "sandbox",
        s3_without_conditional_writes=options.s3_without_conditional_writes,
    ) as sandbox:
        console.print(f"sandbox: Kubeflow Pipelines {sandbox.api_url}, S3 {sandbox.s3_url}")
        client = Client(sandbox.api_url)
        console.rule("deploy, relate, configure")
        model = Model()
        model.configure(
            profile="", data_path=images.source, recipe=options.recipe, epochs=options.epochs
        )
        model.join(sandbox)
        console.rule("the configuration's run")
        model.update_status()
        run = configured_run(client, options.recipe, options.epochs)
        if run.state.is_final:
            console.print(f"an earlier demo submitted {run.display_name}: {run.state.value}")
        else:
            follow(model, sandbox, client, run)
        console.rule("a run by an action, compared with the champion")
        results = model.run_action(
            "train", recipe=BETTER.get(options.recipe, "fast"), note="is this one better?"
        )
        run = follow(model, sandbox, client, client.get_run(results["run-id"]))
        if run.state is not RunState.SUCCEEDED:
            console.print(f"the run failed; its log: {sandbox.run_log(run.run_id)}")
            return 1
        summary(options.root, sandbox, run)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
