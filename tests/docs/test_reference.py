"""Check that the generated reference is up to date and complete."""

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


def test_options_in_charmcraft_yaml_are_up_to_date():
    text = (ROOT / "charmcraft.yaml").read_text()
    assert text == generate.with_options(text), "run: make reference"
    # AND as YAML reads them, they equal those in the code
    for option in generate.options():
        declared = CHARM["config"]["options"][option.name]
        assert (declared["type"], declared["default"]) == (option.type, option.default)
        assert " ".join(declared["description"].split()) == option.description


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_page_is_up_to_date(name):
    assert (generate.REFERENCE / name).read_text() == PAGES[name], "run: make reference"


def test_every_option_action_parameter_and_relation_is_documented():
    for name in CHARM["config"]["options"]:
        assert f"\n### `{name}`\n" in PAGES["options.md"]
    for name, action in CHARM["actions"].items():
        section = PAGES["actions.md"].split(f"\n## `{name}`\n")[1].split("\n## ")[0]
        for param in action.get("params", {}):
            assert f"\n| `{param}` |" in section
    for role in ("provides", "requires"):
        section = PAGES["relations.md"].split(f"\n## {role}\n")[1].split("\n## ")[0]
        for endpoint, relation in CHARM[role].items():
            assert f"\n| `{endpoint}` | `{relation['interface']}` |" in section


def test_changes_of_charmcraft_yaml_change_the_pages():
    changed = yaml.safe_load(Path(ROOT / "charmcraft.yaml").read_text())
    del changed["actions"]["train"]["params"]["note"]
    changed["requires"]["kfp-api"]["limit"] = 2
    pages = generate.pages(changed)
    changed_pages = {name for name in pages if pages[name] != PAGES[name]}
    assert changed_pages == {"actions.md", "relations.md"}


def test_every_recipe_is_documented_with_its_network():
    for name, recipe in RECIPES.items():
        assert (
            f"\n| `{name}` | {', '.join(recipe.layers)} | {recipe.epochs} |" in PAGES["recipes.md"]
        )
