#!/usr/bin/env python3
"""The Fashion-MNIST trainer: Juju's events in, one reconcile, status out.

Every event takes the same way: load the configuration, read the relations, observe what exists
in Kubeflow Pipelines and in the model registry, plan, act, and tell what is then seen. Only the
leader acts. Nothing is kept in Juju, so an event that is cut off is put right by the next one.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import ops

import status
from config import OptionError, TrainerConfig, TrainParams
from cron import six_fields
from kfp_ops import (
    Client,
    KfpApiRequirer,
    KfpError,
    ObjectStorage,
    ObjectStorageRequirer,
    PipelineSpec,
    RelationDataError,
    Run,
    RunRequest,
    Schedule,
    SdiRequirer,
    Wanted,
    act,
    fingerprint,
    observe,
    plan,
)
from profiles import Profile, ProfileError
from registry import Registry, RegistryError
from status import Commands, Situation

logger = logging.getLogger(__name__)
# Each request would be several lines of Juju's log.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)

PIPELINE = "fashion-mnist-trainer"
COMPILED = Path(__file__).parent / "pipelines" / "train.yaml"


class FashionMnistTrainerCharm(ops.CharmBase):
    """Trains, judges and follows a Fashion-MNIST model on Kubeflow Pipelines."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.kfp_api = KfpApiRequirer(self)
        self.object_storage = ObjectStorageRequirer(self)
        self._situation: Situation | None = None

        changes = [
            self.on.config_changed,
            self.on.leader_elected,
            self.on.update_status,
            self.on.upgrade_charm,
        ]
        for relation in (self.kfp_api, self.object_storage):
            events = self.on[relation.relation_name]
            changes += [events.relation_created, events.relation_changed, events.relation_broken]
        for change in changes:
            framework.observe(change, self._on_change)
        framework.observe(self.on.remove, self._on_remove)
        framework.observe(self.on.train_action, self._on_train)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)

    # Juju's events ------------------------------------------------------------------------------

    def _on_change(self, _: ops.EventBase) -> None:
        self._situation = self._reconcile()

    def _on_train(self, event: ops.ActionEvent) -> None:
        if not self.unit.is_leader():
            event.fail(f"only the leader submits runs; ask it: {self._commands.train}")
            return
        try:
            params = event.load_params(TrainParams)
            params.over(self.load_config(TrainerConfig))
        except OptionError as error:
            event.fail(f"{error}; nothing was submitted: ask again")
            return
        # Juju counts actions anew in each model, and two models may share a Kubeflow.
        name = f"train-{self.model.uuid[:8]}-{event.id}"
        self._situation = self._reconcile({name: params})
        run = self._situation.runs.get(name)
        if run:
            event.set_results(
                {"run-id": run.run_id, "run-name": run.display_name, "run-url": self._link(run)}
            )
        else:
            event.fail(status.of(self._situation, self._commands).message)

    def _on_remove(self, _: ops.RemoveEvent) -> None:
        """Take back the rights in the profile when the application goes; models and runs stay."""
        if not self.unit.is_leader() or self.app.planned_units() > 0:
            return
        try:
            profile = self._profile(self.load_config(TrainerConfig))
            if profile:
                profile.release()
        except (OptionError, ProfileError) as error:
            logger.warning("%s", error)

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        if self._situation:
            event.add_status(status.of(self._situation, self._commands))

    # The one way through ------------------------------------------------------------------------

    def _reconcile(self, asked: Mapping[str, TrainParams] | None = None) -> Situation:
        """See to it that the configuration's run exists, and those that are asked for by name."""
        try:
            return self._with_results(self._converge(asked or {}))
        except (OptionError, RelationDataError, KfpError, ProfileError) as error:
            logger.warning("%s", error)
            return Situation(problem=status.problem(error, self._commands))

    def _converge(self, asked: Mapping[str, TrainParams]) -> Situation:
        if self.unit.is_leader():
            self.kfp_api.publish()
            self.object_storage.publish()
        config = self.load_config(TrainerConfig)
        api, storage = self.kfp_api.get(), self.object_storage.get()
        if api is None:
            return Situation(problem=self._no_data(self.kfp_api, "kfp-api"))
        if storage is None:
            return Situation(problem=self._no_data(self.object_storage, "minio"))
        spec = PipelineSpec.load(COMPILED, image=config.training_image)
        wanted = Wanted(
            pipeline=PIPELINE,
            spec=spec,
            experiment=f"{self.model.name}-{self.app.name}",
            runs=tuple(_requests(config, spec, storage, asked)),
            schedule=_schedule(config, spec, storage),
        )
        with self._client(api.url, config) as client:
            seen = observe(client, wanted)
            if self.unit.is_leader():
                seen = act(client, wanted, seen, plan(wanted, seen))
        return Situation(runs=seen.runs, latest=seen.latest, steps=spec.steps)

    def _client(self, url: str, config: TrainerConfig) -> Client:
        profile = self._profile(config)
        if profile is None:
            return Client(url)
        if self.unit.is_leader():
            profile.ensure()
        token = profile.token()
        return Client(url, namespace=profile.name, token=lambda: token)

    def _profile(self, config: TrainerConfig) -> Profile | None:
        if not config.profile:
            return None
        return Profile(
            config.profile, app=self.app.name, model=self.model.name, owner=config.profile_owner
        )

    def _with_results(self, situation: Situation) -> Situation:
        """Add what the registry says of the latest run and of the model that serves."""
        storage = self.object_storage.get()
        if storage is None or situation.problem:
            return situation
        config = self.load_config(TrainerConfig)
        registry = Registry(storage, bucket=config.registry_bucket, prefix=config.registry_prefix)
        run = situation.latest
        try:
            return dataclasses.replace(
                situation,
                champion=registry.champion(),
                result=registry.result(run.run_id) if run and run.state.is_final else None,
            )
        except RegistryError as error:
            logger.warning("%s", error)
            return dataclasses.replace(situation, problem=status.problem(error, self._commands))

    def _no_data(self, relation: SdiRequirer, remote: str) -> ops.StatusBase:
        if relation.is_related:
            return status.not_published(relation.relation_name)
        return status.not_related(self._commands, relation.relation_name, remote)

    def _link(self, run: Run) -> str:
        """Where a person looks at the run: Kubeflow's dashboard, or else the API."""
        config = self.load_config(TrainerConfig)
        dashboard = config.dashboard_url.rstrip("/")
        if dashboard:
            namespace = f"?ns={config.profile}" if config.profile else ""
            return f"{dashboard}/_/pipeline/{namespace}#/runs/details/{run.run_id}"
        api = self.kfp_api.get()
        return f"{api.url if api else ''}/apis/v2beta1/runs/{run.run_id}"

    @property
    def _commands(self) -> Commands:
        return Commands(app=self.app.name, juju=self.model.juju_version.major)


def _requests(
    config: TrainerConfig,
    spec: PipelineSpec,
    storage: ObjectStorage,
    asked: Mapping[str, TrainParams],
) -> Iterator[RunRequest]:
    """The runs that shall exist: one for this very configuration, one for each wish."""
    if config.train_on_change:
        arguments = _arguments(config, storage)
        yield RunRequest(
            name=f"config-{fingerprint(spec.fingerprint, arguments)}",
            parameters=arguments,
            description="The charm's configuration",
            supersedes="config-",
        )
    for name, params in asked.items():
        yield RunRequest(
            name=name,
            parameters=_arguments(params.over(config), storage),
            description=params.note or "Asked for by the action train",
        )


def _schedule(config: TrainerConfig, spec: PipelineSpec, storage: ObjectStorage) -> Schedule | None:
    if not config.schedule:
        return None
    arguments, cron = _arguments(config, storage), six_fields(config.schedule)
    return Schedule(
        name=f"schedule-{fingerprint(spec.fingerprint, {**arguments, 'cron': cron})}",
        cron=cron,
        parameters=arguments,
        description=f"The charm's schedule: {config.schedule}",
        enabled=not config.schedule_paused,
    )


def _arguments(config: TrainerConfig, storage: ObjectStorage) -> dict[str, object]:
    return {**config.arguments, "s3_endpoint": storage.url}


if __name__ == "__main__":
    ops.main(FashionMnistTrainerCharm)
