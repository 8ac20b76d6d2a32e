"""Project how large a pipeline's Argo Workflow object becomes, without a cluster.

Kubeflow Pipelines 2.15 compiles a pipeline into one Workflow. Argo Workflows 3.7 writes that object
after each change of a node, and fails a workflow that is larger than `LIMIT` even with its nodes
compressed: "workflow is longer than maximum allowed size". Kubeflow does not pass that message on: its
run is FAILED without a reason.

A step's container, with all the code in its command, is in that object about six times:

1. in the specification, as the workflow's argument `implementations-HASH`;
2. in the node of the step's driver, as the input `container`;
3. there as well, in the output `pod-spec-patch`: the pod that the driver decided on, in which the
   launcher goes before the container's command;
4. in the node of the step, as the input `pod-spec-patch`;
5. in the node `executor`, where the step has a retry policy;
6. in the node of each of the step's pods.

Each of these is JSON in a string of JSON, so quotes and line ends grow with each level. A
component is in the specification once, in the driver's node once and in the launcher's arguments of
each pod patch. Steps in a ParallelFor have the nodes 2 to 6 once for each iteration.

Argo stores the object as it is if it fits into `LIMIT`, and otherwise compresses the nodes (base64 of
gzip). The specification is never compressed, and code that is already compressed does not shrink.

The constants were measured on Workflow objects of Kubeflow Pipelines 2.15.0 with Argo 3.7.3.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from sandbox import specs

LIMIT = 1_048_576
"""Bytes of JSON at which Argo compresses a workflow's nodes, and beyond which it fails the workflow."""

# Bytes of the templates that every workflow has, its metadata and the rest of its status.
_FRAME = 10_000
# Bytes of a task in the template of its DAG, beside the JSON of the task itself: its driver, and itself.
_TASK_FRAME = 1_250
# Constant bytes of each node, and how many of them are IDs, times or hashes.
_NODE_FRAME, _NODE_UNIQUE = 780, 150
# Characters of the launcher's arguments around the component and the executor's input.
_LAUNCHER_FRAME = 420
# Characters of the executor's input: its frame, a parameter, an input artifact and an output artifact.
_INPUT_FRAME, _INPUT_PARAMETER, _INPUT_ARTIFACT, _OUTPUT_ARTIFACT = 450, 45, 620, 330
_HASH = "0" * 64

_Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Projection:
    """The size of a workflow at the end of its run, in bytes of JSON."""

    specification: int
    """The workflow's arguments: each component and each container once."""

    whole: int
    """The whole object."""

    compressed: int
    """The whole object with its nodes compressed."""

    @property
    def stored(self) -> int:
        """Size of the form that Argo stores: compressed only if the whole does not fit."""
        return self.whole if self.whole <= LIMIT else self.compressed

    @property
    def fits(self) -> bool:
        """Whether Argo accepts the workflow."""
        return self.stored <= LIMIT


def project(
    spec_text: str,
    *,
    iterations: int = 2,
    parameters: Mapping[str, Any] | None = None,
    executions: Mapping[str, int] | None = None,
) -> Projection:
    """Project the size of a compiled pipeline's workflow if all conditions are true.

    Args:
        spec_text: Compiled pipeline (YAML, one document or two).
        iterations: Number of iterations of a ParallelFor whose list is neither in the pipeline nor among
            the parameters.
        parameters: Parameters of the run.
        executions: Minimum number of executions of steps in such a ParallelFor, by task name.

    Raises:
        ValueError: The text is not a compiled pipeline.
    """
    return _Workflow(specs.parse(spec_text), iterations, parameters or {}, executions or {}).size()


class _Workflow:
    """The parts of a workflow whose size depends on the pipeline."""

    def __init__(
        self,
        documents: Sequence[_Json],
        iterations: int,
        parameters: Mapping[str, Any],
        executions: Mapping[str, int],
    ):
        spec = documents[0]
        kubernetes = (
            documents[1].get("platforms", {}).get("kubernetes", {}) if documents[1:] else {}
        )
        self._root: _Json = spec["root"]
        self._components: _Json = spec.get("components", {})
        self._executors: _Json = spec.get("deploymentSpec", {}).get("executors", {})
        self._settings: _Json = kubernetes.get("deploymentSpec", {}).get("executors", {})
        self._iterations = iterations
        self._executions = executions
        self._parameters = parameters
        self._made = 0

    def _node(self, inputs: Mapping[str, str], outputs: Mapping[str, str] | None = None) -> str:
        """Return a node as JSON."""
        self._made += 1
        parameters = [
            {"parameters": [{"name": name, "value": value} for name, value in values.items()]}
            for values in (inputs, outputs or {})
        ]
        return _dump(
            {
                "inputs": parameters[0],
                "outputs": parameters[1],
                "frame": "f" * (_NODE_FRAME - _NODE_UNIQUE)
                + _unique(str(self._made), _NODE_UNIQUE),
            }
        )

    def size(self) -> Projection:
        defined = self._root.get("inputDefinitions", {}).get("parameters", {})
        known = {
            name: each["defaultValue"] for name, each in defined.items() if "defaultValue" in each
        }
        known.update(self._parameters)
        root_driver = {"component": _dump(self._root), "runtime-config": _dump({"p": known})}
        nodes = [self._node(root_driver), self._node({}), self._node({})]
        nodes += self._nodes(self._root.get("dag", {}), 1, known)
        # Nodes stand in the order of their ids, which are hashes: the copies of a container are often
        # further from each other than the 32 KiB that gzip looks back.
        content = "{" + ",".join(sorted(f'"{_unique(node, 10)}":{node}' for node in nodes)) + "}"
        specification = len(_dump(self._arguments()).encode())
        frame = specification + self._templates() + _FRAME
        packed = base64.b64encode(gzip.compress(content.encode(), 9))
        return Projection(specification, frame + len(content.encode()), frame + len(packed))

    def _arguments(self) -> _Json:
        """Return the workflow's arguments, which its templates refer to."""
        values: list[tuple[str, Any]] = [("components-root", self._root)]
        values += [(f"components-{_HASH}", component) for component in self._components.values()]
        for label, executor in self._executors.items():
            values.append((f"implementations-{_HASH}", _implementation(executor)))
            values.append((f"kubernetes-{label}", self._settings.get(label, {})))
        return {
            "arguments": {
                "parameters": [{"name": name, "value": _dump(value)} for name, value in values]
            }
        }

    def _templates(self) -> int:
        """Return the bytes of the templates of DAGs: each task of the pipeline once."""
        dags = [each["dag"] for each in (self._root, *self._components.values()) if "dag" in each]
        return sum(
            _TASK_FRAME + len(_dump(_dump(task)).encode())
            for dag in dags
            for task in dag.get("tasks", {}).values()
        )

    def _nodes(
        self, dag: _Json, times: int, known: Mapping[str, Any], *, guessed: bool = False
    ) -> Iterator[str]:
        """Yield the nodes of a DAG that is executed a number of times, as JSON.

        Args:
            dag: the DAG.
            times: how often.
            known: the values of its inputs, as far as they are known before the run.
            guessed: whether `times` comes from a list that is not known.
        """
        for name, task in dag.get("tasks", {}).items():
            component = self._components.get(task["componentRef"]["name"], {})
            inputs = _known_inputs(task, known)
            if "dag" in component:
                driver = {"component": _dump(component), "task": _dump(task)}
                count, is_guess = 1, guessed
                if "parameterIterator" in task or "artifactIterator" in task:
                    items = _items(task, inputs)
                    count = self._iterations if items is None else len(items)
                    is_guess = guessed or items is None
                    for _ in range(times):
                        yield from (self._node(driver), self._node({}), self._node({}))
                for _ in range(times * count):
                    yield from (self._node(driver), self._node({}))
                yield from self._nodes(component["dag"], times * count, inputs, guessed=is_guess)
            else:
                count = max(times, self._executions.get(name, 0)) if guessed else times
                for _ in range(count):
                    yield from self._step(component, task)

    def _step(self, component: _Json, task: _Json) -> list[str]:
        """Return the nodes of one execution of a step."""
        label = component.get("executorLabel", "")
        executor = self._executors.get(label, {})
        inputs = {"component": _dump(component), "task": _dump(task)}
        implementation = _dump(_implementation(executor))
        if "importer" in executor:
            return [self._node({**inputs, "importer": implementation})]
        settings = self._settings.get(label, {})
        inputs |= {"container": implementation, "kubernetes-config": _dump(settings)}
        container = executor.get("container", {})
        if "command" not in container:
            # The driver makes or removes the volume itself.
            return [self._node(inputs), self._node({}), self._node({})]
        patch = {"pod-spec-patch": _dump(_pod(container, component, settings))}
        has_retries = task.get("retryPolicy", {}).get("maxRetryCount", 0) > 0
        executed = [self._node(patch) for _ in range(3 if has_retries else 2)]
        return [self._node(inputs, patch), *executed]


def _items(task: _Json, inputs: Mapping[str, Any]) -> list[Any] | None:
    """Return the list of a ParallelFor; None where it is not known before the run."""
    items = task.get("parameterIterator", {}).get("items", {})
    values = json.loads(items["raw"]) if "raw" in items else inputs.get(items.get("inputParameter"))
    return cast("list[Any]", values) if isinstance(values, list) else None


def _known_inputs(task: _Json, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a task that are constants, or inputs of its DAG that are known."""
    found: dict[str, Any] = {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if "runtimeValue" in source:
            found[name] = source["runtimeValue"].get("constant")
        elif source.get("componentInputParameter") in known:
            found[name] = known[source["componentInputParameter"]]
    return found


def _implementation(executor: _Json) -> Any:
    return executor.get("container", executor.get("importer", executor))


def _pod(container: _Json, component: _Json, settings: _Json) -> _Json:
    """Return the pod that a step's driver decides on."""
    command = [
        "/kfp-launcher/launch",
        "l" * _LAUNCHER_FRAME,
        _executor_input(component),
        _dump(component),
        "--",
    ]
    main = {
        "name": "main",
        "image": container.get("image", ""),
        "command": command,
        "args": [*container.get("command", []), *container.get("args", [])],
        "env": [*container.get("env", []), *settings.get("secretAsEnv", [])],
        "resources": container.get("resources", {}),
    }
    return {"containers": [main]}


def _executor_input(component: _Json) -> str:
    """Return a text as long as the inputs that the launcher is given, with as many quotes and ids."""
    inputs, outputs = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
    length = (
        _INPUT_FRAME
        + _INPUT_PARAMETER
        * (len(inputs.get("parameters", {})) + len(outputs.get("parameters", {})))
        + _INPUT_ARTIFACT * len(inputs.get("artifacts", {}))
        + _OUTPUT_ARTIFACT * len(outputs.get("artifacts", {}))
    )
    artifacts = len(inputs.get("artifacts", {})) + len(outputs.get("artifacts", {}))
    ids = _unique(_dump(component), 36 * artifacts)
    return (ids + '"executor": "input", ' * (length // 21 + 1))[:length]


def _unique(seed: str, length: int) -> str:
    """Return hexadecimal digits that are always the same, and compress as ids do."""
    return hashlib.shake_256(seed.encode()).hexdigest(length // 2)


def _dump(value: Any) -> str:
    """Return JSON as Go writes it: without spaces, with <, > and & escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
