"""A killed training resumes from its checkpoint, and from no other."""

import datetime
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import obstore
import pytest

from fashion_mnist.model import checkpoints as module
from fashion_mnist.model import training
from fashion_mnist.model.checkpoints import Checkpoints, State
from fashion_mnist.model.recipes import Recipe
from fashion_mnist.storage import open_store

# They train models.
pytestmark = pytest.mark.slow

TRAINER = Path(__file__).parent / "trainer.py"
RECIPE = Recipe(
    name="tiny", layers=("flatten", "bn-dense 8"), epochs=2, batch_size=50, learning_rate=0.01
)
IMAGES = np.random.default_rng(0).integers(0, 256, (200, 28, 28)).astype(np.uint8)
LABELS = (np.arange(200) % 10).astype(np.uint8)
KEY = "checkpoints/run-1/state"


@pytest.fixture(params=["directory", "s3"])
def place(request, tmp_path):
    """Address and endpoint of the checkpoints."""
    if request.param == "directory":
        return str(tmp_path / "volume"), ""
    return request.getfixturevalue("s3")


@pytest.fixture
def store(place):
    return open_store(*place)


@pytest.fixture
def make_checkpoints(place):
    """Checkpoints of run-1 after every epoch, and their log."""
    log: list[str] = []
    address, endpoint = place
    checkpoints = Checkpoints(address, "run-1", endpoint=endpoint, interval=0, log=log.append)
    return checkpoints, log


def train_model(checkpoints, *, images=IMAGES, recipe=RECIPE, seed=1):
    log: list[str] = []
    trained = training.train(
        images, LABELS, recipe, seed=seed, checkpoints=checkpoints, log=log.append
    )
    return trained, log


def process(place, target, *arguments):
    command = [sys.executable, str(TRAINER), *place, str(target), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def weights(path):
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def epochs(log):
    return [line.split()[1] for line in log.stdout.splitlines() if line.startswith("Epoch")]


@pytest.fixture(scope="module")
def finished_training(tmp_path_factory):
    """The result of a finished training, and the checkpoint of its last epoch."""
    folder = tmp_path_factory.mktemp("ended")
    trained, _ = train_model(Checkpoints(str(folder), "run-1", interval=0))
    return trained, (folder / KEY).read_bytes()


@pytest.fixture
def checkpoint(finished_training, tmp_path):
    """That checkpoint in the file that run-1 reads."""
    path = tmp_path / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(finished_training[1])
    return path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The weights of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    done = process((str(folder), ""), folder / "weights.npz")
    assert done.returncode == 0, done.stderr
    return weights(folder / "weights.npz")


@pytest.mark.parametrize(
    ("place", "moment"),
    [("directory", "boundary"), ("directory", "epoch"), ("s3", "epoch")],
    indirect=["place"],
)
def test_resumed_training_ends_with_the_same_weights(uninterrupted, place, moment, tmp_path):
    # GIVEN a training that was killed between two epochs, or within one
    killed = process(place, tmp_path / "never.npz", moment)
    assert (killed.returncode, epochs(killed)) == (-signal.SIGKILL, ["1/4", "2/4"]), killed.stderr
    assert not (tmp_path / "never.npz").exists()
    # WHEN it is retried
    resumed = process(place, tmp_path / "again.npz")
    # THEN it trains only the remaining epochs, to the same bits as an uninterrupted one
    assert (resumed.returncode, epochs(resumed)) == (0, ["3/4", "4/4"]), resumed.stderr
    assert "resuming after epoch 2 of 4" in resumed.stdout
    for one, other in zip(weights(tmp_path / "again.npz"), uninterrupted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_finished_training_is_not_repeated(make_checkpoints):
    # GIVEN a step that was killed after the last epoch, before the model was exported
    first, _ = train_model(make_checkpoints[0])
    # WHEN it is retried
    second, log = train_model(make_checkpoints[0])
    # THEN no epoch is trained, and the model is the same
    assert log == ["resuming after epoch 2 of 2 from a checkpoint"]
    assert second.history == first.history
    assert second.seconds >= sum(epoch.seconds for epoch in first.history)
    for one, other in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"recipe": RECIPE.__class__(**{**RECIPE.__dict__, "learning_rate": 0.02})},
        {"recipe": RECIPE.__class__(**{**RECIPE.__dict__, "layers": ("flatten", "bn-dense 9")})},
        {"images": 255 - IMAGES},
    ],
    ids=["seed", "rate", "network", "data"],
)
def test_checkpoint_of_another_training_is_not_used(tmp_path, change):
    # GIVEN a checkpoint, WHEN a setting that affects the result changes
    _, log = train_model(Checkpoints(str(tmp_path), "run-1", interval=0), **change)
    # THEN that is logged, and all epochs are trained
    assert "belongs to a training with another" in log[0]
    assert sum(line.startswith("Epoch") for line in log) == 2


@pytest.mark.usefixtures("checkpoint")
def test_checkpoint_of_another_tensorflow_version_is_not_used(tmp_path, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf, "__version__", "3.0.0")
    _, log = train_model(Checkpoints(str(tmp_path), "run-1", interval=0))
    assert "belongs to a training with another" in log[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: bytes(len(content)),
    ],
    ids=["empty", "sum cut", "half", "a byte less", "a byte more", "a bit flipped", "zeros"],
)
def test_damaged_checkpoint_is_reported_and_training_restarts(
    tmp_path, finished_training, checkpoint, damage
):
    # GIVEN a checkpoint that was damaged
    log: list[str] = []
    checkpoints = Checkpoints(str(tmp_path), "run-1", interval=0, log=log.append)
    expected, content = finished_training
    checkpoint.write_bytes(damage(content))
    # WHEN the training is retried
    trained, lines = train_model(checkpoints)
    # THEN it warns, trains all epochs to the same end, and leaves a good checkpoint
    assert len(log) == 1
    assert "cannot be used, training starts from the beginning" in log[0]
    assert sum(line.startswith("Epoch") for line in lines) == 2
    for one, other in zip(expected.model.get_weights(), trained.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert checkpoints.load() is not None


def test_failed_storage_loses_the_checkpoint_but_not_the_training(tmp_path, monkeypatch):
    # GIVEN an unreachable S3 server
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(obstore, "get", refuse)
    monkeypatch.setattr(obstore, "put", refuse)
    monkeypatch.setattr(obstore, "list", refuse)
    log: list[str] = []
    checkpoints = Checkpoints(str(tmp_path), "run-1", interval=0, log=log.append)
    # WHEN a model is trained
    trained, _ = train_model(checkpoints)
    checkpoints.clear()
    # THEN it succeeds, and every failure is logged
    assert len(trained.history) == 2
    assert [line.split(":")[0] for line in log] == [
        "the checkpoint cannot be used, training starts from the beginning",
        *2 * ["the checkpoint was not saved, another attempt would start from the beginning"],
        "a checkpoint was not deleted",
    ]


def refuse(*_, **__):
    raise obstore.exceptions.GenericError("connection refused")


def test_short_training_saves_no_checkpoint(tmp_path):
    train_model(Checkpoints(str(tmp_path), "run-1"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_checkpoint_is_saved_no_sooner_than_the_interval(tmp_path, monkeypatch):
    # GIVEN checkpoints every fifteen seconds
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    checkpoints = Checkpoints(str(tmp_path), "run-1", interval=15)
    due = []
    # WHEN epochs of six seconds end
    for _ in range(6):
        now[0] += 6
        due.append(checkpoints.is_due)
        if checkpoints.is_due:
            checkpoints.save(State("x", [np.zeros(1)], []))
    # THEN every third epoch is saved
    assert due == [False, False, True] * 2


def test_unreachable_storage_costs_a_tenth_of_the_time(tmp_path, monkeypatch):
    # GIVEN frequent checkpoints on a server that times out after five minutes
    now = [100.0]

    def wait(*_, **__):
        now[0] += 300
        refuse()

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(obstore, "put", wait)
    checkpoints = Checkpoints(str(tmp_path), "run-1", interval=0)
    # WHEN saving one fails THEN the training continues for a while before the next
    checkpoints.save(State("x", [np.zeros(1)], []))
    now[0] += 2600
    assert not checkpoints.is_due
    now[0] += 200
    assert checkpoints.is_due


def test_finished_and_old_checkpoints_are_removed(place, make_checkpoints, store, monkeypatch):
    # GIVEN a checkpoint of this run, and of another that may be running
    train_model(make_checkpoints[0])
    obstore.put(store, "checkpoints/run-2/state", b"x")
    obstore.put(store, "work/run-3/0a1b2c3d/task.npz", b"x")
    obstore.put(store, "runs/run-1/manifest.json", b"{}")
    # WHEN this step succeeds
    make_checkpoints[0].clear()
    # THEN only its own is removed
    paths = sorted(entry["path"] for page in obstore.list(store) for entry in page)
    assert paths == [
        "checkpoints/run-2/state",
        "runs/run-1/manifest.json",
        "work/run-3/0a1b2c3d/task.npz",
    ]
    # AND the other one, and what killed workers shared, with the next step that ends well after a week
    monkeypatch.setattr(module, "RETENTION", datetime.timedelta(seconds=-60))
    make_checkpoints[0].clear()
    paths = [entry["path"] for page in obstore.list(store) for entry in page]
    assert paths == ["runs/run-1/manifest.json"]
    assert make_checkpoints[1] == []
