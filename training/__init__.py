"""Compiling the pipelines: components, pipelines and the command that writes them."""
