"""Tune: draw settings from a search space, train with each, and choose by accuracy on validation data.

A search space is a list of parameters as in Katib::

    [{"name": "learning_rate", "parameterType": "double",
      "feasibleSpace": {"min": "0.003", "max": "0.03", "distribution": "logUniform"}},
     {"name": "batch_size", "parameterType": "discrete", "feasibleSpace": {"list": ["128", "256"]}}]

The search is random, with a seed, and does not use the test images: the chosen settings train on all
training images, and the same gate as for any other model judges the result. Source:
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

# Settings that can be tuned, and their types.
SETTINGS = {"recipe": str, "epochs": int, "batch_size": int, "learning_rate": float}
# One training image in twelve becomes validation data: 5,000 of the 60,000.
_VALIDATION_DIVISOR = 12


def suggest(
    space: str, trials: int, parallelism: int, base: Mapping[str, Any], seed: int
) -> list[str]:
    """Draw settings from a search space.

    Args:
        space: JSON, as above.
        trials: number of trials; the first is the base itself, so that the best is no worse.
        parallelism: maximum number of shards.
        base: values of SETTINGS that are not in the space, 0 for the recipe's own.
        seed: seed of the search.

    Returns:
        one JSON list per shard, with an object per trial: `trial`, a number from 0, and SETTINGS.

    Raises:
        ValueError: The space has an unknown parameter.
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
        raise ValueError(f"{name!r} cannot be tuned; use some of: {', '.join(SETTINGS)}")
    if kind in ("categorical", "discrete"):
        return SETTINGS[name](generator.choice(feasible["list"]))
    low, high = float(feasible["min"]), float(feasible["max"])
    if feasible.get("distribution") == "logUniform":
        value = math.exp(generator.uniform(math.log(low), math.log(high)))
    elif kind == "int":
        value = generator.integers(int(low), int(high), endpoint=True)
    else:
        value = generator.uniform(low, high)
    # Four digits are precise enough and readable.
    return round(value) if kind == "int" else float(f"{value:.4g}")


def run_trials(
    shard: str, images: Dataset, *, seed: int, registry: str, s3_endpoint: str, run_id: str
) -> None:
    """Train with the settings of each trial in a shard, and record the accuracy on validation data.

    Args:
        shard: JSON list of trials, from `suggest`.
        images: the data set, part of whose training images become validation data.
        seed: seed of training, and of the choice of validation data.
        registry: s3://bucket/prefix or a directory, for results `tuning/RUN/TRIAL.json`.
        s3_endpoint: http(s)://host:port of the S3 server.
        run_id: id of the run.

    Raises:
        ValueError: The settings of a trial are not valid.
    """
    store = open_store(subaddress(registry, layout.trials(run_id)), s3_endpoint)
    order = np.random.default_rng(seed).permutation(len(images.train_images))
    validation, remaining = np.split(order, [len(order) // _VALIDATION_DIVISOR])
    for trial in json.loads(shard):
        number = int(trial["trial"])
        if _read(store, number):
            continue  # an earlier attempt of the step finished this trial
        settings = {name: kind(trial[name]) for name, kind in SETTINGS.items()}
        recipe = recipes.resolve(settings.pop("recipe"), **settings)
        trained = training.train(
            images.train_images[remaining],
            images.train_labels[remaining],
            recipe,
            seed=seed,
            validation_data=(images.train_images[validation], images.train_labels[validation]),
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
    """Return the results of all trials, ordered by validation accuracy, then by training loss.

    The loss of a trial that diverged is None, and ranks last.

    Args:
        trials: number of trials.
        registry: s3://bucket/prefix or a directory.
        s3_endpoint: http(s)://host:port of the S3 server.
        run_id: id of the run.

    Raises:
        ValueError: A trial has no result.
    """
    store = open_store(subaddress(registry, layout.trials(run_id)), s3_endpoint)
    trial_results = [_read(store, number) for number in range(trials)]
    missing = [str(number) for number, result in enumerate(trial_results) if result is None]
    if missing:
        raise ValueError(
            f"trials {', '.join(missing)} have no result; see the logs of the steps trial"
        )

    def rank(result: Mapping[str, Any]) -> tuple[float, float]:
        return -result["val_accuracy"], math.inf if result["loss"] is None else result["loss"]

    return sorted((result for result in trial_results if result), key=rank)


def table(ranked: Sequence[Mapping[str, Any]]) -> str:
    """Return the results of trials as an HTML page, in the given order."""
    columns = ("trial", "val_accuracy", *SETTINGS, "loss", "fit_seconds")
    rows = [
        "".join(f"<td>{html.escape(_cell(result[column]))}</td>" for column in columns)
        for result in ranked
    ]
    head = "".join(f"<th>{column}</th>" for column in columns)
    return page(
        "Tuning",
        "<h1>Tuning</h1><p>Ordered by accuracy on the validation data; 0 is the recipe's own value.</p>"
        f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>",
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
