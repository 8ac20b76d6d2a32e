"""How to train: named recipes, chosen on 55,000 of the training images and judged on the other 5,000.

`bench/choose_recipe.py` repeats the choice; the test set took no part in it.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way to train.

    Attributes:
        name: what operators call it.
        layers: the network, a word for each layer: `flatten`, `dense N`, `conv N` (3x3, batch
            normalised), `pool` (2x2 maximum), `stem N` (a convolution pooled before it is normalised),
            `bn-dense N`, `dropout P` (percent). A dense layer with ten outputs ends every network.
        epochs, batch_size: passes over the data; batch size, in images.
        learning_rate: of Adam, the highest where `one_cycle` is set.
        one_cycle: warm up over a fifth of the steps, then anneal along a cosine.
        label_smoothing: how much of each label is spread over all classes.
        augment: flip and shift images at random while training.
        mirrored: the model's answer is the mean of what it says of an image and of its mirror image,
            for twice the time to predict.
        mixed_precision: while training compute in bfloat16 where the processor can, keep weights in
            float32.
    """

    name: str
    layers: tuple[str, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    one_cycle: bool = True
    label_smoothing: float = 0.0
    augment: bool = False
    mirrored: bool = False
    mixed_precision: bool = True


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # The chapter's own network and settings.
        Recipe(
            name="notebook",
            layers=("flatten", "dense 128"),
            epochs=10,
            batch_size=32,
            learning_rate=1e-3,
            one_cycle=False,
            mixed_precision=False,
        ),
        # As accurate as the chapter's, in a twelfth of its time.
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
    """A recipe with what is given in place of its own values; 0 leaves them.

    Raises:
        ValueError: there is no such recipe, or a value is negative.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is not known; use one of: {', '.join(RECIPES)}")
    overrides = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    for option, value in overrides.items():
        if value < 0:
            raise ValueError(
                f"{option} must not be negative, not {value}; 0 takes the recipe's own"
            )
    return dataclasses.replace(RECIPES[name], **{k: v for k, v in overrides.items() if v})
