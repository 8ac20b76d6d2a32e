#!/usr/bin/env python3
"""Train a model of handwritten digits on Kubeflow Pipelines, with the library kfp_ops."""

from contextlib import suppress

import ops
from digits import SPEC, DigitsConfig, TrainParams, desired_state, read_accuracy

import kfp_ops
from kfp_ops import kubernetes


class DigitsCharm(ops.CharmBase):
    """Reconcile at every event: observe what exists, plan what is missing, apply it, show it."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.kfp_api = kfp_ops.KfpApiRequirer(self)
        self.object_storage = kfp_ops.ObjectStorageRequirer(self)
        self.experiment = f"{self.model.name}--{self.app.name}"
        self.identity = {"app": self.app.name, "juju_model": self.model.name}
        on, api, storage = self.on, self.on["kfp-api"], self.on["object-storage"]
        changes = [on.config_changed, on.leader_elected, on.upgrade_charm, on.update_status]
        changes += [api.relation_created, api.relation_changed, storage.relation_changed]
        for change in (*changes, storage.relation_created):
            framework.observe(change, self._on_change)
        framework.observe(on.train_action, self._on_train)
        framework.observe(api.relation_broken, self._on_kfp_api_broken)
        framework.observe(on.remove, self._on_remove)

    def _on_change(self, _: ops.EventBase) -> None:
        try:
            with self._connect() as client:
                self.unit.status = self._status(self._reconcile(client))
        except ValueError as error:  # an option or a relation, which only an operator can repair
            self.unit.status = ops.BlockedStatus(str(error))
        except kfp_ops.KfpError as error:
            status = ops.WaitingStatus if error.retryable else ops.BlockedStatus
            self.unit.status = status(str(error))

    def _on_train(self, event: ops.ActionEvent) -> None:
        name = f"train-{self.model.uuid[:8]}-{event.id}"
        try:
            params = event.load_params(TrainParams)
            with self._connect() as client:
                run = self._reconcile(client, name)
                if run is None:
                    raise ValueError(f"ask the leader: juju run {self.app.name}/leader train")
                if params.wait:
                    seconds = 60 * params.timeout
                    run = kfp_ops.follow(client, run, SPEC.steps, timeout=seconds, log=event.log)
        except (ValueError, kfp_ops.KfpError) as error:
            event.fail(str(error))
            return
        event.set_results({"run-id": run.run_id, "status": self._status(run).message})
        if params.wait and run.state is not kfp_ops.RunState.SUCCEEDED:
            event.fail(f"run {name} is {run.state.value}")

    def _on_kfp_api_broken(self, event: ops.RelationBrokenEvent) -> None:
        """Delete the schedule and cancel runs while the server's address is still known."""
        with suppress(ValueError, kfp_ops.KfpError), self._connect(event.relation) as client:
            if self.unit.is_leader():
                kfp_ops.delete_owned(client, self.experiment, run_prefix="")
        self.unit.status = ops.BlockedStatus("integrate with kfp-api")

    def _on_remove(self, _: ops.RemoveEvent) -> None:
        """Revoke the permissions in profiles when the last unit is removed."""
        if self.unit.is_leader() and not self.app.planned_units():
            with suppress(kfp_ops.KubernetesError):
                for profile in kubernetes.list_bound_profiles(**self.identity):
                    profile.revoke()

    def _connect(self, relation: ops.Relation | None = None) -> kfp_ops.Client:
        """Return a client of the server, in the profile from the options."""
        if self.unit.is_leader():
            self.kfp_api.publish()
            self.object_storage.publish()
        api, name = self.kfp_api.get(relation), self.load_config(DigitsConfig).profile
        if api is None:
            raise ValueError("integrate with kfp-api, or wait for its data")
        if not name:
            return kfp_ops.Client(api.url)
        profile = kubernetes.Profile(name, **self.identity)
        if self.unit.is_leader() and relation is None:
            profile.ensure()
        return kfp_ops.Client(api.url, namespace=name, token=profile.token)

    def _reconcile(self, client: kfp_ops.Client, *requested: str) -> kfp_ops.Run | None:
        """Create what is missing; return the requested run, or else the configuration's."""
        config, storage = self.load_config(DigitsConfig), self.object_storage.get()
        if storage is None:
            raise ValueError("integrate with object-storage, or wait for its data")
        desired = desired_state(config, storage, self.experiment, requested)
        observed = kfp_ops.observe(client, desired)
        if self.unit.is_leader():
            changes = kfp_ops.plan(desired, observed)
            observed = kfp_ops.apply(client, desired, observed, changes)
        run = observed.runs.get(desired.runs[-1].name)
        return client.get_run(run.run_id) if run else None

    def _status(self, run: kfp_ops.Run | None) -> ops.StatusBase:
        """Return a status with the accuracy of a successful run, or its progress and issue."""
        api, storage = self.kfp_api.get(), self.object_storage.get()
        if run is None or api is None or storage is None:
            return ops.WaitingStatus("waiting for the leader to submit a run")
        text = f"run {run.display_name} {kfp_ops.progress(run, SPEC.steps)}"
        if run.state is kfp_ops.RunState.SUCCEEDED:
            return ops.ActiveStatus(f"{text}, accuracy {read_accuracy(storage, run.run_id)}")
        profile, issue = self.load_config(DigitsConfig).profile, None
        namespace = profile or api.namespace or self.model.name
        with suppress(kfp_ops.KubernetesError):  # as in an application that is not trusted
            kube = kubernetes.connect(**self.identity)
            issue = kubernetes.find_issue(kube, run, namespace=namespace, steps=SPEC.steps)
        status = ops.BlockedStatus if issue or run.state.is_final else ops.ActiveStatus
        return status(f"{text}: {issue}" if issue else text)


if __name__ == "__main__":
    ops.main(DigitsCharm)
