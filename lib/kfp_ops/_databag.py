"""Read and write relation databags."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import ops


class RelationDataError(ValueError):
    """The remote application wrote data that its interface does not allow."""


def read_databag(relation: ops.Relation | None, key: str) -> str | None:
    """Return what the remote application wrote under a key, or None.

    While a relation breaks, Juju may not name the remote application.
    """
    app = relation.app if relation else None
    return relation.data[app].get(key) if relation and app else None


def update_databag(bag: MutableMapping[str, str], data: Mapping[str, str]) -> None:
    """Write only values that differ, so that relation-changed fires only on a change."""
    for key, value in data.items():
        if bag.get(key, "") != value:
            bag[key] = value
