"""The HTML report and its Markdown summary."""

import html.parser
import re

import numpy as np
import pytest

from fashion_mnist import CLASS_NAMES, evaluation
from fashion_mnist.evaluation import Verdict
from fashion_mnist.reports.model import model_report, summary

COUNT = 200
LABELS = (np.arange(COUNT) % 10).astype(np.uint8)
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28)).astype(np.uint8)
VERDICT = Verdict("accepted", ["accuracy 0.9 <fine>"])
FACTS = {"intended use": "clothing", "a|b": "<script>alert(1)</script>"}
HISTORY = [
    {"loss": 0.5, "accuracy": 0.8, "seconds": 1.0},
    {"loss": 0.3, "accuracy": 0.9, "seconds": 1},
]


def evaluation_with(*wrong_images):
    """Return an evaluation that predicts the next class, at 0.9, for these images."""
    predictions = LABELS.copy()
    predictions[list(wrong_images)] = (predictions[list(wrong_images)] + 1) % 10
    probabilities = np.full((COUNT, 10), 0.1 / 9, np.float32)
    probabilities[np.arange(COUNT), predictions] = 0.9
    return evaluation.evaluate_probabilities(probabilities, LABELS)


CANDIDATE, CHAMPION = evaluation_with(0, 1, 2), evaluation_with(2, 30, 40, 50, 60)


def page(**options):
    return model_report(
        title="Run <1>",
        evaluation=CANDIDATE,
        images=IMAGES,
        labels=LABELS,
        history=HISTORY,
        verdict=VERDICT,
        facts=FACTS,
        **options,
    )


class Balanced(html.parser.HTMLParser):
    """Check that every element is closed, and collect headings, images and their sources."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.headings = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_report_is_self_contained():
    parser = Balanced(page(champion=CHAMPION, champion_name="version 7"))
    assert parser.headings == [
        "Training",
        "Confusion matrix",
        "By class",
        "Comparison with version 7",
        "The first 25 test images",
        "Most confident errors",
        "Model card",
    ]
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert parser.tags.count("svg") == 2
    assert "script" not in parser.tags


def test_report_shows_first_images_errors_and_changes():
    alone = page()
    assert "Comparison" not in alone
    assert alone.count("<figure><img") == 25 + 3
    compared = page(champion=CHAMPION)
    # Newly right are 30, 40, 50 and 60, newly wrong 0 and 1.
    assert compared.count("<figure><img") == 25 + 3 + 4 + 2
    assert "4 are newly right, 2 newly wrong, and 1 wrong in both" in compared
    assert "Accuracy 0.9750 before, 0.9850 now" in compared


def test_each_class_shows_its_change_from_the_champion():
    rows = re.findall(r"<tr><td>(.*?)</tr>", page(champion=CHAMPION))
    cells = {
        row.split("</td>")[0]: re.findall(r"<td[^>]*>(.*?)</td>", "<td>" + row) for row in rows
    }
    # recall, precision, F1, images, the champion's recall, change
    assert cells["T-shirt/top"][1:] == ["0.9500", "1.0000", "0.9744", "20", "0.8000", "+0.1500"]
    assert cells["Trouser"][1:] == ["0.9500", "0.9500", "0.9500", "20", "1.0000", "-0.0500"]
    assert cells["Bag"][-1] == "+0.0000"
    assert set(cells) >= set(CLASS_NAMES)


def test_external_text_is_escaped():
    text = page(champion=CHAMPION, champion_name="<b>")
    assert "<script>" not in text
    assert "Run &lt;1&gt;" in text
    assert "Comparison with &lt;b&gt;" in text


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_learning_curve_is_drawn_for_any_number_of_epochs(epochs):
    text = model_report(
        title="x",
        evaluation=CANDIDATE,
        images=IMAGES,
        labels=LABELS,
        history=HISTORY[:epochs],
        verdict=VERDICT,
    )
    assert text.count("<circle") == 2 * epochs
    assert "nan" not in text


def test_summary_has_verdict_figures_and_model_card():
    text = summary(
        title="Run 1",
        evaluation=CANDIDATE,
        verdict=VERDICT,
        champion=CHAMPION,
        champion_name="version 7",
        facts=FACTS,
    )
    assert text.startswith("# Run 1: accepted\n")
    assert "Test accuracy 0.9850" in text
    assert "- accuracy 0.9 &lt;fine&gt;" in text
    assert "| class | recall | version 7 |" in text
    assert "| T-shirt/top | 0.9500 | 0.8000 |" in text
    assert "## Model card" in text
    assert "| intended use | clothing |" in text
    assert "| a&#124;b | &lt;script&gt;alert(1)&lt;/script&gt; |" in text
    # Every row of a table has as many cells as its head.
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables[:12]} == {4}
    assert {line.count("|") for line in tables[12:]} == {3}
