"""The pure planner: every situation there is, and what follows from it."""

import itertools

import pytest

from kfp_ops import (
    CreateExperiment,
    CreatePipeline,
    Experiment,
    Observed,
    Pipeline,
    PipelineSpec,
    PipelineVersion,
    Run,
    RunRequest,
    SubmitRun,
    UploadVersion,
    Wanted,
    plan,
)

PIPELINE = Pipeline(pipeline_id="p", display_name="pipeline")
VERSION = PipelineVersion(pipeline_id="p", pipeline_version_id="v", display_name="f")
EXPERIMENT = Experiment(experiment_id="e", display_name="experiment")
ONE = RunRequest(name="one", parameters={"a": 1})
TWO = RunRequest(name="two", parameters={"a": 2})


def wanted(*runs):
    return Wanted(pipeline="pipeline", spec=PipelineSpec("x"), experiment="experiment", runs=runs)


def run(name):
    return Run(run_id=f"id-{name}", display_name=name)


def test_the_version_is_named_by_the_fingerprint():
    assert wanted().version == PipelineSpec("x").fingerprint


@pytest.mark.parametrize(
    ("pipeline", "version", "experiment", "there"),
    [
        case
        for case in itertools.product(
            (None, PIPELINE), (None, VERSION), (None, EXPERIMENT), ((), ("one",), ("one", "two"))
        )
        # A version lies in a pipeline and a run in an experiment.
        if not (case[1] and not case[0]) and not (case[3] and not case[2])
    ],
)
def test_each_missing_thing_is_made_once_in_order(pipeline, version, experiment, there):
    # GIVEN two wanted runs, and some of all there is
    seen = Observed(
        pipeline=pipeline,
        version=version,
        experiment=experiment,
        runs={name: run(name) for name in there},
    )
    # WHEN it is planned
    steps = plan(wanted(ONE, TWO), seen)
    # THEN what is missing is made, parents first, and nothing else
    missing = [request for request in (ONE, TWO) if request.name not in there]
    expected = []
    if missing:
        expected += [CreatePipeline()] if not pipeline else []
        expected += [UploadVersion()] if not version else []
        expected += [CreateExperiment()] if not experiment else []
        expected += [SubmitRun(request) for request in missing]
    assert steps == expected


def test_nothing_wanted_means_nothing_done():
    assert plan(wanted(), Observed()) == []


def test_runs_of_others_do_not_count():
    seen = Observed(experiment=EXPERIMENT, runs={}, latest=run("another"))
    assert SubmitRun(ONE) in plan(wanted(ONE), seen)
