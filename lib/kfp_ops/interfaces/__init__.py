"""Relations of charms in Charmed Kubeflow, one module per interface.

The classes only read and write databags; the charm observes the events.
"""
