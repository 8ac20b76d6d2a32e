"""Volumes as directories: the local runner knows neither CreatePVC nor mounts."""

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
    """A pipeline in which no step makes, mounts or removes a volume.

    Attributes:
        text: the pipeline; where a step was given the path of a mount it gets the directory's.
        directories: what stands for the volumes.
        creating, removing: the names of the steps that are left out.
    """

    text: str
    directories: list[Path]
    creating: list[str]
    removing: list[str]

    def create(self) -> None:
        """Make the directories."""
        for directory in self.directories:
            directory.mkdir(parents=True)

    def remove(self) -> None:
        """Remove them, where a step would have."""
        if self.removing:
            for directory in self.directories:
                shutil.rmtree(directory)


def on_directories(text: str, folder: Path) -> OnDirectories:
    """Return a compiled pipeline with a directory in a folder for each of its volumes.

    Raises:
        ValueError: a volume's name is known only when the run goes on.
    """
    documents = specs.parse(text)
    spec = documents[0]
    components = spec.get("components", {})
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    kubernetes = documents[1].get("platforms", {}).get("kubernetes", {}) if documents[1:] else {}
    settings = kubernetes.get("deploymentSpec", {}).get("executors", {})
    left_out: dict[str, list[str]] = {_CREATE: [], _DELETE: []}
    directories: set[Path] = set()
    for dag in (spec["root"], *components.values()):
        tasks = dag.get("dag", {}).get("tasks", {})
        for name, task in list(tasks.items()):
            label = components.get(task["componentRef"]["name"], {}).get("executorLabel", "")
            image = executors.get(label, {}).get("container", {}).get("image", "")
            if image in left_out:
                left_out[image].append(name)
                del tasks[name]
            for mount in settings.get(label, {}).get("pvcMount", []):
                directory = folder / _claim(name, mount)
                directories.add(directory)
                _set_path(task, mount["mountPath"], directory)
        for task in tasks.values():
            removed = {name for names in left_out.values() for name in names}
            task["dependentTasks"] = [
                name for name in task.get("dependentTasks", []) if name not in removed
            ]
    removed = {
        name for name, executor in executors.items() if executor["container"]["image"] in left_out
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
        left_out[_CREATE],
        left_out[_DELETE],
    )


def _claim(task: str, mount: dict[str, Any]) -> str:
    name = mount.get("pvcNameParameter", {}).get("runtimeValue", {}).get("constant")
    if not name:
        raise ValueError(
            f"step {task} mounts a volume whose name another step gives; the sandbox takes names that "
            "are in the pipeline, such as the run's id"
        )
    return str(name)


def _set_path(task: dict[str, Any], path: str, directory: Path) -> None:
    for parameter in task.get("inputs", {}).get("parameters", {}).values():
        if parameter.get("runtimeValue", {}).get("constant") == path:
            parameter["runtimeValue"]["constant"] = str(directory)
