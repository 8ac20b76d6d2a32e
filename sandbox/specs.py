"""Validate compiled pipelines like the server, and adapt them to the local runner."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Environment variable with the Secrets for a run's process: JSON, [[name, key, value], ...].
SECRETS = "SANDBOX_SECRETS"
# State that a run's process reports if Argo would fail the workflow for its size.
TOO_LARGE = "TOO_LARGE"
_ISOLATE = """\
root=$(mktemp -d "$PWD/XXXXXX") && mkdir "$root/home" "$root/tmp" "$root/work" || exit 1
export HOME="${HOME:-$root/home}" TMPDIR="${TMPDIR:-$root/tmp}"
export PIP_TARGET="${PIP_TARGET:-$root/site}" PYTHONPATH="${PYTHONPATH:-$root/site}"
cd "$root/work" || exit 1
"$@"
code=$?
rm -rf "$root"
exit "$code"
"""
_NUMBER = ("double or integer", "number", lambda v: isinstance(v, (int, float)))
_TYPES: dict[str, tuple[str, str, Any]] = {
    "STRING": ("string", "string", lambda v: isinstance(v, str)),
    "BOOLEAN": ("bool", "bool", lambda v: isinstance(v, bool)),
    "LIST": ("list", "list", lambda v: isinstance(v, list)),
    "STRUCT": ("struct", "struct", lambda v: isinstance(v, dict)),
    "NUMBER_INTEGER": _NUMBER,
    "NUMBER_DOUBLE": _NUMBER,
}


def parse(text: str) -> list[dict[str, Any]]:
    """Return a copy of a compiled pipeline's documents.

    Raises:
        ValueError: The text is not a compiled pipeline.
    """
    return copy.deepcopy(_read(text))


@functools.lru_cache(maxsize=8)
def _read(text: str) -> list[dict[str, Any]]:
    """Return the documents of a compiled pipeline; callers share them and must not change them."""
    try:
        documents = [
            document for document in yaml.load_all(text, Loader=_LOADER) if document is not None
        ]
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if (
        not documents
        or not isinstance(documents[0], dict)
        or not {"pipelineInfo", "root", "schemaVersion"} <= documents[0].keys()
    ):
        raise ValueError("unknown template format: pipeline spec is invalid")
    return documents


def as_json(text: str) -> dict[str, Any]:
    """Return the `pipeline_spec` field of a version: the document, or both if there are two."""
    documents = [_numbers(document) for document in _read(text)]
    if len(documents) == 1:
        return documents[0]
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def compiled(specification: Mapping[str, Any]) -> str:
    """Return the compiled text of a `pipeline_spec` field, which clients may send with a run."""
    documents = [
        specification[key] for key in ("pipeline_spec", "platform_spec") if key in specification
    ]
    return "\n---\n".join(json.dumps(document) for document in documents or [specification])


def _numbers(value: Any) -> Any:
    """Convert whole floats to integers, like protobuf's JSON: 8.0 in YAML becomes 8."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check(text: str) -> None:
    """Check that a text is a compiled pipeline.

    Raises:
        ValueError: It is not.
    """
    _read(text)


def name(text: str) -> str:
    """Return the pipeline's name."""
    return str(_read(text)[0]["pipelineInfo"].get("name", ""))


def inputs(text: str) -> dict[str, Any]:
    """Return the definitions of the pipeline's parameters, by name."""
    root = _read(text)[0]["root"]
    return root.get("inputDefinitions", {}).get("parameters", {})


def check_parameters(text: str, arguments: Mapping[str, Any]) -> None:
    """Check a run's parameters, with the server's error messages.

    Raises:
        ValueError: A parameter is missing, unknown or has another type.
    """
    parameters = inputs(text)
    for name, definition in parameters.items():
        optional = definition.get("isOptional") or "defaultValue" in definition
        if name not in arguments and not optional:
            raise ValueError(
                f"parameter {name} is not optional, yet has neither default value nor user "
                "provided value"
            )
    unknown = [name for name in arguments if name not in parameters]
    if unknown:
        raise ValueError(
            f"parameter(s) provided are not required by pipeline: {', '.join(sorted(unknown))}"
        )
    for name, value in arguments.items():
        kind = parameters[name].get("parameterType", "")
        expected, type_name, is_valid = _TYPES.get(kind, ("", "", lambda _: True))
        if not is_valid(value) or (isinstance(value, bool) and kind != "BOOLEAN"):
            subject = "the parameter value" if type_name == "number" else "the input parameter"
            raise ValueError(
                f"input parameter {name} requires type {expected}, but {subject} is not of "
                f"{type_name} value type"
            )


def typed(text: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as the launcher hands them to steps: integers are whole."""
    kinds = {name: definition.get("parameterType") for name, definition in inputs(text).items()}
    return {
        name: int(value) if kinds.get(name) == "NUMBER_INTEGER" else value
        for name, value in arguments.items()
    }


def steps(text: str) -> list[str]:
    """Return the names of the tasks that run a container, at any depth."""
    return list(_tasks(text))


def _tasks(text: str) -> dict[str, dict[str, Any]]:
    """Return the tasks that run a container, at any depth, by name."""
    document = _read(text)[0]
    components = document.get("components", {})
    tasks: dict[str, Any] = {}
    for dag in (document["root"], *components.values()):
        tasks |= dag.get("dag", {}).get("tasks", {})
    return {
        name: task
        for name, task in tasks.items()
        if "executorLabel" in components.get(task.get("componentRef", {}).get("name"), {})
    }


def retries(text: str) -> dict[str, int]:
    """Return the maximum number of retries of each step."""
    return {
        name: int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
        for name, task in _tasks(text).items()
    }


def step_of(steps: Sequence[str], name: str) -> str:
    """Return the step of a name in the local runner's log, which appends a time."""
    return max((step for step in steps if name.startswith(step)), key=len, default=name)


def isolated(text: str) -> str:
    """Return a compiled pipeline in which each step has its own directories, like a pod.

    The local runner executes all steps in its own directory and environment. A pod has its own working
    directory, home, temporary files and installed packages, which are deleted with it. Keep variables
    that the pipeline sets. The directories are created in the working directory.
    """
    documents = parse(text)
    for executor in documents[0].get("deploymentSpec", {}).get("executors", {}).values():
        container = executor.get("container", {})
        if "command" in container:
            container["command"] = ["sh", "-c", _ISOLATE, "sh", *container["command"]]
    return yaml.safe_dump_all(documents, sort_keys=False)


def with_secrets(text: str, secrets: Mapping[tuple[str, str], str]) -> str:
    """Return a compiled pipeline with Secrets in the environment of the containers that use them.

    The local runner does not support Secrets.

    Args:
        text: Compiled pipeline.
        secrets: Values of Secrets, by (name, key); unknown ones are omitted.
    """
    documents = parse(text)
    containers = {
        label: each["container"]
        for label, each in documents[0].get("deploymentSpec", {}).get("executors", {}).items()
        if "container" in each
    }
    for document in documents[1:]:
        kubernetes = document.get("platforms", {}).get("kubernetes", {})
        for label, executor in kubernetes.get("deploymentSpec", {}).get("executors", {}).items():
            variables = [
                {"name": name, "value": secrets[key]}
                for name, key in _secret_environment(executor).items()
                if key in secrets
            ]
            if variables and label in containers:
                containers[label]["env"] = [*containers[label].get("env", []), *variables]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _secret_environment(executor: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the environment variables that a step reads from Secrets: name -> (secret, key)."""
    found: dict[str, tuple[str, str]] = {}
    for secret in executor.get("secretAsEnv", []):
        name = secret.get("secretName") or _constant(secret.get("secretNameParameter"))
        for pair in secret.get("keyToEnv", []):
            found[pair["envVar"]] = (name, pair["secretKey"])
    return found


def _constant(parameter: Mapping[str, Any] | None) -> str:
    return str((parameter or {}).get("runtimeValue", {}).get("constant", ""))
