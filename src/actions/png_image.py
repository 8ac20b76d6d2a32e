"""Decode the image that an operator passes to the action `predict`: a PNG file in base64."""

from __future__ import annotations

import base64
import itertools
import struct
import zlib
from typing import Any, cast

import png  # pyright: ignore[reportMissingTypeStubs]

from errors import ParameterError
from k8s.inference_service import SIDE
from kfp_ops.text import single_line

# Maximum characters of base64. Ten times what the pixels need leaves room for metadata, and bounds the
# memory that decompression takes.
MAX_CHARACTERS = 32768


def pixels(image: str) -> bytes:
    """Return the gray levels of an image: SIDE rows of SIDE bytes, 0 to 255.

    Colors are converted to luma by ITU-R 601, as in Pillow's `convert("L")`. Transparency is rejected:
    the background is unknown, and the model sees clothes on white and on black as different images.

    Args:
        image: PNG file in base64; whitespace is ignored.

    Raises:
        ParameterError: It is not base64 of a PNG file, or its size or kind is wrong.
    """
    if len(image) > MAX_CHARACTERS:
        raise ParameterError(
            "image", f"{len(image)} characters", f"at most {MAX_CHARACTERS} characters"
        )
    try:
        content = base64.b64decode("".join(image.split()), validate=True)
    except ValueError as error:
        raise ParameterError("image", image, "base64 of a PNG file") from error
    # pypng raises any of these for an invalid or truncated file.
    png_errors = (
        *(png.Error, zlib.error, struct.error, EOFError),
        *(AssertionError, AttributeError, LookupError, TypeError, ValueError),
    )
    reader = cast("Any", png.Reader)(bytes=content)
    try:
        reader.preamble()
        _check(reader)
        _, _, rows, _ = reader.asRGB8()
        # The file may contain more rows than its header says.
        values = bytes(itertools.chain.from_iterable(itertools.islice(rows, SIDE + 1)))
    except ParameterError:
        raise
    except png_errors as error:
        raise ParameterError(
            "image",
            image,
            f"base64 of a valid PNG file ({single_line(repr(error), 100)})",
        ) from error
    if len(values) != 3 * SIDE * SIDE:
        raise ParameterError("image", f"{len(values) // 3} pixels", f"{SIDE * SIDE} pixels")
    return bytes(map(_luma, values[::3], values[1::3], values[2::3]))


def _check(reader: Any) -> None:
    """Check the size and kind in the header of a PNG file.

    Raises:
        ParameterError: The size or kind is wrong.
    """
    if (reader.width, reader.height) != (SIDE, SIDE):
        size = f"{reader.width} x {reader.height}"
        raise ParameterError("image", size, f"a PNG file of {SIDE} x {SIDE} pixels")
    if reader.bitdepth > 8:
        raise ParameterError(
            "image", f"{reader.bitdepth} bits", "a PNG file with 8 bits per channel"
        )
    if reader.alpha or reader.trns:
        raise ParameterError("image", "transparent", "a PNG file without transparency")


def _luma(red: int, green: int, blue: int) -> int:
    """Return the luma by ITU-R 601-2, rounded like Pillow."""
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
