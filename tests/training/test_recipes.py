"""Recipes: named settings, and overrides."""

import dataclasses

import pytest

from fashion_mnist.model import network, recipes


def test_given_settings_override_the_recipe():
    fast = recipes.RECIPES["fast"]
    assert recipes.resolve("fast") == fast
    recipe = recipes.resolve("fast", epochs=7, batch_size=32)
    assert recipe == dataclasses.replace(fast, epochs=7, batch_size=32)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "slow",
            {},
            "unknown recipe 'slow'; use one of: notebook, quick, fast, balanced, accurate",
        ),
        ("fast", {"epochs": -1}, "epochs must not be negative, not -1"),
        ("fast", {"learning_rate": -0.1}, "learning_rate must not be negative, not -0.1"),
    ],
)
def test_invalid_setting_is_rejected(name, settings, message):
    with pytest.raises(ValueError, match=message):
        recipes.resolve(name, **settings)


def test_unknown_layer_is_rejected():
    recipe = dataclasses.replace(recipes.RECIPES["fast"], layers=("flatten", "lstm 8"))
    with pytest.raises(ValueError, match="unknown layer 'lstm 8' of recipe 'fast'"):
        network.build(recipe, seed=1)
