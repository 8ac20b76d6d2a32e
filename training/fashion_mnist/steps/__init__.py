"""The steps of the pipelines: each module does the work of one step in `training/components.py`."""
