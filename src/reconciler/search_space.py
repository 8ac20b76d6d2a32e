"""Validate the search space of the action `tune`, in the format of Katib's Experiment. Pure.

Source: https://www.kubeflow.org/docs/components/katib/user-guides/experiment/.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

DEFAULT = json.dumps(
    [
        {
            "name": "learning_rate",
            "parameterType": "double",
            "feasibleSpace": {"min": "0.003", "max": "0.03", "distribution": "logUniform"},
        },
        {
            "name": "batch_size",
            "parameterType": "discrete",
            "feasibleSpace": {"list": ["128", "256", "512"]},
        },
    ]
)
# Tunable hyperparameters: how to parse a value, and allowed parameter types.
_SETTINGS: dict[str, tuple[Callable[[Any], object], tuple[str, ...]]] = {
    "recipe": (str, ("categorical",)),
    "epochs": (int, ("int", "discrete")),
    "batch_size": (int, ("int", "discrete")),
    "learning_rate": (float, ("double", "discrete")),
}
_DISTRIBUTIONS = ("uniform", "logUniform")


def values(space: str) -> Iterator[tuple[str, object]]:
    """Return the list values or bounds of each parameter in a space, as (option, value).

    Raises:
        ValueError: The space is invalid; the message says why.
    """
    try:
        parameters = json.loads(space)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(parameters, list) or not parameters:
        raise ValueError("not a list of parameters")
    names: set[str] = set()
    for parameter in cast("list[Any]", parameters):
        fields = cast("dict[str, Any]", parameter if isinstance(parameter, dict) else {})
        if set(fields) != {"name", "parameterType", "feasibleSpace"}:
            raise ValueError("a parameter needs name, parameterType and feasibleSpace")
        name = str(fields["name"])
        if name not in _SETTINGS or name in names:
            raise ValueError(f"{', '.join(_SETTINGS)} can be tuned, once each")
        names.add(name)
        yield from _values(name, str(fields["parameterType"]), fields["feasibleSpace"])


def _values(name: str, kind: str, feasible: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    parse, kinds = _SETTINGS[name]
    if kind not in kinds:
        raise ValueError(f"parameterType of {name} must be {' or '.join(kinds)}")
    try:
        if kind in ("categorical", "discrete"):
            candidates = [parse(value) for value in feasible["list"]]
            if not candidates or set(feasible) != {"list"}:
                raise ValueError
        else:
            candidates = [parse(feasible["min"]), parse(feasible["max"])]
            low, high = float(feasible["min"]), float(feasible["max"])
            distribution = feasible.get("distribution", "uniform")
            is_known = set(feasible) <= {"min", "max", "distribution"}
            if not is_known or not low < high or distribution not in _DISTRIBUTIONS:
                raise ValueError
            if distribution == "logUniform" and low <= 0:
                raise ValueError
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"feasibleSpace of {name} needs a list, or min below max (both above 0 for logUniform)"
        ) from error
    for value in candidates:
        yield name, value
