"""Monitoring of clean, shifted, labelled and malformed production images."""

import dataclasses
import datetime
import gzip
import io
import json
import os

import numpy as np
import pytest

from fashion_mnist import CLASS_NAMES, data, storage
from fashion_mnist.data import DataError, idx, statistics
from fashion_mnist.data.production import load
from fashion_mnist.evaluation import Gate
from fashion_mnist.model import export, training
from fashion_mnist.model.recipes import Recipe
from fashion_mnist.steps import evaluate, monitor, publish
from fashion_mnist.storage import open_registry
from model_registry import RegistryError

RECIPE = Recipe(
    name="tiny",
    layers=("flatten", "bn-dense 16"),
    epochs=4,
    batch_size=50,
    learning_rate=1e-2,
    mixed_precision=False,
)


@pytest.fixture(scope="module")
def champion(toy, tmp_path_factory):
    """The address of a registry whose champion was trained on the small data set."""
    folder = tmp_path_factory.mktemp("champion")
    images = data.load(str(toy))
    data.save(images, folder / "dataset")
    statistics.save(folder / "dataset", statistics.compute(images), [])
    trained = training.train(
        images.train_images, images.train_labels, RECIPE, seed=1, log=lambda _: None
    )
    model = folder / "model"
    export.export(trained.model, model, "model.keras", images.train_images)
    history = [dataclasses.asdict(epoch) for epoch in trained.history]
    facts = {"history": history, "seconds": 1.0, "recipe": dataclasses.asdict(RECIPE)}
    (model / "training.json").write_text(json.dumps(facts))
    common = {
        "model": model,
        "dataset": folder / "dataset",
        "run_id": "first",
        "registry": str(folder / "registry"),
        "s3_endpoint": "",
        "report": folder / "report.html",
        "manifest": folder / "manifest.json",
    }
    gate = Gate(min_accuracy=0.5, min_recall=0.3)
    outcome = evaluate.evaluate_model(**common, gate=gate, seed=1, reason="drift")
    assert outcome.verdict.status == "accepted"
    publish.publish_model(**common)
    return str(folder / "registry")


@pytest.fixture(scope="module")
def production():
    """Images like the training images, and their labels."""
    chance = np.random.default_rng(7)
    labels = (np.arange(600) % 10).astype(np.uint8)
    images = chance.integers(0, 60, (600, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 2 : 2 * label + 6, 4:24] = 220
    return images, labels


@pytest.fixture
def monitor_batch(champion, tmp_path):
    """Monitor the images in a folder, and return the stored report."""
    names = iter(range(100))

    def run(folder, **more):
        options = {"max_drift": 0.1, "min_images": 100, "registry": champion, **more}
        return monitor.monitor_images(
            source=str(folder),
            run_id=f"{tmp_path.name}-{next(names)}",
            s3_endpoint="",
            report=tmp_path / "report.html",
            **options,
        )

    return run


@pytest.fixture
def batch(tmp_path):
    folder = tmp_path / "batch"
    folder.mkdir()
    return folder


def test_manifest_has_the_reason_of_its_run(champion):
    assert open_registry(champion).champion().manifest.reason == "drift"


# What it says of images ---------------------------------------------------------------------------------


def test_images_like_the_training_data_show_no_drift(monitor_batch, batch, production, tmp_path):
    np.savez(batch / "day.npz", images=production[0])
    report = monitor_batch(batch)
    assert report["drifted"] == []
    assert 0 <= report["drift"]["pixels"] < 0.01
    assert 0 <= report["drift"]["predictions"] < 0.1
    assert (report["version"], report["images"], report["labelled"]) == (1, 600, 0)
    assert report["accuracy"] is None
    assert report["recall"] == {}
    assert "No drift." in (tmp_path / "report.html").read_text()


def test_brighter_images_show_pixel_drift(monitor_batch, batch, production, tmp_path):
    images = np.clip(production[0].astype(int) + 60, 0, 255).astype(np.uint8)
    np.save(batch / "images.npy", images)
    report = monitor_batch(batch)
    assert "pixels" in report["drifted"]
    assert report["drift"]["pixels"] > 1
    assert report["mean"] > report["reference"]["mean"] + 50
    html = (tmp_path / "report.html").read_text()
    assert "Drifted: pixels" in html
    assert "data:image/png" in html


def test_other_class_mix_shows_prediction_drift(monitor_batch, batch, production):
    images, labels = production
    np.save(batch / "images.npy", np.concatenate([images[labels < 3]] * 3))
    report = monitor_batch(batch)
    assert report["drifted"] == ["predictions"]
    assert sum(report["predicted"][name] for name in CLASS_NAMES[:3]) > 0.9
    assert report["reference"]["predicted"]["Bag"] > 0.05


def test_drift_is_reported_only_while_it_lasts(monitor_batch, batch, production):
    # GIVEN weeks of usual images, and a day of others
    images, labels = production
    for age, day in enumerate([images[labels < 3], *[images] * 6]):
        np.save(batch / f"{age}.npy", day)
        os.utime(batch / f"{age}.npy", (10**9 - age, 10**9 - age))
    # WHEN about a day is monitored THEN it has drifted, which all of them together hide
    assert monitor_batch(batch, max_images=150)["drifted"] == ["predictions"]
    assert monitor_batch(batch, max_images=4000)["drifted"] == []
    # AND when usual images follow, those of that day are not monitored any more
    np.save(batch / "today.npy", images)
    assert monitor_batch(batch, max_images=150)["drifted"] == []


def test_too_small_window_is_rejected(monitor_batch, batch, production):
    np.save(batch / "images.npy", production[0])
    with pytest.raises(ValueError, match="max_images 400 is less than min_images 500"):
        monitor_batch(batch, min_images=500, max_images=400)


def test_drift_limit_is_a_parameter(monitor_batch, batch, production):
    images, labels = production
    np.save(batch / "images.npy", images[labels < 5])
    assert monitor_batch(batch, max_drift=100)["drifted"] == []
    assert monitor_batch(batch, max_drift=0.5)["drifted"] == ["predictions"]


def test_labels_give_recall_by_class(monitor_batch, batch, production, tmp_path):
    images, labels = production
    wrong_labels = labels.astype(int)
    wrong_labels[labels == 3] = 4  # dresses are labelled as coats
    wrong_labels[labels == 5] = -1  # unlabelled
    np.savez(batch / "day.npz", images=images, labels=wrong_labels)
    report = monitor_batch(batch)
    assert report["labelled"] == 540
    assert report["accuracy"] == pytest.approx(480 / 540, abs=0.02)
    assert report["recall"]["Coat"] == pytest.approx(0.5, abs=0.05)
    assert not {"Dress", "Sandal"} & set(report["recall"])
    assert "<td>unknown</td>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("count", "wrong", "drifted"),
    [
        (600, 600, ["accuracy"]),
        (600, 90, ["accuracy"]),
        (600, 20, []),
        # The same share of few images is not significant.
        (20, 3, []),
        (20, 20, ["accuracy"]),
        (0, 0, []),
    ],
)
def test_labels_reveal_an_inaccurate_model(
    monitor_batch, batch, production, tmp_path, count, wrong, drifted
):
    # GIVEN usual images, some of them labelled, and some of these wrongly
    images, labels = production
    labels = labels.astype(int)
    labels[:wrong] = (labels[:wrong] + 1) % 10
    labels[count:] = -1
    np.savez(batch / "day.npz", images=images, labels=labels)
    # WHEN they are monitored, THEN significant errors are reported, with the limit
    report = monitor_batch(batch)
    assert report["drifted"] == drifted
    assert report["max_accuracy_drop"] == 0.05
    page = (tmp_path / "report.html").read_text()
    assert ("Drifted: accuracy" in page) == bool(drifted)


def test_accuracy_drop_limit_is_a_parameter(monitor_batch, batch, production):
    images, labels = production
    np.savez(batch / "day.npz", images=images, labels=np.where(np.arange(600) < 90, 0, labels))
    assert monitor_batch(batch, max_accuracy_drop=0.02)["drifted"] == ["accuracy"]
    assert monitor_batch(batch, max_accuracy_drop=0.3)["drifted"] == []


def test_report_is_written_once_and_nothing_else_changes(
    monitor_batch, batch, production, champion, tmp_path
):
    np.save(batch / "images.npy", production[0])
    before = open_registry(champion).champion()
    options = {"source": str(batch), "registry": champion, "s3_endpoint": "", "max_drift": 0.1}
    options |= {"min_images": 1, "run_id": "twice", "report": tmp_path / "report.html"}
    first = monitor.monitor_images(**options)
    # A step that is repeated, meanwhile with other images, abides by what it said.
    np.save(batch / "images.npy", 255 - production[0])
    assert monitor.monitor_images(**options) == first
    path = tmp_path.joinpath(champion, "monitoring", "twice", "report.json")
    assert json.loads(path.read_text()) == first
    assert open_registry(champion).champion() == before
    assert open_registry(champion).versions() == [1]


# What it reads --------------------------------------------------------------------------------------------


def to_idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


@pytest.mark.parametrize(
    ("images_name", "labels_name", "write"),
    [
        ("a-images-idx3-ubyte", "a-labels-idx1-ubyte", to_idx),
        ("a-images-idx3-ubyte.gz", "a-labels-idx1-ubyte.gz", lambda a: gzip.compress(to_idx(a))),
        ("a-images-idx3-ubyte.gz", "a-labels-idx1-ubyte", to_idx),
        ("images-a.npy", "labels-a.npy", npy),
        ("day/images.npy.gz", "day/labels.npy", lambda a: gzip.compress(npy(a))),
    ],
)
def test_each_format_is_read_with_its_labels(batch, production, images_name, labels_name, write):
    images, labels = production
    for name, array in ((images_name, images), (labels_name, labels)):
        (batch / name).parent.mkdir(exist_ok=True)
        (batch / name).write_bytes(write(array))
    (batch / "README.md").write_text("not an image")
    batch_ = load(str(batch))
    assert np.array_equal(batch_.images, images)
    assert np.array_equal(batch_.labels, labels)
    assert batch_.files == [images_name]


def test_npz_is_read_whatever_its_name(batch, production):
    # GIVEN images with their labels, in files named accordingly
    images, labels = production
    np.savez(batch / "day-with-labels.npz", images=images, labels=labels)
    np.savez(batch / "images.npz", images=images[:100])
    # AND labels in separate IDX or .npy files
    (batch / "b-labels-idx1-ubyte").write_bytes(to_idx(labels))
    (batch / "labels.npy").write_bytes(npy(labels))
    # THEN all images are read, and labels where they are within
    batch_ = load(str(batch))
    assert sorted(batch_.files) == ["day-with-labels.npz", "images.npz"]
    assert (len(batch_.images), (batch_.labels >= 0).sum()) == (700, 600)


def test_newest_files_are_read_first_up_to_the_limit(batch):
    for age, name in enumerate(["new", "old", "older"]):
        np.save(batch / f"{name}.npy", np.full((100, 28, 28), age, np.uint8))
        os.utime(batch / f"{name}.npy", (10**9 - age, 10**9 - age))
    batch_ = load(str(batch), max_images=150)
    assert batch_.files == ["new.npy", "old.npy"]
    assert batch_.images[:, 0, 0].tolist() == [0] * 100 + [1] * 50
    assert len(batch_.labels) == 150


def test_last_images_of_an_oversized_file_are_read(batch, production):
    # GIVEN one file, to which images are added
    np.savez(batch / "all.npz", images=production[0], labels=production[1])
    batch_ = load(str(batch), max_images=50)
    assert np.array_equal(batch_.images, production[0][-50:])
    assert np.array_equal(batch_.labels, production[1][-50:])


GOOD = np.zeros((3, 28, 28), np.uint8)


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def compressed_npz(**arrays):
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def flip_checksum(content):
    """Flip one bit of the last checksum."""
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


def npy_header(*shape):
    """Return the header of a .npy file without its data."""
    content = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        ({}, "counts", "has no images"),
        ({"labels.npy": npy(np.zeros(3, np.uint8))}, "counts", "has no images"),
        ({"a.npy": npy(GOOD / 255)}, "dtype", "a.npy: its images are float64"),
        ({"a.npy": npy(GOOD[:, :14])}, "shape", r"a.npy: its images are \(3, 14, 28\)"),
        ({"a.npy": npy(GOOD[:0])}, "shape", r"a.npy: its images are \(0, 28, 28\)"),
        ({"a.npy": npy(GOOD)[:-9]}, "truncated", "a.npy: truncated or damaged"),
        ({"a.npy": b""}, "truncated", "a.npy: truncated or damaged"),
        ({"a.npy": npy(np.array([{}]))}, "truncated", "a.npy: truncated or damaged"),
        ({"a.npy.gz": gzip.compress(npy(GOOD))[:-9]}, "truncated", "a.npy.gz: truncated"),
        ({"a.npz": npz(images=GOOD)[:-9]}, "truncated", "a.npz: truncated or damaged"),
        ({"a.npy": npz(images=GOOD)}, "truncated", "a.npy: truncated or damaged"),
        ({"a.npy": npy_header(10**15, 28, 28)}, "truncated", "a.npy: truncated or damaged"),
        ({"a.npy.gz": flip_checksum(gzip.compress(npy(GOOD)))}, "damaged", "a.npy.gz: damaged"),
        ({"a.npz": npz(pictures=GOOD)}, "format", "a.npz: has no array named images"),
        ({"labels.npz": npz(labels=np.zeros(3, int))}, "format", "labels.npz: has no array"),
        ({"a.npz": npz(images=GOOD, labels=np.zeros(2, int))}, "counts", r"int64 \(2,\), for 3"),
        ({"a.npz": npz(images=GOOD, labels=np.zeros(3))}, "counts", "its labels are float64"),
        (
            {"a.npz": npz(images=GOOD, labels=np.array([0, 1, 10]))},
            "label-range",
            "labels are 0 to 10",
        ),
        ({"a-idx3-ubyte": to_idx(GOOD)[:-1]}, "truncated", "a-idx3-ubyte: its header announces"),
        ({"a-idx3-ubyte": b"\x00\x00\x0d\x03"}, "format", "begins with 00000d03"),
        (
            {"a-images.npy": npy(GOOD), "a-labels.npy": npy(np.zeros(9, int))},
            "counts",
            r"a-labels.npy: its labels are int64 \(9,\), for 3 images",
        ),
    ],
)
def test_malformed_file_is_named(batch, files, kind, message):
    for name, content in files.items():
        (batch / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(str(batch))
    assert caught.value.kind == kind


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.npy.gz", "a-idx3-ubyte.gz"])
def test_too_large_file_is_rejected_before_reading(batch, monkeypatch, name):
    # GIVEN a small compressed file, or an uncompressed one
    images = np.zeros((200, 28, 28), np.uint8)
    content = {
        "a.npz": compressed_npz(images=images),
        "a.npy": npy(images),
        "a.npy.gz": gzip.compress(npy(images)),
        "a-idx3-ubyte.gz": gzip.compress(to_idx(images)),
    }
    (batch / name).write_bytes(content[name])
    assert len(load(str(batch)).images) == 200
    # WHEN its content exceeds the limit
    monkeypatch.setattr(idx, "MAX_BYTES", 100_000)
    assert (batch / name).stat().st_size < 10_000 or name == "a.npy"
    with pytest.raises(DataError, match=f"{name}: has more than 100000 bytes") as caught:
        load(str(batch))
    assert caught.value.kind == "size"


def test_missing_bucket_is_reported(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(storage, "PATIENCE", datetime.timedelta(seconds=1))
    with pytest.raises(DataError, match="s3://not-there cannot be read"):
        load("s3://not-there", "http://127.0.0.1:1")


def test_too_few_images_are_rejected(monitor_batch, batch):
    np.save(batch / "images.npy", GOOD)
    with pytest.raises(DataError, match="has 3 images, but 500 are needed"):
        monitor_batch(batch, min_images=500)


def test_monitoring_without_a_champion_fails(monitor_batch, batch, production, tmp_path):
    np.save(batch / "images.npy", production[0])
    with pytest.raises(RegistryError, match="train a model first"):
        monitor_batch(batch, registry=str(tmp_path / "empty"))


def test_random_variation_stays_below_the_limit_from_500_images():
    chance = np.random.default_rng(0)
    usual = chance.multinomial(10000, [0.1] * 10)

    def too_large(count):
        draws = chance.multinomial(count, [0.1] * 10, size=2000)
        return np.mean([statistics.stability_index(draw, usual) > 0.1 for draw in draws])

    assert too_large(500) == 0
    assert too_large(100) > 0.2
