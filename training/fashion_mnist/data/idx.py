"""IDX files, as http://yann.lecun.com/exdb/mnist describes them: a magic number, dimensions, bytes."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from fashion_mnist.data.errors import DataError
from fashion_mnist.data.sources import find

# Of a file, as it is kept and decompressed; the largest of the published ones has 47 MB.
MAX_BYTES = 256 * 1024 * 1024


def parse_idx(raw: bytes, name: str, *, dimensions: int) -> np.ndarray:
    """An IDX file's content as uint8 of its own shape.

    Raises:
        DataError: another magic number, or more or fewer bytes than it announces.
    """
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    if raw[:4] != magic:
        raise DataError(
            f"{name}: begins with {raw[:4].hex() or 'nothing'}, and an IDX file of unsigned bytes in "
            f"{dimensions} dimension(s) with {magic.hex()}; see that the four files are not mixed up",
            "format",
        )
    if len(raw) < header:
        raise DataError(f"{name}: ends within its header; fetch it again", "truncated")
    shape = np.frombuffer(raw, ">u4", count=dimensions, offset=4).astype(int).tolist()
    if len(raw) - header != math.prod(shape):
        raise DataError(
            f"{name}: announces {shape}, {math.prod(shape)} bytes, and has {len(raw) - header}; "
            "it is truncated or damaged: fetch it again",
            "truncated",
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write uint8 of any shape as a gzipped IDX file, the same bytes each time."""
    path.write_bytes(gzip.compress(encode_idx(array), 6, mtime=0))


def encode_idx(array: np.ndarray) -> bytes:
    """An IDX file's content of uint8 of any shape; see `parse_idx`."""
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def read_item(directory: str, file: str, number: int, shape: tuple[int, ...]) -> np.ndarray:
    """One item of an IDX file, of this shape."""
    path = find(directory, file)
    header = 8 + 4 * len(shape)
    size = math.prod(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
            start = content.read(header)
            dimensions = np.frombuffer(start.ljust(header), ">u4", offset=4).tolist()
            if start[:4] != bytes([0, 0, 8, 1 + len(shape)]) or tuple(dimensions[1:]) != shape:
                raise DataError(f"{path} is no IDX file of items {shape}; fetch it again", "format")
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
    """What a gzip file holds, or the content itself where it is none; no more memory than MAX_BYTES.

    Raises:
        DataError: it is truncated, damaged, or holds more than MAX_BYTES.
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
    """See that a file is not larger than what is read at all.

    Raises:
        DataError: it has more bytes than MAX_BYTES.
    """
    if size > MAX_BYTES:
        raise DataError(
            f"{name}: it has more than {MAX_BYTES} bytes, the most that is read; use smaller files",
            "size",
        )
