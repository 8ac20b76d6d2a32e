"""A local Kubeflow Pipelines for tests and demos, on loopback.

It implements the REST API v2beta1 of server 2.15.0, and S3, and really executes submitted runs from
their compiled specification, each in its own process::

    with Sandbox(Path("state")) as sandbox:
        client = kfp.Client(host=sandbox.api_url)

`python -m sandbox` runs it until it is stopped. All state is in one folder and survives restarts, even
after kill -9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.api.auth import User
    from sandbox.server import Sandbox

__all__ = ["HOST", "Sandbox", "User"]

HOST = "127.0.0.1"


def __getattr__(name: str) -> Any:
    # Import the servers lazily: they are slow to import, and the process of a run does not need them.
    if name == "Sandbox":
        from sandbox.server import Sandbox

        return Sandbox
    if name == "User":
        from sandbox.api.auth import User

        return User
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
