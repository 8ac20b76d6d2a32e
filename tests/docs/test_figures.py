"""Check that the figures show what they should, are up to date, and are used."""

import importlib.util

import numpy as np
import pytest

from kfp_ops import PipelineSpec
from tests.docs.documents import PAPERS, ROOT

spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)
DRAWN = sorted(path for path in figures.FIGURES.iterdir() if path.suffix in (".png", ".svg"))


@pytest.fixture(autouse=True)
def _closed():
    yield
    figures.plt.close("all")


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_grid_shows_25_images_with_their_names():
    labels = np.arange(30, dtype=np.uint8) % 10
    drawn = figures.grid(np.zeros((30, 28, 28), np.uint8), labels)
    names = [axes.get_xlabel() for axes in drawn.axes]
    assert names == [figures.CLASS_NAMES[label] for label in labels[:25]]


def test_the_confusion_matrix_shows_each_count():
    matrix = np.arange(100).reshape(10, 10) + 1
    assert texts(figures.confusion(matrix, "t")) == [str(count) for count in matrix.flat]


def test_the_curves_have_a_line_for_each_recipe():
    epochs = [figures.training.Epoch(loss=1.0, accuracy=share, seconds=1.0) for share in (0.5, 0.9)]
    (axes,) = figures.curves({"fast": epochs, "quick": epochs[:1]}).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines == {"fast": [[1, 0.5], [2, 0.9]], "quick": [[1, 0.5]]}


def test_architecture_names_the_steps_of_the_pipeline():
    words = " ".join(texts(figures.architecture())).replace("\n", " ").replace(",", "")
    steps = PipelineSpec.load(ROOT / "src" / "pipelines" / "train.yaml").steps
    assert steps <= set(words.split())


def test_committed_architecture_is_up_to_date():
    committed = (figures.FIGURES / "architecture.svg").read_text()
    for text in texts(figures.architecture()):
        for line in text.splitlines():
            assert f">{line}<" in committed, "run: make figures"


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.name)
def test_every_figure_is_small_and_used(path):
    assert path.stat().st_size < 100_000
    assert [paper for paper in PAPERS if f"figures/{path.name}" in paper.read_text()]
