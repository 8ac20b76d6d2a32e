"""Recipes: named settings, and what is given in place of them."""

import dataclasses

import pytest

from fashion_mnist.model import network, recipes


def test_what_is_given_takes_the_place_of_the_recipes_own():
    fast = recipes.RECIPES["fast"]
    assert recipes.resolve("fast") == fast
    given = recipes.resolve("fast", epochs=7, batch_size=32)
    assert given == dataclasses.replace(fast, epochs=7, batch_size=32)


@pytest.mark.parametrize(
    ("name", "given", "message"),
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
def test_what_cannot_be_is_told(name, given, message):
    with pytest.raises(ValueError, match=message):
        recipes.resolve(name, **given)


def test_a_layer_that_is_not_known_is_told():
    recipe = dataclasses.replace(recipes.RECIPES["fast"], layers=("flatten", "lstm 8"))
    with pytest.raises(ValueError, match="unknown layer 'lstm 8' of recipe 'fast'"):
        network.build(recipe, seed=1)
