"""Kubernetes objects that the charm manages."""
