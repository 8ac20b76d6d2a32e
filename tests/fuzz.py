"""Number of fuzzed cases: a short deterministic selection, or FUZZ_EXAMPLES each."""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzz(examples: int):
    """Return settings for a number of cases, always the same ones unless FUZZ_EXAMPLES is set."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
