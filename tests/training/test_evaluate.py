"""The gate and the registry with small trained models on generated images."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from fashion_mnist import CLASS_NAMES, data, evaluation
from fashion_mnist.evaluation import Gate
from fashion_mnist.model import export, lite, network, prediction, recipes, training
from fashion_mnist.model.recipes import Recipe
from fashion_mnist.steps import evaluate, publish
from fashion_mnist.storage import open_registry
from model_registry import RegistryError, layout

# They train models.
pytestmark = pytest.mark.slow

RECIPE = Recipe(
    name="tiny",
    layers=("flatten", "bn-dense 16"),
    epochs=3,
    batch_size=50,
    learning_rate=1e-2,
    mixed_precision=False,
)
GATE = Gate(min_accuracy=0.5, min_recall=0.3)


@pytest.fixture(scope="module")
def images():
    """Return noisy images with a faint mark, of which more make a better model."""
    chance = np.random.default_rng(0)
    marks = np.zeros((10, 28, 28))
    marks[:, 8:16, 8:16] = chance.normal(0, 45, (10, 8, 8))

    def draw(count):
        labels = (np.arange(count) % 10).astype(np.uint8)
        noise = chance.normal(120, 70, (count, 28, 28))
        return np.clip(marks[labels] + noise, 0, 255).astype(np.uint8), labels

    train, test = draw(6000), draw(2000)
    return data.Dataset(*train, *test, source="made in a test", sha256={})


@pytest.fixture(scope="module")
def dataset(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    data.save(images, folder)
    return folder


@pytest.fixture(scope="module")
def models(images, tmp_path_factory):
    """Model directories as the step `train` writes them."""

    def train(count, *, spoil=False):
        some, labels = images.train_images[:count], images.train_labels[:count].copy()
        if spoil:
            labels[labels == 6] = 0  # shirts are labelled as T-shirts
        return training.train(some, labels, RECIPE, seed=1, log=lambda _: None)

    def write(name, trained):
        folder = tmp_path_factory.mktemp(name)
        export.export(trained.model, folder, "model.keras", images.train_images)
        history = [dataclasses.asdict(epoch) for epoch in trained.history]
        facts = {"history": history, "seconds": 1.0, "recipe": dataclasses.asdict(RECIPE)}
        (folder / "training.json").write_text(json.dumps(facts))
        return folder

    champion = train(800)
    written = {
        "champion": write("champion", champion),
        "worse": write("worse", train(300)),
        "better": write("better", train(6000)),
        "ruined": write("ruined", train(6000, spoil=True)),
    }
    weights = champion.model.get_weights()
    perturb_until_better(champion.model, images)
    written["lucky"] = write("lucky", champion)
    champion.model.set_weights(weights)
    perturb_at_same_accuracy(champion.model, images)
    return {**written, "twin": write("twin", champion)}


def perturb_until_better(model, images):
    """Perturb weights until a few more test images are right by chance."""

    def accuracy():
        return int((model(images.test_images).numpy().argmax(axis=1) == images.test_labels).sum())

    before, weights = accuracy(), model.get_weights()
    chance = np.random.default_rng(5)
    for _ in range(100):
        model.set_weights([w * chance.normal(1, 0.01, w.shape) for w in weights])
        if 0 < accuracy() - before < 10:
            return
    pytest.fail("no shaking made the model better")


def perturb_at_same_accuracy(model, images):
    """Perturb weights until one test prediction in fifty changes at the same accuracy."""

    def answers():
        return model(images.test_images).numpy().argmax(axis=1)

    def accuracy(manifest):
        return int((manifest == images.test_labels).sum())

    before, weights = answers(), model.get_weights()
    chance = np.random.default_rng(6)
    for _ in range(200):
        model.set_weights([w * chance.normal(1, 0.05, w.shape) for w in weights])
        now = answers()
        if (now != before).mean() > 0.02 and abs(accuracy(now) - accuracy(before)) <= 1:
            return
    pytest.fail("no shaking made a model that is as good")


@pytest.fixture
def publish_model(models, dataset, tmp_path):
    """Evaluate and publish a model as the steps do, and return the manifest.

    What happens between both steps is done by `meanwhile`; `then` is given what was published with.
    """

    def run(
        name,
        gate=GATE,
        publishes="",
        dataset=dataset,
        meanwhile=lambda: None,
        then=lambda _: None,
        **options,
    ):
        common = {
            "model": models[name],
            "dataset": dataset,
            "run_id": name,
            "registry": str(tmp_path / "registry"),
            "s3_endpoint": "",
            "report": tmp_path / f"{name}.html",
            "manifest": tmp_path / f"{name}.json",
        }
        outcome = evaluate.evaluate_model(**common, gate=gate, seed=1)
        meanwhile()
        if outcome.verdict.status == "accepted":
            publish.publish_model(**{**common, "model": models[publishes or name]}, **options)
        then(common)
        return json.loads((tmp_path / f"{name}.json").read_text())

    return run


@pytest.fixture
def registry(tmp_path):
    return open_registry(str(tmp_path / "registry"))


def test_better_model_is_promoted(publish_model, registry):
    first = publish_model("champion")
    assert registry.champion().manifest.run_id == "champion"
    second = publish_model("better")
    assert second["verdict"]["status"] == "accepted"
    assert second["parent"] == 1
    assert second["metrics"]["test"]["accuracy"] > first["metrics"]["test"]["accuracy"]
    champion = registry.champion()
    assert (champion.version, champion.manifest.run_id) == (2, "better")


def test_unchanged_run_reproduces_the_champion(publish_model, registry, images, models, tmp_path):
    # GIVEN a champion, and a run that trains the same recipe on the same images
    publish_model("better")
    trained = training.train(
        images.train_images, images.train_labels, RECIPE, seed=1, log=lambda _: None
    )
    models["nightly"] = tmp_path / "nightly"
    shutil.copytree(models["better"], models["nightly"])
    export.export(trained.model, models["nightly"], "model.keras", images.train_images)
    # WHEN it is evaluated THEN it is rejected as the same model, with a remedy
    verdict = publish_model("nightly")["verdict"]
    assert (verdict["status"], verdict["unchanged"]) == ("rejected", True)
    (reason,) = verdict["reasons"]
    assert "all 2000 test images exactly as the champion does" in reason
    assert reason.endswith("train on new data or with other settings")
    assert registry.versions() == [1]
    # AND other models are not
    assert publish_model("worse")["verdict"]["unchanged"] is False


def test_report_compares_versions_over_time(publish_model, registry, tmp_path):
    publish_model("champion")
    assert "Version history" not in (tmp_path / "champion.html").read_text()
    publish_model("better")
    publish_model("worse")
    html = (tmp_path / "worse.html").read_text()
    table = html[html.index("Version history") :]
    history = registry.history()
    assert [version.number for version in history] == [2, 1]
    for version in history:
        assert f"<td>{version.manifest.accuracy:.4f}</td>" in table
        assert version.promoted_at.strftime("%Y-%m-%dT%H:%M:%SZ") in table
    assert [version.number for version in registry.history(1)] == [2]


def test_version_stores_its_test_predictions(publish_model, registry, images, tmp_path):
    manifest = publish_model("champion")
    registry.fetch(1, tmp_path / "back")
    predictions = json.loads((tmp_path / "back" / layout.PREDICTIONS).read_text())
    assert predictions["label"] == images.test_labels.tolist()
    accuracy = np.mean(np.array(predictions["predicted"]) == images.test_labels)
    assert accuracy == pytest.approx(manifest["metrics"]["test"]["accuracy"])
    assert all(0.1 <= share <= 1 for share in predictions["confidence"])
    assert predictions["classes"] == list(CLASS_NAMES)


def test_test_images_are_stored_once_for_all_versions(publish_model, registry, images, tmp_path):
    publish_model("champion")
    publish_model("better")
    names = {registry.manifest(version).test_images for version in (1, 2)}
    (name,) = names
    path = tmp_path / "registry" / "data" / name
    assert np.array_equal(data.parse_idx(path.read_bytes(), "", dimensions=3), images.test_images)
    # Image 7, as docs/reference/registry.md says where it is.
    assert path.read_bytes()[16 + 7 * 784 :][:784] == images.test_images[7].tobytes()


@pytest.fixture
def split_anew(publish_model, images, models, tmp_path):
    """A champion that learned its few images by heart, and a better model of a new split with half of them.

    Returns the folder of the new split, whose test images are 1000 of the champion's training images
    and 1000 others.
    """
    few = dataclasses.replace(
        images, train_images=images.train_images[:1000], train_labels=images.train_labels[:1000]
    )
    data.save(few, tmp_path / "few")
    new = dataclasses.replace(
        images,
        train_images=images.train_images[1000:3000],
        train_labels=images.train_labels[1000:3000],
        test_images=np.concatenate([images.train_images[:1000], images.test_images[:1000]]),
        test_labels=np.concatenate([images.train_labels[:1000], images.test_labels[:1000]]),
    )
    data.save(new, tmp_path / "new")
    for name, split, epochs in (("by heart", few, 40), ("honest", new, 3)):
        recipe = dataclasses.replace(RECIPE, epochs=epochs)
        trained = training.train(
            split.train_images, split.train_labels, recipe, seed=3, log=lambda _: None
        )
        models[name] = tmp_path / name
        shutil.copytree(models["better"], models[name])
        export.export(trained.model, models[name], "model.keras", split.train_images)
    publish_model("by heart", dataset=tmp_path / "few")
    return tmp_path / "new"


def test_new_split_compares_on_images_unseen_by_the_champion(
    publish_model, registry, split_anew, images
):
    # GIVEN a champion that was trained on half of the new test images, and so has more of all right
    manifest = publish_model("honest", dataset=split_anew)
    # THEN the better model is accepted, by the other half
    assert manifest["verdict"]["status"] == "accepted"
    assert manifest["verdict"]["left_out"] == 1000
    assert (
        "trained on 1000 of 2000 test images, which are not compared"
        in manifest["verdict"]["reasons"][-1]
    )
    champion = registry.champion()
    assert champion.manifest.run_id == "honest"
    # AND the version stores digests of its training images
    packed = registry.get_blob(champion.manifest.train_digests)
    assert len(packed) == 8 * 2000
    assert np.flatnonzero(data.are_among(images.train_images, packed)).tolist() == [
        *range(1000, 3000)
    ]


def test_version_of_an_earlier_release_is_compared_on_all_test_images(
    publish_model, registry, split_anew, tmp_path
):
    # GIVEN a champion without digests of its training images
    path = tmp_path / "registry" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["data"]["train_digests"]
    path.write_text(json.dumps(manifest))
    # THEN its training images count, as before
    candidate_manifest = publish_model("honest", dataset=split_anew)
    assert candidate_manifest["verdict"]["status"] == "rejected"
    assert candidate_manifest["verdict"]["left_out"] == 0
    assert registry.champion().version == 1


def test_altered_or_missing_digests_are_reported(publish_model, registry, split_anew, tmp_path):
    name = registry.manifest(1).train_digests
    path = tmp_path / "registry" / "data" / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(RegistryError, match=f"data/{name} was altered"):
        publish_model("honest", dataset=split_anew)
    path.unlink()
    with pytest.raises(RegistryError, match=f"data/{name} is missing; restore it"):
        publish_model("honest", dataset=split_anew)


def test_accepted_model_waits_for_manual_promotion(publish_model, registry):
    publish_model("champion")
    publish_model("better", promote=False)
    assert registry.versions() == [1, 2]
    assert registry.champion().version == 1


@pytest.fixture
def rolled_back(publish_model, registry):
    """A registry in which an operator rolled back from version 2 to version 1."""
    publish_model("champion")
    publish_model("better")
    registry.move_champion(1, after=2, reason="complaints about shirts", moved_by="rollback")


@pytest.mark.usefixtures("rolled_back")
def test_reproduced_rolled_back_model_is_not_promoted(publish_model, registry, models):
    # WHEN the next scheduled run makes the same model
    models["nightly"] = models["better"]
    manifest = publish_model("nightly")
    # THEN it is rejected, with a remedy, and the operator's choice stays
    assert manifest["verdict"]["status"] == "rejected"
    (reason,) = manifest["verdict"]["reasons"]
    assert "all 2000 test images as version 2 does, from which an operator rolled back" in reason
    assert reason.endswith("promote version 2 by hand, or train with other settings or data")
    assert registry.versions() == [1, 2]
    assert registry.champion().version == 1


@pytest.mark.usefixtures("rolled_back")
def test_another_model_is_promoted_after_a_rollback(
    publish_model, registry, models, images, tmp_path
):
    # GIVEN an equally accurate model with other predictions
    trained = training.train(
        images.train_images, images.train_labels, RECIPE, seed=2, log=lambda _: None
    )
    models["other"] = tmp_path / "other"
    shutil.copytree(models["better"], models["other"])
    export.export(trained.model, models["other"], "model.keras", images.train_images)
    manifest = publish_model("other")
    assert manifest["verdict"]["status"] == "accepted"
    assert registry.champion().manifest.run_id == "other"


def test_rollback_during_a_run_applies_to_its_model(publish_model, registry, models):
    # GIVEN two runs that make the same model, the first of which is promoted
    publish_model("champion")
    models["same"] = models["better"]

    def first_is_promoted_and_rolled_back():
        publish_model("better")
        registry.move_champion(1, after=2, reason="complaints", moved_by="rollback")

    # WHEN an operator rolls back from it before the second is published
    manifest = publish_model("same", meanwhile=first_is_promoted_and_rolled_back)
    # THEN the second was accepted, and is a version but not the champion
    assert manifest["verdict"]["status"] == "accepted"
    assert registry.versions() == [1, 2, 3]
    assert registry.champion().version == 1


def test_retried_publish_step_keeps_a_rollback(publish_model, registry, capsys):
    # GIVEN a run whose publish step died after its model was promoted
    publish_model("champion")
    reproduced = {}
    publish_model("better", then=reproduced.update)
    registry.move_champion(1, after=2, reason="complaints", moved_by="rollback")
    # WHEN the step is retried THEN the operator's choice stays
    publish.publish_model(**reproduced)
    assert registry.champion().version == 1
    assert "version 2 is not promoted: it served before and was replaced" in capsys.readouterr().out


@pytest.mark.parametrize(("confidence", "serves"), [(0.95, 1), (0.0, 2)])
def test_new_champion_is_compared_by_the_runs_thresholds(
    publish_model, registry, confidence, serves
):
    # GIVEN a model that was accepted without a champion
    gate = dataclasses.replace(GATE, confidence=confidence, max_recall_drop=1)
    # WHEN an insignificantly worse model becomes champion before it is published
    publish_model("lucky", gate, meanwhile=lambda: publish_model("champion"))
    # THEN it replaces that one only if its run accepts any better model
    assert registry.versions() == [1, 2]
    assert registry.champion().version == serves


@pytest.mark.parametrize(
    ("name", "reason"),
    [("worse", "newly right"), ("lucky", "newly right"), ("ruined", "Shirt changes by -")],
)
def test_worse_insignificantly_better_and_ruined_models_are_rejected(
    publish_model, registry, name, reason
):
    champion = publish_model("champion")
    manifest = publish_model(name, dataclasses.replace(GATE, min_recall=0))
    assert manifest["verdict"]["status"] == "rejected"
    assert reason in " ".join(manifest["verdict"]["reasons"])
    assert registry.versions() == [1]
    assert registry.champion().version == 1
    gain = manifest["metrics"]["test"]["accuracy"] - champion["metrics"]["test"]["accuracy"]
    assert (gain > 0) == (name != "worse")
    if name == "ruined":
        # It is clearly better in all, which is what the rule by class is for.
        assert "newly right" not in " ".join(manifest["verdict"]["reasons"])


def test_ruined_class_is_rejected_without_a_champion(publish_model, registry):
    manifest = publish_model("ruined")
    assert manifest["verdict"]["reasons"] == [
        f"lowest recall (Shirt) {manifest['metrics']['recall']['Shirt']:.4f} < required 0.3000"
    ]
    assert registry.champion() is None


def test_manifest_has_the_gate_settings(publish_model):
    manifest = publish_model("champion")
    assert manifest["gate"] == dataclasses.asdict(GATE)
    assert set(manifest["metrics"]["recall"]) == set(CLASS_NAMES)


def test_model_replaced_after_evaluation_is_not_promoted(publish_model, registry):
    # GIVEN an equally accurate model in place of the evaluated one
    with pytest.raises(RuntimeError, match=r"predicts \d+ of 2000 test images differently"):
        publish_model("champion", publishes="twin")
    assert registry.champion() is None


@pytest.mark.parametrize("name", ["champion", "better"])
def test_int8_model_agrees_with_the_saved_model(images, models, name):
    saved_evaluation = evaluation.evaluate(models[name], images.test_images, images.test_labels)
    path = models[name] / lite.FILE
    small = lite.LiteModel(path).probabilities(images.test_images)
    assert (small.argmax(axis=1) == saved_evaluation.predictions).mean() > 0.97
    assert np.abs(small - saved_evaluation.probabilities).mean() < 0.02
    assert small.sum(axis=1) == pytest.approx(1, abs=0.05)
    assert path.stat().st_size < (models[name] / "model.keras").stat().st_size / 2


def test_manifest_has_the_int8_accuracy_loss(publish_model):
    metrics = publish_model("better")["metrics"]
    small = metrics["int8"]
    assert small["file"] == "fashion_mnist.tflite"
    assert small["accuracy_loss"] == pytest.approx(metrics["test"]["accuracy"] - small["accuracy"])
    assert abs(small["accuracy_loss"]) < 0.01
    assert small["agreement"] > 0.97


def test_ruined_int8_model_is_not_promoted(publish_model, registry, models, tmp_path):
    # GIVEN a good model with the int8 model of a worse one
    mixed = tmp_path / "mixed"
    shutil.copytree(models["better"], mixed)
    shutil.copy(models["worse"] / lite.FILE, mixed / lite.FILE)
    models["mixed"] = mixed
    publish_model("champion")
    manifest = publish_model("mixed")
    assert manifest["verdict"]["status"] == "rejected"
    (reason,) = manifest["verdict"]["reasons"]
    assert reason.startswith(
        f"int8 quantization loses accuracy {manifest['metrics']['int8']['accuracy_loss']:.4f}"
    )
    assert registry.champion().version == 1


def test_bfloat16_convolutional_network_is_quantized():
    chance = np.random.default_rng(2)
    images = chance.integers(0, 256, (200, 28, 28)).astype(np.uint8)
    model = network.build(recipes.RECIPES["accurate"], seed=3)
    content = lite.convert(model, images[:20])
    weights = sum(weight.numpy().size for weight in model.trainable_weights)
    assert weights < len(content) < 1.2 * weights + 20000


def test_unloadable_model_is_not_evaluated(publish_model, models, tmp_path, registry):
    broken = tmp_path / "broken"
    shutil.copytree(models["better"], broken)
    (broken / "serving" / "saved_model.pb").write_bytes(b"not a model")
    models["broken"] = broken
    with pytest.raises(prediction.ServingError, match="cannot serve"):
        publish_model("broken")
    assert registry.champion() is None


def test_model_with_invalid_predictions_is_not_promoted(images, models, tmp_path):
    prediction.check(models["champion"], images.test_images)
    trained = training.train(
        images.train_images[:100], images.train_labels[:100], RECIPE, log=lambda _: None
    )
    for weight in trained.model.weights:
        weight.assign(weight * np.nan)
    export.export(trained.model, tmp_path / "nan", "model.keras", images.train_images)
    with pytest.raises(prediction.ServingError, match="not finite"):
        prediction.check(tmp_path / "nan", images.test_images)
