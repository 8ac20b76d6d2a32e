"""Tuning: settings drawn from a space, tried on images that were held out, and the best of them.

A space is written in Katib's words, a list of parameters::

    [{"name": "learning_rate", "parameterType": "double",
      "feasibleSpace": {"min": "0.003", "max": "0.03", "distribution": "logUniform"}},
     {"name": "batch_size", "parameterType": "discrete", "feasibleSpace": {"list": ["128", "256"]}}]

It is searched at random, with a seed. The test images take no part: what tuning chooses is trained on
all training images and judged by the same gate as any other model. Source:
https://www.kubeflow.org/docs/components/katib/user-guides/experiment/.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import obstore

from fashion_mnist.data import Dataset
from fashion_mnist.model import recipes, training
from fashion_mnist.reports.page import page
from fashion_mnist.storage import open_store, subaddress
from model_registry import layout

# What may be tuned, and as what it is read.
SETTINGS = {"recipe": str, "epochs": int, "batch_size": int, "learning_rate": float}
HELD_OUT = 12  # one image in so many: 5,000 of the 60,000


def suggest(
    space: str, trials: int, parallelism: int, base: Mapping[str, Any], seed: int
) -> list[str]:
    """Draw settings from a space.

    Args:
        space: JSON, as above.
        trials: how many; the first is the base itself, so that the best is no worse.
        parallelism: among how many they are divided.
        base: values of SETTINGS that the space does not name; 0 is the recipe's own.
        seed: the same seed draws the same settings.

    Returns:
        for each that runs beside the others JSON of its trials: a list of objects with `trial`, a
        number from 0, and SETTINGS.

    Raises:
        ValueError: the space is not one.
    """
    generator = np.random.default_rng(seed)
    drawn = [dict(base)]
    parameters = json.loads(space)
    for _ in range(trials - 1):
        settings = {parameter["name"]: _draw(parameter, generator) for parameter in parameters}
        drawn.append({**base, **settings})
    numbered = [{"trial": number, **settings} for number, settings in enumerate(drawn)]
    return [json.dumps(numbered[offset::parallelism]) for offset in range(min(parallelism, trials))]


def _draw(parameter: Mapping[str, Any], generator: np.random.Generator) -> Any:
    name, kind, feasible = (parameter[key] for key in ("name", "parameterType", "feasibleSpace"))
    if name not in SETTINGS:
        raise ValueError(f"{name!r} cannot be tuned; {', '.join(SETTINGS)} can")
    if kind in ("categorical", "discrete"):
        return SETTINGS[name](generator.choice(feasible["list"]))
    low, high = float(feasible["min"]), float(feasible["max"])
    if feasible.get("distribution") == "logUniform":
        value = math.exp(generator.uniform(math.log(low), math.log(high)))
    elif kind == "int":
        value = generator.integers(int(low), int(high), endpoint=True)
    else:
        value = generator.uniform(low, high)
    # Four digits are enough, and can be read.
    return round(value) if kind == "int" else float(f"{value:.4g}")


def run_trials(
    share: str, images: Dataset, *, seed: int, registry: str, s3_endpoint: str, run_id: str
) -> None:
    """Train each of some trials without the held-out images, and keep how good it is on them.

    Args:
        share: JSON of trials, of `suggest`.
        images: the data set.
        seed: of training, and of which images are held out.
        registry: s3://bucket/prefix or a directory; results go to `tuning/RUN/TRIAL.json` in it.
        s3_endpoint: of the S3 server.
        run_id: the run's.

    Raises:
        ValueError: a trial's settings cannot be trained with.
    """
    store = open_store(subaddress(registry, layout.trials(run_id)), s3_endpoint)
    order = np.random.default_rng(seed).permutation(len(images.train_images))
    validation, remaining = np.split(order, [len(order) // HELD_OUT])
    for trial in json.loads(share):
        number = int(trial["trial"])
        if _read(store, number):
            continue  # the step was tried again
        settings = {name: kind(trial[name]) for name, kind in SETTINGS.items()}
        recipe = recipes.resolve(settings.pop("recipe"), **settings)
        trained = training.train(
            images.train_images[remaining],
            images.train_labels[remaining],
            recipe,
            seed=seed,
            held_out=(images.train_images[validation], images.train_labels[validation]),
        )
        last_epoch = trained.history[-1]
        result = {
            **trial,
            "val_accuracy": last_epoch.val_accuracy,
            "loss": last_epoch.loss if math.isfinite(last_epoch.loss) else None,
            "fit_seconds": trained.seconds,
        }
        print(f"trial {number}: val_accuracy {last_epoch.val_accuracy:.4f}")
        obstore.put(store, layout.trial(number), json.dumps(result).encode())


def results(trials: int, *, registry: str, s3_endpoint: str, run_id: str) -> list[dict[str, Any]]:
    """What came of the trials, the best first; of two that are as good, the one of less loss.

    The loss of a trial that diverged is None, which is more than any.

    Raises:
        ValueError: one left no result.
    """
    store = open_store(subaddress(registry, layout.trials(run_id)), s3_endpoint)
    trial_results = [_read(store, number) for number in range(trials)]
    missing = [str(number) for number, result in enumerate(trial_results) if result is None]
    if missing:
        raise ValueError(f"trials {', '.join(missing)} left no result; see the steps `trial`")

    def rank(result: Mapping[str, Any]) -> tuple[float, float]:
        return -result["val_accuracy"], math.inf if result["loss"] is None else result["loss"]

    return sorted((result for result in trial_results if result), key=rank)


def table(ranked: Sequence[Mapping[str, Any]]) -> str:
    """Trials as an HTML page, in their order."""
    columns = ("trial", "val_accuracy", *SETTINGS, "loss", "fit_seconds")
    rows = [
        "".join(f"<td>{html.escape(_cell(result[column]))}</td>" for column in columns)
        for result in ranked
    ]
    head = "".join(f"<th>{column}</th>" for column in columns)
    return page(
        "Tuning",
        "<h1>Tuning</h1><p>The best first, by accuracy on images that were held out; 0 is the "
        f"recipe's own.</p><table><tr>{head}</tr>"
        + "".join(f"<tr>{row}</tr>" for row in rows)
        + "</table>",
    )


def _cell(value: object) -> str:
    if value is None:
        return "diverged"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _read(store: Any, number: int) -> dict[str, Any] | None:
    try:
        return json.loads(bytes(obstore.get(store, layout.trial(number)).bytes()))
    except FileNotFoundError:
        return None
