"""`make demo-loop`: production images change, and the model is retrained automatically.

The demo trains, promotes and serves a model. Then the production images become brighter: monitoring
detects the drift, the charm starts a run automatically, and the new model is evaluated on similar
images, promoted, served, and finally rolled back. The demo uses the real charm on the sandbox with real
training, and writes an HTML timeline.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import html
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import httpx
import numpy as np
import obstore

from fashion_mnist import data
from fashion_mnist.reports.page import page
from fashion_mnist.storage import open_store
from kfp_ops import Client, Run, RunState
from sandbox import HOST, Sandbox
from stage import ROOT, Model, add_s3_argument, console, follow, open_registry

DATA, PRODUCTION = "s3://mlpipeline/data", "s3://mlpipeline/production"
# Added brightness (of 255) and number of production images. With 60, the first model classifies so many
# images as shirts that its recall of shirts is higher than that of any good model, so the gate keeps it.
BRIGHTER, SENT = 100, 1000
# Maximum seconds until the server serves a new champion.
SERVE_TIMEOUT = 120


@dataclasses.dataclass(frozen=True)
class Moment:
    """An entry of the timeline."""

    at: datetime.datetime
    title: str
    text: str
    accuracy: float | None = None
    """Accuracy of the served model on production images, 0 to 1; None if not measured."""

    version: str = ""
    """Version that served."""


class Loop:
    """The demo: a trainer in a Juju model, on a sandbox, with its champion served.

    Args:
        sandbox: Sandbox instead of Kubeflow Pipelines and object storage.
        images: Data set.
    """

    def __init__(self, sandbox: Sandbox, images: data.Dataset):
        self.model, self.sandbox = Model(), sandbox
        self.client = Client(sandbox.api_url)
        self.registry = open_registry(sandbox)
        self.timeline: list[Moment] = []
        self.labels = images.test_labels[:SENT]
        self.production = images.test_images[:SENT]
        self._images = images

    def record(self, title: str, text: str, *, url: str = "") -> None:
        """Add an entry to the timeline, with the accuracy of the model that is served at a URL."""
        accuracy, version = None, ""
        if url:
            version, predicted = self._predict(url)
            accuracy = float((predicted == self.labels).mean())
            text += f" Version {version} serves, with accuracy {accuracy:.1%} on production images."
        self.timeline.append(
            Moment(datetime.datetime.now(datetime.timezone.utc), title, text, accuracy, version)
        )
        console.print(f"[bold]{title}[/]: {text}")

    def upload(self, brighter: int) -> None:
        """Put the data set into object storage as the trainer's data."""
        store = open_store(DATA, self.sandbox.s3_url)
        images = self._images
        arrays = {
            "train-images": _brightened(images.train_images, brighter),
            "train-labels": images.train_labels,
            "t10k-images": _brightened(images.test_images, brighter),
            "t10k-labels": images.test_labels,
        }
        for name, array in arrays.items():
            file = self.sandbox.root / f"{name}.idx"
            data.write_idx(file, array)
            obstore.put(store, data.FILES[name], file.read_bytes())
            file.unlink()

    def send(self, brighter: int) -> None:
        """Put production images into object storage for monitoring."""
        self.production = _brightened(self._images.test_images[:SENT], brighter)
        file = self.sandbox.root / "sent.npz"
        np.savez(file, images=self.production, labels=self.labels)
        store = open_store(PRODUCTION, self.sandbox.s3_url)
        obstore.put(store, f"{brighter}.npz", file.read_bytes())
        file.unlink()

    def newest(self, prefix: str) -> Run:
        """Return the trainer's newest run whose name begins with a prefix.

        Raises:
            SystemExit: There is none.
        """
        experiment = self.client.find_experiment("kubeflow--trainer")
        runs = self.client.list_runs(experiment.experiment_id, limit=20) if experiment else []
        for run in runs:
            if run.display_name.startswith(prefix):
                return self.client.get_run(run.run_id)
        raise SystemExit(f"the charm has submitted no run {prefix}...; its status above says why")

    def follow(self, run: Run, pipeline: str = "train") -> None:
        """Follow a run until it has succeeded.

        Raises:
            SystemExit: The run did not succeed.
        """
        run = follow(self.model, self.sandbox, self.client, run, pipeline)
        if run.state is not RunState.SUCCEEDED:
            raise SystemExit(f"the run failed; its log: {self.sandbox.run_log(run.run_id)}")

    @contextlib.contextmanager
    def served(self) -> Generator[str]:
        """Run KServe's model server with the champion; return its URL."""
        with socket.create_server((HOST, 0)) as listener:
            port = listener.getsockname()[1]
        log = self.sandbox.root / "serve.log"
        with log.open("wb") as out:
            server = subprocess.Popen(
                [
                    sys.executable, "-W", "ignore", "-m", "training.serve",
                    "s3://mlpipeline/models/fashion-mnist",
                    f"--s3-endpoint={self.sandbox.s3_url}", f"--port={port}", "--poll=1",
                ],
                cwd=ROOT, env=os.environ, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield f"http://{HOST}:{port}"
        finally:
            server.terminate()
            server.wait()

    def wait_until_served(self, url: str, version: int) -> None:
        """Wait until a version is served.

        Raises:
            SystemExit: It is not served in time.
        """
        end = time.monotonic() + SERVE_TIMEOUT
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if self._predict(url, 1)[0] == str(version):
                    return
            time.sleep(0.5)
        raise SystemExit(f"version {version} is not served; see {self.sandbox.root / 'serve.log'}")

    def champion(self) -> int:
        """Return the champion's version."""
        champion = self.registry.champion()
        return champion.version if champion else 0

    def _predict(self, url: str, count: int = SENT) -> tuple[str, np.ndarray]:
        """Return the served version, and the classes that it predicts for production images."""
        response = httpx.post(
            f"{url}/v1/models/fashion-mnist:predict",
            json={"instances": self.production[:count].tolist()},
            timeout=60,
            trust_env=False,
        )
        response.raise_for_status()
        predictions = np.asarray(response.json()["predictions"])
        return response.headers["model-version"], predictions.argmax(axis=1)


def _brightened(images: np.ndarray, amount: int) -> np.ndarray:
    return np.minimum(images.astype(np.int16) + amount, 255).astype(np.uint8)


def play(loop: Loop, recipe: str) -> bool:
    """Run the demo, from no model to a rollback; return whether the new model was accepted."""
    console.rule("train and promote")
    loop.upload(0)
    loop.send(0)
    loop.model.configure(
        profile="",
        recipe=recipe,
        data_path=DATA,
        # Train on the changed data, which looks like production.
        allow_anomalies=True,
        monitor_data=PRODUCTION,
        retrain_on_drift=True,
    )
    loop.model.join(loop.sandbox)
    loop.follow(loop.newest("config-"))
    loop.record("Trained and promoted", f"{loop.model.status}.")
    with loop.served() as url:
        console.rule("serve")
        loop.wait_until_served(url, loop.champion())
        loop.record("Served", "Over the V1 and V2 inference protocols.", url=url)

        console.rule("production changes")
        loop.send(BRIGHTER)
        loop.record(
            "Production changed", f"From now on, images are brighter by {BRIGHTER} of 255.", url=url
        )
        # Newly labeled production images are added to the trainer's data.
        loop.upload(BRIGHTER)
        results = loop.model.run_action("monitor")
        loop.follow(loop.client.get_run(results["run-id"]), "monitor")
        loop.record("Drift was detected", f"{loop.model.status}.")

        console.rule("automatic retraining")
        loop.model.update_status()
        run = loop.newest("retrain-")
        loop.record("A run started automatically", f"{run.display_name}: {run.description}.")
        loop.follow(run)
        results = loop.model.run_action("get-run", **{"run-id": run.run_id})
        loop.record(f"The new model was {results['verdict']}", f"{results['verdict-reasons']}.")
        if results["verdict"] != "accepted":
            console.print(
                "the first model still serves; try another: make demo-loop RECIPE=balanced"
            )
            return False
        loop.wait_until_served(url, loop.champion())
        loop.record("The new model serves", f"{loop.model.status}.", url=url)

        console.rule("rollback")
        loop.model.run_action("rollback", reason="to show how")
        loop.wait_until_served(url, loop.champion())
        loop.record("Rolled back", f"{loop.model.status}.", url=url)
    return True


def timeline(moments: list[Moment]) -> str:
    """Return the timeline as a self-contained HTML page."""
    start = moments[0].at
    rows: list[str] = []
    for moment in moments:
        bar = ""
        if moment.accuracy is not None:
            kind = "accepted" if moment.accuracy > 0.8 else "rejected"
            bar = (
                f'<div class="bar"><b class="{kind}" style="width:{moment.accuracy:.0%}"></b>'
                f"<span>version {html.escape(moment.version)}: accuracy {moment.accuracy:.1%}"
                "</span></div>"
            )
        after = int((moment.at - start).total_seconds())
        rows.append(
            f"<li><time>{after // 60}:{after % 60:02}</time><h3>{html.escape(moment.title)}</h3>"
            f"<p>{html.escape(moment.text)}</p>{bar}</li>"
        )
    style = (
        "<style>ol{list-style:none;border-left:3px solid var(--line);padding-left:1.5rem}"
        "li{position:relative;margin:0 0 1.8rem}h3{margin:0}p{margin:.2rem 0 .4rem}"
        "li::before{content:'';position:absolute;left:-2.02rem;top:.4rem;width:.8rem;height:.8rem;"
        "border-radius:50%;background:var(--accent)}time{float:right;opacity:.7;"
        "font-variant-numeric:tabular-nums}.bar{background:var(--soft);border-radius:.3rem;"
        "position:relative;height:1.6rem}.bar b{display:block;height:100%;border-radius:.3rem;"
        "background:currentColor;opacity:.35}.bar span{position:absolute;left:.6rem;top:0}</style>"
    )
    return page(
        "Production changes, and the model follows",
        f"<h1>Production changes, and the model follows</h1><p>{start:%Y-%m-%d %H:%M} UTC, minutes and "
        f"seconds since then; the charm started the retraining automatically.</p>{style}"
        f"<ol>{''.join(rows)}</ol>",
    )


def main() -> int:
    """Run the demo; return 0 if the new model was accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="quick", help="quick, fast, ...")
    parser.add_argument("--data", default="", help="folder or URL of the data")
    parser.add_argument(
        "--root", type=Path, default=ROOT / ".demo" / "loop", help="folder for state; deleted first"
    )
    add_s3_argument(parser)
    options = parser.parse_args()
    try:
        images = data.load(options.data, cache=ROOT / ".demo" / "data")
    except data.DataError as error:
        console.print(f"{error}, as in: make demo-loop DATA=FOLDER")
        return 1
    shutil.rmtree(options.root, ignore_errors=True)
    with Sandbox(
        options.root, s3_without_conditional_writes=options.s3_without_conditional_writes
    ) as sandbox:
        loop = Loop(sandbox, images)
        accepted = play(loop, options.recipe)
    target = options.root / "timeline.html"
    target.write_text(timeline(loop.timeline), encoding="utf-8")
    console.print(f"timeline: {target}")
    return 0 if accepted else 1


if __name__ == "__main__":
    raise SystemExit(main())
