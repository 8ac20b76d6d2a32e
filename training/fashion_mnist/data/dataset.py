"""The Fashion-MNIST data set: find or download its four IDX files, check them, and keep them.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", https://github.com/zalandoresearch/fashion-mnist.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fashion_mnist.data.errors import DataError
from fashion_mnist.data.idx import decompress, parse_idx, read_item
from fashion_mnist.data.sources import (
    FILES,
    OFFICIAL,
    default_source,
    find,
    read_content,
    write_atomically,
)

SPLITS = {name: "train" if name.startswith("train") else "test" for name in FILES}
# Digests of the decompressed content, which is the same in every packaging of the files.
SHA256 = {
    "train-images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
SIDE = 28
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and labels for training and for evaluation."""

    train_images: np.ndarray
    """uint8 (n, 28, 28), 0 is background, 255 is full ink."""

    train_labels: np.ndarray
    """uint8 (n,), indices of CLASS_NAMES."""

    test_images: np.ndarray
    """uint8 (m, 28, 28)."""

    test_labels: np.ndarray
    """uint8 (m,)."""

    source: str
    """Where the files were read from."""

    sha256: Mapping[str, str]
    """Hexadecimal digest of each file's decompressed content, by the file's short name."""

    etags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """ETag (RFC 9110) or Last-Modified of each file, by its name. Empty for a directory."""

    @property
    def is_official(self) -> bool:
        """Whether these are the published files, bit for bit."""
        return dict(self.sha256) == SHA256


def load(source: str = "", *, s3_endpoint: str = "", cache: Path | None = None) -> Dataset:
    """Read and check the four files.

    Args:
        source: directory, http(s):// address above the files, or s3://bucket/prefix (credentials from
            AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY). Empty for Debian's package
            dataset-fashion-mnist if it is installed, else the official address.
        s3_endpoint: http://host:port of the S3 server, empty for the library's default.
        cache: directory for downloads, which are read from there the next time.

    Returns:
        the data set, which may differ in content from the published one (see `Dataset.is_official`).

    Raises:
        DataError: A file is missing, truncated, damaged, or has another shape. The message names the
            file and a remedy.
    """
    source = source or default_source()
    official = source == OFFICIAL
    arrays: dict[str, np.ndarray] = {}
    sums: dict[str, str] = {}
    etags: dict[str, str] = {}
    name = next(iter(FILES))  # the file that an error is about
    try:
        for name, file in FILES.items():
            content, etag = read_content(source, file, s3_endpoint, cache)
            etags |= {file: etag} if etag else {}
            raw = decompress(content, f"{source}/{file}")
            sums[name] = hashlib.sha256(raw).hexdigest()
            if official and sums[name] != SHA256[name]:
                raise DataError(
                    f"{source}/{file}: its sha256 is {sums[name][:12]}..., not the published "
                    f"{SHA256[name][:12]}...; it was altered on the way: try again, or use another "
                    "source",
                    "checksum",
                )
            dimensions = 3 if "images" in name else 1
            arrays[name] = parse_idx(raw, f"{source}/{file}", dimensions=dimensions)
            if official and cache is not None:
                write_atomically(cache / file, content)
        for name, file in FILES.items():
            if "images" in name:
                labels = arrays[name.replace("images", "labels")]
                _check(arrays[name], labels, f"{source}/{file}")
    except DataError as error:
        error.split = SPLITS[name]
        raise
    return Dataset(
        train_images=arrays["train-images"],
        train_labels=arrays["train-labels"],
        test_images=arrays["t10k-images"],
        test_labels=arrays["t10k-labels"],
        source=source,
        sha256=sums,
        etags=etags,
    )


def load_test_image(source: str = "", number: int = 0) -> tuple[np.ndarray, int]:
    """Return one test image, uint8 (28, 28), and its label.

    In a directory, this reads only what it needs and verifies no checksums.

    Args:
        source: see `load`.
        number: index of the image.

    Raises:
        DataError: The data cannot be read, or have another form.
        ValueError: There is no such image.
    """
    source = source or default_source()
    if "://" in source:
        dataset = load(source)
        if not 0 <= number < len(dataset.test_images):
            raise ValueError(f"there are test images 0 to {len(dataset.test_images) - 1}")
        return dataset.test_images[number], int(dataset.test_labels[number])
    image = read_item(find(source, FILES["t10k-images"]), number, (SIDE, SIDE))
    return image, int(read_item(find(source, FILES["t10k-labels"]), number, ()))


def save(dataset: Dataset, directory: Path) -> None:
    """Write a data set to a directory, as an artifact between steps."""
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(
        directory / "dataset.npz",
        train_images=dataset.train_images,
        train_labels=dataset.train_labels,
        test_images=dataset.test_images,
        test_labels=dataset.test_labels,
        source=np.array(dataset.source),
        sha256=_to_pairs(dataset.sha256),
        etags=_to_pairs(dataset.etags),
    )


def load_saved(directory: Path) -> Dataset:
    """Read a data set that `save` wrote.

    Raises:
        DataError: The directory has none.
    """
    path = directory / "dataset.npz"
    if not path.is_file():
        raise DataError(f"{path} does not exist; run the step that ingests the data first")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    mappings = {
        field: dict(str(pair).split("=", 1) for pair in arrays.pop(field))
        for field in ("sha256", "etags")
    }
    return Dataset(**{**arrays, "source": str(arrays["source"]), **mappings})


def _to_pairs(mapping: Mapping[str, str]) -> np.ndarray:
    return np.array([f"{name}={value}" for name, value in mapping.items()], np.str_)


def _check(images: np.ndarray, labels: np.ndarray, name: str) -> None:
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{name}: its images are {images.shape[1]} x {images.shape[2]}, but the model takes "
            f"{SIDE} x {SIDE}; use data of that size",
            "shape",
        )
    if len(images) == 0 or len(images) != len(labels):
        raise DataError(
            f"{name}: {len(images)} images and {len(labels)} labels; use files that belong together",
            "counts",
        )
    if labels.max() >= CLASSES:
        raise DataError(
            f"{name}: has a label {labels.max()}, but classes are 0 to {CLASSES - 1}; "
            "correct the labels",
            "label-range",
        )
