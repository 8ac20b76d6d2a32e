"""Let a Juju charm manage a Kubeflow pipeline: one wish, one run, whatever dies in between.

A charm says what shall exist and this library sees to it, over Kubeflow Pipelines' REST API
(servers 2.5 and later)::

    from kfp_ops import Client, KfpApiRequirer, PipelineSpec, RunRequest, Wanted
    from kfp_ops import act, fingerprint, observe, plan

    api = KfpApiRequirer(self).get()               # None until kfp-api has published its address
    spec = PipelineSpec.load(Path("src/pipelines/train.yaml"))
    arguments = {"epochs": 10}
    request = RunRequest(name=f"config-{fingerprint(spec.fingerprint, arguments)}",
                         parameters=arguments)
    wanted = Wanted(pipeline="my-model", spec=spec, experiment="my-app", runs=(request,))
    with Client(api.url) as client:
        seen = observe(client, wanted)
        seen = act(client, wanted, seen, plan(wanted, seen))
    print(seen.runs[request.name].state)

The name of a run is its identity: the same configuration gives the same name, and `observe` finds
the run that carries it. Nothing is stored in Juju, nothing is retried behind the caller's back,
and an event that was cut off anywhere is put right by the next one.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp_ops.client import Client
    from kfp_ops.errors import (
        AnswerError,
        ApiError,
        ConflictError,
        ForbiddenError,
        KfpError,
        NotFoundError,
        RequestError,
        ServerError,
        UnauthorizedError,
        UnreachableError,
    )
    from kfp_ops.models import (
        Experiment,
        Pipeline,
        PipelineVersion,
        RecurringRun,
        Run,
        RunState,
        Task,
    )
    from kfp_ops.reconcile import (
        CreateExperiment,
        CreatePipeline,
        CreateSchedule,
        DeleteSchedule,
        Observed,
        RetireSchedule,
        RunRequest,
        Schedule,
        Step,
        SubmitRun,
        SwitchSchedule,
        TerminateRun,
        UploadVersion,
        Wanted,
        act,
        observe,
        plan,
        withdraw,
    )
    from kfp_ops.relations import (
        DashboardLink,
        KfpApi,
        KfpApiRequirer,
        ObjectStorage,
        ObjectStorageRequirer,
        RelationDataError,
        SdiRequirer,
        TrainedModel,
        TrainedModelRequirer,
        write,
    )
    from kfp_ops.resources import Resources, quantity
    from kfp_ops.spec import Parameter, PipelineSpec, fingerprint

# Imported when they are asked for: all of it takes longer than many an event does.
_MODULES = {
    "client": "Client",
    "errors": (
        "AnswerError ApiError ConflictError ForbiddenError KfpError NotFoundError RequestError "
        "ServerError UnauthorizedError UnreachableError"
    ),
    "models": "Experiment Pipeline PipelineVersion RecurringRun Run RunState Task",
    "reconcile": (
        "CreateExperiment CreatePipeline CreateSchedule DeleteSchedule Observed RetireSchedule "
        "RunRequest Schedule Step SubmitRun SwitchSchedule TerminateRun UploadVersion Wanted act "
        "observe plan withdraw"
    ),
    "relations": (
        "DashboardLink KfpApi KfpApiRequirer ObjectStorage ObjectStorageRequirer "
        "RelationDataError SdiRequirer TrainedModel TrainedModelRequirer write"
    ),
    "resources": "Resources quantity",
    "spec": "Parameter PipelineSpec fingerprint",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    attribute = getattr(importlib.import_module(f"kfp_ops.{_HOMES[name]}"), name)
    globals()[name] = attribute
    return attribute


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__version__ = "0.1.0"
__all__ = [
    "AnswerError",
    "ApiError",
    "Client",
    "ConflictError",
    "CreateExperiment",
    "CreatePipeline",
    "CreateSchedule",
    "DashboardLink",
    "DeleteSchedule",
    "Experiment",
    "ForbiddenError",
    "KfpApi",
    "KfpApiRequirer",
    "KfpError",
    "NotFoundError",
    "ObjectStorage",
    "ObjectStorageRequirer",
    "Observed",
    "Parameter",
    "Pipeline",
    "PipelineSpec",
    "PipelineVersion",
    "RecurringRun",
    "RelationDataError",
    "RequestError",
    "Resources",
    "RetireSchedule",
    "Run",
    "RunRequest",
    "RunState",
    "Schedule",
    "SdiRequirer",
    "ServerError",
    "Step",
    "SubmitRun",
    "SwitchSchedule",
    "Task",
    "TerminateRun",
    "TrainedModel",
    "TrainedModelRequirer",
    "UnauthorizedError",
    "UnreachableError",
    "UploadVersion",
    "Wanted",
    "act",
    "fingerprint",
    "observe",
    "plan",
    "quantity",
    "withdraw",
    "write",
]
