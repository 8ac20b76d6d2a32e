"""An operator's own image, as the action `predict` is given it: a PNG file, in base64."""

from __future__ import annotations

import base64
import itertools
import struct
import zlib
from typing import Any, cast

from errors import ParameterError
from k8s.inference_service import SIDE
from kfp_ops.text import single_line

# Characters of base64: ten times what such an image needs, so that there is room for what programs
# write beside it, and no more is unpacked than the unit has memory for.
LONGEST = 32768


def pixels(image: str) -> bytes:
    """Return the gray levels of an image: SIDE rows of SIDE bytes, 0 to 255.

    Colours become the luma of ITU-R 601, as in Pillow's `convert("L")`. What lies behind a
    transparent pixel is not known, and clothes on white are other images to the model than clothes
    on black, so no transparency is taken.

    Args:
        image: base64 of the file; white space in it does not matter.

    Raises:
        ParameterError: it is not base64, no PNG file, or of another size or kind.
    """
    # Imported here, since no other event and action looks at an image.
    import png  # pyright: ignore[reportMissingTypeStubs]

    if len(image) > LONGEST:
        raise ParameterError("image", f"{len(image)} characters", f"at most {LONGEST} characters")
    try:
        content = base64.b64decode("".join(image.split()), validate=True)
    except ValueError as error:
        raise ParameterError("image", image, "base64 of a PNG file") from error
    # What pypng ends in where a file is none, or is cut off.
    png_errors = (
        *(png.Error, zlib.error, struct.error, EOFError),
        *(AssertionError, AttributeError, LookupError, TypeError, ValueError),
    )
    reader = cast("Any", png.Reader)(bytes=content)
    try:
        reader.preamble()
        _check(reader)
        _, _, rows, _ = reader.asRGB8()
        # Behind an image of the right size there may be any number of rows.
        values = bytes(itertools.chain.from_iterable(itertools.islice(rows, SIDE + 1)))
    except ParameterError:
        raise
    except png_errors as error:
        raise ParameterError(
            "image",
            image,
            f"base64 of a PNG file that can be read ({single_line(repr(error), 100)})",
        ) from error
    if len(values) != 3 * SIDE * SIDE:
        raise ParameterError("image", f"{len(values) // 3} pixels", f"{SIDE * SIDE} pixels")
    return bytes(map(_luma, values[::3], values[1::3], values[2::3]))


def _check(reader: Any) -> None:
    """See to it that a PNG file, of which the header was read, is of the size and kind to read on."""
    if (reader.width, reader.height) != (SIDE, SIDE):
        size = f"{reader.width} x {reader.height}"
        raise ParameterError("image", size, f"a PNG file of {SIDE} x {SIDE} pixels")
    if reader.bitdepth > 8:
        raise ParameterError("image", f"{reader.bitdepth} bits", "a PNG file of 8 bits a channel")
    if reader.alpha or reader.trns:
        raise ParameterError("image", "one with some", "a PNG file without transparency")


def _luma(red: int, green: int, blue: int) -> int:
    """ITU-R 601-2, rounded as Pillow does."""
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
