"""Write the reference of options, actions and relations from charmcraft.yaml.

`python docs/generate.py` writes `docs/reference/`; a test holds the pages against what this makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
MADE = "<!-- Made from charmcraft.yaml by `make reference`. -->\n\n"
ROLES = {
    "requires": "What the trainer asks other applications for.",
    "provides": "What the trainer offers other applications.",
}


def pages(charm: Mapping[str, Any]) -> dict[str, str]:
    """The pages that are made of what charmcraft.yaml says: file name and content."""
    parts = {
        "options.md": _options(charm["config"]["options"]),
        "actions.md": _actions(charm["actions"]),
        "relations.md": _relations(charm),
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
