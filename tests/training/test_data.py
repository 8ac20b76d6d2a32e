"""Reading and checking the four data files."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import obstore
import pytest

from fashion_mnist import data
from fashion_mnist.data import idx
from fashion_mnist.storage import open_store

ROOT = Path(__file__).parents[2]
IMAGES, LABELS = data.FILES["train-images"], data.FILES["train-labels"]


@pytest.fixture
def copy(toy, tmp_path):
    shutil.copytree(toy, tmp_path / "idx")
    return tmp_path / "idx"


def test_files_are_read_with_their_checksums(toy):
    dataset = data.load(str(toy))
    assert dataset.train_images.shape == (600, 28, 28)
    assert dataset.test_labels.shape == (200,)
    assert dataset.train_images.dtype == np.uint8
    assert set(dataset.sha256) == set(data.FILES)
    assert not dataset.is_official


def test_plain_files_are_read_like_gzipped_ones(copy):
    before = data.load(str(copy))
    for file in data.FILES.values():
        (copy / file.removesuffix(".gz")).write_bytes(gzip.decompress((copy / file).read_bytes()))
        (copy / file).unlink()
    assert data.load(str(copy)).sha256 == before.sha256


def test_saved_data_is_loaded_again(toy, tmp_path):
    dataset = data.load(str(toy))
    data.save(dataset, tmp_path / "artifact")
    reloaded = data.load_saved(tmp_path / "artifact")
    assert np.array_equal(reloaded.train_images, dataset.train_images)
    assert (reloaded.source, reloaded.sha256) == (dataset.source, dataset.sha256)


def damage(copy, file, change):
    path = copy / file
    raw = bytearray(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(bytes(change(raw))))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (IMAGES, lambda raw: raw[:-100], "truncated or damaged"),
        (IMAGES, lambda raw: raw + b"x", "truncated or damaged"),
        (IMAGES, lambda raw: raw[:10], "ends within its header"),
        (IMAGES, lambda raw: b"", "begins with nothing"),
        (IMAGES, lambda raw: b"\x00\x00\x0d\x03" + raw[4:], "begins with 00000d03"),
        (LABELS, lambda raw: raw[:8] + b"\x0a" + raw[9:], "has a label 10"),
        (LABELS, lambda raw: b"\0\0\x08\x01\0\0\0\x01\x05", "600 images and 1 labels"),
        (
            IMAGES,
            lambda raw: b"\0\0\x08\x03" + b"\0\0\x02\x58\0\0\0\x0e\0\0\0\x38" + raw[16:],
            "14 x 56",
        ),
    ],
)
def test_each_damage_is_named_with_its_file(copy, file, change, message):
    damage(copy, file, change)
    with pytest.raises(data.DataError, match=message) as caught:
        data.load(str(copy))
    assert IMAGES in str(caught.value) or LABELS in str(caught.value)


def test_truncated_gzip_file_is_named(copy):
    path = copy / IMAGES
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(data.DataError, match="fetch it again"):
        data.load(str(copy))


def test_oversized_decompression_is_rejected_without_using_memory(copy):
    # GIVEN a file of 1.5 MB that decompresses to 1.5 GB
    with gzip.open(copy / IMAGES, "wb", 6) as file:
        for _ in range(1500):
            file.write(bytes(1_000_000))
    # THEN it is rejected by its size, in less memory than its content
    code = (
        "import re, sys; from fashion_mnist import data\n"
        "try: data.load(sys.argv[1])\n"
        "except data.DataError as error: print(error.kind, error.split, error)\n"
        # Not ru_maxrss, which includes the parent process.
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, copy],
        cwd=ROOT / "training",
        capture_output=True,
        text=True,
        check=True,
    )
    message, kilobytes = process.stdout.splitlines()
    assert message.startswith("size train ")
    assert f"{IMAGES}: has more than {idx.MAX_BYTES} bytes" in message
    assert int(kilobytes) < 700_000


@pytest.mark.parametrize("where", ["directory", "s3", "http"])
def test_too_large_file_is_not_read(copy, s3, httpserver, monkeypatch, where):
    # GIVEN the files in a directory, on an S3 server and on a web server
    address, endpoint = s3
    store = open_store(address, endpoint)
    for file in data.FILES.values():
        content = (copy / file).read_bytes()
        obstore.put(store, file, content)
        httpserver.expect_request(f"/{file}").respond_with_data(content)
    source = {"directory": str(copy), "s3": address, "http": httpserver.url_for("/").rstrip("/")}
    assert len(data.load(source[where], s3_endpoint=endpoint).train_images) == 600
    monkeypatch.setattr(idx, "MAX_BYTES", 100_000)
    with pytest.raises(data.DataError, match=f"{IMAGES}: has more than 100000 bytes") as caught:
        data.load(source[where], s3_endpoint=endpoint)
    assert caught.value.kind == "size"


def test_file_missing_in_the_bucket_is_named(s3):
    address, endpoint = s3
    with pytest.raises(data.DataError, match=f"{IMAGES} cannot be read .* upload it there"):
        data.load(f"{address}/nothing", s3_endpoint=endpoint)


def test_cache_is_used_for_the_official_address_only(toy, tmp_path, httpserver):
    # GIVEN a cache of files that are missing at the address
    for file in data.FILES.values():
        (tmp_path / file).write_bytes((toy / file).read_bytes())
    address = httpserver.url_for("/").rstrip("/")
    # THEN the address is requested, and the files are missing
    with pytest.raises(data.DataError, match="cannot be downloaded"):
        data.load(address, cache=tmp_path)
    # AND the cache replaces the official address, and its checksums are verified
    with pytest.raises(data.DataError, match="not the published") as caught:
        data.load(data.OFFICIAL, cache=tmp_path)
    assert caught.value.kind == "checksum"


def test_labels_in_place_of_images_are_rejected(copy):
    shutil.copy(copy / LABELS, copy / IMAGES)
    with pytest.raises(data.DataError, match="not mixed up"):
        data.load(str(copy))


def test_missing_file_names_its_source(tmp_path):
    with pytest.raises(data.DataError, match="dataset-fashion-mnist"):
        data.load(str(tmp_path))


def test_missing_artifact_names_the_command(tmp_path):
    with pytest.raises(data.DataError, match="ingests the data first"):
        data.load_saved(tmp_path)


def test_download_is_read_and_a_missing_one_named(toy, httpserver):
    for file in data.FILES.values():
        httpserver.expect_request(f"/{file}").respond_with_data((toy / file).read_bytes())
    address = httpserver.url_for("/").rstrip("/")
    assert data.load(address).sha256 == data.load(str(toy)).sha256
    with pytest.raises(data.DataError, match="cannot be downloaded"):
        data.load(f"{address}/nowhere")


@pytest.mark.skipif(
    not data.DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_debian_package_has_the_official_data():
    assert data.load().is_official
