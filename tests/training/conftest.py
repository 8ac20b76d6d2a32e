"""A small, learnable data set in the form of Fashion-MNIST."""

import numpy as np
import pytest

from fashion_mnist import data
from sandbox import Sandbox


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A directory with four IDX files; each class is a bright bar at another height."""
    folder = tmp_path_factory.mktemp("idx")
    chance = np.random.default_rng(0)
    for part, count in (("train", 600), ("t10k", 200)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = chance.integers(0, 60, (count, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 2 : 2 * label + 6, 4:24] = 220
        data.write_idx(folder / data.FILES[f"{part}-images"], images)
        data.write_idx(folder / data.FILES[f"{part}-labels"], labels)
    return folder


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """An address on the sandbox's S3 server and its endpoint; the keys are in the environment."""
    with Sandbox(tmp_path / "sandbox", execute=False) as sandbox:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", sandbox.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", sandbox.secret_key)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield "s3://mlpipeline/models/x", sandbox.s3_url
