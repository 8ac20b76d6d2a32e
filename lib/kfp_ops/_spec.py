"""Read a compiled pipeline: parameters, steps and fingerprint; set image and resources.

Source: the pipeline specification that the KFP SDK compiles (schemaVersion 2.1.0): one YAML
document, and a second one if there are Kubernetes settings; see
https://github.com/kubeflow/pipelines/tree/master/api.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from kfp_ops._resources import Resources

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# Not images: for steps with such a name, the server itself creates and deletes volumes.
_STUBS = "argostub/"
_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


def fingerprint(*parts: object) -> str:
    """Return a fingerprint, twelve hexadecimal digits, of values that JSON can represent."""
    serialized = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(serialized.encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of the pipeline."""

    type: str
    """STRING, NUMBER_INTEGER, NUMBER_DOUBLE, BOOLEAN, LIST or STRUCT."""

    default: object = None
    """Default value; None if there is none."""

    optional: bool = False
    """Whether a run may omit it."""


class PipelineSpec:
    """A compiled pipeline.

    The YAML is parsed only when needed: most Juju events need only the fingerprint.

    Args:
        text: Compiled YAML.
        image: Image for all steps; empty keeps the compiled images.
        resources: Resources by name of the step; others keep the compiled ones.
    """

    def __init__(
        self, text: str, *, image: str = "", resources: Mapping[str, Resources] | None = None
    ):
        self._text = text
        self.image = image
        self.resources = {
            name: step_resources
            for name, step_resources in (resources or {}).items()
            if step_resources
        }

    @classmethod
    def load(
        cls, path: Path, *, image: str = "", resources: Mapping[str, Resources] | None = None
    ) -> PipelineSpec:
        """Read a compiled file.

        Raises:
            OSError: The file cannot be read.
        """
        return cls(path.read_text(encoding="utf-8"), image=image, resources=resources)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the compiled text, image and resources."""
        if not self.resources:
            return fingerprint(self._text, self.image)
        resources = {
            name: dataclasses.asdict(step_resources)
            for name, step_resources in self.resources.items()
        }
        return fingerprint(self._text, self.image, resources)

    @functools.cached_property
    def yaml(self) -> str:
        """YAML to upload, with image and resources set.

        Raises:
            ValueError: ``resources`` names a step that does not exist.
        """
        if not self.image and not self.resources:
            return self._text
        documents = copy.deepcopy(self._documents)
        executors = documents[0].get("deploymentSpec", {}).get("executors", {})
        for executor in executors.values():
            container = executor.get("container")
            if self.image and container and not str(container["image"]).startswith(_STUBS):
                container["image"] = self.image
        labels = self._executors
        for name, step_resources in self.resources.items():
            if name not in labels:
                raise ValueError(
                    f"pipeline {self.name} has no step {name!r}; it has: {', '.join(sorted(labels))}"
                )
            step_resources.put_into(executors[labels[name]]["container"])
        return yaml.dump_all(documents, Dumper=_DUMPER, sort_keys=True)

    @property
    def name(self) -> str:
        """Name of the pipeline in the specification."""
        return str(self._at("pipelineInfo").get("name", ""))

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The pipeline's parameters, by name."""
        return {
            name: Parameter(
                type=str(definition.get("parameterType", "")),
                default=definition.get("defaultValue"),
                optional=bool(definition.get("isOptional")) or "defaultValue" in definition,
            )
            for name, definition in self._at("root", "inputDefinitions", "parameters").items()
        }

    @property
    def steps(self) -> frozenset[str]:
        """Names of the steps that run a container, including those in conditions and loops."""
        return frozenset(self._executors)

    @property
    def _executors(self) -> dict[str, str]:
        """Name of each step's executor, by step."""
        components = self._at("components")
        tasks: dict[str, Any] = {}
        for dag in (self._at("root"), *components.values()):
            tasks |= dag.get("dag", {}).get("tasks", {})
        component_names = {
            name: task.get("componentRef", {}).get("name") for name, task in tasks.items()
        }
        return {
            name: str(components.get(component, {}).get("executorLabel", ""))
            for name, component in component_names.items()
            if "dag" not in components.get(component, {})
        }

    def check(self, arguments: Mapping[str, object]) -> None:
        """Check a run's arguments as strictly as the server.

        Raises:
            ValueError: An argument is unknown, missing or has another type.
        """
        parameters = self.parameters
        for name, value in arguments.items():
            if name not in parameters:
                raise ValueError(
                    f"{name}: pipeline {self.name} has no such parameter; it has: "
                    + ", ".join(sorted(parameters))
                )
            expected = _TYPES.get(parameters[name].type, (object,))
            if not isinstance(value, expected) or (
                isinstance(value, bool) and bool not in expected
            ):
                raise ValueError(
                    f"{name}: pipeline {self.name} expects {parameters[name].type}, "
                    f"not {type(value).__name__} {value!r}"
                )
        missing = [n for n, p in parameters.items() if not p.optional and n not in arguments]
        if missing:
            raise ValueError(f"{missing[0]}: pipeline {self.name} needs a value for it")

    @property
    def _documents(self) -> list[dict[str, Any]]:
        return _read(self._text)

    def _at(self, *keys: str) -> dict[str, Any]:
        node: Any = self._documents[0]
        for key in keys:
            node = node.get(key, {})
        return node


# A hook reads the same pipeline several times, and parsing it takes as long as a request.
@functools.lru_cache(maxsize=8)
def _read(text: str) -> list[dict[str, Any]]:
    """Return the documents of a compiled file; callers share them and must not change them."""
    try:
        documents: list[object] = list(yaml.load_all(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise ValueError(f"the compiled pipeline is not YAML: {error}") from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise ValueError("the compiled pipeline is not a pipeline specification; compile again")
    return cast("list[dict[str, Any]]", documents)
