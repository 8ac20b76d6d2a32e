"""Report on a model, as HTML and Markdown."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.evaluation import Evaluation, Verdict
from fashion_mnist.reports.page import curve, figure, known, page


def model_report(
    *,
    title: str,
    evaluation: Evaluation,
    images: np.ndarray,
    labels: np.ndarray,
    history: Sequence[Mapping[str, float]],
    verdict: Verdict,
    champion: Evaluation | None = None,
    champion_name: str = "",
    facts: Mapping[str, object] | None = None,
    versions: Sequence[tuple[Mapping[str, Any], str]] = (),
) -> str:
    """Return an HTML report on a model.

    Args:
        title: heading, such as the name of the run.
        evaluation: predictions of the model for `images`.
        images: uint8 (n, 28, 28), the test images.
        labels: uint8 (n,).
        history: loss, accuracy (0 to 1) and seconds of each epoch.
        verdict: verdict of the gate.
        champion: predictions of the champion for the same images, None without one.
        champion_name: name of the champion.
        facts: rows of the model card.
        versions: earlier versions, oldest first: manifest, and when each was promoted, empty if never.
    """
    escape = html.escape
    tiles = [
        (f"{evaluation.accuracy:.4f}", "test accuracy"),
        (f"{evaluation.loss:.4f}", "test loss"),
        (f"{min(evaluation.recall.values()):.4f}", "lowest recall of a class"),
    ]
    if history:
        tiles.append((f"{history[-1]['accuracy']:.4f}", "train accuracy"))
    if champion is not None:
        tiles.append((f"{champion.accuracy:.4f}", f"accuracy of {champion_name or 'champion'}"))
    parts = [
        f"<h1>{escape(title)}</h1><p>Fashion-MNIST: 28 x 28 pixels, ten classes of clothing.</p>",
        '<div class="tiles">',
        *(f'<div class="tile"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for v, k in tiles),
        f'<div class="tile"><b class="{verdict.status}">{verdict.status}</b>'
        "<span>verdict of the gate</span></div></div>",
        "<ul>" + "".join(f"<li>{escape(reason)}</li>" for reason in verdict.reasons) + "</ul>",
        "<h2>Training</h2>" + _curves(history) if history else "",
        "<h2>Confusion matrix</h2><p>Rows are labels, columns are predictions.</p>",
        f'<div class="wide">{_confusion(evaluation.confusion)}</div>',
        "<h2>By class</h2>" + _by_class(evaluation, champion, champion_name),
        _comparison(evaluation, champion, champion_name, images, labels) if champion else "",
        "<h2>The first 25 test images</h2>" + _grid(range(25), images, labels, evaluation),
    ]
    mistakes = np.flatnonzero(evaluation.predictions != labels)
    confidence = evaluation.probabilities[mistakes, evaluation.predictions[mistakes]]
    most_confident = mistakes[np.argsort(-confidence, kind="stable")][:25]
    if len(most_confident):
        parts.append(
            f"<h2>Most confident errors</h2><p>{len(mistakes)} of {len(labels)} predictions are wrong; "
            "these have the highest confidence.</p>"
            + _grid(most_confident.tolist(), images, labels, evaluation)
        )
    if versions:
        parts.append(f"<h2>Version history</h2>{_versions(versions)}")
    card = "".join(
        f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in (facts or {}).items()
    )
    parts.append(f"<h2>Model card</h2><dl>{card}</dl>")
    return page(title, "\n".join(part for part in parts if part))


def summary(
    *,
    title: str,
    evaluation: Evaluation,
    verdict: Verdict,
    champion: Evaluation | None = None,
    champion_name: str = "",
    facts: Mapping[str, object] | None = None,
) -> str:
    """Return the metrics and the model card as Markdown; see `model_report`."""
    other = f" {champion_name or 'champion'} |" if champion else ""
    lines = [
        f"# {_cell(title)}: {verdict.status}",
        "",
        f"Test accuracy {evaluation.accuracy:.4f}, loss {evaluation.loss:.4f}.",
        "",
        *(f"- {_cell(reason)}" for reason in verdict.reasons),
        "",
        f"| class | recall |{other}",
        "|---|---|" + ("---|" if champion else ""),
    ]
    for name in CLASS_NAMES:
        champion_cell = f" {known(champion.recall, name)} |" if champion else ""
        lines.append(f"| {name} | {known(evaluation.recall, name)} |{champion_cell}")
    lines += ["", "## Model card", "", "| | |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(fact)} |" for name, fact in (facts or {}).items()]
    return "\n".join(lines) + "\n"


def _cell(text: object) -> str:
    """Escape text for a Markdown table, in which dashboards interpret HTML."""
    return html.escape(str(text), quote=False).replace("|", "&#124;")


def _grid(
    indices: Sequence[int] | range, images: np.ndarray, labels: np.ndarray, evaluation: Evaluation
) -> str:
    figures: list[str] = []
    for index in indices:
        if index >= len(images):
            break
        label, predicted = int(labels[index]), int(evaluation.predictions[index])
        kind = "accepted" if label == predicted else "rejected"
        text = (
            CLASS_NAMES[predicted]
            if label == predicted
            else f"{CLASS_NAMES[predicted]}, is {CLASS_NAMES[label]}"
        )
        caption = f"{html.escape(text)} {evaluation.probabilities[index, predicted]:.0%}"
        figures.append(figure(images[index], f"test image {index}", caption, kind))
    return f'<div class="grid">{"".join(figures)}</div>'


def _confusion(matrix: np.ndarray) -> str:
    head = "".join(f'<th class="up">{html.escape(name)}</th>' for name in CLASS_NAMES)
    rows: list[str] = []
    for name, row in zip(CLASS_NAMES, matrix, strict=True):
        share = row / max(1, row.sum())
        cells = "".join(
            f'<td style="background: color-mix(in srgb, var(--accent) {100 * part:.0f}%, '
            f'var(--soft)){"; color: var(--paper)" if part > 0.5 else ""}">{count}</td>'
            for count, part in zip(row, share, strict=True)
        )
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return f'<table class="confusion"><tr><th></th>{head}</tr>{"".join(rows)}</table>'


def _by_class(evaluation: Evaluation, champion: Evaluation | None, champion_name: str) -> str:
    correct = evaluation.confusion.diagonal()
    precision = correct / np.maximum(1, evaluation.confusion.sum(axis=0))
    f1 = (
        2
        * correct
        / np.maximum(1, evaluation.confusion.sum(axis=0) + evaluation.confusion.sum(axis=1))
    )
    other = html.escape(champion_name or "champion")
    header = f"<th>recall of {other}</th><th>change</th>" if champion else ""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{known(evaluation.recall, name)}</td>"
        f"<td>{precision[i]:.4f}</td><td>{f1[i]:.4f}</td><td>{evaluation.confusion[i].sum()}</td>"
        + (_change(evaluation.recall, champion.recall, name) if champion else "")
        + "</tr>"
        for i, name in enumerate(CLASS_NAMES)
    )
    return (
        '<div class="wide"><table><tr><th>class</th><th>recall</th><th>precision</th><th>F1</th>'
        f"<th>images</th>{header}</tr>{rows}</table></div>"
    )


def _change(current: Mapping[str, float], earlier: Mapping[str, float], name: str) -> str:
    if name not in current:
        return "<td>unknown</td><td></td>"
    now, before = current[name], earlier[name]
    kind = "accepted" if now > before else "rejected" if now < before else ""
    return f'<td>{before:.4f}</td><td class="{kind}">{now - before:+.4f}</td>'


def _comparison(
    evaluation: Evaluation,
    champion: Evaluation,
    champion_name: str,
    images: np.ndarray,
    labels: np.ndarray,
) -> str:
    """Return the changes against the champion, with ten images that are newly right or wrong each."""
    right, was_right = evaluation.predictions == labels, champion.predictions == labels
    better, worse = np.flatnonzero(right & ~was_right), np.flatnonzero(~right & was_right)
    parts = [
        f"<h2>Comparison with {html.escape(champion_name or 'the champion')}</h2>"
        f"<p>Accuracy {champion.accuracy:.4f} before, {evaluation.accuracy:.4f} now: of {len(labels)} "
        f"images {len(better)} are newly right, {len(worse)} newly wrong, and "
        f"{int((~right & ~was_right).sum())} wrong in both.</p>"
    ]
    for kind, changed in (("right", better), ("wrong", worse)):
        if len(changed):
            first = changed[:10].tolist()
            parts.append(f"<h3>Newly {kind}</h3>{_grid(first, images, labels, evaluation)}")
    return "".join(parts)


def _versions(versions: Sequence[tuple[Mapping[str, Any], str]]) -> str:
    """Return a chart of the versions' accuracy, and a table of their differences."""
    escape, rows, accuracies = html.escape, list[str](), list[float]()
    for manifest, since in versions:
        metrics = manifest["metrics"]
        accuracies.append(float(metrics["test"]["accuracy"]))
        recall = {name: value for name, value in metrics["recall"].items() if not math.isnan(value)}
        worst_class = min(recall, key=lambda name: recall[name])
        cells = (
            f"{manifest['version']}",
            f"{accuracies[-1]:.4f}",
            f"{recall[worst_class]:.4f} ({worst_class})",
            manifest.get("reason") or "not given",
            manifest["created_at"],
            since or "never",
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return (
        f"<figure style='display:inline-block'>{curve(accuracies)}"
        "<figcaption>test accuracy by version</figcaption></figure>"
        "<table><tr><th>version</th><th>test accuracy</th><th>lowest recall</th><th>reason</th>"
        f"<th>created</th><th>champion since</th></tr>{''.join(rows)}</table>"
    )


def _curves(history: Sequence[Mapping[str, float]]) -> str:
    """Return a chart of loss and one of accuracy by epoch."""
    return "".join(
        f"<figure style='display:inline-block'>{curve([float(e[name]) for e in history])}"
        f"<figcaption>training {name} by epoch</figcaption></figure>"
        for name in ("loss", "accuracy")
    )
