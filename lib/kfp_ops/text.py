"""Text from outside, made so that it can be shown: Juju's tools take it as arguments of a program.

They end in an error at a NUL, at half of a character and at an argument above 128 KiB, and terminals
obey control characters.
"""

from __future__ import annotations

import re

# All control characters but tab and newline, and halves of characters.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")


def printable(text: str, limit: int) -> str:
    """The text with � where there is what cannot be shown, cut with an ellipsis.

    Args:
        text: from anywhere.
        limit: characters that are returned at most, each of up to 4 bytes.
    """
    cleaned = _UNFIT.sub("\ufffd", text)
    return cleaned if len(cleaned) <= limit else f"{cleaned[: limit - 1]}\u2026"


def single_line(text: str, limit: int) -> str:
    """The same in one line, its words apart by one space."""
    return printable(" ".join(text.split()), limit)
