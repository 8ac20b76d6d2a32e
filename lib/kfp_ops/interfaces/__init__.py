"""The relations that charms around Kubeflow have, one module per interface.

The classes only read and write; the charm observes the events.
"""
