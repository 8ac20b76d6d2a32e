"""Manifests for tests that train nothing."""


def manifest(run_id="run-1", **more):
    """Return the least that a run's manifest has."""
    return {
        "schema_version": 1,
        "run_id": run_id,
        "metrics": {"test": {"accuracy": 0.9}},
        "verdict": {"status": "accepted", "reasons": []},
        **more,
    }
