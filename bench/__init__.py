"""Benchmarks against the original notebook.

The machine's speed varies, so a program and its baseline run alternately, and results are ratios of
medians.
"""
