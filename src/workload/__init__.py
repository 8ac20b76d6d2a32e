"""The unit's Pushgateway, and the relation data through which monitoring finds it."""
