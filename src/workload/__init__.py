"""The unit's Pushgateway, and how monitoring finds it."""
