"""A recipe whose model averages over the mirror image."""

import dataclasses

import numpy as np
import pytest

from fashion_mnist import data, evaluation
from fashion_mnist.model import export, lite, network, training
from fashion_mnist.model.recipes import Recipe

# They train models.
pytestmark = pytest.mark.slow

RECIPE = Recipe(
    name="mirrored",
    layers=("stem 4", "stem 8", "flatten", "bn-dense 16"),
    epochs=4,
    batch_size=50,
    learning_rate=1e-2,
    mirrored=True,
)


@pytest.fixture(scope="module")
def images(toy):
    return data.load(str(toy))


@pytest.fixture(scope="module")
def model(images):
    """A trained model of the recipe."""
    return training.train(
        images.train_images, images.train_labels, RECIPE, seed=1, log=lambda _: None
    ).model


def test_prediction_is_the_mean_of_an_image_and_its_mirror_image(model, images):
    # GIVEN the same network without the recipe's mirror
    plain = network.build(dataclasses.replace(RECIPE, mirrored=False), 1)
    plain.set_weights(model.get_weights())
    probabilities, mirrored_probabilities = (
        plain.predict(some, verbose=0)
        for some in (images.test_images, images.test_images[:, :, ::-1])
    )
    assert np.abs(probabilities - mirrored_probabilities).mean() > 0.01
    expected = model.predict(images.test_images, verbose=0)
    np.testing.assert_allclose(
        expected, (probabilities + mirrored_probabilities) / 2, rtol=1e-4, atol=1e-4
    )


def test_served_and_lite_models_average_mirror_images(model, images, tmp_path):
    export.export(model, tmp_path, "model.keras", images.train_images)
    mirrored = np.ascontiguousarray(images.test_images[:, :, ::-1])
    lite_model = lite.LiteModel(tmp_path / lite.FILE)
    for predict in (
        lambda some: evaluation.probabilities(tmp_path, some),
        lite_model.probabilities,
    ):
        probabilities, back = predict(images.test_images), predict(mirrored)
        np.testing.assert_allclose(probabilities, back, atol=0.02)
        assert (probabilities.argmax(axis=1) == images.test_labels).mean() > 0.6
