"""The reference against what it is made from."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from fashion_mnist.model.recipes import RECIPES
from tests.docs.documents import ROOT

spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)
CHARM = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
PAGES = generate.pages(CHARM)


def test_charmcraft_yaml_has_the_options_of_the_code():
    text = (ROOT / "charmcraft.yaml").read_text()
    assert text == generate.with_options(text), "run: make reference"
    # AND as YAML reads them, they are what the code states
    for option in generate.options():
        declared = CHARM["config"]["options"][option.name]
        assert (declared["type"], declared["default"]) == (option.type, option.default)
        assert " ".join(declared["description"].split()) == option.description


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_page_is_what_charmcraft_yaml_says(name):
    assert (generate.REFERENCE / name).read_text() == PAGES[name], "run: make reference"


def test_every_option_action_parameter_and_relation_is_told():
    for name in CHARM["config"]["options"]:
        assert f"\n### `{name}`\n" in PAGES["options.md"]
    for name, action in CHARM["actions"].items():
        told = PAGES["actions.md"].split(f"\n## `{name}`\n")[1].split("\n## ")[0]
        for param in action.get("params", {}):
            assert f"\n| `{param}` |" in told
    for role in ("provides", "requires"):
        told = PAGES["relations.md"].split(f"\n## {role}\n")[1].split("\n## ")[0]
        for endpoint, said in CHARM[role].items():
            assert f"\n| `{endpoint}` | `{said['interface']}` |" in told


def test_a_change_shows():
    changed = yaml.safe_load(Path(ROOT / "charmcraft.yaml").read_text())
    del changed["actions"]["train"]["params"]["note"]
    changed["requires"]["kfp-api"]["limit"] = 2
    pages = generate.pages(changed)
    of_charm = {"actions.md", "relations.md"}
    assert {name for name in pages if pages[name] != PAGES[name]} == of_charm


def test_every_recipe_is_told_with_its_network():
    for name, recipe in RECIPES.items():
        assert (
            f"\n| `{name}` | {', '.join(recipe.layers)} | {recipe.epochs} |" in PAGES["recipes.md"]
        )
