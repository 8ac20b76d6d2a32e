#!/usr/bin/env python3
"""The Fashion-MNIST trainer: Juju's events in, one reconcile, status out.

Every event takes the same way: load the configuration, read the relations, observe what exists
in Kubeflow Pipelines and in the model registry, plan, act, and tell what is then seen. Only the
leader acts. The peer relation keeps only what neither the options nor Kubeflow tell, so an event that
is cut off is put right by the next one.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import ops

from commands import Commands
from config import TrainerConfig
from errors import CharmError, NoDataError, as_charm_errors
from kfp_ops import KfpApiRequirer, ObjectStorageRequirer, RelationDataError, update_databag
from reconciler.snapshot import Snapshot
from reporting import status
from workload import pushgateway

# What an event that asks nobody does without is imported where it is used: it takes half as long as
# all that such an event does. tests/unit/test_start.py holds it so.
if TYPE_CHECKING:
    from k8s.authorization import Profile
    from reconciler.context import Context
    from reconciler.requests import Requested, RunRequest
    from reporting.relation_data import Announcement

logger = logging.getLogger(__name__)
# Each request would be several lines of Juju's log.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)


class FashionMnistTrainerCharm(ops.CharmBase):
    """Trains, judges and follows a Fashion-MNIST model on Kubeflow Pipelines."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.kfp_api = KfpApiRequirer(self)
        self.object_storage = ObjectStorageRequirer(self)
        self._snapshot: Snapshot | None = None
        # In place of the peer relation's data, where there is none yet.
        self._without_peers: dict[str, str] = {}
        self._is_relation_broken = False

        changes = [
            *(self.on.config_changed, self.on.leader_elected, self.on.upgrade_charm),
            # Of units that leave others behind only Loki's matter: each gets the log by its address.
            *(self.on.pushgateway_pebble_ready, self.on.logging_relation_departed),
        ]
        for endpoint in self.meta.relations:
            events = self.on[endpoint]
            changes += [events.relation_created, events.relation_changed, events.relation_broken]
        for change in changes:
            framework.observe(change, self._on_change)
        framework.observe(self.on.update_status, self._on_update_status)
        framework.observe(self.on.kfp_api_relation_broken, self._on_kfp_api_broken)
        framework.observe(self.on.remove, self._on_remove)
        for name in self.meta.actions:
            framework.observe(self.on[name].action, self._on_action)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)

    # Juju's events ------------------------------------------------------------------------------

    def _on_change(self, event: ops.EventBase) -> None:
        self._is_relation_broken = isinstance(event, ops.RelationBrokenEvent)
        self._configure_workload()
        self._snapshot = self._reconcile()

    def _on_update_status(self, _: ops.EventBase) -> None:
        self._snapshot = self._reconcile()

    def _on_action(self, event: ops.ActionEvent) -> None:
        try:
            self._act(event)
        except ops.ModelError as error:
            if "shut down" not in str(error):
                raise
            # The pod is stopped under the action: Juju's tools answer nothing any more.
            sys.exit(f"Juju's agent stopped during the action, a run goes on: {error}")

    def _act(self, event: ops.ActionEvent) -> None:
        from actions import ACTIONS, set_results
        from reconciler.requests import RUN_ACTIONS

        name = event.handle.kind.removesuffix("_action")
        action = ACTIONS.get(name)
        if (action is None or action.changes) and not self.unit.is_leader():
            command = self._commands.run(name.replace("_", "-"))
            event.fail(f"only the leader does this; ask it: {command}")
            return
        try:
            if action is None:
                self._submit(event, name, event.load_params(RUN_ACTIONS[name]))
                return
            params = event.load_params(action.params)
            with self._open_context() as context:
                results = action.answer(context, params)
        except CharmError as error:
            event.fail(status.failure(error, self._commands))
        else:
            if action.changes:
                self._snapshot = self._reconcile()
                problem = self._snapshot.problem
                message = status.pending(problem, self._commands) if problem else ""
                # What was moved or noted is so, whatever keeps Kubeflow from following it now.
                results |= {"pending": message} if message else {}
            set_results(event, results)

    def _submit(self, event: ops.ActionEvent, kind: str, params: RunRequest) -> None:
        from actions import runs, set_results
        from actions.params import RunParams

        params.apply_to(self.load_config(TrainerConfig))
        # Juju counts actions anew in each model, and two models may share a Kubeflow.
        name = f"{kind}-{self.model.uuid[:8]}-{event.id}"
        self._snapshot = self._reconcile({name: params})
        run, problem = self._snapshot.runs.get(name), self._snapshot.problem
        if run is None:
            message = status.unit_status(self._snapshot, self._commands).message
            event.fail(status.failure(problem, self._commands) if problem else message)
            return
        with self._open_context() as context:
            set_results(event, runs.submitted(context, run))
            if params.wait:
                ended = runs.follow(context, run, params.timeout, event.log)
                set_results(event, runs.details(context, RunParams(run_id=run.run_id)))
                self._snapshot = self._reconcile()
                runs.check(ended)

    def _on_kfp_api_broken(self, event: ops.RelationBrokenEvent) -> None:
        """Leave no schedule behind: what is here is the last way to it. What serves goes on."""
        from reconciler.teardown import end_schedules, is_leaving

        with suppress(RelationDataError):
            api = self.kfp_api.get(event.relation)
            if api and self.unit.is_leader() and not is_leaving(self.unit.name):
                end_schedules(api.url, self._profile(), model=self.model.name, app=self.app.name)

    def _on_remove(self, _event: ops.RemoveEvent) -> None:
        """Take back the rights in the profile when the application goes; models and runs stay."""
        from reconciler.teardown import leave_profiles

        if self.unit.is_leader() and self.app.planned_units() == 0:
            leave_profiles(model=self.model.name, app=self.app.name)

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        if self._snapshot:
            event.add_status(self._status(self._snapshot))

    def _status(self, snapshot: Snapshot) -> ops.StatusBase:
        if self._is_relation_broken and isinstance(snapshot.problem, NoDataError):
            from reconciler.teardown import is_dying

            # Juju removes the relations of a unit that leaves before the unit.
            if is_dying(self.unit.name):
                return ops.MaintenanceStatus("the unit is being removed")
        if self.unit.is_leader():
            return status.unit_status(snapshot, self._commands)
        return status.standby_status(snapshot, self._commands)

    # The one way through ------------------------------------------------------------------------

    def _reconcile(self, requested: Requested | None = None) -> Snapshot:
        """See to it that the configuration's run exists, and those that are asked for by name."""
        try:
            snapshot = self._converge(requested or {})
        except CharmError as error:
            snapshot = Snapshot(problem=error)
        if snapshot.problem:
            # The status has no room for all of it.
            logger.warning("%s", snapshot.problem)
        workload = pushgateway.failure(self.unit.get_container(pushgateway.CONTAINER))
        snapshot = dataclasses.replace(snapshot, workload=workload)
        self._publish(snapshot)
        return snapshot

    def _configure_workload(self) -> None:
        """Run the workload and tell monitoring of it, which only Juju's changes can alter."""
        from reporting.relation_data import observability_data
        from workload import observability

        relations, topology = self.model.relations, observability.Topology.from_charm(self)
        loki = observability.loki_endpoints(relations["logging"], self.model.juju_version)
        pushgateway.reconcile(self.unit.get_container(pushgateway.CONTAINER), loki, topology.labels)
        for relation in relations["metrics-endpoint"]:
            binding = self.model.get_binding(relation)
            update_databag(
                relation.data[self.unit], observability.scrape_unit(self.unit.name, binding)
            )
        self._announce(observability_data(topology))

    def _publish(self, snapshot: Snapshot) -> None:
        """Tell monitoring, Kubeflow's dashboard and charms that serve what is so."""
        from reporting.relation_data import snapshot_data
        from workload.observability import Topology

        if self.unit.get_container(pushgateway.CONTAINER).can_connect():
            from reporting import metrics

            text = metrics.exposition(snapshot) if self.unit.is_leader() else None
            pushgateway.push(self.app.name, text, is_whole=not snapshot.problem)
        self._announce(snapshot_data(Topology.from_charm(self), snapshot))
        if self.unit.is_leader() and not snapshot.problem:
            self.unit.set_workload_version(self._version(snapshot))

    def _announce(self, announcements: Mapping[str, Announcement]) -> None:
        """Let the leader write to the relations that there are."""
        if self.unit.is_leader():
            for endpoint, relation_data in announcements.items():
                for relation in self.model.relations[endpoint]:
                    update_databag(relation.data[self.app], relation_data())

    def _converge(self, requested: Requested) -> Snapshot:
        if self.unit.is_leader():
            self.kfp_api.publish()
            self.object_storage.publish()
        with self._open_context() as context:
            from reconciler.reconcile import reconcile

            return reconcile(context, requested, dry_run=not self.unit.is_leader())

    @contextmanager
    def _open_context(self) -> Generator[Context]:
        """Kubeflow Pipelines and the registry, as configuration and relations say."""
        from reconciler.context import Context, connect
        from reconciler.peer_data import PeerData

        with as_charm_errors():
            config = self.load_config(TrainerConfig)
            api, storage = self.kfp_api.get(), self.object_storage.get()
            if api is None:
                is_related = self.kfp_api.is_related
                raise NoDataError("kfp-api", "kfp-api", is_related=is_related, missing="address")
            if storage is None:
                is_related = self.object_storage.is_related
                raise NoDataError("object-storage", "minio", is_related=is_related, missing="keys")
            profile = self._profile()
            if profile and self.unit.is_leader():
                profile.ensure()
            with connect(api.url, profile) as client:
                yield Context(
                    config=config,
                    client=client,
                    storage=storage,
                    profile=profile,
                    namespace=config.profile or api.namespace or self.model.name,
                    app=self.app.name,
                    model=self.model.name,
                    peer_data=PeerData(self._databag),
                )

    @property
    def _databag(self) -> MutableMapping[str, str]:
        relation = self.model.get_relation("peers")
        return relation.data[self.app] if relation else self._without_peers

    def _profile(self) -> Profile | None:
        """The profile that the options name, whatever else is wrong with them; None: single-user."""
        from k8s.authorization import Profile

        name, owner = (str(self.config[option]) for option in ("profile", "profile-owner"))
        app, model = self.app.name, self.model.name
        return Profile(name, app=app, model=model, owner=owner) if name else None

    def _version(self, snapshot: Snapshot) -> str:
        """Return the champion's version, or the charm's as long as no model serves."""
        if snapshot.champion:
            return f"v{snapshot.champion.version}"
        packed = self.charm_dir / "version"
        return packed.read_text(encoding="utf-8").strip() if packed.exists() else ""

    @property
    def _commands(self) -> Commands:
        return Commands(app=self.app.name, juju=self.model.juju_version.major)


if __name__ == "__main__":
    ops.main(FashionMnistTrainerCharm)
