"""Let a Juju charm manage a Kubeflow pipeline: one request, one run, whatever fails in between.

A charm declares what must exist, and this library creates it through Kubeflow Pipelines' REST API
(servers 2.5 and later)::

    from kfp_ops import Client, DesiredState, KfpApiRequirer, PipelineSpec, RunSpec
    from kfp_ops import apply, fingerprint, observe, plan

    api = KfpApiRequirer(self).get()               # None until kfp-api has published its address
    spec = PipelineSpec.load(Path("src/pipelines/train.yaml"))
    arguments = {"epochs": 10}
    run = RunSpec(name=f"config-{fingerprint(spec.fingerprint, arguments)}", parameters=arguments)
    desired = DesiredState(pipeline="my-model", spec=spec, experiment="my-app", runs=(run,))
    with Client(api.url) as client:
        observed = observe(client, desired)
        observed = apply(client, desired, observed, plan(desired, observed))
    print(observed.runs[run.name].state)

The name of a run is its identity: the same configuration gives the same name, and ``observe`` finds
the run that has it. The library stores nothing in Juju and retries nothing: the next event completes
what an interrupted one began.
"""

from kfp_ops._api_types import (
    Experiment,
    Pipeline,
    PipelineVersion,
    RecurringRun,
    Run,
    RunState,
    Task,
)
from kfp_ops._apply import apply, delete_owned
from kfp_ops._client import Client
from kfp_ops._databag import RelationDataError, update_databag
from kfp_ops._errors import (
    AnswerError,
    ApiError,
    ApplyError,
    ConflictError,
    ForbiddenError,
    KfpError,
    KubernetesError,
    KubernetesForbiddenError,
    NoProfilesError,
    NoSuchKindError,
    NotFoundError,
    ProfilePendingError,
    RequestError,
    ServerError,
    UnauthorizedError,
    UnreachableError,
)
from kfp_ops._follow import follow, progress
from kfp_ops._observe import observe
from kfp_ops._plan import plan
from kfp_ops._resources import Resources, quantity
from kfp_ops._sdi import SdiRequirer
from kfp_ops._spec import Parameter, PipelineSpec, fingerprint
from kfp_ops._state import (
    Change,
    ConcurrencyPolicy,
    CreateExperiment,
    CreatePipeline,
    CreateSchedule,
    DeleteSchedule,
    DesiredState,
    Disable,
    ObservedState,
    RecurringRunSpec,
    RunSpec,
    SetEnabled,
    SubmitRun,
    TerminateRun,
    UploadVersion,
)
from kfp_ops.interfaces.dashboard_links import DashboardLink
from kfp_ops.interfaces.kfp_api import KfpApi, KfpApiRequirer
from kfp_ops.interfaces.object_storage import ObjectStorage, ObjectStorageRequirer
from kfp_ops.interfaces.trained_model import TrainedModel, TrainedModelRequirer

__version__ = "0.1.0"
__all__ = [
    "AnswerError",
    "ApiError",
    "ApplyError",
    "Change",
    "Client",
    "ConcurrencyPolicy",
    "ConflictError",
    "CreateExperiment",
    "CreatePipeline",
    "CreateSchedule",
    "DashboardLink",
    "DeleteSchedule",
    "DesiredState",
    "Disable",
    "Experiment",
    "ForbiddenError",
    "KfpApi",
    "KfpApiRequirer",
    "KfpError",
    "KubernetesError",
    "KubernetesForbiddenError",
    "NoProfilesError",
    "NoSuchKindError",
    "NotFoundError",
    "ObjectStorage",
    "ObjectStorageRequirer",
    "ObservedState",
    "Parameter",
    "Pipeline",
    "PipelineSpec",
    "PipelineVersion",
    "ProfilePendingError",
    "RecurringRun",
    "RecurringRunSpec",
    "RelationDataError",
    "RequestError",
    "Resources",
    "Run",
    "RunSpec",
    "RunState",
    "SdiRequirer",
    "ServerError",
    "SetEnabled",
    "SubmitRun",
    "Task",
    "TerminateRun",
    "TrainedModel",
    "TrainedModelRequirer",
    "UnauthorizedError",
    "UnreachableError",
    "UploadVersion",
    "apply",
    "delete_owned",
    "fingerprint",
    "follow",
    "observe",
    "plan",
    "progress",
    "quantity",
    "update_databag",
]
