#!/usr/bin/env python3
"""The Fashion-MNIST trainer: Juju events in, one reconcile, status out.

Every event does the same: load the configuration, read the relations, observe the state of Kubeflow
Pipelines and of the model registry, plan and apply changes, and report the result. Only the leader
changes anything. State lives in Kubeflow and the registry, and the peer relation holds only what neither
of them records, so the next event completes what an interrupted one began.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import ops

from commands import Commands
from config import TrainerConfig
from errors import CharmError, NoDataError, as_charm_errors
from kfp_ops import KfpApiRequirer, ObjectStorageRequirer, RelationDataError
from reconciler.snapshot import Snapshot
from reporting import status
from workload import pushgateway

# Import the rest lazily: an event that reaches no server takes half as long without it.
# tests/unit/test_start.py holds that.
if TYPE_CHECKING:
    from actions import Action
    from kfp_ops.kubernetes import Profile
    from reconciler.context import Context
    from reconciler.requests import Requested

logger = logging.getLogger(__name__)
# Both log several lines per request.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)


class FashionMnistTrainerCharm(ops.CharmBase):
    """Trains, evaluates, promotes and monitors a Fashion-MNIST model on Kubeflow Pipelines."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.kfp_api = KfpApiRequirer(self)
        self.object_storage = ObjectStorageRequirer(self)
        self._snapshot: Snapshot | None = None
        # Used until the peer relation exists.
        self._without_peers: dict[str, str] = {}
        self._is_relation_broken = False

        changes = [
            *(self.on.config_changed, self.on.leader_elected, self.on.upgrade_charm),
            # Each Loki unit receives the logs at its own address.
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

    # Events ------------------------------------------------------------------------------------

    def _on_change(self, event: ops.EventBase) -> None:
        from reporting.report import configure_workload

        self._is_relation_broken = isinstance(event, ops.RelationBrokenEvent)
        configure_workload(self.model, self.meta.name)
        self._reconcile()

    def _on_update_status(self, _: ops.EventBase) -> None:
        self._reconcile()

    def _on_action(self, event: ops.ActionEvent) -> None:
        from actions import ACTIONS

        name = event.handle.kind.removesuffix("_action")
        action = ACTIONS[name]
        if action.is_for_leader and not self.unit.is_leader():
            command = self._commands.run(name.replace("_", "-"))
            event.fail(f"only the leader runs this action: {command}")
            return
        try:
            self._run_action(event, name, action)
        except CharmError as error:
            event.fail(status.failure(error, self._commands))
        except ops.ModelError as error:
            if "shut down" not in str(error):
                raise
            # The pod is being stopped: hook tools no longer work.
            sys.exit(
                f"the unit agent stopped during the action; a submitted run continues: {error}"
            )

    def _run_action(self, event: ops.ActionEvent, name: str, action: Action) -> None:
        from actions import check_succeeded, set_results, submit

        params = event.load_params(action.params)
        if action.handler is None:
            params.apply_to(self.load_config(TrainerConfig))
            # Juju numbers actions per model, and two models may share a Kubeflow.
            run_name = f"{name}-{self.model.uuid[:8]}-{event.id}"
            snapshot = self._reconcile({run_name: params})
            with self._open_context() as context:
                awaited = submit(event, context, snapshot, run_name, params, self._commands)
            if awaited:
                self._reconcile()
                check_succeeded(awaited)
            return
        with self._open_context() as context:
            results = action.handler(context, params)
        problem = self._reconcile().problem if action.is_for_leader else None
        if problem:
            # The change itself succeeded; only its effect on Kubeflow is delayed.
            results["pending"] = status.pending(problem, self._commands)
        set_results(event, results)

    def _on_kfp_api_broken(self, event: ops.RelationBrokenEvent) -> None:
        """Delete the schedules while the API is still reachable; keep serving the model."""
        from reconciler.teardown import delete_schedules, is_scaling_down

        with suppress(RelationDataError):
            api = self.kfp_api.get(event.relation)
            if api and self.unit.is_leader() and not is_scaling_down(self.unit.name):
                delete_schedules(api.url, self._profile(), model=self.model.name, app=self.app.name)

    def _on_remove(self, _event: ops.RemoveEvent) -> None:
        """Revoke the application's access to its profiles; keep models and runs."""
        from reconciler.teardown import clean_up_profiles

        if self.unit.is_leader() and self.app.planned_units() == 0:
            clean_up_profiles(model=self.model.name, app=self.app.name)

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        if self._snapshot:
            event.add_status(self._status(self._snapshot))

    def _status(self, snapshot: Snapshot) -> ops.StatusBase:
        if self._is_relation_broken and isinstance(snapshot.problem, NoDataError):
            from reconciler.teardown import is_dying

            # Juju breaks a unit's relations before it removes the unit.
            if is_dying(self.unit.name):
                return ops.MaintenanceStatus("the unit is being removed")
        if self.unit.is_leader():
            return status.unit_status(snapshot, self._commands)
        return status.standby_status(snapshot, self._commands)

    # Reconcile ---------------------------------------------------------------------------------

    def _reconcile(self, requested: Requested | None = None) -> Snapshot:
        """Create the runs that the configuration and an action request, and report the result."""
        from reporting.report import report

        try:
            if self.unit.is_leader():
                self.kfp_api.publish()
                self.object_storage.publish()
            with self._open_context() as context:
                from reconciler.reconcile import reconcile

                snapshot = reconcile(context, requested or {}, dry_run=not self.unit.is_leader())
        except CharmError as error:
            snapshot = Snapshot(problem=error)
        if snapshot.problem:
            # The status may show only its beginning.
            logger.warning("%s", snapshot.problem)
        workload = pushgateway.failure(self.unit.get_container(pushgateway.CONTAINER))
        self._snapshot = dataclasses.replace(snapshot, workload=workload)
        report(self.model, self._snapshot, self.meta.name, self.charm_dir)
        return self._snapshot

    @contextmanager
    def _open_context(self) -> Generator[Context]:
        """Connect to the Kubeflow Pipelines and the registry that options and relations name."""
        with as_charm_errors():
            config = self.load_config(TrainerConfig)
            api, storage = self.kfp_api.get(), self.object_storage.get()
            if api is None:
                is_related = self.kfp_api.is_related
                raise NoDataError("kfp-api", "kfp-api", "address", is_related)
            if storage is None:
                is_related = self.object_storage.is_related
                raise NoDataError("object-storage", "minio", "keys", is_related)
            from reconciler.context import Context, connect
            from reconciler.peer_data import PeerData

            profile = self._profile()
            if profile and self.unit.is_leader():
                profile.ensure()
            peers = self.model.get_relation("peers")
            with connect(api.url, profile) as client:
                yield Context(
                    config=config,
                    client=client,
                    storage=storage,
                    profile=profile,
                    namespace=config.profile or api.namespace or self.model.name,
                    app=self.app.name,
                    juju_model=self.model.name,
                    peer_data=PeerData(peers.data[self.app] if peers else self._without_peers),
                )

    def _profile(self) -> Profile | None:
        """Return the profile from the options, even if other options are invalid."""
        from kfp_ops.kubernetes import Profile

        name, owner = (str(self.config[option]) for option in ("profile", "profile-owner"))
        app, model = self.app.name, self.model.name
        return Profile(name, app=app, juju_model=model, owner=owner) if name else None

    @property
    def _commands(self) -> Commands:
        return Commands(app=self.app.name, juju=self.model.juju_version.major)


if __name__ == "__main__":
    ops.main(FashionMnistTrainerCharm)
