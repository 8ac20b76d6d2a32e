"""Make text from outside fit to be shown.

Juju's tools take text as arguments of a program. They fail at a NUL, at half of a surrogate pair and at
arguments above 128 KiB, and terminals obey control characters.
"""

from __future__ import annotations

import re

# All control characters but tab and newline, and halves of characters.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")


def printable(text: str, limit: int) -> str:
    """Return the text with � for what cannot be shown, cut with an ellipsis.

    Args:
        text: Text from anywhere.
        limit: Number of characters at most, each of up to 4 bytes.
    """
    cleaned = _UNFIT.sub("\ufffd", text)
    return cleaned if len(cleaned) <= limit else f"{cleaned[: limit - 1]}\u2026"


def single_line(text: str, limit: int) -> str:
    """Return the same as one line, with one space between words."""
    return printable(" ".join(text.split()), limit)
