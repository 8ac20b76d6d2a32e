"""The desired state of Kubeflow Pipelines, from options, requests and triggers."""

import dataclasses
import datetime
import re
from pathlib import Path

import pytest

import naming
from config import TrainerConfig
from errors import OptionError
from kfp_ops import ConcurrencyPolicy, ObjectStorage, PipelineSpec
from model_registry import Champion, Manifest
from reconciler import code_bundle, desired_state, pipelines
from reconciler.requests import MonitorParams, TrainParams, TuneParams
from reconciler.triggers import Signals

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
STORAGE = ObjectStorage(
    access_key="key", secret_key="secret", service="minio", port=9000, namespace="kubeflow"
)
DEFAULTS = TrainerConfig()
NOTHING = Signals()
COMPILED = Path(pipelines.__file__).parents[1] / "pipelines"


def build(config=DEFAULTS, storage=STORAGE, signals=NOTHING, **requested):
    *_, desired = desired_state.training(
        config, storage, "kubeflow--trainer", requested, signals, NOON
    )
    return desired


def changed(**options):
    return dataclasses.replace(DEFAULTS, **options)


def test_configuration_run_uses_the_compiled_pipeline():
    # WHEN all options have their defaults
    desired = build()
    # THEN there is one run with the options as arguments
    assert desired.pipeline == pipelines.PIPELINE
    assert desired.experiment == "kubeflow--trainer"
    assert desired.version == PipelineSpec.load(COMPILED / "train.yaml").fingerprint
    (run,) = desired.runs
    assert run.parameters == {
        **DEFAULTS.arguments,
        "s3_endpoint": STORAGE.url,
        "reason": "configuration",
        "pipeline_version": desired.version,
        "code": f"{DEFAULTS.registry}/{code_bundle.path()}",
    }
    desired.spec.check(run.parameters)
    assert run.description == "The charm's configuration"
    # AND it replaces those of earlier configurations
    assert run.concurrency_group == "config-"
    assert run.name.startswith(run.concurrency_group)
    assert desired.schedule is None


def test_same_options_make_the_same_run_at_any_time():
    (before,), (after,) = (
        list(desired_state.training(TrainerConfig(), storage, "k--t", {}, NOTHING, now))[-1].runs
        for storage, now in (
            (STORAGE, NOON),
            # As another unit reads it a day later, from a relation with other keys
            (
                dataclasses.replace(STORAGE, access_key="new", secret_key="too"),
                NOON + datetime.timedelta(days=1),
            ),
        )
    )
    assert before == after
    # AND the name is the fingerprint alone
    assert re.fullmatch("config-[0-9a-f]{12}", before.name)


@pytest.mark.parametrize(
    "other",
    [
        {"config": changed(epochs=20)},
        {"config": changed(training_image="site.example/tensorflow:1")},
        {"storage": dataclasses.replace(STORAGE, port=9001)},
    ],
)
def test_changed_options_storage_or_image_make_another_run(other):
    (before,), (after,) = build().runs, build(**other).runs
    assert before.name != after.name


@pytest.mark.parametrize("options", [{"schedule_paused": True}, {"run_timeout": 5}])
def test_options_unrelated_to_training_keep_the_run(options):
    assert build(changed(**options)).runs == build().runs


def test_storage_keys_are_not_submitted():
    desired = build(changed(schedule="@daily"), train=TrainParams())
    for parameters in (*(run.parameters for run in desired.runs), desired.schedule.parameters):
        assert not {STORAGE.access_key, STORAGE.secret_key} & set(map(str, parameters.values()))


def test_image_comes_from_the_option():
    desired = build(changed(training_image="site.example/tensorflow:1"))
    assert (
        desired.version
        == PipelineSpec.load(COMPILED / "train.yaml", image="site.example/tensorflow:1").fingerprint
    )


def test_every_run_names_the_uploaded_version():
    # GIVEN options that make another version, and every kind of run
    options = changed(
        training_image="site.example/tensorflow:1",
        train_cpu="8",
        schedule="@daily",
        retrain_after=7,
    )
    manifest = Manifest(
        run_id="r", accuracy=0.9, accepted=True, created_at=NOON - datetime.timedelta(days=8)
    )
    desired = build(
        options,
        signals=Signals(champion=Champion(version=3, manifest=manifest)),
        **{"train-1": TrainParams(epochs=2)},
    )
    # THEN all of them name that version
    parameters = [*(run.parameters for run in desired.runs), desired.schedule.parameters]
    assert [arguments["reason"] for arguments in parameters] == [
        "configuration",
        "action",
        "age",
        "schedule",
    ]
    assert {arguments["pipeline_version"] for arguments in parameters} == {desired.version}
    assert desired.version != build().version


def test_each_request_is_a_separate_run_that_overrides_options():
    config = changed(recipe="balanced", epochs=7)
    _, first, second = build(
        config, one=TrainParams(epochs=2, note="try two"), two=TrainParams(recipe="quick")
    ).runs
    assert (first.name, second.name) == ("one", "two")
    options = {**build(config).runs[0].parameters, "reason": "action"}
    assert first.parameters == {**options, "epochs": 2}
    assert second.parameters == {**options, "recipe": "quick"}
    assert first.description == "try two"
    assert second.description == "Requested by the action train"
    # It replaces no other run
    assert first.concurrency_group == second.concurrency_group == ""


def test_invalid_request_is_rejected():
    with pytest.raises(OptionError):
        build(one=TrainParams(epochs=-1))


def test_only_requested_runs_without_train_on_change():
    assert build(changed(train_on_change=False)).runs == ()
    (run,) = build(changed(train_on_change=False), one=TrainParams()).runs
    assert run.name == "one"


def test_schedule_has_the_options_as_arguments():
    config = changed(schedule="@daily", epochs=3)
    desired = build(config)
    assert desired.schedule.cron == "0 0 0 * * *"
    assert desired.schedule.parameters == {**desired.runs[0].parameters, "reason": "schedule"}
    assert desired.schedule.description == "The charm's schedule: @daily"
    assert desired.schedule.enabled
    assert desired.schedule.name.startswith(desired.schedule_prefix)


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({}, True),
        ({"schedule": "0 0 * * *"}, True),
        ({"schedule": "@hourly"}, False),
        ({"epochs": 3}, False),
        ({"training_image": "site.example/tensorflow:1"}, False),
    ],
)
def test_schedule_name_depends_on_cron_and_arguments(options, same):
    before = build(changed(schedule="@daily")).schedule
    after = build(changed(**{"schedule": "@daily", **options})).schedule
    assert (before.name == after.name) is same


def test_paused_schedule_keeps_its_name():
    going = build(changed(schedule="@daily")).schedule
    paused = build(changed(schedule="@daily", schedule_paused=True)).schedule
    assert paused == dataclasses.replace(going, enabled=False)


def test_runs_have_the_configured_timeout():
    assert build(changed(run_timeout=90)).started_before == NOON - datetime.timedelta(minutes=90)
    assert build(changed(run_timeout=0)).started_before is None


def test_trigger_requests_a_run_with_a_cooldown():
    manifest = Manifest(
        run_id="r", accuracy=0.9, accepted=True, created_at=NOON - datetime.timedelta(days=8)
    )
    signals = Signals(champion=Champion(version=3, manifest=manifest))
    options = changed(retrain_after=7, retrain_cooldown=12)
    configured, run = build(options, signals=signals).runs
    assert run.name.startswith(run.concurrency_group)
    assert run.concurrency_group == "retrain-"
    assert run.parameters == {**configured.parameters, "reason": "age"}
    assert run.description == "age: the champion is older than 7 days (version 3)"
    assert run.cooldown_start == NOON - datetime.timedelta(hours=12)
    assert run.concurrency_policy is ConcurrencyPolicy.QUEUE


def test_workspace_option_selects_the_workspace_pipeline():
    options = changed(workspace_size="1Gi", storage_class="fast")
    desired = build(options)
    assert desired.version == PipelineSpec.load(COMPILED / "train-workspace.yaml").fingerprint
    desired.spec.check(desired.runs[0].parameters)
    assert pipelines.steps(desired.runs[0].parameters) == desired.spec.steps
    assert pipelines.steps(build().runs[0].parameters) == build().spec.steps != desired.spec.steps


def test_resources_apply_to_the_training_step():
    desired = build(changed(train_cpu="8", train_memory="16Gi", train_gpu=1))
    resources = {"train": changed(train_cpu="8", train_memory="16Gi", train_gpu=1).resources}
    compiled = PipelineSpec.load(COMPILED / "train.yaml", resources=resources)
    assert desired.version == compiled.fingerprint != build().version


def test_application_has_a_training_and_a_monitoring_experiment():
    training, monitoring = naming.experiments("kubeflow", "trainer")
    assert (training, monitoring) == ("kubeflow--trainer", "kubeflow--trainer.monitor")


def test_applications_do_not_share_experiments():
    juju = [("a-b", "c"), ("a", "b-c"), ("a", "b-c-monitor"), ("a--b", "c")]
    names = [name for model, app in juju for name in naming.experiments(model, app)]
    assert len(set(names)) == len(names)


def test_tuning_pipeline_comes_before_the_training_pipeline():
    config = changed(workspace_size="1Gi", storage_class="any", train_cpu="8", schedule="@daily")
    requested = {"tune-1": TuneParams(trials=3, seed=7, note="better?"), "train-1": TrainParams()}
    tuning, desired = desired_state.training(
        config, STORAGE, "kubeflow--trainer", requested, NOTHING, NOON
    )
    # THEN the training pipeline's runs and schedule are unchanged
    alone = build(config, **{"train-1": TrainParams()})
    assert (desired.runs, desired.schedule, desired.version) == (
        alone.runs,
        alone.schedule,
        alone.version,
    )
    # AND trials, which run in parallel, share no volume
    (request,) = tuning.runs
    assert (request.name, request.description) == ("tune-1", "better?")
    assert "workspace_size" not in request.parameters
    tuning.spec.check(request.parameters)
    parameters = request.parameters
    assert (parameters["trials"], parameters["seed"], parameters["reason"]) == (3, 7, "action")
    # AND its runs name the version of this pipeline, not of the training pipeline
    assert parameters["pipeline_version"] == tuning.version != desired.version
    # AND both training steps have the resources
    resources = dict.fromkeys(("train", "trial"), config.resources)
    compiled = PipelineSpec.load(COMPILED / "tune.yaml", resources=resources)
    assert tuning.version == compiled.fingerprint
    assert pipelines.steps(parameters) == tuning.spec.steps != desired.spec.steps
    # AND this pipeline does not own the schedules in their experiment
    assert tuning.experiment == desired.experiment
    assert tuning.schedule is None
    assert not desired.schedule.name.startswith(tuning.schedule_prefix)


def monitoring(config=DEFAULTS, **requested):
    return desired_state.monitoring(config, STORAGE, "kubeflow--trainer.monitor", requested, NOON)


def test_monitoring_runs_on_schedule_and_on_request():
    config = changed(monitor_data="s3://bucket/seen", monitor_schedule="0 4 * * *", run_timeout=90)
    desired = monitoring(config, one=MonitorParams(monitor_data="s3://other"), two=TrainParams())
    assert desired.experiment == "kubeflow--trainer.monitor"
    assert desired.pipeline == "fashion-mnist-monitor"
    assert desired.started_before == NOON - datetime.timedelta(minutes=90)
    (request,) = desired.runs
    assert (request.name, request.parameters["monitor_data"]) == ("one", "s3://other")
    assert desired.schedule.parameters == {**request.parameters, "monitor_data": "s3://bucket/seen"}
    assert desired.schedule.cron == "0 0 4 * * *"
    assert desired.schedule.enabled
    desired.spec.check(request.parameters)
    assert pipelines.steps(request.parameters) == desired.spec.steps == {"monitor"}


def test_monitoring_is_empty_without_its_options():
    assert monitoring().runs == ()
    assert monitoring().schedule is None
    assert monitoring(changed(run_timeout=0)).started_before is None
