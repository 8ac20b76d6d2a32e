"""Manage a Kubeflow pipeline from a Juju charm: one run per configuration, even after crashes.

A charm declares what must exist, and this library creates it through Kubeflow Pipelines' REST API
(servers 2.5 and later). This charm, deployed with ``--trust``, trains on a multi-user Charmed Kubeflow
in a profile of its own::

    from pathlib import Path

    import ops

    from kfp_ops import Client, DesiredState, KfpApiRequirer, KfpError, PipelineSpec, RunSpec
    from kfp_ops import apply, fingerprint, observe, plan
    from kfp_ops.kubernetes import Profile


    class MyCharm(ops.CharmBase):
        def __init__(self, framework: ops.Framework):
            super().__init__(framework)
            self.kfp_api = KfpApiRequirer(self)
            api = self.on["kfp-api"]
            events = [self.on.config_changed, self.on.leader_elected, self.on.update_status]
            for event in [*events, api.relation_created, api.relation_changed]:
                framework.observe(event, self._on_change)

        def _on_change(self, _: ops.EventBase):
            if self.unit.is_leader():
                self.kfp_api.publish()  # kfp-api publishes its address only after this
                try:
                    self.unit.status = self._reconcile()
                except KfpError as error:
                    status = ops.WaitingStatus if error.retryable else ops.BlockedStatus
                    self.unit.status = status(str(error))

        def _reconcile(self) -> ops.StatusBase:
            api = self.kfp_api.get()
            if api is None:
                return ops.BlockedStatus("integrate with kfp-api, or wait for its data")
            profile = Profile("my-team", app=self.app.name, juju_model=self.model.name)
            profile.ensure()
            with Client(api.url, namespace=profile.name, token=profile.token) as client:
                return ops.ActiveStatus(self._train(client))

        def _train(self, client: Client) -> str:
            spec = PipelineSpec.load(Path("src/pipelines/train.yaml"))
            arguments = {"epochs": 10}
            name = f"config-{fingerprint(spec.fingerprint, arguments)}"
            run = RunSpec(name=name, parameters=arguments)
            desired = DesiredState(
                pipeline="my-model", spec=spec, experiment=self.app.name, runs=(run,)
            )
            observed = observe(client, desired)
            observed = apply(client, desired, observed, plan(desired, observed))
            return f"run {name} {observed.runs[name].state.value}"

On a single-user server, omit the profile: ``Client(api.url)``.

The name of a run is its identity: the same configuration gives the same name, and ``observe`` finds
the run that has it. The library stores nothing in Juju and retries nothing: the next event completes
what an interrupted one began. The README has a section on each subject.
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
