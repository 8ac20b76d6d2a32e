"""The embedded default: a Kubeflow Pipelines of one's own, on loopback.

It speaks the REST API v2beta1 as server 2.15.0 does, and S3, and executes submitted runs for
real, from their compiled specification, in processes of their own::

    with Sandbox(Path("state")) as sandbox:
        client = kfp.Client(host=sandbox.api_url)

`python -m sandbox` does the same until it is stopped. Everything lies under one folder; the same
folder gives the same state after a restart, even one after kill -9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.api.auth import User
    from sandbox.server import Sandbox

__all__ = ["HOST", "Sandbox", "User"]

HOST = "127.0.0.1"


def __getattr__(name: str) -> Any:
    # Of the package the process of a run uses other modules alone, and the servers are slow to import.
    if name == "Sandbox":
        from sandbox.server import Sandbox

        return Sandbox
    if name == "User":
        from sandbox.api.auth import User

        return User
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
