"""Tuning: sampling from a space, results of trials, and the whole pipeline."""

import datetime
import json
import time
from collections import Counter
from pathlib import Path

import obstore
import pytest

from fashion_mnist import data
from fashion_mnist.steps import tune
from fashion_mnist.storage import open_store
from kfp_ops import Client, DesiredState, PipelineSpec, RunSpec, RunState, apply, observe, plan
from sandbox import Sandbox

COMPILED = Path(__file__).parents[2] / "src" / "pipelines" / "tune.yaml"
BASE = {"recipe": "quick", "epochs": 0, "batch_size": 0, "learning_rate": 0.0}
SPACE = json.dumps(
    [
        {
            "name": "learning_rate",
            "parameterType": "double",
            "feasibleSpace": {"min": "0.001", "max": "0.1", "distribution": "logUniform"},
        },
        {
            "name": "batch_size",
            "parameterType": "discrete",
            "feasibleSpace": {"list": ["50", "100"]},
        },
        {"name": "epochs", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "3"}},
    ]
)


def sample(trials, parallelism=1, seed=1, space=SPACE):
    shares = [json.loads(s) for s in tune.suggest(space, trials, parallelism, BASE, seed)]
    return shares, sorted((t for share in shares for t in share), key=lambda t: t["trial"])


def test_first_trial_uses_the_options_and_others_the_search_space():
    _, trials = sample(200)
    assert trials[0] == {"trial": 0, **BASE}
    for trial in trials[1:]:
        assert 0.001 <= trial["learning_rate"] <= 0.1
        assert type(trial["batch_size"]) is int
        assert trial["recipe"] == "quick"
    assert set(Counter(t["batch_size"] for t in trials[1:])) == {50, 100}
    epochs = Counter(t["epochs"] for t in trials[1:])
    assert set(epochs) == {1, 2, 3}
    assert min(epochs.values()) > 45
    # Logarithmic: as many below a hundredth as above.
    low = sum(t["learning_rate"] < 0.01 for t in trials[1:])
    assert 70 < low < 130


def test_same_seed_draws_the_same_trials_at_any_parallelism():
    assert sample(7)[1] == sample(7, parallelism=3)[1]
    assert sample(7)[1] != sample(7, seed=2)[1]


@pytest.mark.parametrize(("trials", "parallelism", "sizes"), [(7, 3, [3, 2, 2]), (2, 8, [1, 1])])
def test_number_of_shards_is_the_parallelism(trials, parallelism, sizes):
    assert [len(share) for share in sample(trials, parallelism)[0]] == sizes


def test_unknown_setting_cannot_be_tuned():
    space = '[{"name": "seed", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "2"}}]'
    with pytest.raises(ValueError, match="'seed' cannot be tuned"):
        sample(2, space=space)


def result(number, accuracy, loss=0.5):
    return {"trial": number, **BASE, "val_accuracy": accuracy, "loss": loss, "fit_seconds": 1.0}


@pytest.fixture
def tuning_location(tmp_path):
    """Write results of trials of run r1, and return their location."""

    def put(*results):
        store = open_store(str(tmp_path / "tuning" / "r1"))
        for result_ in results:
            obstore.put(store, f"{result_['trial']}.json", json.dumps(result_).encode())
        return {"registry": str(tmp_path), "s3_endpoint": "", "run_id": "r1"}

    return put


def test_best_trial_comes_first(tuning_location):
    location = tuning_location(
        result(0, 0.8), result(1, 0.9, loss=0.4), result(2, 0.9, loss=0.3), result(3, 0.1)
    )
    ranked = tune.results(4, **location)
    assert [trial["trial"] for trial in ranked] == [2, 1, 0, 3]
    page = tune.table(ranked)
    assert page.index("<td>2</td><td>0.9</td>") < page.index("<td>0</td><td>0.8</td>")


def test_trial_without_a_result_is_an_error(tuning_location):
    with pytest.raises(ValueError, match="trials 1, 3 have no result"):
        tune.results(4, **tuning_location(result(0, 0.8), result(2, 0.9)))


def test_trial_is_evaluated_on_unseen_images_once(tuning_location, toy, capsys):
    images = data.load(str(toy))
    location = tuning_location(result(0, 0.5))
    share = json.dumps([{"trial": 0, **BASE}, {"trial": 1, **BASE, "batch_size": 50, "epochs": 4}])
    tune.run_trials(share, images, seed=1, **location)
    # 550 images make eleven batches of 50; the other fifty were held out.
    best, first = tune.results(2, **location)
    assert first["val_accuracy"] == 0.5
    assert best["val_accuracy"] * 50 == pytest.approx(round(best["val_accuracy"] * 50))
    assert best["val_accuracy"] > 0.8
    assert "trial 0" not in capsys.readouterr().out


def test_diverged_trial_ranks_last(tuning_location, toy, tmp_path):
    # GIVEN a trial with a non-finite loss
    location = tuning_location()
    wild = {**BASE, "recipe": "notebook", "epochs": 1, "batch_size": 50, "learning_rate": 1e36}
    share = json.dumps([{"trial": 1, **wild}])
    tune.run_trials(share, data.load(str(toy)), seed=1, **location)
    stored = json.loads((tmp_path / "tuning" / "r1" / "1.json").read_text())
    assert stored["loss"] is None
    # THEN it is ranked by its accuracy, behind equally accurate ones
    tuning_location(result(0, stored["val_accuracy"], loss=9.0))
    ranked = tune.results(2, **location)
    assert [trial["trial"] for trial in ranked] == [0, 1]
    assert "<td>diverged</td>" in tune.table(ranked)


@pytest.mark.slow
def test_pipeline_tunes_trains_on_two_workers_and_publishes(toy, tmp_path):
    spec = PipelineSpec.load(COMPILED)
    with Sandbox(tmp_path / "sandbox") as sandbox, Client(sandbox.api_url) as client:
        request = RunSpec(
            name="tune-1",
            parameters={
                **BASE,
                "epochs": 2,
                "batch_size": 50,
                "data_path": str(toy),
                "registry": "s3://mlpipeline/models/toy",
                "s3_endpoint": sandbox.s3_url,
                "code": str(COMPILED.with_name("code.tar")),
                "allow_anomalies": True,
                "min_accuracy": 0.3,
                "min_recall": 0.0,
                "trials": 3,
                "parallelism": 2,
                "space": SPACE,
                "workers": 2,
            },
        )
        desired = DesiredState(pipeline="tuner", spec=spec, experiment="tests", runs=(request,))
        observed = observe(client, desired)
        run = apply(client, desired, observed, plan(desired, observed)).runs["tune-1"]
        end = datetime.datetime.now() + datetime.timedelta(minutes=20)
        while not run.state.is_final:
            assert datetime.datetime.now() < end
            time.sleep(1)
            run = client.get_run(run.run_id)
        log = sandbox.run_log(run.run_id).read_text()
        assert run.state is RunState.SUCCEEDED, log[-4000:]
        assert set(run.steps(spec.steps).values()) == {RunState.SUCCEEDED}

        # Read the sandbox's runs as the charm does.
        store = sandbox.objects("models/toy")

        def read(path):
            return json.loads(bytes(obstore.get(store, path).bytes()))

        trials = [read(f"tuning/{run.run_id}/{number}.json") for number in range(3)]
        manifest = read("1/manifest.json")
        best = max(trials, key=lambda trial: (trial["val_accuracy"], -trial["loss"]))
        assert manifest["tuning"] == {
            "trials": 3,
            "best": best["trial"],
            "val_accuracy": best["val_accuracy"],
        }
        assert manifest["workers"] == 2
        for name in ("epochs", "batch_size"):
            assert manifest["parameters"][name] == best[name] or not best[name]
        assert manifest["verdict"]["status"] == "accepted"
        assert "2 processes are the workers" in log
        remaining = [entry["path"] for page in obstore.list(store, "work") for entry in page]
        assert remaining == []
