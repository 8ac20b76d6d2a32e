"""Report on production images."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from fashion_mnist import CLASS_NAMES
from fashion_mnist.reports.page import bars, figure, known, page


def monitoring_report(
    facts: Mapping[str, Any], images: np.ndarray, probabilities: np.ndarray
) -> str:
    """Return an HTML report on production images, compared with the data of the champion.

    Args:
        facts: result of `monitor.compare`, with `run_id`, `source` and `created_at`.
        images: uint8 (n, 28, 28), of which those with the lowest confidence are shown.
        probabilities: predictions of the champion, float (n, 10).
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
    verdict = f"Drifted: {', '.join(facts['drifted'])}." if facts["drifted"] else "No drift."
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{share:.1%}</td><td>{reference['predicted'][name]:.1%}</td>"
        f"<td>{known(facts['recall'], name)}</td><td>{known(reference['recall'], name)}</td></tr>"
        for name, share in facts["predicted"].items()
    )
    confidence = probabilities.max(axis=1)
    figures = "".join(
        figure(
            images[index],
            f"image {index}",
            f"{escape(CLASS_NAMES[int(probabilities[index].argmax())])} {confidence[index]:.0%}",
        )
        for index in np.argsort(confidence, kind="stable")[:25].tolist()
    )
    title = f"Production images compared with version {facts['version']}"
    return page(
        title,
        f"<h1>{escape(title)}</h1><p>{escape(facts['source'])}, {escape(facts['created_at'])}, run "
        f'{escape(facts["run_id"])}</p><div class="tiles">'
        + "".join(
            f'<div class="tile"><b class="{kind}">{escape(value)}</b><span>{escape(name)}</span></div>'
            for value, name, kind in tiles
        )
        + f"</div><p>{escape(verdict)} A population stability index above {facts['max_drift']:g} "
        "counts as drift.</p><h2>By class</h2><table><tr><th>class</th><th>predicted</th>"
        f"<th>of the test images</th><th>recall</th><th>on the test images</th></tr>{rows}</table>"
        "<h2>Pixels</h2><p>Share of pixels by gray level, 0 to 255.</p>"
        f"<h3>production, mean {facts['mean']:.1f}</h3>{bars(facts['histogram'])}"
        f"<h3>training, mean {reference['mean']:.1f}</h3>{bars(reference['histogram'])}"
        f'<h2>Least confident predictions</h2><div class="grid">{figures}</div>',
    )
