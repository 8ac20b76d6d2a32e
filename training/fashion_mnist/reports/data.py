"""Report on a data set."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.reports.page import bars, figure, page


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
    """Return an HTML report on a data set, compared with an earlier one.

    Args:
        title: heading.
        statistics: statistics of the data set, see `statistics.compute`.
        anomalies: anomalies, each of which prints as a sentence.
        images: uint8 (n, 28, 28), training images, of which the first of each class are shown.
        labels: uint8 (n,), their labels.
        earlier: statistics of the earlier data set.
        earlier_name: name of the earlier data set.
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
        "</table><h2>By class</h2><p>Agreement is the share of images that are nearest to the mean "
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
    parts.append("</table><h2>Pixels</h2><p>Share of pixels by gray level, 0 to 255.</p>")
    for split in splits:
        parts.append(f"<h3>{split}</h3>{bars(statistics[split]['histogram'])}")
    parts.append('<h2>Training images by class</h2><div class="grid">')
    for label, name in enumerate(CLASS_NAMES):
        for index in np.flatnonzero(labels == label)[:5].tolist():
            parts.append(figure(images[index], f"training image {index}", escape(name)))
    parts.append("</div>")
    return page(title, "\n".join(parts))


def _share(split: Mapping[str, Any], name: str) -> str:
    return f"{split['agreement'][name]:.1%}" if name in split["agreement"] else "none"
