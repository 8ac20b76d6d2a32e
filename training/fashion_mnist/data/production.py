"""Images from production, and the labels beside them."""

from __future__ import annotations

import dataclasses
import io
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import obstore

from fashion_mnist import data
from fashion_mnist.data.errors import DataError
from fashion_mnist.storage import open_store

# More would hide what is new among what is old; fewer tell less about each class.
MAX_IMAGES = 10_000
# What reading an array raises where it is none, or none of a size that fits.
_DAMAGED = (
    *(EOFError, KeyError, MemoryError, OSError, RuntimeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images from production.

    Attributes:
        images: uint8 (n, 28, 28), as the model is given them.
        labels: int (n,), 0 to 9, or -1 where the label is not known.
        files: the names of the objects that they came from, the newest first.
    """

    images: np.ndarray
    labels: np.ndarray
    files: list[str]


def load(source: str, s3_endpoint: str = "", *, max_images: int = MAX_IMAGES) -> Batch:
    """Read the newest images under a prefix, and the labels that lie beside them.

    Images are IDX files (NAME-idx3-ubyte) and .npy of uint8 (n, 28, 28), or .npz with an array
    `images` and, where they are known, `labels`; each may be gzipped (.gz). Labels of other files are
    in one of the same name with `labels` for `images`, and idx1 for idx3. Anything else is passed over.

    Args:
        source: s3://bucket/prefix or a directory.
        s3_endpoint: of the S3 server.
        max_images: the newest that are read; older ones are left out. Of a file with more than fit
            its last are taken, since who adds to a file does so at its end.

    Raises:
        DataError: there are no images, or a file is not what its name says; the message names it.
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
            if kind and not _is_of_labels(path, kind):
                labels_path = "" if kind == "npz" else paths.get(_labels_of(path), "")
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
            f"{source} cannot be read ({first_line[:200]}); see that it is there"
        ) from error
    if not batches:
        raise DataError(
            f"{source} has no images: put IDX files (NAME-idx3-ubyte), .npy or .npz there, uint8 "
            f"(n, {data.SIDE}, {data.SIDE})",
            "counts",
        )
    images, labels, files = zip(*batches, strict=True)
    return Batch(np.concatenate(images), np.concatenate(labels), list(files))


def _stem(path: str) -> str:
    return path.removesuffix(".gz")


def _kind(path: str) -> str:
    """The form of a file, one of idx, npy and npz; empty where its name is of no such."""
    name = PurePosixPath(_stem(path)).name
    if name.endswith((".npy", ".npz")):
        return name[-3:]
    return "idx" if name.endswith(("idx3-ubyte", "idx1-ubyte", ".idx3", ".idx1")) else ""


def _is_of_labels(path: str, kind: str) -> bool:
    """Whether a file has the labels of another one; an .npz has its own beside its images."""
    return kind != "npz" and "labels" in PurePosixPath(path).name


def _labels_of(path: str) -> str:
    folder, name = PurePosixPath(_stem(path)).parent, PurePosixPath(_stem(path)).name
    labels_name = name.replace("images", "labels").replace("idx3", "idx1")
    return (folder / labels_name).as_posix() if labels_name != name else ""


def _read(
    store: Any, source: str, path: str, kind: str, labels_path: str
) -> tuple[np.ndarray, np.ndarray]:
    """The images of a file, uint8 (n, 28, 28), and their labels, -1 where they are not known."""
    location = f"{source}/{path}"
    arrays = _arrays(store, source, path, kind)
    if "images" not in arrays:
        raise DataError(f"{location}: it has no array images; name it so", "format")
    images, labels = arrays["images"], arrays.get("labels")
    if images.dtype != np.uint8:
        raise DataError(
            f"{location}: its images are {images.dtype}; give raw pixels, uint8, 0 to 255",
            "dtype",
        )
    if images.ndim != 3 or images.shape[1:] != (data.SIDE, data.SIDE) or not len(images):
        raise DataError(
            f"{location}: its images are {images.shape}; they must be (n, {data.SIDE}, {data.SIDE})",
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
            f"must be whole numbers ({len(images)},)",
            "counts",
        )
    if labels.min() < -1 or labels.max() >= data.CLASSES:
        raise DataError(
            f"{location}: its labels go from {labels.min()} to {labels.max()}; they must be 0 to "
            f"{data.CLASSES - 1}, or -1 where they are not known",
            "label-range",
        )
    return images, labels.astype(int)


def _arrays(
    store: Any, source: str, path: str, kind: str, *, labels: bool = False
) -> dict[str, np.ndarray]:
    """The arrays in a file, as `images` and `labels`."""
    location = f"{source}/{path}"
    response = obstore.get(store, path)
    data.check_size(response.meta["size"], location)
    content = data.decompress(bytes(response.bytes()), location)
    try:
        if kind == "idx":
            array = data.parse_idx(content, location, dimensions=1 if labels else 3)
            return {"labels" if labels else "images": array}
        if kind == "npy":
            array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
            return {"labels" if labels else "images": array}
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            data.check_size(sum(member.file_size for member in members.infolist()), location)
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        return {name: loaded[name] for name in ("images", "labels") if name in loaded.files}
    except DataError:
        raise
    except _DAMAGED as error:
        first_line = (str(error).strip().splitlines() or [repr(error)])[0]
        raise DataError(
            f"{location}: truncated or damaged ({first_line[:200]}); put it there again",
            "truncated",
        ) from error
