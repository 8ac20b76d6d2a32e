"""Reconcile options, relations and requests: observe, plan, apply, and return a snapshot."""
