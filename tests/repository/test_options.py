"""The claim of docs/explanation/architecture.md about the files that have to know an option."""

import ast
import dataclasses
from pathlib import Path

import pytest

from config import TrainerConfig

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "src" / "config.py"
OPTIONS = [field.name for field in dataclasses.fields(TrainerConfig)]


def config_attributes(path):
    """Return the names that a module reads from a configuration: NAME of `config.NAME`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if owner.endswith("config"):
                yield node.attr


READERS = {
    str(path.relative_to(ROOT)): set(config_attributes(path))
    for path in (ROOT / "src").rglob("*.py")
    if path != CONFIG
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_known_to_at_most_four_files(option):
    readers = [path for path in READERS if option in READERS[path]]
    # src/config.py states the option, and charmcraft.yaml is generated from it.
    assert len(["src/config.py", "charmcraft.yaml", *readers]) <= 4, readers


def test_the_options_of_the_page_are_read_where_it_says():
    assert not [path for path in READERS if "train_cpu" in READERS[path]]
    readers = [path for path in READERS if "retrain_cooldown" in READERS[path]]
    assert readers == ["src/reconciler/desired_state.py"]
