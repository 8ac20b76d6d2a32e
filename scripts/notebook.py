"""`make notebook`: execute the notebook on a new sandbox, and write it back with its outputs.

The outputs do not depend on the machine: addresses are replaced with names of environment variables, and
run IDs are always the same.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

import nbclient
import nbformat

from sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "fashion_mnist.ipynb"


def execute(environment: Mapping[str, str]) -> nbformat.NotebookNode:
    """Execute the notebook from a clean state in its own folder, and return it.

    Args:
        environment: Environment variables for its kernel, in addition to this process's.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=3600,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    # Let the kernel listen on Unix sockets instead of ports.
    with tempfile.TemporaryDirectory() as folder:
        manager = client.create_kernel_manager()
        manager.transport, manager.ip = "ipc", f"{folder}/kernel"
        client.execute(env={**os.environ, **environment})
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def on_sandbox(folder: Path) -> nbformat.NotebookNode:
    """Execute the notebook on a sandbox, with state and home in a folder, and return it."""
    numbers = itertools.count(1)
    with Sandbox(folder / "sandbox", ids=lambda: uuid.UUID(int=next(numbers))) as sandbox:
        notebook = execute(
            {
                "HOME": str(folder),
                "KFP_API_URL": sandbox.api_url,
                "KFP_NAMESPACE": "",
                "KFP_TOKEN": "",
                "REGISTRY": f"s3://{sandbox.bucket}/models/fashion-mnist",
                "S3_ENDPOINT": sandbox.s3_url,
                "AWS_ACCESS_KEY_ID": sandbox.access_key,
                "AWS_SECRET_ACCESS_KEY": sandbox.secret_key,
            }
        )
        names = {sandbox.api_url: "http://KFP_API_URL", sandbox.s3_url: "http://S3_ENDPOINT"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # Drop warnings, which contain paths of this machine.
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    text = nbformat.writes(notebook)
    for address, name in names.items():
        text = text.replace(address, name)
    return nbformat.reads(text, as_version=4)


def main() -> int:
    """Execute the notebook and write it back; return 0 if all cells succeeded."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        notebook = on_sandbox(Path(folder))
    nbformat.write(notebook, NOTEBOOK)
    print(f"executed {NOTEBOOK.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
