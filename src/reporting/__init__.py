"""Report a snapshot as the unit's status, metrics and relation data."""
