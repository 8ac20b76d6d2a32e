#!/usr/bin/env python3
"""The Fashion-MNIST trainer: Juju's events in, one reconcile, status out.

Every event takes the same way: load the configuration, read the relations, observe what exists
in Kubeflow Pipelines and in the model registry, plan, act, and tell what is then seen. Only the
leader acts. Nothing is kept in Juju, so an event that is cut off is put right by the next one.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager

import ops

import connection
import metrics
import observability
import pushgateway
import runs
import status
import wishes
from actions import ACTIONS
from announcements import Announcement, introductions, news
from config import OptionError, RunParams, TrainerConfig
from connection import Connection
from kfp_ops import KfpApiRequirer, ObjectStorageRequirer, withdraw, write
from kube import KubernetesError
from observability import Topology
from profiles import Profile
from reconcile import reconcile
from situation import PROBLEMS, NoDataError, Situation
from status import Commands
from wishes import WISHES, Asked

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
        self._situation: Situation | None = None

        changes = [
            self.on.config_changed,
            self.on.leader_elected,
            self.on.upgrade_charm,
            self.on.pushgateway_pebble_ready,
        ]
        for endpoint in self.meta.relations:
            events = self.on[endpoint]
            changes += [events.relation_created, events.relation_changed, events.relation_broken]
        for change in changes:
            framework.observe(change, self._on_change)
        framework.observe(self.on.update_status, self._on_update_status)
        framework.observe(self.on.kfp_api_relation_broken, self._on_way_broken)
        framework.observe(self.on.object_storage_relation_broken, self._on_way_broken)
        framework.observe(self.on.remove, self._on_remove)
        for name in WISHES:
            framework.observe(self.on[name].action, self._on_wish)
        for name in ACTIONS:
            framework.observe(self.on[name].action, self._on_action)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)

    # Juju's events ------------------------------------------------------------------------------

    def _on_change(self, _: ops.EventBase) -> None:
        self._introduce()
        self._situation = self._reconcile()

    def _on_update_status(self, _: ops.EventBase) -> None:
        self._situation = self._reconcile()

    def _on_wish(self, event: ops.ActionEvent) -> None:
        kind = event.handle.kind.removesuffix("_action")
        if not self.unit.is_leader():
            event.fail(f"only the leader submits runs; ask it: {self._commands.run(kind)}")
            return
        try:
            params = event.load_params(WISHES[kind])
            params.over(self.load_config(TrainerConfig))
        except OptionError as error:
            event.fail(f"{error}; nothing was submitted: ask again")
            return
        # Juju counts actions anew in each model, and two models may share a Kubeflow.
        name = f"{kind}-{self.model.uuid[:8]}-{event.id}"
        self._situation = self._reconcile({name: params})
        run = self._situation.runs.get(name)
        if run is None:
            event.fail(status.of(self._situation, self._commands).message)
            return
        try:
            with self._connection() as there:
                event.set_results(runs.submitted(there, run))
                if params.wait:
                    ended = runs.follow(there, run, params.timeout, event.log)
                    event.set_results(runs.details(there, RunParams(run_id=run.run_id)))
                    self._situation = self._reconcile()
                    runs.check(ended)
        except PROBLEMS as error:
            event.fail(status.problem(error, self._commands).message)

    def _on_action(self, event: ops.ActionEvent) -> None:
        action = ACTIONS[event.handle.kind.removesuffix("_action")]
        if action.changes and not self.unit.is_leader():
            event.fail(f"only the leader does this; ask it: {self._commands.run('ACTION')}")
            return
        try:
            params = event.load_params(action.params)
            with self._connection() as there:
                event.set_results(action.answer(there, params))
        except OptionError as error:
            event.fail(f"{error}; nothing was done: ask again")
        except PROBLEMS as error:
            event.fail(status.problem(error, self._commands).message)
        else:
            if action.changes:
                self._situation = self._reconcile()

    def _on_way_broken(self, event: ops.RelationBrokenEvent) -> None:
        """Leave neither service nor schedule behind: what is here is the last way to Kubeflow."""
        if not self.unit.is_leader():
            return
        training, monitoring = wishes.experiments(self.model.name, self.app.name)
        try:
            profile = self._profile(self.load_config(TrainerConfig))
            connection.stop_serving(profile, training)
            is_kfp = event.relation.name == self.kfp_api.relation_name
            api = self.kfp_api.get(event.relation) if is_kfp else None
            if api:
                with connection.connect(api.url, profile) as client:
                    for experiment in (training, monitoring):
                        withdraw(client, experiment)
        except PROBLEMS as error:
            logger.warning("a schedule may be left in Kubeflow Pipelines: %s", error)

    def _on_remove(self, _: ops.RemoveEvent) -> None:
        """Take back the rights in the profile when the application goes; models and runs stay."""
        if not self.unit.is_leader() or self.app.planned_units() > 0:
            return
        try:
            profile = self._profile(self.load_config(TrainerConfig))
            if profile:
                connection.leave(profile, wishes.experiments(self.model.name, self.app.name)[0])
        except (OptionError, KubernetesError) as error:
            logger.warning("%s", error)

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        if self._situation:
            event.add_status(status.of(self._situation, self._commands))

    # The one way through ------------------------------------------------------------------------

    def _reconcile(self, asked: Asked | None = None) -> Situation:
        """See to it that the configuration's run exists, and those that are asked for by name."""
        try:
            situation = self._converge(asked or {})
        except PROBLEMS as error:
            situation = Situation(problem=error)
        self._tell(situation)
        return situation

    def _introduce(self) -> None:
        """Run the workload and tell monitoring of it, which only Juju's changes can alter."""
        relations, topology = self.model.relations, self._topology
        loki = observability.loki_endpoints(relations["logging"], self.model.juju_version)
        pushgateway.reconcile(self.unit.get_container("pushgateway"), loki, topology.labels)
        for relation in relations["metrics-endpoint"]:
            binding = self.model.get_binding(relation)
            address = str(binding.network.bind_address) if binding else socket.getfqdn()
            write(relation.data[self.unit], observability.scrape_unit(self.unit.name, address))
        self._announce(introductions(topology))

    def _tell(self, situation: Situation) -> None:
        """Tell monitoring, Kubeflow's dashboard and charms that serve what is so."""
        if self.unit.get_container("pushgateway").can_connect():
            text = metrics.exposition(situation) if self.unit.is_leader() else None
            pushgateway.push(self.app.name, text)
        self._announce(news(self._topology, situation))

    def _announce(self, announced: Mapping[str, Announcement]) -> None:
        """Let the leader write to the relations that there are."""
        if self.unit.is_leader():
            for endpoint, make in announced.items():
                for relation in self.model.relations[endpoint]:
                    write(relation.data[self.app], make())

    def _converge(self, asked: Asked) -> Situation:
        if self.unit.is_leader():
            self.kfp_api.publish()
            self.object_storage.publish()
        with self._connection() as there:
            return reconcile(there, asked, leads=self.unit.is_leader())

    @contextmanager
    def _connection(self) -> Generator[Connection]:
        """Kubeflow Pipelines and the registry, as configuration and relations say."""
        config = self.load_config(TrainerConfig)
        api, storage = self.kfp_api.get(), self.object_storage.get()
        if api is None:
            raise NoDataError("kfp-api", "kfp-api", is_related=self.kfp_api.is_related)
        if storage is None:
            raise NoDataError("object-storage", "minio", is_related=self.object_storage.is_related)
        profile = self._profile(config)
        if profile and self.unit.is_leader():
            profile.ensure()
        with connection.connect(api.url, profile) as client:
            yield Connection(
                config=config,
                client=client,
                storage=storage,
                profile=profile,
                app=self.app.name,
                model=self.model.name,
                memory=self._memory if config.schedule else {},
            )

    @property
    def _memory(self) -> MutableMapping[str, str]:
        relation = self.model.get_relation("peers")
        return relation.data[self.app] if relation else {}

    def _profile(self, config: TrainerConfig) -> Profile | None:
        return connection.profile(config, app=self.app.name, model=self.model.name)

    @property
    def _topology(self) -> Topology:
        return Topology(
            model=self.model.name,
            model_uuid=self.model.uuid,
            application=self.app.name,
            charm=self.meta.name,
        )

    @property
    def _commands(self) -> Commands:
        return Commands(app=self.app.name, juju=self.model.juju_version.major)


if __name__ == "__main__":
    ops.main(FashionMnistTrainerCharm)
