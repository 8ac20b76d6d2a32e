"""Read images from production, and their labels where they are known."""

from __future__ import annotations

import dataclasses
import io
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import obstore

from fashion_mnist.data.dataset import CLASSES, SIDE
from fashion_mnist.data.errors import DataError
from fashion_mnist.data.idx import check_size, decompress, parse_idx
from fashion_mnist.storage import open_store

# More images would hide what is new; fewer would say less about each class.
MAX_IMAGES = 10_000
# Errors of reading something that is not an array, or an array of an impossible size.
_DAMAGED = (
    *(EOFError, KeyError, MemoryError, OSError, RuntimeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images from production."""

    images: np.ndarray
    """uint8 (n, 28, 28), as the model receives them."""

    labels: np.ndarray
    """int (n,), 0 to 9, or -1 if unknown."""

    files: list[str]
    """Names of the objects that held the images, newest first."""


def load(source: str, s3_endpoint: str = "", *, max_images: int = MAX_IMAGES) -> Batch:
    """Read the newest images under a prefix, and the labels beside them.

    Images are IDX files (NAME-idx3-ubyte) or .npy of uint8 (n, 28, 28), or .npz with the array `images`
    and optionally `labels`; each may be gzipped (.gz). The labels of IDX and .npy files are in a file of
    the same name with `labels` for `images` and idx1 for idx3. All other files are ignored.

    Args:
        source: s3://bucket/prefix or a directory.
        s3_endpoint: http://host:port of the S3 server.
        max_images: limit; the newest images are read. Of a file that exceeds it, the last are taken,
            since new images are appended.

    Raises:
        DataError: There are no images, or a file is not what its name says. The message names it.
    """
    try:
        store = open_store(source, s3_endpoint)
        entries = [entry for page in obstore.list(store) for entry in page]
        entries.sort(key=lambda entry: (entry["last_modified"], entry["path"]), reverse=True)
        paths = {_stem(entry["path"]): entry["path"] for entry in entries}
        batches: list[tuple[np.ndarray, np.ndarray, str]] = []
        room = max_images
        for entry in entries:
            path = entry["path"]
            kind = _kind(path)
            if kind and not _is_labels(path, kind):
                labels_path = "" if kind == "npz" else paths.get(_labels_path(path), "")
                images, labels = _read(store, source, path, kind, labels_path)
                batches.append((images[-room:], labels[-room:], path))
                room -= len(batches[-1][0])
            if room <= 0:
                break
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        first_line = (str(error).strip().splitlines() or [repr(error)])[0]
        raise DataError(
            f"{source} cannot be read ({first_line[:200]}); check that it exists"
        ) from error
    if not batches:
        raise DataError(
            f"{source} has no images: put IDX files (NAME-idx3-ubyte), .npy or .npz there, uint8 "
            f"(n, {SIDE}, {SIDE})",
            "counts",
        )
    images, labels, files = zip(*batches, strict=True)
    return Batch(np.concatenate(images), np.concatenate(labels), list(files))


def _stem(path: str) -> str:
    return path.removesuffix(".gz")


def _kind(path: str) -> str:
    """Return the format of a file by its name: "idx", "npy", "npz", or empty for any other."""
    name = PurePosixPath(_stem(path)).name
    if name.endswith((".npy", ".npz")):
        return name[-3:]
    return "idx" if name.endswith(("idx3-ubyte", "idx1-ubyte", ".idx3", ".idx1")) else ""


def _is_labels(path: str, kind: str) -> bool:
    """Return whether a file holds the labels of another; an .npz has its own beside its images."""
    return kind != "npz" and "labels" in PurePosixPath(path).name


def _labels_path(path: str) -> str:
    """Return the path of an image file's labels without .gz, empty if the name implies none."""
    folder, name = PurePosixPath(_stem(path)).parent, PurePosixPath(_stem(path)).name
    labels_name = name.replace("images", "labels").replace("idx3", "idx1")
    return (folder / labels_name).as_posix() if labels_name != name else ""


def _read(
    store: Any, source: str, path: str, kind: str, labels_path: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of a file, uint8 (n, 28, 28), and their labels, int (n,), -1 if unknown."""
    location = f"{source}/{path}"
    arrays = _arrays(store, source, path, kind)
    if "images" not in arrays:
        raise DataError(f"{location}: has no array named images; name it so", "format")
    images, labels = arrays["images"], arrays.get("labels")
    if images.dtype != np.uint8:
        raise DataError(
            f"{location}: its images are {images.dtype}; use raw pixels, uint8, 0 to 255",
            "dtype",
        )
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or not len(images):
        raise DataError(
            f"{location}: its images are {images.shape}; they must be (n, {SIDE}, {SIDE})",
            "shape",
        )
    if labels_path and labels is None:
        location = f"{source}/{labels_path}"
        labels = _arrays(store, source, labels_path, _kind(labels_path), labels=True)["labels"]
    if labels is None:
        return images, np.full(len(images), -1)
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise DataError(
            f"{location}: its labels are {labels.dtype} {labels.shape}, for {len(images)} images; they "
            f"must be integers ({len(images)},)",
            "counts",
        )
    if labels.min() < -1 or labels.max() >= CLASSES:
        raise DataError(
            f"{location}: its labels are {labels.min()} to {labels.max()}; they must be 0 to "
            f"{CLASSES - 1}, or -1 if unknown",
            "label-range",
        )
    return images, labels.astype(int)


def _arrays(
    store: Any, source: str, path: str, kind: str, *, labels: bool = False
) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name, "images" and "labels"."""
    location = f"{source}/{path}"
    response = obstore.get(store, path)
    check_size(response.meta["size"], location)
    content = decompress(bytes(response.bytes()), location)
    try:
        if kind == "idx":
            array = parse_idx(content, location, dimensions=1 if labels else 3)
            return {"labels" if labels else "images": array}
        if kind == "npy":
            array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
            return {"labels" if labels else "images": array}
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            check_size(sum(member.file_size for member in members.infolist()), location)
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        return {name: loaded[name] for name in ("images", "labels") if name in loaded.files}
    except DataError:
        raise
    except _DAMAGED as error:
        first_line = (str(error).strip().splitlines() or [repr(error)])[0]
        raise DataError(
            f"{location}: truncated or damaged ({first_line[:200]}); upload it again",
            "truncated",
        ) from error
