"""`make demo-loop`: production changes, and the model follows, with nobody asking for it.

A model is trained, promoted and served. Then the images of production get brighter: monitoring sees it,
the charm starts a run by itself with the reason drift, the new model is judged on images like those of
production, promoted and served, and at last rolled back. All of it is the real charm on the sandbox with
real training, and is told in one HTML timeline.
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
# How much brighter the images of production get, of 255, and how many of them are sent. The first model
# takes images that are 60 brighter for shirts: it finds more of them than any good model, and the gate,
# which looks at the recall of each class, then keeps it. At 100 it finds fewer.
BRIGHTER, SENT = 100, 1000
# Seconds in which the server has to follow the champion.
PATIENCE = 120


@dataclasses.dataclass(frozen=True)
class Moment:
    """Something that happened.

    Attributes:
        at: when.
        title: in a few words.
        text: what came of it.
        accuracy: of the served model on the images of production then, 0 to 1; None: not asked.
        version: which served then.
    """

    at: datetime.datetime
    title: str
    text: str
    accuracy: float | None = None
    version: str = ""


class Loop:
    """The demo: a trainer in a Juju model, on a sandbox, whose champion is served.

    Args:
        sandbox: in the place of Kubeflow Pipelines and of object storage.
        images: the data set.
    """

    def __init__(self, sandbox: Sandbox, images: data.Dataset):
        self.model, self.sandbox = Model(), sandbox
        self.client = Client(sandbox.api_url)
        self.registry = open_registry(sandbox)
        self.timeline: list[Moment] = []
        self.labels = images.test_labels[:SENT]
        self.production = images.test_images[:SENT]
        self._images = images

    def record(self, title: str, text: str, *, asks: str = "") -> None:
        """Keep what happened, with what the model that is served at this address makes of production."""
        accuracy, version = None, ""
        if asks:
            version, predicted = self._answers(asks)
            accuracy = float((predicted == self.labels).mean())
            text += f" Version {version} serves, and is right on {accuracy:.1%} of production."
        self.timeline.append(
            Moment(datetime.datetime.now(datetime.timezone.utc), title, text, accuracy, version)
        )
        console.print(f"[bold]{title}[/]: {text}")

    def upload(self, brighter: int) -> None:
        """Put the data set into object storage, as the trainer's data."""
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
        """Production sends images, which are kept where monitoring looks."""
        self.production = _brightened(self._images.test_images[:SENT], brighter)
        file = self.sandbox.root / "sent.npz"
        np.savez(file, images=self.production, labels=self.labels)
        store = open_store(PRODUCTION, self.sandbox.s3_url)
        obstore.put(store, f"{brighter}.npz", file.read_bytes())
        file.unlink()

    def newest(self, prefix: str) -> Run:
        """Return the newest run of the trainer whose name begins so.

        Raises:
            SystemExit: there is none.
        """
        experiment = self.client.find_experiment("kubeflow--trainer")
        runs = self.client.list_runs(experiment.experiment_id, limit=20) if experiment else []
        for run in runs:
            if run.display_name.startswith(prefix):
                return self.client.get_run(run.run_id)
        raise SystemExit(f"the charm has submitted no run {prefix}...; its status above says why")

    def follow(self, run: Run, pipeline: str = "train") -> None:
        """Look at a run until it has succeeded.

        Raises:
            SystemExit: it did not.
        """
        run = follow(self.model, self.sandbox, self.client, run, pipeline)
        if run.state is not RunState.SUCCEEDED:
            raise SystemExit(f"the run failed; its log: {self.sandbox.run_log(run.run_id)}")

    @contextlib.contextmanager
    def served(self) -> Generator[str]:
        """Return the address at which KServe's model server answers with the champion."""
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

    def until_served(self, url: str, version: int) -> str:
        """Wait until this version answers; returns the address.

        Raises:
            SystemExit: it does not in time.
        """
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if self._answers(url, 1)[0] == str(version):
                    return url
            time.sleep(0.5)
        raise SystemExit(f"version {version} is not served; see {self.sandbox.root / 'serve.log'}")

    def champion(self) -> int:
        """Return the champion's version."""
        champion = self.registry.champion()
        return champion.version if champion else 0

    def _answers(self, url: str, count: int = SENT) -> tuple[str, np.ndarray]:
        """Which version answers, and the classes that it sees in the images of production."""
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
    """Tell the story, from no model to a rollback; return whether it came true."""
    console.rule("train and promote")
    loop.upload(0)
    loop.send(0)
    loop.model.configure(
        profile="",
        recipe=recipe,
        data_path=DATA,
        # Data that changed with production are what it shall be trained on.
        allow_anomalies=True,
        monitor_data=PRODUCTION,
        retrain_on_drift=True,
    )
    loop.model.join(loop.sandbox)
    loop.follow(loop.newest("config-"))
    loop.record("Trained and promoted", f"{loop.model.status}.")
    with loop.served() as url:
        console.rule("serve")
        url = loop.until_served(url, loop.champion())
        loop.record("Served", "Over the V1 and V2 inference protocols.", asks=url)

        console.rule("production changes")
        loop.send(BRIGHTER)
        loop.record(
            "Production changed",
            f"Its images are {BRIGHTER} of 255 brighter from here on.",
            asks=url,
        )
        # Whoever labels images of production puts them where the trainer's data are.
        loop.upload(BRIGHTER)
        results = loop.model.act("monitor")
        loop.follow(loop.client.get_run(results["run-id"]), "monitor")
        loop.record("Drift was seen", f"{loop.model.status}.")

        console.rule("a run by itself")
        loop.model.look()
        run = loop.newest("retrain-")
        loop.record("A run started by itself", f"{run.display_name}: {run.description}.")
        loop.follow(run)
        results = loop.model.act("get-run", **{"run-id": run.run_id})
        loop.record(f"The new model was {results['verdict']}", f"{results['verdict-reasons']}.")
        if results["verdict"] != "accepted":
            console.print(
                "the first model still serves; try another: make demo-loop RECIPE=balanced"
            )
            return False
        url = loop.until_served(url, loop.champion())
        loop.record("The new model serves", f"{loop.model.status}.", asks=url)

        console.rule("and back")
        loop.model.act("rollback", reason="to show how")
        url = loop.until_served(url, loop.champion())
        loop.record("Rolled back", f"{loop.model.status}.", asks=url)
    return True


def timeline(moments: list[Moment]) -> str:
    """Return the story as one self-contained HTML file."""
    start = moments[0].at
    rows: list[str] = []
    for moment in moments:
        bar = ""
        if moment.accuracy is not None:
            kind = "accepted" if moment.accuracy > 0.8 else "rejected"
            bar = (
                f'<div class="bar"><b class="{kind}" style="width:{moment.accuracy:.0%}"></b>'
                f"<span>version {html.escape(moment.version)}: {moment.accuracy:.1%} of production"
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
        f"seconds from then; what nobody asked for is what the charm did by itself.</p>{style}"
        f"<ol>{''.join(rows)}</ol>",
    )


def main() -> int:
    """Run the demo; 0 when all of it came true."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="quick", help="quick, fast, ...")
    parser.add_argument("--data", default="", help="folder or address; or it is found")
    parser.add_argument("--root", type=Path, default=ROOT / ".demo" / "loop", help="made anew")
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
        came_true = play(loop, options.recipe)
    target = options.root / "timeline.html"
    target.write_text(timeline(loop.timeline), encoding="utf-8")
    console.print(f"timeline: {target}")
    return 0 if came_true else 1


if __name__ == "__main__":
    raise SystemExit(main())
