"""Measure how good a model is, and decide whether it may serve."""

from fashion_mnist.evaluation.gate import Gate, Verdict, apply_gate, binomial_cdf, mcnemar
from fashion_mnist.evaluation.metrics import (
    Evaluation,
    are_alike,
    evaluate,
    evaluate_probabilities,
    prediction_columns,
    probabilities,
)

__all__ = [
    "Evaluation",
    "Gate",
    "Verdict",
    "apply_gate",
    "are_alike",
    "binomial_cdf",
    "evaluate",
    "evaluate_probabilities",
    "mcnemar",
    "prediction_columns",
    "probabilities",
]
