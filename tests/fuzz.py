"""How long the fuzzers go on: a short deterministic portion, or FUZZ_EXAMPLES cases each."""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzz(examples: int):
    """Settings for so many cases, the same ones every time, unless FUZZ_EXAMPLES says otherwise."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
