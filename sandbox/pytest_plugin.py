"""pytest fixtures for charms that manage a pipeline.

Override ``kfp_sandbox_options`` to configure the server, for example to execute nothing::

    @pytest.fixture
    def kfp_sandbox_options():
        return {"execute": False}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sandbox import Sandbox


@pytest.fixture
def kfp_sandbox_options() -> dict[str, Any]:
    """Return the arguments of ``Sandbox`` other than its folder."""
    return {}


@pytest.fixture
def kfp_sandbox(
    tmp_path_factory: pytest.TempPathFactory, kfp_sandbox_options: dict[str, Any]
) -> Iterator[Sandbox]:
    """Run a server of Kubeflow Pipelines' API and S3."""
    # Import the servers lazily: pytest loads this module for all tests.
    from sandbox import Sandbox

    with Sandbox(tmp_path_factory.mktemp("kfp-sandbox"), **kfp_sandbox_options) as sandbox:
        yield sandbox


@pytest.fixture
def kfp_sandbox_databags(kfp_sandbox: Sandbox) -> dict[str, dict[str, str]]:
    """Return the databags that the charms kfp-api and minio would publish, by relation."""
    return kfp_sandbox.databags()
