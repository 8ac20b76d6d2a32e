"""Prediction of one image from the command line and from Python."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fashion_mnist import data
from fashion_mnist.model import export, prediction, training
from fashion_mnist.model.recipes import Recipe

# They train models.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(
    name="tiny",
    layers=("stem 4", "stem 8", "flatten", "bn-dense 16"),
    epochs=8,
    batch_size=50,
    learning_rate=1e-2,
)


@pytest.fixture(scope="module")
def model(toy, tmp_path_factory):
    dataset = data.load(str(toy))
    trained = training.train(
        dataset.train_images, dataset.train_labels, RECIPE, seed=1, log=lambda _: None
    )
    folder = tmp_path_factory.mktemp("model")
    export.export(trained.model, folder, "model.keras", dataset.train_images)
    return folder


@pytest.mark.parametrize("number", [0, 7, 199])
def test_both_runtimes_predict_the_same(model, toy, number):
    image, label = data.load_test_image(str(toy), number)
    predictions = {
        runtime: prediction.predict(model, image, label, runtime=runtime)
        for runtime in prediction.RUNTIMES
    }
    assert predictions["litert"].label == predictions["tensorflow"].label == label
    assert predictions["litert"].confidence == pytest.approx(
        predictions["tensorflow"].confidence, abs=0.1
    )
    assert prediction.predict(model, image, label) == predictions["litert"]


def test_saved_model_predicts_without_the_lite_model(model, toy, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "fashion_mnist.tflite").unlink()
    image, label = data.load_test_image(str(toy), 3)
    assert prediction.predict(tmp_path / "model", image, label).label == label


def test_unknown_form_or_runtime_is_rejected(model):
    image = np.zeros((28, 28), np.uint8)
    with pytest.raises(ValueError, match="float64"):
        prediction.predict(model, image / 255)
    with pytest.raises(ValueError, match="use one of: litert, tensorflow"):
        prediction.predict(model, image, runtime="onnx")


def test_command_predicts_without_tensorflow(model, toy):
    code = (
        "import sys; from training import predict; "
        "status = predict.main(sys.argv[1:]); "
        "sys.exit(status or ('tensorflow' in sys.modules))"
    )
    command = [sys.executable, "-c", code, model, "--data", toy, "--image-number", "4"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.startswith("Prediction: Coat | Confidence: ")
    assert process.stdout.endswith("| Actual: Coat\n")


@pytest.mark.parametrize(("number", "message"), [("200", "0 to 199"), ("-1", "0 to 199")])
def test_command_names_the_valid_image_numbers(model, toy, number, message):
    command = [sys.executable, "-m", "training.predict", model, "--data", toy]
    process = subprocess.run(
        [*command, f"--image-number={number}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert message in process.stderr


def test_single_test_image_matches_the_whole_set(toy, tmp_path, httpserver):
    dataset = data.load(str(toy))
    for file in data.FILES.values():
        raw = (toy / file).read_bytes()
        (tmp_path / file.removesuffix(".gz")).write_bytes(gzip.decompress(raw))
        httpserver.expect_request(f"/{file}").respond_with_data(raw)
    for source in (toy, tmp_path, httpserver.url_for("/").rstrip("/")):
        image, label = data.load_test_image(str(source), 150)
        assert np.array_equal(image, dataset.test_images[150])
        assert label == dataset.test_labels[150]
        with pytest.raises(ValueError, match="0 to 199"):
            data.load_test_image(str(source), 200)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:5000], "truncated"),
        (lambda raw: raw[:6], "not an IDX file"),
        (lambda raw: b"\1" + raw[1:], "not an IDX file"),
    ],
)
def test_damaged_test_images_are_reported(toy, tmp_path, change, message):
    shutil.copytree(toy, tmp_path / "idx")
    path = tmp_path / "idx" / data.FILES["t10k-images"]
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))
    with pytest.raises(data.DataError, match=message):
        data.load_test_image(str(tmp_path / "idx"), 100)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda tf, images: tf.ones([tf.shape(images)[0], 10]), "export it with its softmax"),
        (
            lambda tf, images: tf.ones([tf.shape(images)[0], 9]) / 9,
            r"returns \(8, 9\) for 8 images",
        ),
        # The class depends on the batch size.
        (
            lambda tf, images: tf.one_hot(tf.fill([tf.shape(images)[0]], tf.shape(images)[0]), 10),
            "differently for an image alone and in a batch",
        ),
    ],
)
def test_model_without_probabilities_is_rejected(tmp_path, output, message):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="images")])
    def serve(images):
        return {"probabilities": output(tf, images)}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"serving_default": serve})
    with pytest.raises(prediction.ServingError, match=message):
        prediction.check(tmp_path, np.zeros((8, 28, 28), np.uint8))
