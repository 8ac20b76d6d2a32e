"""Search spaces of the action tune."""

import json

import pytest

from config import TrainerConfig
from errors import OptionError
from reconciler.requests import TuneParams

EPOCHS = {"name": "epochs", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "4"}}


def space(*parameters, **change):
    return json.dumps([{**EPOCHS, **change}, *parameters])


def test_every_parameter_type_is_accepted():
    lists = [
        {"name": "recipe", "parameterType": "categorical", "feasibleSpace": {"list": ["quick"]}},
        {"name": "batch_size", "parameterType": "discrete", "feasibleSpace": {"list": ["64"]}},
        {
            "name": "learning_rate",
            "parameterType": "double",
            "feasibleSpace": {"min": "0.001", "max": "0.1", "distribution": "uniform"},
        },
    ]
    config = TrainerConfig()
    assert TuneParams(space=space(*lists)).apply_to(config) == config
    lists[0]["feasibleSpace"]["list"].append("magic")
    with pytest.raises(OptionError, match="recipe must be one of"):
        TuneParams(space=space(*lists)).apply_to(config)
