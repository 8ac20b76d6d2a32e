"""The notebook, executed from scratch, and its committed outputs."""

import re
import socket
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from fashion_mnist import data
from scripts import notebook

with_data = pytest.mark.skipif(
    not data.DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
# Cells with the same output on every machine, independent of training.
EXPLORATION = ("load", "labels", "first-image", "scaling")
A_PATH = re.compile(r"(?<![\w.])/(home|root|tmp|usr|opt|var|work|mnt|Users)/")
A_LOCAL_SERVER = re.compile(r"(127\.0\.0\.1|localhost|0\.0\.0\.0|\[::1\])")


def code_cells(notebook):
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def outputs(cell):
    """Return the text of a cell's outputs and the number of its images."""
    text, pictures = "", 0
    for output in cell.outputs:
        text += output.get("text", "") + "".join(output.get("traceback", []))
        shown = output.get("data", {})
        pictures += "image/png" in shown
        text += shown.get("text/html", "")
    return text, pictures


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(notebook.NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    return notebook.on_sandbox(tmp_path_factory.mktemp("notebook"))


@pytest.mark.slow
@with_data
def test_notebook_leads_from_data_to_a_served_model(executed):
    cells = code_cells(executed)
    # Exploration in the original notebook
    text, _ = outputs(cells["load"])
    assert "train (60000, 28, 28) uint8 (60000,)" in text
    assert "test  (10000, 28, 28) uint8 (10000,)" in text
    assert outputs(cells["first-image"]) == ("0 to 255, Ankle boot\n", 1)
    assert outputs(cells["scaling"])[0].startswith("0.0 to 1.0")
    assert outputs(cells["grid"])[1] == 1
    # The run, which the link shows
    assert "http://KFP_API_URL/#/runs/details/" in outputs(cells["submit"])[0]
    states = dict(line.split() for line in outputs(cells["wait"])[0].splitlines()[:3])
    assert set(states) == {"ingest", "train", "evaluate-and-predict"}
    assert set(states.values()) == {"SUCCEEDED"}
    # The result
    text, _ = outputs(cells["manifest"])
    (accuracy,) = re.findall(r"([\d.]+) \(test\)", text)
    assert float(accuracy) > 0.87
    assert "verdict  accepted" in text
    assert outputs(cells["confusion"])[1] == 1
    text, _ = outputs(cells["predict"])
    assert text.startswith(f"version 1, accuracy {accuracy}\n")
    predictions = re.findall(r"Prediction: (.+) \| Confidence: (.+) \| Actual: (.+)", text)
    assert [actual for *_, actual in predictions[:2]] == ["Ankle boot", "Pullover"]
    assert all(0.1 < float(confidence) <= 1 for _, confidence, _ in predictions)


@pytest.mark.slow
@with_data
def test_committed_notebook_matches_its_outputs(executed, committed):
    assert [cell.source for cell in committed.cells] == [cell.source for cell in executed.cells]
    for name in EXPLORATION:
        assert outputs(code_cells(committed)[name]) == outputs(code_cells(executed)[name]), (
            "make notebook"
        )


@pytest.mark.slow
@with_data
def test_missing_server_shows_how_to_start_one():
    with pytest.raises(CellExecutionError) as caught:
        notebook.execute({"KFP_API_URL": ""})
    assert caught.value.ename == "SystemExit"
    for command in ("make notebook", "make demo", "python -m sandbox"):
        assert command in caught.value.evalue


def test_notebook_is_committed_with_outputs(committed):
    cells = code_cells(committed)
    assert [cell.execution_count for cell in cells.values()] == list(range(1, len(cells) + 1))
    assert [name for name, cell in cells.items() if outputs(cell)[1]] == [
        "first-image",
        "grid",
        "confusion",
    ]
    assert "Prediction: " in outputs(cells["predict"])[0]
    assert notebook.NOTEBOOK.stat().st_size < 400_000


def test_outputs_contain_nothing_about_the_machine(committed):
    assert "version" not in committed.metadata["language_info"]
    for cell in code_cells(committed).values():
        text, _ = outputs(cell)
        assert not A_PATH.search(text), cell.id
        assert not A_LOCAL_SERVER.search(text), cell.id
        assert socket.gethostname() not in text
        assert str(Path.home()) not in text
        assert not cell.metadata
        assert {output.get("name", "stdout") for output in cell.outputs} <= {"stdout"}
