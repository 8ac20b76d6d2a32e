"""Make text from outside safe to show.

Juju's hook tools take text as program arguments. They fail on NUL, on unpaired surrogates and on
arguments above 128 KiB, and terminals interpret control characters.
"""

from __future__ import annotations

import re

# Control characters other than tab and newline, and unpaired surrogates.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")


def printable(text: str, limit: int) -> str:
    """Return the text with � for unprintable characters, truncated with an ellipsis.

    Args:
        text: Text from anywhere.
        limit: Number of characters at most, each of up to 4 bytes.
    """
    cleaned = _UNFIT.sub("\ufffd", text)
    return cleaned if len(cleaned) <= limit else f"{cleaned[: limit - 1]}\u2026"


def single_line(text: str, limit: int) -> str:
    """Return printable text as one line, with one space between words."""
    return printable(" ".join(text.split()), limit)
