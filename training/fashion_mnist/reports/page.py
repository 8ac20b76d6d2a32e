"""The page, images and charts that all reports share: one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

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


def png(image: np.ndarray) -> bytes:
    """Return a grayscale image, uint8 (height, width), as the content of a PNG file."""
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


def figure(image: np.ndarray, name: str, caption: str, kind: str = "") -> str:
    """Return an image with its caption as HTML.

    Args:
        image: uint8 (height, width).
        name: alternative text.
        caption: HTML below the image.
        kind: CSS class of the caption.
    """
    source = base64.b64encode(png(image)).decode()
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{source}">'
        f'<figcaption class="{kind}">{caption}</figcaption></figure>'
    )


def page(title: str, body: str) -> str:
    """Return an HTML page in the style of the reports.

    Args:
        title: title as text.
        body: body as HTML.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def known(recall: Mapping[str, float], name: str) -> str:
    """Return the recall of a class as text."""
    return f"{recall[name]:.4f}" if name in recall else "unknown"


def bars(shares: Sequence[float]) -> str:
    """Return a histogram as SVG, scaled to its highest bar."""
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


def curve(values: Sequence[float]) -> str:
    """Return values as a line chart in SVG, scaled from minimum to maximum."""
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
