"""The volume that steps of a run share, as files beside the artifacts.

It holds `dataset/`, `model/` with the Keras model under its file name, and `checkpoints/`. Steps that
have it work on these files, as the chapter's do; artifacts are still written, for what looks at the
run and for steps on which the volume is not mounted.
"""

from __future__ import annotations

import shutil
from pathlib import Path


def keep(workspace: str, name: str, artifact: Path) -> None:
    """Copy an artifact's directory into the workspace; nothing where there is none."""
    if workspace:
        shutil.copytree(artifact, Path(workspace) / name, dirs_exist_ok=True)


def artifact_path(workspace: str, name: str, artifact: Path) -> Path:
    """Where to read it: in the workspace, or where there is none, the artifact's directory."""
    return Path(workspace) / name if workspace else artifact
