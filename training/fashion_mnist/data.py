"""The Fashion-MNIST data set: four IDX files, found or downloaded, and checked.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", https://github.com/zalandoresearch/fashion-mnist. The
format is that of http://yann.lecun.com/exdb/mnist: a magic number, the dimensions, then the bytes.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import math
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

OFFICIAL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = {
    "train-images": "train-images-idx3-ubyte.gz",
    "train-labels": "train-labels-idx1-ubyte.gz",
    "t10k-images": "t10k-images-idx3-ubyte.gz",
    "t10k-labels": "t10k-labels-idx1-ubyte.gz",
}
SPLITS = {name: "train" if name.startswith("train") else "test" for name in FILES}
# Of the decompressed content: the same in every packaging of the files.
SHA256 = {
    "train-images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
# Bytes of a digest that is kept.
_PACKED = 8
SIDE = 28
CLASSES = 10
# Of a file, as it is kept and decompressed; the largest of the published ones has 47 MB.
MAX_BYTES = 256 * 1024 * 1024
# Seconds between attempts at a download that got no answer, or a server error.
_DOWNLOAD_PAUSES = (1, 4)


class DataError(ValueError):
    """The data cannot be had, or is not what it should be.

    Attributes:
        kind: what is wrong with a file that was read: "truncated", "damaged", "size", "format",
            "shape", "counts", "label-range" or "checksum"; empty where it could not be had at all.
        split: "train" or "test"; empty where that is not known.
    """

    def __init__(self, message: str, kind: str = "", split: str = ""):
        super().__init__(message)
        self.kind = kind
        self.split = split


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
            content, etag = _content(source, file, s3_endpoint, cache)
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
                _write(cache / file, content)
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
    image = _item(source, FILES["t10k-images"], number, (SIDE, SIDE))
    return image, int(_item(source, FILES["t10k-labels"], number, ()))


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
    path.write_bytes(gzip.compress(idx(array), 6, mtime=0))


def idx(array: np.ndarray) -> bytes:
    """An IDX file's content of uint8 of any shape; see `parse_idx`."""
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def digests(images: np.ndarray, size: int = 16) -> list[bytes]:
    """BLAKE2b of each image of uint8 (n, 28, 28), by which equal ones are found.

    Args:
        images: uint8 (n, 28, 28).
        size: of a digest in bytes. Two of a million different images share one of 8 bytes once in forty
            million times.
    """
    return [hashlib.blake2b(image.tobytes(), digest_size=size).digest() for image in images]


def pack_digests(images: np.ndarray) -> bytes:
    """By which `are_among` knows images again: the digests of 8 bytes each, distinct and sorted."""
    return b"".join(sorted(set(digests(images, _PACKED))))


def are_among(images: np.ndarray, packed: bytes) -> np.ndarray:
    """Which images (n, 28, 28) are among those that `pack_digests` was given: bool (n,)."""
    # As numbers, since numpy drops zeros at the end of bytes.
    own = np.frombuffer(b"".join(digests(images, _PACKED)), ">u8")
    return np.isin(own, np.frombuffer(packed, ">u8"))


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


def _item(directory: str, file: str, number: int, shape: tuple[int, ...]) -> np.ndarray:
    """One item of an IDX file, of this shape."""
    path = _find(directory, file)
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


def _find(directory: str, file: str) -> Path:
    for path in (Path(directory) / file, Path(directory) / file.removesuffix(".gz")):
        if path.is_file():
            return path
    raise DataError(
        f"{directory}/{file} is not there; install Debian's dataset-fashion-mnist, or name a "
        "directory, an address or s3://BUCKET/PREFIX that has the four files"
    )


def _content(source: str, file: str, s3_endpoint: str, cache: Path | None) -> tuple[bytes, str]:
    """A file's bytes, and what its server calls this version of it; empty where nobody does."""
    url = f"{source}/{file}"
    if source.startswith("s3://"):
        return _from_s3(source, file, s3_endpoint)
    if source.startswith(("http://", "https://")):
        # The files of other addresses have the same names.
        cached = cache / file if cache is not None and source == OFFICIAL else None
        if cached is not None and cached.is_file():
            return _read(cached), ""
        return _download(url)
    return _read(_find(source, file)), ""


def _download(url: str) -> tuple[bytes, str]:
    # Half of the time that a prediction takes would go into these two.
    import http.client
    import urllib.error
    import urllib.request

    for pause in (*_DOWNLOAD_PAUSES, None):
        try:
            with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 - http(s) only
                content = response.read(MAX_BYTES + 1)
                etag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        except (OSError, http.client.HTTPException) as error:  # noqa: PERF203 - three rounds
            is_refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if pause is None or is_refused:
                raise DataError(
                    f"{url} cannot be downloaded ({error}); name another source, or install "
                    "Debian's dataset-fashion-mnist"
                ) from error
            time.sleep(pause)
        else:
            check_size(len(content), url)
            return content, etag
    raise AssertionError("unreachable")


def _from_s3(source: str, file: str, endpoint: str) -> tuple[bytes, str]:
    import obstore

    from fashion_mnist.storage import open_store

    try:
        response = obstore.get(open_store(source, endpoint), file)
        check_size(response.meta["size"], f"{source}/{file}")
        return bytes(response.bytes()), response.meta["e_tag"] or ""
    except (FileNotFoundError, obstore.exceptions.BaseError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(
            f"{source}/{file} cannot be read ({first_line[:200]}); upload it there"
        ) from error


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


def _read(path: Path) -> bytes:
    check_size(path.stat().st_size, str(path))
    return path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, so that a cache never holds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
