"""Resource requests and limits of a step's container, as Kubernetes quantities.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ and the
message ResourceSpec of Kubeflow Pipelines' specification. Servers from 2.5 read the strings
(`resourceCpuLimit`), earlier ones the numbers (`cpuLimit`, in cores and in 10^9 bytes).
"""

from __future__ import annotations

import dataclasses
import decimal
import re
from typing import Any

_QUANTITY = re.compile(r"(\d+|\d+\.\d+)(m|k|[MGTPE]|[KMGTPE]i)?", re.ASCII)
_FACTORS = {"m": decimal.Decimal("0.001"), "k": decimal.Decimal(1000)}
for _power, _letter in enumerate("KMGTPE", 1):
    _FACTORS[f"{_letter}i"] = decimal.Decimal(1024**_power)
    if _letter != "K":
        _FACTORS[_letter] = decimal.Decimal(1000**_power)


def quantity(text: str) -> decimal.Decimal:
    """Return the value of a Kubernetes quantity, such as 500m, 2, 1.5, 4Gi or 4G.

    Signs and exponents, which Kubernetes accepts, are rejected.

    Raises:
        ValueError: The text is not a quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:60]!r} is not a Kubernetes quantity such as 500m, 2 or 4Gi")
    number, suffix = match.groups()
    return decimal.Decimal(number) * _FACTORS.get(suffix, decimal.Decimal(1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources:
    """Requests and limits of a step; empty values keep what was compiled.

    A compiled request above a limit that is set here is lowered to the limit.

    Raises:
        ValueError: A value is not a positive quantity, or a request is above its limit.
    """

    cpu_request: str = ""
    """Cores, such as 500m or 2."""

    cpu_limit: str = ""
    """Cores, such as 500m or 2."""

    memory_request: str = ""
    """Bytes, such as 4Gi."""

    memory_limit: str = ""
    """Bytes, such as 4Gi."""

    accelerators: int = 0
    """Number of accelerators; 0 keeps what was compiled."""

    accelerator_type: str = "nvidia.com/gpu"
    """Name of the accelerator's resource in Kubernetes."""

    def __post_init__(self):
        """Check every value."""
        for kind in ("cpu", "memory"):
            request, limit = getattr(self, f"{kind}_request"), getattr(self, f"{kind}_limit")
            for text in (request, limit):
                if text and not quantity(text):
                    raise ValueError(f"{kind} {text!r} must be above zero")
            if request and limit and quantity(request) > quantity(limit):
                raise ValueError(
                    f"{kind}: a request of {request} is above the limit of {limit}; lower it"
                )
        if self.accelerators < 0:
            raise ValueError(f"accelerators must not be negative, not {self.accelerators}")

    def __bool__(self) -> bool:
        """Return whether any value is set."""
        return self != Resources(accelerator_type=self.accelerator_type)

    def put_into(self, container: dict[str, Any]) -> None:
        """Write the values into a compiled container, in both forms that servers read."""
        resources: dict[str, Any] = container.setdefault("resources", {})
        for kind, unit in (("cpu", 1), ("memory", 10**9)):
            limit = getattr(self, f"{kind}_limit")
            request = getattr(self, f"{kind}_request")
            name = kind.capitalize()
            compiled = str(resources.get(f"resource{name}Request", ""))
            if limit and not request and compiled and quantity(compiled) > quantity(limit):
                request = limit
            for which, text in (("Limit", limit), ("Request", request)):
                if text:
                    resources[f"resource{name}{which}"] = text
                    resources[f"{kind}{which}"] = float(quantity(text) / unit)
        if self.accelerators:
            count, which = str(self.accelerators), self.accelerator_type
            resources["accelerator"] = {
                "count": count,
                "resourceCount": count,
                "resourceType": which,
                "type": which,
            }
