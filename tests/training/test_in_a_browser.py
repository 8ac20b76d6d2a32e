"""The reports in a real browser, whose console shows errors."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from fashion_mnist import CLASS_NAMES, data, evaluation
from fashion_mnist.data import statistics
from fashion_mnist.evaluation import Verdict
from fashion_mnist.reports.data import data_report
from fashion_mnist.reports.model import model_report
from fashion_mnist.reports.monitoring import monitoring_report

# What GitHub's machines have is Google's.
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
HOSTILE = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
LABELS = (np.arange(200) % 10).astype(np.uint8)
IMAGES = np.random.default_rng(0).integers(0, 256, (200, 28, 28)).astype(np.uint8)
PROBABILITIES = np.full((200, 10), 0.1, np.float32)
SAID = evaluation.evaluate_probabilities(PROBABILITIES, LABELS)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=f"none of {NAMES} is installed"),
]


def hostile_model_report():
    return model_report(
        title=HOSTILE,
        evaluation=SAID,
        images=IMAGES,
        labels=LABELS,
        history=[{"loss": 0.5, "accuracy": 0.8, "seconds": 1.0}],
        verdict=Verdict("rejected", [HOSTILE]),
        facts={HOSTILE: HOSTILE},
    )


def hostile_data_report():
    dataset = data.Dataset(IMAGES, LABELS, IMAGES, LABELS, source=HOSTILE, sha256={})
    computed = statistics.compute(dataset)
    return data_report(
        title=HOSTILE,
        statistics=computed,
        anomalies=[HOSTILE],
        images=IMAGES,
        labels=LABELS,
        earlier=computed,
        earlier_name=HOSTILE,
    )


def hostile_monitoring_report():
    shares = dict.fromkeys(CLASS_NAMES, 0.1)
    usual = {
        "mean": 1.0,
        "histogram": [1 / 16] * 16,
        "predicted": shares,
        "accuracy": 0.9,
        "recall": {},
    }
    facts = {
        **usual,
        "version": 1,
        "source": HOSTILE,
        "created_at": HOSTILE,
        "run_id": HOSTILE,
        "drift": {HOSTILE: 0.5},
        "drifted": [HOSTILE],
        "images": 200,
        "labelled": 0,
        "confidence": 0.1,
        "accuracy": None,
        "max_drift": 0.1,
        "reference": usual,
    }
    return monitoring_report(facts, IMAGES, PROBABILITIES)


def open_page(page, folder):
    """Open a page, and return its elements and the console's messages."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'profile'}"),
    ]
    process = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", (folder / "page.html").as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return process.stdout, [line for line in process.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize(
    "make", [hostile_model_report, hostile_data_report, hostile_monitoring_report]
)
def test_report_opens_without_an_error_and_runs_nothing(make, tmp_path):
    elements, console = open_page(make(), tmp_path)
    assert console == []
    assert "<script" not in elements
    assert '<img src="x"' not in elements
    assert elements.count("<h2") >= 3
    assert "nan" not in re.sub(r'src="[^"]*"', "", elements)


def test_browser_check_detects_errors(tmp_path):
    _, console = open_page("<!doctype html><script>wrong()</script>", tmp_path)
    assert any("wrong is not defined" in line for line in console)
