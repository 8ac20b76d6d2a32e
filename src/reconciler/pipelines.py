"""Load compiled pipelines, with image and resources from the options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from config import TrainerConfig
from kfp_ops import PipelineSpec

PIPELINE, TUNER = "fashion-mnist-trainer", "fashion-mnist-tuner"
MONITOR = "fashion-mnist-monitor"
_COMPILED = Path(__file__).parents[1] / "pipelines"


def steps(parameters: Mapping[str, object]) -> frozenset[str]:
    """Return the names of a run's steps, given the run's parameters."""
    return PipelineSpec.load(_compiled(parameters)).steps


def _compiled(parameters: Mapping[str, object]) -> Path:
    """Return the path of the pipeline that has these parameters."""
    if "monitor_data" in parameters:
        return _COMPILED / "monitor.yaml"
    if "trials" in parameters:
        return _COMPILED / "tune.yaml"
    return _COMPILED / ("train-workspace.yaml" if "workspace_size" in parameters else "train.yaml")


def spec(config: TrainerConfig, parameters: Mapping[str, object], *training: str) -> PipelineSpec:
    """Return the specification of the pipeline that has these parameters.

    Args:
        config: Options with the image of all steps and the resources of steps that train.
        parameters: Parameters of its runs.
        training: Names of the steps that train.
    """
    return PipelineSpec.load(
        _compiled(parameters),
        image=config.training_image,
        resources=dict.fromkeys(training, config.resources),
    )
