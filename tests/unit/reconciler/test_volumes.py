"""Resources of the training step, volumes of runs, and their removal."""

import dataclasses
import json

import httpx
import ops
import ops.testing
import pytest

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


@pytest.fixture
def add_storage_classes(kubernetes):
    """Add StorageClasses to the cluster: (name, whether default, creation time)."""

    def put(*rows):
        kubernetes.objects[CLASSES] = {
            "metadata": {},
            "items": [
                {
                    "metadata": {
                        "name": name,
                        "creationTimestamp": f"2026-01-{day:02}T00:00:00Z",
                        "annotations": {
                            "storageclass.kubernetes.io/is-default-class": json.dumps(is_default)
                        },
                    },
                    "provisioner": "example.com/disk",
                }
                for name, is_default, day in rows
            ],
        }

    return put


@pytest.fixture
def uploaded_documents(sandbox, runs):
    """Return the two documents of the newest run's pipeline."""

    def ask():
        newest = max(runs(), key=lambda run: run["created_at"])
        reference = newest["pipeline_version_reference"]
        version = httpx.get(
            f"{sandbox.api_url}/apis/v2beta1/pipelines/{reference['pipeline_id']}"
            f"/versions/{reference['pipeline_version_id']}",
            trust_env=False,
        ).json()
        return version["pipeline_spec"]["pipeline_spec"]

    return ask


def status(ctx, state):
    return ctx.run(ctx.on.config_changed(), state).unit_status


def test_resources_apply_to_the_training_step_only(ctx, configured, runs, uploaded_documents):
    # GIVEN the default run
    ctx.run(ctx.on.config_changed(), configured())
    before = uploaded_documents()["deploymentSpec"]["executors"]
    # WHEN cores, memory and a GPU are set, and two events follow
    for _ in range(2):
        ctx.run(
            ctx.on.config_changed(), configured(train_cpu="8", train_memory="16Gi", train_gpu=1)
        )
    # THEN one more run has a version whose step train has them
    assert len(runs()) == 2
    after = uploaded_documents()["deploymentSpec"]["executors"]
    resources = after["exec-train"]["container"].pop("resources")
    assert (resources["resourceCpuLimit"], resources["cpuLimit"]) == ("8", 8)
    assert (resources["resourceMemoryLimit"], resources["memoryLimit"]) == ("16Gi", 17.179869184)
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "1"
    # AND no other step changes
    del before["exec-train"]["container"]["resources"]
    assert after == before


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "train_cpu",
            "four",
            "train-cpu must be empty or between 100m and 1000, not 'four'",
        ),
        (
            "train_memory",
            "4",
            "train-memory must be empty or between 1Gi and 16Ti, not '4'",
        ),
        ("workspace_size", "1gb", "workspace-size must be empty or between 256Mi and 16Ti"),
    ],
)
def test_invalid_quantity_blocks_the_unit(ctx, configured, option, value, message, runs):
    unit_status = status(ctx, configured(**{option: value}))
    assert isinstance(unit_status, ops.BlockedStatus)
    assert message in unit_status.message
    assert runs() == []


def test_workspace_uses_the_pipeline_with_a_volume(ctx, configured, runs, uploaded_documents):
    # GIVEN a size and a class
    ctx.run(ctx.on.config_changed(), configured(workspace_size="2Gi", storage_class="fast-disk"))
    # THEN the run has both, and uses the pipeline that creates and deletes a volume
    (run,) = runs()
    parameters = run["runtime_config"]["parameters"]
    assert (parameters["workspace_size"], parameters["storage_class"]) == ("2Gi", "fast-disk")
    assert "exec-createpvc" in uploaded_documents()["deploymentSpec"]["executors"]


def test_storage_class_is_ignored_without_a_workspace(ctx, configured, runs):
    ctx.run(ctx.on.config_changed(), configured())
    ctx.run(ctx.on.config_changed(), configured(storage_class="fast-disk"))
    (run,) = runs()
    assert "workspace_size" not in run["runtime_config"]["parameters"]


def test_default_storage_class_is_used_without_the_option(
    ctx, configured, runs, add_storage_classes
):
    # GIVEN a cluster with two default classes, of which Kubernetes uses the newer
    add_storage_classes(("slow", False, 9), ("old", True, 1), ("new", True, 2))
    ctx.run(ctx.on.config_changed(), configured(workspace_size="1Gi"))
    (run,) = runs()
    assert run["runtime_config"]["parameters"]["storage_class"] == "new"


def test_missing_default_storage_class_blocks_with_the_option(
    ctx, configured, runs, add_storage_classes
):
    add_storage_classes(("slow", False, 1))
    unit_status = status(ctx, configured(workspace_size="1Gi"))
    assert isinstance(unit_status, ops.BlockedStatus)
    assert "storage-class must be set, as this cluster has no default" in unit_status.message
    assert runs() == []


def test_forbidden_storage_classes_block_the_unit(ctx, configured, runs, kubernetes):
    kubernetes.refuse[f"GET {CLASSES}"] = 403
    unit_status = status(ctx, configured(workspace_size="1Gi"))
    assert isinstance(unit_status, ops.BlockedStatus)
    assert "juju trust" in unit_status.message
    assert runs() == []


def test_step_count_is_that_of_the_runs_pipeline(ctx, configured, run_action, sandbox, runs):
    # GIVEN a run in a workspace whose volume exists
    state = configured(workspace_size="1Gi", storage_class="any")
    ctx.run(ctx.on.config_changed(), state)
    (run,) = runs()
    sandbox.set_run_state(run["run_id"], "RUNNING", {"createpvc": "SUCCEEDED", "ingest": "RUNNING"})
    # THEN the status counts the volume's steps as the server does
    assert "1 of 5 steps done" in status(ctx, state).message
    # AND after the option is emptied, that run's steps are the same
    changed = configured(train_on_change=False)
    assert "1 of 5 steps done" in status(ctx, changed).message
    results = run_action("get-run", state=changed)
    assert results["steps"] == "createpvc SUCCEEDED, ingest RUNNING"


CLAIMS = "/api/v1/namespaces/kubeflow/persistentvolumeclaims"
PODS = "/api/v1/namespaces/kubeflow/pods"
WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows"


@pytest.fixture
def workspace(configured):
    """The state of a trainer with a volume for each run."""
    state = configured(workspace_size="1Gi", storage_class="fast")
    return dataclasses.replace(
        state, relations={*state.relations, ops.testing.PeerRelation("peers")}
    )


@pytest.fixture
def run_id(ctx, workspace, kubernetes, runs):
    """The id of a submitted run with a volume."""
    ctx.run(ctx.on.config_changed(), workspace)
    return runs()[0]["run_id"]


@pytest.fixture
def claim(kubernetes, run_id):
    """Add a claim as the pipeline creates it, and two pods that mounted it."""

    def put(name=run_id, created="2036-01-01T00:00:00Z", phases=("Succeeded", "Failed"), **fields):
        kubernetes.lists.setdefault(CLAIMS, []).append(
            {"metadata": {"name": name, "creationTimestamp": created, **fields}}
        )
        for number, phase in enumerate(phases):
            kubernetes.lists.setdefault(PODS, []).append(
                {
                    "metadata": {
                        "name": f"{name}-{number}",
                        "labels": {"pipeline/runid": name},
                        "creationTimestamp": f"2036-01-01T00:00:0{number}Z",
                    },
                    "spec": {
                        "containers": [],
                        "volumes": [
                            {"name": "kfp-launcher", "emptyDir": {}},
                            {"name": name, "persistentVolumeClaim": {"claimName": name}},
                        ],
                    },
                    "status": {"phase": phase, "containerStatuses": [FAILED] if phase == "Failed" else []},
                }
            )  # fmt: skip

    return put


FAILED = {
    "name": "main",
    "image": "i",
    "imageID": "",
    "ready": False,
    "restartCount": 0,
    "state": {"terminated": {"exitCode": 1, "reason": "Error"}},
}


def remaining(kubernetes):
    """Return the names of the remaining claims and pods."""
    return [
        row["metadata"]["name"] for path in (CLAIMS, PODS) for row in kubernetes.lists.get(path, ())
    ]


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED"])
def test_claim_and_pods_of_an_ended_run_are_deleted(
    ctx, workspace, kubernetes, sandbox, run_id, claim, end
):
    claim()
    out = ctx.run(ctx.on.update_status(), workspace)
    assert remaining(kubernetes) == [run_id, f"{run_id}-0", f"{run_id}-1"]
    sandbox.set_run_state(run_id, end)
    ctx.run(ctx.on.update_status(), out)
    assert remaining(kubernetes) == []


def test_reason_and_log_of_a_failed_run_survive_its_pods(
    ctx, workspace, kubernetes, sandbox, run_id, claim
):
    claim()
    kubernetes.logs[f"{run_id}-1"] = "epoch 1\nno space left on device\n"
    # GIVEN a workflow that stays longer than its pods, and has a message
    labels = {"pipeline/runid": run_id}
    kubernetes.lists[WORKFLOWS] = [{"metadata": {"labels": labels}, "status": {"message": "m"}}]
    sandbox.set_run_state(run_id, "FAILED")
    out = ctx.run(ctx.on.update_status(), workspace)
    assert remaining(kubernetes) == []
    for _ in range(2):
        out = ctx.run(ctx.on.update_status(), out)
        assert "failed: no space left on device; see: juju" in out.unit_status.message
    ctx.run(ctx.on.action("get-run"), out)
    assert ctx.action_results["log"].splitlines() == ["epoch 1", "no space left on device"]
    assert ctx.action_results["pod"] == f"{run_id}-1"


def test_claim_and_pods_stay_while_running(ctx, workspace, kubernetes, sandbox, run_id, claim):
    claim(phases=("Succeeded", "Running", "Pending"))
    # A pod of the run without a volume, like the drivers'.
    kubernetes.lists[PODS][0]["spec"].pop("volumes")
    sandbox.set_run_state(run_id, "SUCCEEDED")
    ctx.run(ctx.on.update_status(), workspace)
    assert remaining(kubernetes) == [f"{run_id}-0", f"{run_id}-1", f"{run_id}-2"]


@pytest.mark.parametrize(
    "claimed",
    [
        {"name": "somebody-elses"},
        {"created": "2020-01-01T00:00:00Z"},
        {"labels": {"pipeline/runid": "another"}},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]},
    ],
)
def test_claims_of_other_runs_stay(ctx, workspace, kubernetes, sandbox, run_id, claim, claimed):
    claim(**claimed)
    before = remaining(kubernetes)
    sandbox.set_run_state(run_id, "SUCCEEDED")
    ctx.run(ctx.on.update_status(), workspace)
    assert remaining(kubernetes) == before


def test_claims_of_manually_submitted_runs_stay(
    ctx, workspace, kubernetes, sandbox, run_id, claim, runs
):
    # GIVEN a run that a user cloned in the dashboard, in the trainer's experiment
    claim()
    sandbox.store.update("runs", run_id, name=f"Clone of {runs()[0]['display_name']}")
    sandbox.set_run_state(run_id, "SUCCEEDED")
    ctx.run(ctx.on.update_status(), workspace)
    assert run_id in remaining(kubernetes)


@pytest.mark.parametrize("name", ["schedule0a1b2c3dqtxj-1-4277344604", "tick0a1b2c3dqtxj-1-427"])
def test_claims_of_the_charms_scheduled_runs_are_deleted(
    ctx, workspace, kubernetes, sandbox, run_id, claim, name
):
    claim()
    sandbox.store.update("runs", run_id, name=name, recurring_run_id="r")
    sandbox.set_run_state(run_id, "SUCCEEDED")
    ctx.run(ctx.on.update_status(), workspace)
    assert (run_id not in remaining(kubernetes)) is name.startswith("schedule")


def test_claims_are_listed_only_if_volumes_are_used(ctx, configured, kubernetes, sandbox, runs):
    with_volume = configured(workspace_size="1Gi", storage_class="fast")
    for state, lists_claims in (
        (configured(), False),
        (with_volume, True),
        (configured(epochs=3), True),
    ):
        ctx.run(ctx.on.config_changed(), state)
        for run in runs():
            sandbox.set_run_state(run["run_id"], "SUCCEEDED")
        before = len(kubernetes.requests)
        ctx.run(ctx.on.update_status(), state)
        lines = [line for line, _ in kubernetes.requests[before:]]
        assert lines == ([f"GET {CLAIMS}"] if lists_claims else [])


def test_failed_volume_removal_does_not_block(ctx, workspace, kubernetes, sandbox, run_id, claim):
    claim()
    sandbox.set_run_state(run_id, "SUCCEEDED")
    for refused in (f"GET {CLAIMS}", f"DELETE {CLAIMS}/{run_id}"):
        kubernetes.refuse[refused] = 403
        out = ctx.run(ctx.on.update_status(), workspace)
        assert "SUCCEEDED" in out.unit_status.message
    assert run_id in remaining(kubernetes)


def test_only_the_leader_removes_volumes(ctx, workspace, kubernetes, sandbox, run_id, claim):
    claim()
    sandbox.set_run_state(run_id, "SUCCEEDED")
    ctx.run(ctx.on.update_status(), dataclasses.replace(workspace, leader=False))
    assert run_id in remaining(kubernetes)
