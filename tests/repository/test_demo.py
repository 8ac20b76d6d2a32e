"""The demo on a machine where it cannot go on."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_without_data_it_says_how_to_have_them(tmp_path):
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-W", "ignore", str(ROOT / "scripts" / "demo.py")]
    done = subprocess.run(
        [*command, "--data", "data", "--root", str(tmp_path / "state")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"{tmp_path}/data/train-images-idx3-ubyte.gz is not there" in done.stdout
    assert "install Debian's dataset-fashion-mnist" in done.stdout
    assert "make demo DATA=FOLDER" in done.stdout
    assert "Traceback" not in done.stderr
