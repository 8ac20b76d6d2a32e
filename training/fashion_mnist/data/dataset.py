"""The Fashion-MNIST data set: four IDX files, found or downloaded, and checked.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", https://github.com/zalandoresearch/fashion-mnist. The
format is that of http://yann.lecun.com/exdb/mnist: a magic number, the dimensions, then the bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fashion_mnist.data.errors import DataError
from fashion_mnist.data.idx import decompress, parse_idx, read_item
from fashion_mnist.data.sources import DEBIAN, FILES, OFFICIAL, read_content, write_whole

SPLITS = {name: "train" if name.startswith("train") else "test" for name in FILES}
# Of the decompressed content: the same in every packaging of the files.
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
    """Images and labels to train on and to judge by.

    Attributes:
        train_images: uint8 (n, 28, 28), 0 is background, 255 full ink.
        train_labels: uint8 (n,), 0 to 9, see CLASS_NAMES.
        test_images: uint8 (m, 28, 28).
        test_labels: uint8 (m,).
        source: where it came from.
        sha256: of each file's decompressed content, hexadecimal, by the file's short name.
        etags: what the server that a file came from calls this version of it, by the file's name: the
            ETag (RFC 9110), or else Last-Modified; of a directory there are none.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str
    sha256: Mapping[str, str]
    etags: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_official(self) -> bool:
        """Whether this is the data set as it was published, bit for bit."""
        return dict(self.sha256) == SHA256


def load(source: str = "", *, s3_endpoint: str = "", cache: Path | None = None) -> Dataset:
    """Read and check the four files.

    Args:
        source: a directory, an http(s):// address under which the files lie, or s3://bucket/prefix
            (keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); empty takes Debian's package
            dataset-fashion-mnist when it is installed, else the official address.
        s3_endpoint: http://host:port of the S3 server; empty is the library's default.
        cache: a directory for what is downloaded; files in it are used when they are whole.

    Returns:
        the data set. One with other content than the official one is read too (see is_official),
        as long as it has the same form.

    Raises:
        DataError: a file is missing, truncated, altered in a way that shows, or of another shape;
            the message names the file and what to do.
    """
    if not source:
        source = str(DEBIAN) if DEBIAN.is_dir() else OFFICIAL
    official = source == OFFICIAL
    arrays: dict[str, np.ndarray] = {}
    sums: dict[str, str] = {}
    etags: dict[str, str] = {}
    name = next(iter(FILES))  # whose split an error is of
    try:
        for name, file in FILES.items():
            content, etag = read_content(source, file, s3_endpoint, cache)
            etags |= {file: etag} if etag else {}
            raw = decompress(content, f"{source}/{file}")
            sums[name] = hashlib.sha256(raw).hexdigest()
            if official and sums[name] != SHA256[name]:
                raise DataError(
                    f"{source}/{file}: its sha256 {sums[name][:12]}... is not the published "
                    f"{SHA256[name][:12]}...; it was altered on the way: try again, or use another "
                    "source",
                    "checksum",
                )
            dimensions = 3 if "images" in name else 1
            arrays[name] = parse_idx(raw, f"{source}/{file}", dimensions=dimensions)
            if official and cache is not None:
                write_whole(cache / file, content)
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
    """One test image, uint8 (28, 28), and its label.

    From a directory no more is read than is needed, and checksums are not looked at.

    Args:
        source: see `load`.
        number: which, from 0.

    Raises:
        DataError: the data cannot be had, or have another form.
        ValueError: there is no such image.
    """
    source = source or (str(DEBIAN) if DEBIAN.is_dir() else OFFICIAL)
    if "://" in source:
        dataset = load(source)
        if not 0 <= number < len(dataset.test_images):
            raise ValueError(f"there are test images 0 to {len(dataset.test_images) - 1}")
        return dataset.test_images[number], int(dataset.test_labels[number])
    image = read_item(source, FILES["t10k-images"], number, (SIDE, SIDE))
    return image, int(read_item(source, FILES["t10k-labels"], number, ()))


def save(dataset: Dataset, directory: Path) -> None:
    """Keep a data set as one file in a directory (an artifact between steps)."""
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(
        directory / "dataset.npz",
        train_images=dataset.train_images,
        train_labels=dataset.train_labels,
        test_images=dataset.test_images,
        test_labels=dataset.test_labels,
        source=np.array(dataset.source),
        sha256=_pairs(dataset.sha256),
        etags=_pairs(dataset.etags),
    )


def load_saved(directory: Path) -> Dataset:
    """Read what `save` wrote.

    Raises:
        DataError: there is no such file.
    """
    path = directory / "dataset.npz"
    if not path.is_file():
        raise DataError(f"{path} is not there; run the step that ingests the data first")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    mappings = {
        field: dict(str(pair).split("=", 1) for pair in arrays.pop(field))
        for field in ("sha256", "etags")
    }
    return Dataset(**{**arrays, "source": str(arrays["source"]), **mappings})


def _pairs(mapping: Mapping[str, str]) -> np.ndarray:
    return np.array([f"{name}={value}" for name, value in mapping.items()], np.str_)


def _check(images: np.ndarray, labels: np.ndarray, name: str) -> None:
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{name}: its images are {images.shape[1]} x {images.shape[2]}, and the model takes "
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
            f"{name}: a label is {labels.max()}, and there are classes 0 to {CLASSES - 1}; "
            "correct the labels",
            "label-range",
        )
