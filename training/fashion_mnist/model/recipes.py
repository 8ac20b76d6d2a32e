"""Recipes: named ways to train, selected with 55,000 training images and validated with the other 5,000.

`bench/choose_recipe.py` repeats the selection, which does not use the test images.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A way to train."""

    name: str
    """What operators call it."""

    layers: tuple[str, ...]
    """One word per layer: `flatten`, `dense N`, `conv N` (3x3, batch-normalized), `pool` (2x2 maximum),
    `stem N` (a convolution that is pooled before normalization), `bn-dense N`, `dropout P` (percent).
    A dense layer with ten outputs completes every network."""

    epochs: int
    """Passes over the data."""

    batch_size: int
    """Images per step."""

    learning_rate: float
    """Learning rate of Adam, the maximum with `one_cycle`."""

    one_cycle: bool = True
    """Increase the learning rate during a fifth of the steps, then decrease it along a cosine."""

    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes, 0 to 1."""

    augment: bool = False
    """Flip and shift training images at random."""

    mirrored: bool = False
    """Predict the mean of the predictions for an image and for its mirror image, in twice the time."""

    mixed_precision: bool = True
    """Train in bfloat16 if the processor supports it, with weights in float32."""


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # The network and settings of the original notebook, the baseline.
        Recipe(
            name="notebook",
            layers=("flatten", "dense 128"),
            epochs=10,
            batch_size=32,
            learning_rate=1e-3,
            one_cycle=False,
            mixed_precision=False,
        ),
        # As accurate as the baseline, in a twelfth of its time.
        Recipe(
            name="quick",
            layers=("flatten", "bn-dense 256"),
            epochs=3,
            batch_size=256,
            learning_rate=1e-2,
            mixed_precision=False,
        ),
        Recipe(
            name="fast",
            layers=("stem 16", "stem 16", "flatten", "bn-dense 128"),
            epochs=2,
            batch_size=256,
            learning_rate=1e-2,
        ),
        Recipe(
            name="balanced",
            layers=("stem 32", "stem 64", "flatten", "bn-dense 256"),
            epochs=4,
            batch_size=256,
            learning_rate=1e-2,
            label_smoothing=0.1,
        ),
        Recipe(
            name="accurate",
            layers=("stem 32", "stem 64", "flatten", "dropout 30", "bn-dense 256"),
            epochs=17,
            batch_size=128,
            learning_rate=8e-3,
            label_smoothing=0.05,
            augment=True,
            mirrored=True,
        ),
    )
}  # fmt: skip


def resolve(
    name: str, *, epochs: int = 0, batch_size: int = 0, learning_rate: float = 0.0
) -> Recipe:
    """Return a recipe with some of its values replaced.

    Args:
        name: key of RECIPES.
        epochs: passes over the data, 0 for the recipe's own.
        batch_size: images per step, 0 for the recipe's own.
        learning_rate: learning rate, 0 for the recipe's own.

    Raises:
        ValueError: There is no such recipe, or a value is negative.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; use one of: {', '.join(RECIPES)}")
    overrides = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    for option, value in overrides.items():
        if value < 0:
            raise ValueError(
                f"{option} must not be negative, not {value}; 0 is the recipe's own value"
            )
    return dataclasses.replace(RECIPES[name], **{k: v for k, v in overrides.items() if v})
