"""What the charm asks of the Kubernetes API."""
