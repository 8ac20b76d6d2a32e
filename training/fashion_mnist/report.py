"""A report on a model, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.evaluation import Evaluation, Verdict

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --soft: #f2f4f8; --line: #d5dbe5;
  --accent: #2463c5; --good: #17713b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e9f0; --paper: #14181f; --soft: #1f2530;
  --line: #394252; --accent: #7fb0ff; --good: #6fd697; --bad: #ff8f85; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
.tile { background: var(--soft); border-radius: .5rem; padding: .8rem 1.2rem; min-width: 8rem; }
.tile b { display: block; font-size: 1.6rem; } .tile span { opacity: .75; }
.accepted { color: var(--good); } .rejected { color: var(--bad); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.confusion td { min-width: 2rem; text-align: center; border: 1px solid var(--paper); }
.confusion th.up { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
.grid { display: grid; grid-template-columns: repeat(5, 1fr); gap: .6rem; max-width: 44rem; }
figure { margin: 0; text-align: center; font-size: .75rem; line-height: 1.25; }
figure img { width: 100%; image-rendering: pixelated; border-radius: .3rem; background: #000; }
.wide { overflow-x: auto; } svg text { fill: var(--ink); font-size: 12px; }
dt { font-weight: 600; float: left; clear: left; min-width: 14rem; } dd { margin: 0 0 .2rem 14rem;
  overflow-wrap: anywhere; }
"""


def html_report(
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
    """The report.

    Args:
        title: the heading, such as the run's name.
        evaluation: the model's answers to `images`.
        images: uint8 (n, 28, 28), the test images.
        labels: uint8 (n,).
        history: for each epoch loss, accuracy (0 to 1) and seconds.
        verdict: the gate's.
        champion: the serving model's answers to the same images, with its name.
        champion_name: what to call it.
        facts: name and value of what belongs on the model's card.
        versions: the versions so far, oldest first: manifest, and since when each serves or served.
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
        f"<h1>{escape(title)}</h1><p>Fashion-MNIST: 28 x 28 pixels, ten kinds of clothing.</p>",
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
    surest = mistakes[np.argsort(-confidence, kind="stable")][:25]
    if len(surest):
        parts.append(
            f"<h2>The surest mistakes</h2><p>{len(mistakes)} of {len(labels)} images are wrong; these "
            "are the ones with the highest confidence.</p>"
            + _grid(surest.tolist(), images, labels, evaluation)
        )
    if versions:
        parts.append(f"<h2>Versions over time</h2>{_versions(versions)}")
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
    """The report's figures and the model's card as Markdown; see `html_report`."""
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
        champion_cell = f" {_known(champion.recall, name)} |" if champion else ""
        lines.append(f"| {name} | {_known(evaluation.recall, name)} |{champion_cell}")
    lines += ["", "## Model card", "", "| | |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(fact)} |" for name, fact in (facts or {}).items()]
    return "\n".join(lines) + "\n"


def _cell(text: object) -> str:
    """Text in Markdown's table, where dashboards read HTML too."""
    return html.escape(str(text), quote=False).replace("|", "&#124;")


def data_report(
    *,
    title: str,
    statistics: Mapping[str, Any],
    anomalies: Sequence[object],
    images: np.ndarray,
    labels: np.ndarray,
    earlier: Mapping[str, Any],
    earlier_name: str,
) -> str:
    """What a data set is like, against an earlier one.

    Args:
        title: the heading.
        statistics: what `data_validation.statistics` says of it.
        anomalies: what is odd about it; each prints as a sentence.
        images: uint8 (n, 28, 28), the training images; of each class the first are shown.
        labels: uint8 (n,).
        earlier: statistics of the data set that it was held against.
        earlier_name: what to call that.
    """
    escape = html.escape
    parts = [f"<h1>{escape(title)}</h1>"]
    if anomalies:
        parts.append('<h2 class="rejected">Anomalies</h2><ul>')
        parts += [f"<li>{escape(str(anomaly))}</li>" for anomaly in anomalies]
        parts.append("</ul>")
    else:
        parts.append('<p class="accepted">No anomalies.</p>')
    parts.append(f"<p>In brackets: {escape(earlier_name)}.</p><h2>By split</h2>")
    rows = ("images", "mean", "deviation", "duplicates", "leaked")
    splits = ("train", "test")
    parts.append("<table><tr><th></th><th>training</th><th>test</th></tr>")
    for row in rows:
        cells = "".join(
            f"<td>{statistics[split][row]:,} ({earlier[split][row]:,})</td>" for split in splits
        )
        parts.append(f"<tr><td>{row}</td>{cells}</tr>")
    parts.append(
        "</table><h2>By class</h2><p>Agreement is the share of images that lie nearest to the mean "
        "image of their own class.</p><table><tr><th>class</th><th>training images</th>"
        "<th>test images</th><th>agreement in training</th><th>in test</th></tr>"
    )
    for name in CLASS_NAMES:
        counts = "".join(
            f"<td>{statistics[s]['counts'][name]:,} ({earlier[s]['counts'].get(name, 0):,})</td>"
            for s in splits
        )
        shares = "".join(
            f"<td>{_share(statistics[s], name)} ({_share(earlier[s], name)})</td>" for s in splits
        )
        parts.append(f"<tr><td>{escape(name)}</td>{counts}{shares}</tr>")
    parts.append("</table><h2>Pixels</h2><p>Share of pixels by grey level, 0 to 255.</p>")
    for split in splits:
        parts.append(f"<h3>{split}</h3>{_bars(statistics[split]['histogram'])}")
    parts.append('<h2>Training images by class</h2><div class="grid">')
    for label, name in enumerate(CLASS_NAMES):
        for index in np.flatnonzero(labels == label)[:5].tolist():
            parts.append(_figure(images[index], f"training image {index}", escape(name)))
    parts.append("</div>")
    return page(title, "\n".join(parts))


def monitoring_report(
    facts: Mapping[str, Any], images: np.ndarray, probabilities: np.ndarray
) -> str:
    """What production images are like, against what the model that serves was made for.

    Args:
        facts: what `monitoring.compare` says of them, with `run_id`, `source` and `created_at`.
        images: uint8 (n, 28, 28); those that the model is least sure of are shown.
        probabilities: the model's answers, float (n, 10).
    """
    escape, reference = html.escape, facts["reference"]
    tiles = [
        (f"{index:.3f}", f"drift of {part}", "rejected" if part in facts["drifted"] else "accepted")
        for part, index in facts["drift"].items()
    ]
    tiles += [
        (f"{facts['images']:,}", f"images, {facts['labelled']:,} with labels", ""),
        (f"{facts['confidence']:.1%}", "mean confidence", ""),
    ]
    if facts["accuracy"] is not None:
        caption = f"accuracy ({reference['accuracy']:.4f} on the test images)"
        kind = "rejected" if "accuracy" in facts["drifted"] else "accepted"
        tiles.append((f"{facts['accuracy']:.4f}", caption, kind))
    verdict = (
        f"Drifted: {', '.join(facts['drifted'])}." if facts["drifted"] else "Nothing has drifted."
    )
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{share:.1%}</td><td>{reference['predicted'][name]:.1%}</td>"
        f"<td>{_known(facts['recall'], name)}</td><td>{_known(reference['recall'], name)}</td></tr>"
        for name, share in facts["predicted"].items()
    )
    confidence = probabilities.max(axis=1)
    figures = "".join(
        _figure(
            images[index],
            f"image {index}",
            f"{escape(CLASS_NAMES[int(probabilities[index].argmax())])} {confidence[index]:.0%}",
        )
        for index in np.argsort(confidence, kind="stable")[:25].tolist()
    )
    title = f"Production images against version {facts['version']}"
    return page(
        title,
        f"<h1>{escape(title)}</h1><p>{escape(facts['source'])}, {escape(facts['created_at'])}, run "
        f'{escape(facts["run_id"])}</p><div class="tiles">'
        + "".join(
            f'<div class="tile"><b class="{kind}">{escape(value)}</b><span>{escape(name)}</span></div>'
            for value, name, kind in tiles
        )
        + f"</div><p>{escape(verdict)} Above a population stability index of {facts['max_drift']:g} it "
        "counts as drift.</p><h2>By class</h2><table><tr><th>class</th><th>predicted</th>"
        f"<th>of the test images</th><th>recall</th><th>on the test images</th></tr>{rows}</table>"
        "<h2>Pixels</h2><p>Share of pixels by grey level, 0 to 255.</p>"
        f"<h3>production, mean {facts['mean']:.1f}</h3>{_bars(facts['histogram'])}"
        f"<h3>training, mean {reference['mean']:.1f}</h3>{_bars(reference['histogram'])}"
        f'<h2>The least sure answers</h2><div class="grid">{figures}</div>',
    )


def png(image: np.ndarray) -> bytes:
    """A grey image, uint8 (height, width), as a PNG file."""
    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(image))

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


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
        figures.append(_figure(images[index], f"test image {index}", caption, kind))
    return f'<div class="grid">{"".join(figures)}</div>'


def _figure(image: np.ndarray, name: str, caption: str, kind: str = "") -> str:
    source = base64.b64encode(png(image)).decode()
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{source}">'
        f'<figcaption class="{kind}">{caption}</figcaption></figure>'
    )


def page(title: str, body: str) -> str:
    """A page in the reports' style; `body` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def _known(recall: Mapping[str, float], name: str) -> str:
    return f"{recall[name]:.4f}" if name in recall else "not known"


def _share(split: Mapping[str, Any], name: str) -> str:
    return f"{split['agreement'][name]:.1%}" if name in split["agreement"] else "none"


def _bars(shares: Sequence[float]) -> str:
    """A histogram as a drawing; the highest bar fills it."""
    width, height = 400, 120
    step = width / len(shares)
    bars = "".join(
        f'<rect x="{i * step + 1:.1f}" y="{height * (1 - share / max(shares)):.1f}" '
        f'width="{step - 2:.1f}" height="{height * share / max(shares):.1f}" fill="var(--accent)">'
        f"<title>{share:.1%}</title></rect>"
        for i, share in enumerate(shares)
    )
    return (
        f'<svg viewBox="0 0 {width} {height + 20}" width="{width}" role="img">{bars}'
        f'<text x="0" y="{height + 15}">0</text>'
        f'<text x="{width - 25}" y="{height + 15}">255</text></svg>'
    )


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
        f"<tr><td>{html.escape(name)}</td><td>{_known(evaluation.recall, name)}</td>"
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
        return "<td>not known</td><td></td>"
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
    """What changed against the model that serves, image by image; of each kind ten are shown."""
    right, was_right = evaluation.predictions == labels, champion.predictions == labels
    better, worse = np.flatnonzero(right & ~was_right), np.flatnonzero(~right & was_right)
    parts = [
        f"<h2>Against {html.escape(champion_name or 'the champion')}</h2>"
        f"<p>Accuracy {champion.accuracy:.4f} then and {evaluation.accuracy:.4f} now: of {len(labels)} "
        f"images {len(better)} are newly right and {len(worse)} newly wrong, "
        f"{int((~right & ~was_right).sum())} are wrong in both.</p>"
    ]
    for kind, changed in (("right", better), ("wrong", worse)):
        if len(changed):
            first = changed[:10].tolist()
            parts.append(f"<h3>Newly {kind}</h3>{_grid(first, images, labels, evaluation)}")
    return "".join(parts)


def _versions(versions: Sequence[tuple[Mapping[str, Any], str]]) -> str:
    """Accuracy from version to version, and what sets them apart."""
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
        f"<figure style='display:inline-block'>{_curve(accuracies)}"
        "<figcaption>test accuracy, by version</figcaption></figure>"
        "<table><tr><th>version</th><th>test accuracy</th><th>lowest recall</th><th>reason</th>"
        f"<th>made</th><th>champion since</th></tr>{''.join(rows)}</table>"
    )


def _curves(history: Sequence[Mapping[str, float]]) -> str:
    """Loss and accuracy over epochs, as one drawing each."""
    return "".join(
        f"<figure style='display:inline-block'>{_curve([float(e[name]) for e in history])}"
        f"<figcaption>{name} while training, by epoch</figcaption></figure>"
        for name in ("loss", "accuracy")
    )


def _curve(values: Sequence[float]) -> str:
    width, height, left, bottom = 400, 180, 45, 20
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (width - left - 10) / max(1, len(values) - 1)
    points = [
        (left + i * step, 10 + (height - bottom - 10) * (1 - (v - low) / span))
        for i, v in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--accent)"/>' for x, y in points
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">'
        f'<text x="0" y="14">{high:.3f}</text><text x="0" y="{height - bottom}">{low:.3f}</text>'
        f'<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="2"/>{dots}'
        f'<text x="{left}" y="{height - 2}">1</text>'
        f'<text x="{width - 20}" y="{height - 2}">{len(values)}</text></svg>'
    )
