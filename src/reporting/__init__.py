"""From a snapshot to the unit's status, metrics and relation data."""
