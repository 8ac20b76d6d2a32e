"""Write the reference of options, actions and relations from charmcraft.yaml, and that of recipes.

`python docs/generate.py` writes `docs/reference/`; a test holds the pages against what this makes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "training"))

from fashion_mnist.recipes import RECIPES, Recipe  # noqa: E402

REFERENCE = ROOT / "docs" / "reference"
MADE = "<!-- Made by `make reference`. -->\n\n"
ROLES = {
    "requires": "What the trainer asks other applications for.",
    "provides": "What the trainer offers other applications.",
}


def pages(charm: Mapping[str, Any]) -> dict[str, str]:
    """Return the pages generated from charmcraft.yaml and the recipes, by file name."""
    parts = {
        "options.md": _options(charm["config"]["options"]),
        "actions.md": _actions(charm["actions"]),
        "relations.md": _relations(charm),
        "recipes.md": _recipes(),
    }
    return {name: MADE + "\n\n".join(part) + "\n" for name, part in parts.items()}


def _options(options: Mapping[str, Any]) -> Iterator[str]:
    yield "# Options"
    yield (
        "Set with `juju config trainer OPTION=VALUE`, and back to the default with "
        "`juju config trainer --reset OPTION`. An invalid value blocks the charm; its status says "
        "what the option takes, and nothing is submitted."
    )
    for name, option in options.items():
        yield f"## `{name}`"
        yield f"{option['type']}, {_default(option['default'])}"
        yield option["description"].strip()


def _actions(actions: Mapping[str, Any]) -> Iterator[str]:
    yield "# Actions"
    yield (
        "Juju 3 and 4: `juju run trainer/leader ACTION NAME=VALUE`. Juju 2.9: "
        "`juju run-action trainer/leader ACTION NAME=VALUE --wait`."
    )
    for name, action in actions.items():
        yield f"## `{name}`"
        yield action["description"].strip()
        required = action.get("required", [])
        rows = [
            _row(f"`{param}`", _kind(param, said, required), " ".join(said["description"].split()))
            for param, said in action.get("params", {}).items()
        ]
        if rows:
            yield "\n".join([_row("parameter", "type", "what"), "|---|---|---|", *rows])


def _relations(charm: Mapping[str, Any]) -> Iterator[str]:
    yield "# Relations"
    for role, told in ROLES.items():
        yield f"## {role}"
        yield told
        rows = [
            _row(
                f"`{name}`",
                f"`{end['interface']}`",
                "no" if end.get("optional") else "yes",
                str(end.get("limit", "any")),
                " ".join(end["description"].split()),
            )
            for name, end in charm[role].items()
        ]
        head = _row("endpoint", "interface", "needed", "how many", "what")
        yield "\n".join([head, "|---|---|---|---|---|", *rows])
    yield "## Container and resource"
    yield "\n".join(
        f"The container `{container}` runs the image `{said['resource']}`: "
        + charm["resources"][said["resource"]]["description"].strip()
        + f" By default `{charm['resources'][said['resource']]['upstream-source']}`."
        for container, said in charm["containers"].items()
    )


_LAYERS = """\
Every network takes raw pixels, 0 to 255, scales them to 0 to 1 inside, and ends in a dense layer with
ten outputs. Of the words for layers:

- `stem N` is a convolution (3x3, N filters), 2x2 max pooling, batch normalisation and ReLU;
- `bn-dense N` is a dense layer of N units, batch normalisation and ReLU; `dense N` is one without the
  normalisation;
- `dropout P` drops P percent of the values while training.

The optimizer is Adam. One cycle is a learning rate that rises for a fifth of the steps and then falls
along a cosine. Label smoothing spreads that share of each label over all classes. Mirrored is a model
whose answer is the mean for an image and its mirror image."""


def _recipes() -> Iterator[str]:
    yield "# Recipes"
    yield (
        "What the option and the parameter `recipe` choose among. [Benchmarks](benchmarks.md) has how "
        "accurate and how fast they are, and how they were chosen. `epochs`, `batch-size` and "
        "`learning-rate` take the place of a recipe's own values where they are not 0."
    )
    head = _row("recipe", "network", "epochs", "batch", "learning rate", "besides")
    rows = [
        _row(
            f"`{recipe.name}`",
            ", ".join(recipe.layers),
            str(recipe.epochs),
            str(recipe.batch_size),
            f"{recipe.learning_rate:g}",
            _besides(recipe),
        )
        for recipe in RECIPES.values()
    ]
    yield "\n".join([head, "|---|---|---|---|---|---|", *rows])
    yield _LAYERS


def _besides(recipe: Recipe) -> str:
    """Return the settings of a recipe that most recipes do not have."""
    settings = {
        "one cycle": recipe.one_cycle,
        f"label smoothing {recipe.label_smoothing:g}": recipe.label_smoothing,
        "random flips and shifts": recipe.augment,
        "mirrored": recipe.mirrored,
    }
    return ", ".join(name for name, has_it in settings.items() if has_it)


def _kind(name: str, said: Mapping[str, Any], required: list[str]) -> str:
    if name in required:
        return f"{said['type']}, required"
    return f"{said['type']}, {_default(said['default'])}" if "default" in said else said["type"]


def _default(value: object) -> str:
    return "empty by default" if value == "" else f"`{json.dumps(value).strip(chr(34))}` by default"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    said = yaml.safe_load((ROOT / "charmcraft.yaml").read_text(encoding="utf-8"))
    for name, text in pages(said).items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
