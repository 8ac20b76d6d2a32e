"""IDX files: a magic number, the dimensions, then the bytes (http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from fashion_mnist.data.errors import DataError

# Size limit of a file, both compressed and decompressed. The largest published file has 47 MB.
MAX_BYTES = 256 * 1024 * 1024


def parse_idx(raw: bytes, name: str, *, dimensions: int) -> np.ndarray:
    """Return the content of an IDX file as uint8.

    Args:
        raw: content of the file, decompressed.
        name: name of the file in error messages.
        dimensions: expected number of dimensions.

    Raises:
        DataError: The magic number or the length is wrong.
    """
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    if raw[:4] != magic:
        raise DataError(
            f"{name}: begins with {raw[:4].hex() or 'nothing'}; an IDX file of unsigned bytes with "
            f"{dimensions} dimension(s) begins with {magic.hex()}; check that the four files are not "
            "mixed up",
            "format",
        )
    if len(raw) < header:
        raise DataError(f"{name}: ends within its header; fetch it again", "truncated")
    shape = np.frombuffer(raw, ">u4", count=dimensions, offset=4).astype(int).tolist()
    if len(raw) - header != math.prod(shape):
        raise DataError(
            f"{name}: its header announces {shape}, {math.prod(shape)} bytes, but it has "
            f"{len(raw) - header}; the file is truncated or damaged: fetch it again",
            "truncated",
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write uint8 of any shape as a gzipped IDX file, with the same bytes each time."""
    path.write_bytes(gzip.compress(encode_idx(array), 6, mtime=0))


def encode_idx(array: np.ndarray) -> bytes:
    """Return uint8 of any shape as the content of an IDX file; see `parse_idx`."""
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def read_item(path: Path, number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Read one item of an IDX file, without reading what follows it.

    Args:
        path: the file, gzipped if its name ends with .gz.
        number: index of the item.
        shape: expected shape of an item.

    Returns:
        uint8 of this shape.

    Raises:
        DataError: The file is truncated, damaged, or has items of another shape.
        ValueError: The file has no item with this number.
    """
    header = 8 + 4 * len(shape)
    size = math.prod(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
            start = content.read(header)
            dimensions = np.frombuffer(start.ljust(header), ">u4", offset=4).tolist()
            if start[:4] != bytes([0, 0, 8, 1 + len(shape)]) or tuple(dimensions[1:]) != shape:
                raise DataError(
                    f"{path} is not an IDX file of items {shape}; fetch it again", "format"
                )
            if not 0 <= number < dimensions[0]:
                raise ValueError(f"there are test images 0 to {dimensions[0] - 1}, not {number}")
            content.seek(header + number * size)
            item = content.read(size)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: truncated or damaged ({error}); fetch it again") from error
    if len(item) < size:
        raise DataError(f"{path}: truncated; fetch it again", "truncated")
    return np.frombuffer(item, np.uint8).reshape(shape)


def decompress(content: bytes, name: str) -> bytes:
    """Decompress gzip, and return anything else unchanged.

    Args:
        content: content of a file.
        name: name of the file in error messages.

    Raises:
        DataError: The content is truncated or damaged, or exceeds MAX_BYTES when decompressed.
    """
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            raw = file.read(MAX_BYTES + 1)
    except EOFError as error:
        raise DataError(f"{name}: truncated ({error}); fetch it again", "truncated") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{name}: damaged ({error}); fetch it again", "damaged") from error
    check_size(len(raw), name)
    return raw


def check_size(size: int, name: str) -> None:
    """Check that a file does not exceed the size limit.

    Args:
        size: bytes.
        name: name of the file in error messages.

    Raises:
        DataError: It has more than MAX_BYTES.
    """
    if size > MAX_BYTES:
        raise DataError(
            f"{name}: has more than {MAX_BYTES} bytes, the size limit; use smaller files", "size"
        )
