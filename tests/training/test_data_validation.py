"""Anomalies of a data set are detected and named."""

import dataclasses
import gzip
import json
import shutil
import tracemalloc

import numpy as np
import pytest

from fashion_mnist import data
from fashion_mnist.data import DataError, reference, statistics
from fashion_mnist.data.statistics import compute, stability_index
from fashion_mnist.data.validation import Limits, inspect, validate
from fashion_mnist.steps.ingest import ingest_data
from fashion_mnist.storage import open_registry
from model_registry import RegistryError
from sandbox import Sandbox
from tests.builders import manifest

official = pytest.mark.skipif(
    not data.DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)


@pytest.fixture(scope="module")
def clean(toy):
    return data.load(str(toy))


@pytest.fixture(scope="module")
def usual_statistics(clean):
    return compute(clean)


def kinds(anomalies):
    return {(anomaly.kind, anomaly.split) for anomaly in anomalies}


def changed(clean, usual_statistics, **arrays):
    return kinds(validate(dataclasses.replace(clean, **arrays), earlier=usual_statistics))


# What can be read, and is odd ------------------------------------------------------------------


def test_clean_data_has_no_anomalies(clean, usual_statistics):
    assert validate(clean, earlier=usual_statistics) == []


def test_statistics_describe_the_data(clean, usual_statistics):
    train = usual_statistics["train"]
    assert train["images"] == 600
    assert train["counts"]["Shirt"] == (clean.train_labels == 6).sum()
    assert train["mean"] == pytest.approx(clean.train_images.mean(), abs=1e-3)
    assert train["deviation"] == pytest.approx(clean.train_images.std(), abs=1e-3)
    assert sum(train["histogram"]) == pytest.approx(1, abs=1e-4)
    assert train["agreement"]["Bag"] == 1
    assert len(bytes.fromhex(train["class_images"]["Bag"])) == 49
    assert json.loads(json.dumps(usual_statistics)) == usual_statistics


def test_statistics_use_little_memory(clean):
    # GIVEN many more images than a batch, half of them duplicates
    chance = np.random.default_rng(0)

    def many_images(count):
        some = chance.integers(0, 256, (count // 2, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.concatenate([some, some])
        return dataclasses.replace(clean, train_images=images, train_labels=labels)

    def peak_memory(dataset):
        tracemalloc.start()
        computed = compute(dataset)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        count = len(dataset.train_images)
        assert computed["train"]["duplicates"] == count // 2
        assert sum(computed["train"]["histogram"]) == pytest.approx(1, abs=1e-4)
        return most

    # THEN each image more costs less than half of itself, so that those of a file of idx.MAX_BYTES,
    # kept and decompressed, pass the step's 2Gi
    few, more = many_images(20_000), many_images(60_000)
    growth = peak_memory(more) - peak_memory(few)
    assert growth < (more.train_images.nbytes - few.train_images.nbytes) / 2


def test_swapped_labels_of_two_classes_are_an_anomaly(clean, usual_statistics):
    swap = np.array([1, 0, 2, 3, 4, 5, 6, 7, 8, 9], np.uint8)
    anomalies = validate(
        dataclasses.replace(clean, train_labels=swap[clean.train_labels]), earlier=usual_statistics
    )
    assert ("labels", "train") in kinds(anomalies)
    assert "mean image of T-shirt/top is nearest to Trouser" in str(anomalies[0])


def test_random_labels_are_an_anomaly(clean, usual_statistics):
    labels = clean.train_labels.copy()
    labels[::10] = (labels[::10] + 3) % 10
    assert changed(clean, usual_statistics, train_labels=labels) == {("labels", "train")}


@pytest.mark.parametrize(("shape", "split"), [((600, 14, 56), "train"), ((600, 784), "train")])
def test_wrong_shapes_are_anomalies(clean, usual_statistics, shape, split):
    images = clean.train_images.reshape(shape)
    assert changed(clean, usual_statistics, train_images=images) == {("shape", split)}


def test_wrong_types_labels_and_counts_are_anomalies(clean, usual_statistics):
    images = clean.test_images.astype(np.float32)
    assert changed(clean, usual_statistics, test_images=images) == {("dtype", "test")}
    assert changed(clean, usual_statistics, test_labels=clean.test_labels + 1) == {
        ("label-range", "test")
    }
    assert changed(clean, usual_statistics, test_labels=clean.test_labels[1:]) == {
        ("counts", "test")
    }


def test_shifted_brightness_in_one_split_is_drift_and_skew(clean, usual_statistics):
    brighter_images = np.minimum(clean.test_images.astype(int) + 40, 255).astype(np.uint8)
    assert changed(clean, usual_statistics, test_images=brighter_images) == {
        ("drift", "test"),
        ("skew", "test"),
    }


def test_shifted_brightness_in_both_splits_is_drift(clean, usual_statistics):
    brighter_images = [
        np.minimum(images.astype(int) + 40, 255).astype(np.uint8)
        for images in (clean.train_images, clean.test_images)
    ]
    anomalies = changed(
        clean, usual_statistics, train_images=brighter_images[0], test_images=brighter_images[1]
    )
    assert anomalies == {("drift", "train"), ("drift", "test")}


def test_many_flipped_bits_are_drift(clean, usual_statistics):
    chance = np.random.default_rng(1)
    flips = (1 << chance.integers(0, 8, clean.train_images.shape)).astype(np.uint8)
    hit = chance.random(clean.train_images.shape) < 0.3
    anomalies = changed(clean, usual_statistics, train_images=clean.train_images ^ (flips * hit))
    assert ("drift", "train") in anomalies


def test_missing_class_is_an_anomaly(clean, usual_statistics):
    kept_images = clean.train_labels != 3
    anomalies = changed(
        clean,
        usual_statistics,
        train_images=clean.train_images[kept_images],
        train_labels=clean.train_labels[kept_images],
    )
    assert anomalies == {("missing-class", "train")}


@pytest.fixture(scope="module")
def renamed(usual_statistics):
    """Statistics of the toy data whose classes have other names."""
    return {
        split: {
            **statistics_,
            **{
                part: {f"other {name}": value for name, value in statistics_[part].items()}
                for part in ("counts", "agreement", "class_images")
            },
        }
        for split, statistics_ in usual_statistics.items()
    }


def with_labels(dataset, classes):
    """Return the part of a data set with some of the labels."""
    train, test = (
        np.isin(labels, classes) for labels in (dataset.train_labels, dataset.test_labels)
    )
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[train],
        train_labels=dataset.train_labels[train],
        test_images=dataset.test_images[test],
        test_labels=dataset.test_labels[test],
    )


def test_data_without_reference_classes_reports_its_anomalies(clean):
    # GIVEN a reference with the first five classes only
    earlier = compute(with_labels(clean, range(5)))
    # WHEN the data has only the other five
    anomalies = validate(with_labels(clean, range(5, 10)), earlier=earlier)
    # THEN each missing class is reported
    missing = [str(anomaly) for anomaly in anomalies if anomaly.kind == "missing-class"]
    assert len(missing) == 2 * 5
    assert missing[0] == (
        "missing-class in train: no image of class T-shirt/top, which the reference has"
    )
    # AND no swapped labels are reported for missing classes
    assert "labels" not in {anomaly.kind for anomaly in anomalies}


def test_renamed_classes_are_other_classes(clean, renamed):
    anomalies = validate(clean, earlier=renamed)
    assert kinds(anomalies) == {("missing-class", "train"), ("missing-class", "test")}
    assert "class other Bag, which the reference has" in " ".join(map(str, anomalies))


def test_rare_class_is_an_anomaly(clean, usual_statistics):
    kept_images = (clean.train_labels != 3) | (np.arange(600) % 20 == 3)
    kept_images[:450] &= clean.train_labels[:450] != 4
    anomalies = changed(
        clean,
        usual_statistics,
        train_images=clean.train_images[kept_images],
        train_labels=clean.train_labels[kept_images],
    )
    assert ("class-balance", "train") in anomalies


def test_duplicated_set_is_an_anomaly(clean, usual_statistics):
    anomalies = changed(
        clean,
        usual_statistics,
        train_images=np.concatenate([clean.train_images] * 2),
        train_labels=np.concatenate([clean.train_labels] * 2),
    )
    assert anomalies == {("duplicates", "train")}


def test_test_images_among_the_training_images_are_an_anomaly(clean, usual_statistics):
    images, labels = clean.test_images.copy(), clean.test_labels.copy()
    images[:20], labels[:20] = clean.train_images[:20], clean.train_labels[:20]
    assert changed(clean, usual_statistics, test_images=images, test_labels=labels) == {
        ("leak", "test")
    }


def test_limits_can_be_relaxed(clean, usual_statistics):
    images, labels = clean.test_images.copy(), clean.test_labels.copy()
    images[:20], labels[:20] = clean.train_images[:20], clean.train_labels[:20]
    leaking = dataclasses.replace(clean, test_images=images, test_labels=labels)
    assert validate(leaking, earlier=usual_statistics, limits=Limits(max_duplicates=0.1)) == []


def test_population_stability_index():
    assert stability_index([1, 1], [50, 50]) == 0
    # (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5)
    assert stability_index([60, 40], [50, 50]) == pytest.approx(0.04055, abs=1e-5)
    assert stability_index([0, 1], [1, 0]) > 20


# What can hardly be read -----------------------------------------------------------------------


def damage(folder, name, change):
    path = folder / data.FILES[name]
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        ("train-images", lambda raw: raw[:-100], ("truncated", "train")),
        ("t10k-labels", lambda raw: raw[:4], ("truncated", "test")),
        ("t10k-images", lambda raw: bytes([0x80]) + raw[1:], ("format", "test")),
        ("train-labels", lambda raw: raw[:9] + b"\xff" + raw[10:], ("label-range", "train")),
        ("train-labels", lambda raw: raw[:7] + b"\x01" + raw[8:9], ("truncated", "train")),
    ],
)
def test_damaged_file_is_an_anomaly(toy, tmp_path, name, change, kind):
    shutil.copytree(toy, tmp_path / "idx")
    damage(tmp_path / "idx", name, change)
    message = inspect(str(tmp_path / "idx"))
    assert message.dataset is None
    assert kinds(message.anomalies) == {kind}


def test_flipped_bit_in_a_compressed_file_is_an_anomaly(toy, tmp_path):
    shutil.copytree(toy, tmp_path / "idx")
    path = tmp_path / "idx" / data.FILES["train-images"]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    assert kinds(inspect(str(tmp_path / "idx")).anomalies) == {("damaged", "train")}


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(data.DataError, match="dataset-fashion-mnist"):
        inspect(str(tmp_path))


# The step --------------------------------------------------------------------------------------


def ingest(tmp_path, source, **options):
    arguments = {"registry": "", "s3_endpoint": "", **options}
    arguments = {"limits": Limits(), "allow_anomalies": False, **arguments}
    return ingest_data(
        source=str(source),
        dataset=tmp_path / "dataset",
        report=tmp_path / "report.html",
        **arguments,
    )


def test_unwritable_registry_is_reported_before_reading_data(tmp_path, monkeypatch):
    # GIVEN an S3 server without conditional writes, and no cluster
    with Sandbox(tmp_path / "s", execute=False, s3_without_conditional_writes=True) as sandbox:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_key)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.delenv("KUBECONFIG", raising=False)
        place = {"registry": "s3://mlpipeline/models/x", "s3_endpoint": sandbox.s3_url}
        with pytest.raises(RegistryError, match="ignores If-None-Match, and there is no Kubern"):
            ingest(tmp_path, "no such data", **place)
        # AND a cluster in which the step's account may not write ConfigMaps
        document = json.loads(sandbox.kubeconfig.read_text())
        document["users"][0]["user"]["token"] = "of another account"
        (tmp_path / "kubeconfig").write_text(json.dumps(document))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        with pytest.raises(RegistryError, match="bind it to the ClusterRole kubeflow-edit"):
            ingest(tmp_path, "no such data", **place)
        # AND with that permission the data is read next
        monkeypatch.setenv("KUBECONFIG", str(sandbox.kubeconfig))
        with pytest.raises(DataError):
            ingest(tmp_path, "no such data", **place)


@pytest.fixture
def registry_of(tmp_path):
    """Create a registry whose champion was trained on data with these statistics."""

    def make(anomalies):
        files = tmp_path / "files"
        files.mkdir()
        (files / "model").write_bytes(b"model")
        registry = open_registry(str(tmp_path / "registry"))
        facts = manifest("r", data={"statistics": anomalies})
        registry.move_champion(registry.publish("r", files, facts), after=0, reason="first")
        return str(tmp_path / "registry")

    return make


@pytest.fixture
def registry(registry_of, usual_statistics):
    """A registry whose champion was trained on the toy data."""
    return registry_of(usual_statistics)


def test_step_fails_with_the_list_of_anomalies(tmp_path, toy):
    with pytest.raises(data.DataError) as caught:
        ingest(tmp_path, toy)
    message = str(caught.value)
    assert "- drift in train" in message
    assert "- labels in train" in message
    assert not (tmp_path / "dataset").exists()


def test_step_passes_with_the_anomalies_in_its_report(tmp_path, toy):
    output = ingest(tmp_path, toy, allow_anomalies=True)
    assert "- anomaly: drift in train" in output
    assert "<li>drift in train: " in (tmp_path / "report.html").read_text()
    saved = statistics.load_saved(tmp_path / "dataset")
    assert any(sentence.startswith("drift in train") for sentence in saved["anomalies"])
    assert saved["drift"]["train"] > 0.1
    assert saved["drift"]["classes"] < 0.1


@pytest.mark.parametrize("number", [-1, 200])
def test_missing_test_image_is_reported_before_training(tmp_path, toy, registry, number):
    with pytest.raises(ValueError, match=f"image_number must be 0 to 199, not {number}"):
        ingest(tmp_path, toy, registry=registry, image_number=number)
    ingest(tmp_path, toy, registry=registry, image_number=199)


def test_data_is_compared_with_the_champions_data(tmp_path, toy, registry, usual_statistics):
    assert "no anomalies" in ingest(tmp_path, toy, registry=registry)
    assert "the data of version 1" in (tmp_path / "report.html").read_text()
    assert statistics.load_saved(tmp_path / "dataset")["statistics"] == usual_statistics


def test_changed_class_names_are_an_anomaly_that_can_be_allowed(
    tmp_path, toy, registry_of, usual_statistics, renamed
):
    # GIVEN a champion that was trained on other classes
    registry = registry_of(renamed)
    # WHEN data is compared with its data
    with pytest.raises(data.DataError) as caught:
        ingest(tmp_path, toy, registry=registry)
    # THEN the step fails with the anomalies
    assert str(caught.value).startswith("20 anomalies in the data:\n- missing-class in train: ")
    # AND where they are allowed it continues, with the drift of missing classes
    ingest(tmp_path, toy, registry=registry, allow_anomalies=True)
    saved = statistics.load_saved(tmp_path / "dataset")
    assert len(saved["anomalies"]) == 20
    assert saved["drift"]["classes"] > 1
    assert saved["drift"]["train"] == 0
    bags = usual_statistics["train"]["counts"]["Bag"]
    assert f"<td>Bag</td><td>{bags} (0)</td>" in (tmp_path / "report.html").read_text()


# The published set -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    return data.load()


@official
def test_published_set_has_no_anomalies(published):
    computed = compute(published)
    for split, known in reference.PUBLISHED.items():
        for name in ("images", "counts", "duplicates", "leaked", "class_images"):
            assert computed[split][name] == known[name]
        assert computed[split]["agreement"] == pytest.approx(known["agreement"], abs=1e-3)
        assert computed[split]["histogram"] == pytest.approx(known["histogram"], abs=1e-5)
    assert validate(published, computed) == []


@official
def test_sample_of_the_published_set_has_no_anomalies(published):
    chosen = np.random.default_rng(3).permutation(60000)
    sample = dataclasses.replace(
        published,
        train_images=published.train_images[chosen[:20000]],
        train_labels=published.train_labels[chosen[:20000]],
        test_images=published.train_images[chosen[20000:23000]],
        test_labels=published.train_labels[chosen[20000:23000]],
        sha256={},
    )
    assert validate(sample) == []


def brighter_images(images):
    return np.minimum(images.astype(int) + 10, 255).astype(np.uint8)


@official
@pytest.mark.parametrize("split", ["train", "test"])
def test_brightness_shift_within_histogram_bins_is_detected(published, split):
    # GIVEN images brighter by less than a bin, which the stability index does not see
    images = brighter_images(getattr(published, f"{split}_images"))
    altered = dataclasses.replace(published, **{f"{split}_images": images}, sha256={})
    anomalies = validate(altered)
    assert ("drift", split) in kinds(anomalies)
    assert {anomaly.kind for anomaly in anomalies} == {"drift", "skew"}
    assert all("standard deviations of pixels" in str(anomaly) for anomaly in anomalies)


@official
def test_statistics_of_earlier_versions_are_used_as_reference(published):
    old = {
        split: {name: value for name, value in statistics_.items() if name != "spread"}
        for split, statistics_ in reference.PUBLISHED.items()
    }
    assert validate(published, earlier=old) == []


def draw(published, seed, train, test):
    """Return a random sample of the published training images as a data set."""
    chosen = np.random.default_rng(seed).permutation(60000)[: train + test]
    images, labels = published.train_images[chosen], published.train_labels[chosen]
    return dataclasses.replace(
        published,
        train_images=images[:train],
        train_labels=labels[:train],
        test_images=images[train:],
        test_labels=labels[train:],
        sha256={},
    )


@official
@pytest.mark.parametrize(("train", "test"), [(600, 100), (3000, 500), (6000, 1000)])
def test_small_champion_of_the_same_data_gives_no_false_alarm(published, train, test):
    anomalies = [
        validate(
            draw(published, seed, train, test),
            earlier=compute(draw(published, 100 + seed, train, test)),
        )
        for seed in range(8)
    ]
    assert anomalies == [[]] * 8


def relabelled(sample, chance):
    labels = sample.train_labels.copy()
    hit = chance.random(len(labels)) < 0.1
    labels[hit] = (labels[hit] + chance.integers(1, 10, hit.sum())) % 10
    return {"train_labels": labels}


def swapped(sample, chance):
    coats_as_pullovers = np.array([0, 1, 4, 3, 2, 5, 6, 7, 8, 9], np.uint8)
    return {"train_labels": coats_as_pullovers[sample.train_labels]}


def with_rare_class(sample, chance):
    kept_images = (sample.train_labels != 3) | (chance.random(len(sample.train_labels)) < 0.1)
    return {
        "train_labels": sample.train_labels[kept_images],
        "train_images": sample.train_images[kept_images],
    }


@official
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (relabelled, "labels"),
        (swapped, "labels"),
        (with_rare_class, "class-balance"),
        (lambda sample, _: {"train_images": brighter_images(sample.train_images)}, "drift"),
    ],
    ids=["relabelled", "swapped", "rare", "brighter"],
)
def test_change_is_detected_against_a_small_champion(published, change, kind, seed):
    earlier = compute(draw(published, 100 + seed, 6000, 1000))
    sample = draw(published, seed, 6000, 1000)
    further = change(sample, np.random.default_rng(seed))
    assert (kind, "train") in kinds(
        validate(dataclasses.replace(sample, **further), earlier=earlier)
    )


@official
def test_wrong_labels_and_a_flipped_bit_are_detected_in_the_published_set(published):
    chance = np.random.default_rng(4)
    labels = published.train_labels.copy()
    hit = chance.choice(60000, 3000, replace=False)
    labels[hit] = (labels[hit] + chance.integers(1, 10, 3000)) % 10
    images = published.test_images.copy()
    images[17, 3, 3] ^= 1
    altered = dataclasses.replace(
        published,
        train_labels=labels,
        test_images=images,
        sha256={**published.sha256, "train-labels": "other", "t10k-images": "other"},
    )
    anomalies = kinds(validate(altered))
    assert anomalies == {("labels", "train"), ("checksum", "train"), ("checksum", "test")}
