#!/usr/bin/env python3
"""A second charm on kfp_ops: each configuration is one run, and the status tells how it goes."""

import dataclasses
from pathlib import Path

import ops

import kfp_ops

COMPILED = Path(__file__).parent / "pipelines" / "digits.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitsConfig:
    """What `juju config` says; a ValueError for what cannot be."""

    regularization: float = 1.0

    def __post_init__(self):
        """Check it."""
        if not self.regularization > 0:
            raise ValueError("set it above 0: juju config digits regularization=1.0")


class DigitsCharm(ops.CharmBase):
    """Every event takes one way: what shall exist, what does, what is missing, how it goes."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.kfp_api = kfp_ops.KfpApiRequirer(self)
        relation = self.on["kfp-api"]
        for event in (
            self.on.config_changed,
            self.on.leader_elected,
            self.on.update_status,
            relation.relation_created,
            relation.relation_changed,
            relation.relation_broken,
        ):
            framework.observe(event, self._on_change)

    def _on_change(self, _: ops.EventBase) -> None:
        try:
            self.unit.status = self._converge(self.load_config(DigitsConfig))
        except (ValueError, kfp_ops.RelationDataError) as error:
            self.unit.status = ops.BlockedStatus(str(error))
        except kfp_ops.KfpError as error:
            self.unit.status = ops.WaitingStatus(f"Kubeflow Pipelines: {error}")

    def _converge(self, config: DigitsConfig) -> ops.StatusBase:
        """See to it that the run of this configuration exists; returns how it goes."""
        if self.unit.is_leader():
            self.kfp_api.publish()
        api = self.kfp_api.get()
        if api is None:
            return ops.BlockedStatus("integrate with kfp-api, or wait for its data")
        spec, arguments = kfp_ops.PipelineSpec.load(COMPILED), dataclasses.asdict(config)
        name = f"config-{kfp_ops.fingerprint(spec.fingerprint, arguments)}"
        wanted = kfp_ops.DesiredState(
            pipeline="digits",
            spec=spec,
            experiment=f"{self.model.name}-{self.app.name}",
            runs=(kfp_ops.RunSpec(name=name, parameters=arguments),),
        )
        with kfp_ops.Client(api.url) as client:
            seen = kfp_ops.observe(client, wanted)
            if self.unit.is_leader():
                seen = kfp_ops.apply(client, wanted, seen, kfp_ops.plan(wanted, seen))
        run = seen.runs.get(name)
        told = f"run {name} {run.state.value}" if run else f"run {name} is not there yet"
        failed = run is not None and run.state is kfp_ops.RunState.FAILED
        return ops.BlockedStatus(told) if failed else ops.ActiveStatus(told)


if __name__ == "__main__":
    ops.main(DigitsCharm)
