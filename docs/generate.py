"""Write the options in charmcraft.yaml from src/config.py, and the reference in docs/reference/.

`python docs/generate.py` writes the files, and tests compare them with what it would write. The
pages about options, actions and relations come from charmcraft.yaml, the page about recipes from the
training code.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from config import TrainerConfig
from fashion_mnist.model.recipes import RECIPES, Recipe
from options import Group

ROOT = Path(__file__).resolve().parents[1]
CHARMCRAFT = ROOT / "charmcraft.yaml"
REFERENCE = ROOT / "docs" / "reference"
MADE = "<!-- Made by `make reference`. -->\n\n"
ROLES = {
    "requires": "Relations through which the trainer uses other applications.",
    "provides": "Relations through which other applications use the trainer.",
}


# The options are between these lines of charmcraft.yaml.
OPTIONS_START, OPTIONS_END = "\n  options:\n", "\nactions:\n"
TYPES = {"str": "string", "int": "int", "float": "float", "bool": "boolean"}


class Option(NamedTuple):
    """An option, as declared in src/config.py."""

    name: str
    type: str
    default: object
    description: str
    group: Group


def options() -> list[Option]:
    """Return the options, from their fields and the docstring below each."""
    docs = _field_docs(TrainerConfig)
    return [
        Option(
            name=field.name.replace("_", "-"),
            type=TYPES[str(field.type)],
            default=field.default,
            description=_description(field, docs[field.name]),
            group=field.metadata["group"],
        )
        for field in dataclasses.fields(TrainerConfig)
    ]


def _field_docs(owner: type) -> dict[str, str]:
    """Return the docstring below each field of a class, which Python discards."""
    tree = ast.parse(inspect.getsource(owner))
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return {
        field.target.id: doc.value.value
        for field, doc in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
        and isinstance(doc.value.value, str)
    }


def _description(field: dataclasses.Field[Any], doc: str) -> str:
    check, group = field.metadata["check"], field.metadata["group"]
    sentences = [
        " ".join(doc.split()),
        f"Must be {check.expected}." if check else "",
        "A change starts a run." if group.starts_run else "",
    ]
    return " ".join(filter(None, sentences))


def with_options(charmcraft: str) -> str:
    """Return the text of charmcraft.yaml with the options of src/config.py."""
    head, start, rest = charmcraft.partition(OPTIONS_START)
    _, end, tail = rest.partition(OPTIONS_END)
    lines: list[str] = []
    for option in options():
        lines += [
            f"    {option.name}:",
            f"      type: {option.type}",
            f"      default: {json.dumps(option.default)}",
            "      description: |",
            textwrap.indent(textwrap.fill(option.description, 96, break_on_hyphens=False), 8 * " "),
        ]
    return head + start + "\n".join(lines) + "\n" + end + tail


def pages(charm: Mapping[str, Any]) -> dict[str, str]:
    """Return the generated pages of the reference, by file name."""
    parts = {
        "options.md": _options(),
        "actions.md": _actions(charm["actions"]),
        "relations.md": _relations(charm),
        "recipes.md": _recipes(),
    }
    return {name: MADE + "\n\n".join(part) + "\n" for name, part in parts.items()}


def _options() -> Iterator[str]:
    yield "# Options"
    yield (
        "Set an option with `juju config trainer OPTION=VALUE`, and restore its default with "
        "`juju config trainer --reset OPTION`. An invalid value blocks the charm: its status says "
        "which values are valid, and it submits no runs."
    )
    yield (
        'If the description says "A change starts a run", a new value makes another configuration, and '
        "the charm starts one run for it, unless that configuration was trained before or "
        "`train-on-change` is false. Every other run uses the options' values at its start."
    )
    group = None
    for option in options():
        if option.group != group:
            group = option.group
            yield f"## {group.title}"
        yield f"### `{option.name}`"
        yield f"{option.type}, {_default(option.default)}"
        yield option.description


def _actions(actions: Mapping[str, Any]) -> Iterator[str]:
    yield "# Actions"
    yield (
        "Juju 3 and 4: `juju run trainer/leader ACTION NAME=VALUE`. Juju 2.9: "
        "`juju run-action trainer/leader ACTION NAME=VALUE --wait`."
    )
    for title, action in actions.items():
        yield f"## `{title}`"
        yield action["description"].strip()
        required = action.get("required", [])
        rows = [
            _row(f"`{name}`", _kind(name, param, required), " ".join(param["description"].split()))
            for name, param in action.get("params", {}).items()
        ]
        if rows:
            yield "\n".join([_row("parameter", "type", "description"), "|---|---|---|", *rows])


def _relations(charm: Mapping[str, Any]) -> Iterator[str]:
    yield "# Relations"
    for role, introduction in ROLES.items():
        yield f"## {role}"
        yield introduction
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
        head = _row("endpoint", "interface", "required", "maximum", "description")
        yield "\n".join([head, "|---|---|---|---|---|", *rows])
    yield "## Container and resource"
    yield "\n".join(
        f"The container `{name}` runs the image `{container['resource']}`: "
        + charm["resources"][container["resource"]]["description"].strip()
        + f" The default is `{charm['resources'][container['resource']]['upstream-source']}`."
        for name, container in charm["containers"].items()
    )


_LAYERS = """\
Every network takes raw pixels, 0 to 255, scales them to 0 to 1, and ends in a dense layer with ten
outputs. The layers are:

- `stem N` is a convolution (3x3, N filters), 2x2 max pooling, batch normalisation and ReLU;
- `bn-dense N` is a dense layer of N units, batch normalisation and ReLU; `dense N` is the same without
  the normalisation;
- `dropout P` drops P percent of the values during training.

The optimizer is Adam. With one cycle, the learning rate rises for a fifth of the steps and then falls
along a cosine. Label smoothing spreads that share of each label over all classes. A mirrored model
averages its predictions for an image and its mirror image."""


def _recipes() -> Iterator[str]:
    yield "# Recipes"
    yield (
        "The option and the parameter `recipe` select one of these. [Benchmarks](benchmarks.md) shows "
        "how accurate and how fast they are, and how they were chosen. If `epochs`, `batch-size` or "
        "`learning-rate` is not 0, it overrides the recipe's own value."
    )
    head = _row("recipe", "network", "epochs", "batch size", "learning rate", "extras")
    rows = [
        _row(
            f"`{recipe.name}`",
            ", ".join(recipe.layers),
            str(recipe.epochs),
            str(recipe.batch_size),
            f"{recipe.learning_rate:g}",
            _extras(recipe),
        )
        for recipe in RECIPES.values()
    ]
    yield "\n".join([head, "|---|---|---|---|---|---|", *rows])
    yield _LAYERS


def _extras(recipe: Recipe) -> str:
    """Return the settings of a recipe that most recipes do not have."""
    settings = {
        "one cycle": recipe.one_cycle,
        f"label smoothing {recipe.label_smoothing:g}": recipe.label_smoothing,
        "random flips and shifts": recipe.augment,
        "mirrored": recipe.mirrored,
    }
    return ", ".join(name for name, applies in settings.items() if applies)


def _kind(name: str, param: Mapping[str, Any], required: list[str]) -> str:
    if name in required:
        return f"{param['type']}, required"
    return f"{param['type']}, {_default(param['default'])}" if "default" in param else param["type"]


def _default(value: object) -> str:
    return "empty by default" if value == "" else f"`{json.dumps(value).strip(chr(34))}` by default"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    text = with_options(CHARMCRAFT.read_text(encoding="utf-8"))
    CHARMCRAFT.write_text(text, encoding="utf-8")
    for name, page in pages(yaml.safe_load(text)).items():
        (REFERENCE / name).write_text(page, encoding="utf-8")
