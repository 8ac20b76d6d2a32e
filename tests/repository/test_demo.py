"""The demo without data, and with an S3 server without conditional writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import obstore
import pytest

from sandbox import Sandbox

ROOT = Path(__file__).parents[2]


def test_missing_data_shows_how_to_get_it(tmp_path):
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-W", "ignore", str(ROOT / "scripts" / "demo.py")]
    process = subprocess.run(
        [*command, "--data", "data", "--root", str(tmp_path / "state")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert f"{tmp_path}/data/train-images-idx3-ubyte.gz does not exist" in process.stdout
    assert "install Debian's dataset-fashion-mnist" in process.stdout
    assert "make demo DATA=FOLDER" in process.stdout
    assert "Traceback" not in process.stderr


PUBLISHED = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no dataset-fashion-mnist")
def test_model_is_promoted_without_conditional_writes(tmp_path):
    # GIVEN a user's kubeconfig, which the demo must not use
    (tmp_path / "theirs").write_text("apiVersion: v1\nkind: Config\n")
    command = [sys.executable, "-W", "ignore", str(ROOT / "scripts" / "demo.py")]
    options = ["--recipe", "quick", "--epochs", "1", "--s3-without-conditional-writes"]
    process = subprocess.run(
        [*command, *options, "--data", str(PUBLISHED), "--root", str(tmp_path / "state")],
        cwd=tmp_path,
        env={**os.environ, "KUBECONFIG": str(tmp_path / "theirs")},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-2000:]
    assert "champion: version " in process.stdout
    # AND charm and steps wrote through the ConfigMap that the registry names
    state = tmp_path / "state" / "sandbox"
    with Sandbox(state, execute=False, s3_without_conditional_writes=True) as sandbox:
        store = sandbox.objects("models/fashion-mnist")
        record = json.loads(bytes(obstore.get(store, "writes.json").bytes()))
        assert (record["method"], record["namespace"]) == ("kubernetes", "kubeflow")
        assert obstore.list(store, "champion").collect()
        assert not obstore.list(store, "pending").collect()
