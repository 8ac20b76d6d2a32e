"""The volume that the steps of a run share, with files beside the artifacts.

It holds `dataset/`, `model/` with the Keras model under its file name, and `checkpoints/`. Steps that
mount it work on these files, as the original notebook's pipeline does. Artifacts are written as well:
for people who look at the run, and for steps that do not mount the volume.
"""

from __future__ import annotations

import shutil
from pathlib import Path


def keep(workspace: str, name: str, artifact: Path) -> None:
    """Copy an artifact's directory into the workspace, if there is one.

    Args:
        workspace: mount path of the volume, empty for none.
        name: folder in the workspace.
        artifact: directory to copy.
    """
    if workspace:
        shutil.copytree(artifact, Path(workspace) / name, dirs_exist_ok=True)


def artifact_path(workspace: str, name: str, artifact: Path) -> Path:
    """Return the directory to read: the workspace's copy, or the artifact if there is no workspace.

    Args:
        workspace: mount path of the volume, empty for none.
        name: folder in the workspace.
        artifact: directory of the artifact.
    """
    return Path(workspace) / name if workspace else artifact
