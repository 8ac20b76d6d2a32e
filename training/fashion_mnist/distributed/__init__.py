"""Training on many workers."""
