"""Replace volumes with directories: the local runner supports neither CreatePVC nor mounts."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import yaml

from sandbox import specs

_CREATE, _DELETE = "argostub/createpvc", "argostub/deletepvc"


@dataclasses.dataclass(frozen=True)
class OnDirectories:
    """A pipeline that uses directories instead of volumes."""

    text: str
    """Pipeline without steps that create or delete volumes; paths of mounts are those of directories."""

    directories: list[Path]
    """Directories that replace the volumes."""

    creating: list[str]
    """Names of the removed steps that create volumes."""

    removing: list[str]
    """Names of the removed steps that delete volumes."""

    def create(self) -> None:
        """Create the directories."""
        for directory in self.directories:
            directory.mkdir(parents=True)

    def remove(self) -> None:
        """Delete the directories, if a step would delete the volumes."""
        if self.removing:
            for directory in self.directories:
                shutil.rmtree(directory)


def on_directories(text: str, folder: Path) -> OnDirectories:
    """Return a compiled pipeline with a directory in a folder for each volume.

    Raises:
        ValueError: A volume's name is known only at run time.
    """
    documents = specs.parse(text)
    spec = documents[0]
    components = spec.get("components", {})
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    kubernetes = documents[1].get("platforms", {}).get("kubernetes", {}) if documents[1:] else {}
    settings = kubernetes.get("deploymentSpec", {}).get("executors", {})
    excluded: dict[str, list[str]] = {_CREATE: [], _DELETE: []}
    directories: set[Path] = set()
    for dag in (spec["root"], *components.values()):
        tasks = dag.get("dag", {}).get("tasks", {})
        for name, task in list(tasks.items()):
            label = components.get(task["componentRef"]["name"], {}).get("executorLabel", "")
            image = executors.get(label, {}).get("container", {}).get("image", "")
            if image in excluded:
                excluded[image].append(name)
                del tasks[name]
            for mount in settings.get(label, {}).get("pvcMount", []):
                directory = folder / _claim(name, mount)
                directories.add(directory)
                _set_path(task, mount["mountPath"], directory)
        for task in tasks.values():
            removed = {name for names in excluded.values() for name in names}
            task["dependentTasks"] = [
                name for name in task.get("dependentTasks", []) if name not in removed
            ]
    removed = {
        name for name, executor in executors.items() if executor["container"]["image"] in excluded
    }
    for name in removed:
        del executors[name]
    spec["components"] = {
        name: component
        for name, component in components.items()
        if component.get("executorLabel") not in removed
    }
    return OnDirectories(
        yaml.safe_dump_all(documents, sort_keys=False),
        sorted(directories),
        excluded[_CREATE],
        excluded[_DELETE],
    )


def _claim(task: str, mount: dict[str, Any]) -> str:
    name = mount.get("pvcNameParameter", {}).get("runtimeValue", {}).get("constant")
    if not name:
        raise ValueError(
            f"step {task} mounts a volume whose name another step gives; the sandbox supports only "
            "names in the pipeline, such as the run's id"
        )
    return str(name)


def _set_path(task: dict[str, Any], path: str, directory: Path) -> None:
    for parameter in task.get("inputs", {}).get("parameters", {}).values():
        if parameter.get("runtimeValue", {}).get("constant") == path:
            parameter["runtimeValue"]["constant"] = str(directory)
