"""A compiled pipeline as an object: its parameters, its image and resources, its fingerprint.

Source: the pipeline specification that the KFP SDK compiles (schemaVersion 2.1.0), one YAML
document, or two where Kubernetes settings follow; see
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
# No images: the server makes and removes volumes itself for steps that name one of these.
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
    """Twelve hexadecimal digits that stand for these values (anything that JSON can say)."""
    serialized = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(serialized.encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """An input of the pipeline.

    Attributes:
        type: STRING, NUMBER_INTEGER, NUMBER_DOUBLE, BOOLEAN, LIST or STRUCT.
        default: the value that the server takes when none is given; None where there is none.
    """

    type: str
    default: object = None
    optional: bool = False


class PipelineSpec:
    """A compiled pipeline.

    Reading it is put off until something inside is asked for: most Juju events need only its
    fingerprint.

    Args:
        text: the compiled YAML.
        image: runs every step in this image instead of the compiled ones; empty leaves them.
        resources: by the name of the step, what it may use instead of what was compiled.
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
            OSError: the file cannot be read.
        """
        return cls(path.read_text(encoding="utf-8"), image=image, resources=resources)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits: the same for the same compiled text, image and resources."""
        if not self.resources:
            return fingerprint(self._text, self.image)
        resources = {
            name: dataclasses.asdict(step_resources)
            for name, step_resources in self.resources.items()
        }
        return fingerprint(self._text, self.image, resources)

    @functools.cached_property
    def yaml(self) -> str:
        """The text to upload, with the image and the resources in place.

        Raises:
            ValueError: there is no such step.
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
        """The pipeline's own name."""
        return str(self._at("pipelineInfo").get("name", ""))

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The pipeline's inputs, by name."""
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
        """The names of the steps that run a container, also those inside conditions and loops."""
        return frozenset(self._executors)

    @property
    def _executors(self) -> dict[str, str]:
        """For each step the name of what runs it."""
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
        """See that a run may be given these arguments; the server is as strict.

        Raises:
            ValueError: one is unknown, missing, or of another type, with its name.
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
                    f"{name}: {value!r} is {type(value).__name__}, where pipeline {self.name} "
                    f"takes {parameters[name].type}"
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


# A hook asks for the same pipeline several times, and to read one takes as long as a request.
@functools.lru_cache(maxsize=8)
def _read(text: str) -> list[dict[str, Any]]:
    """Return the documents in a compiled file, the same for all who ask: nobody may change them."""
    try:
        documents: list[object] = list(yaml.load_all(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise ValueError(f"the compiled pipeline is not YAML: {error}") from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise ValueError("the compiled pipeline is not a pipeline specification; compile again")
    return cast("list[dict[str, Any]]", documents)
