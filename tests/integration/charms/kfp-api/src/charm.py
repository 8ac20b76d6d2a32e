#!/usr/bin/env python3
"""Publish the options on the relation kfp-api by the Serialized Data Interface."""

import ops
import yaml


class KfpApiStandIn(ops.CharmBase):
    """The leader publishes; the unit is blocked while no host is set."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        relation = self.on["kfp-api"]
        for event in (
            self.on.config_changed,
            self.on.leader_elected,
            relation.relation_created,
            relation.relation_changed,
        ):
            framework.observe(event, self._on_change)

    def _on_change(self, _: ops.EventBase) -> None:
        if not self.config["service-name"]:
            self.unit.status = ops.BlockedStatus("set the option service-name")
            return
        if self.unit.is_leader():
            for relation in self.model.relations["kfp-api"]:
                bag = relation.data[self.app]
                bag["_supported_versions"] = "- v1\n"
                bag["data"] = yaml.safe_dump(
                    {**self.config, "service-port": str(self.config["service-port"])}
                )
        self.unit.status = ops.ActiveStatus()


if __name__ == "__main__":
    ops.main(KfpApiStandIn)
