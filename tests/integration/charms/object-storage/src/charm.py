#!/usr/bin/env python3
"""Publish the options on the relation object-storage by the Serialized Data Interface."""

import ops
import yaml


class ObjectStorageStandIn(ops.CharmBase):
    """The leader publishes; the unit is blocked while no host is set."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        relation = self.on["object-storage"]
        for event in (
            self.on.config_changed,
            self.on.leader_elected,
            relation.relation_created,
            relation.relation_changed,
        ):
            framework.observe(event, self._on_change)

    def _on_change(self, _: ops.EventBase) -> None:
        if not self.config["service"]:
            self.unit.status = ops.BlockedStatus("set the option service")
            return
        if self.unit.is_leader():
            for relation in self.model.relations["object-storage"]:
                bag = relation.data[self.app]
                bag["_supported_versions"] = "- v1\n"
                bag["data"] = yaml.safe_dump({**self.config, "namespace": None})
        self.unit.status = ops.ActiveStatus()


if __name__ == "__main__":
    ops.main(ObjectStorageStandIn)
