"""The integration environment collects the scenarios."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-integration" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-integration, the group integration's")
@pytest.mark.parametrize("driver", ["pytest-operator", "jubilant"])
def test_the_scenarios_are_collected(driver):
    words = ["-c", "tests/integration/pytest.ini", "tests/integration", "--driver", driver]
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_trainer.py::test_trains_when_asked" in done.stdout
    assert "7 tests collected" in done.stdout
