"""Leader state that survives re-election: what neither the options nor Kubeflow Pipelines can tell.

It is kept in the application's data of the peer relation.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from kfp_ops import update_databag
from reconciler.run_records import RunRecords

_PROFILE = "profile"


class PeerData:
    """The application's data of the peer relation; only the leader may write to it.

    Args:
        data: the relation's data, or an empty mapping where there is no relation yet.
    """

    def __init__(self, data: MutableMapping[str, str]):
        self._data = data
        self.runs = RunRecords(data)

    @property
    def profile(self) -> str:
        """The profile that the trainer worked in last; empty where it never worked in one."""
        return self._data.get(_PROFILE, "")

    def set_profile(self, name: str) -> None:
        """Record the profile that the trainer works in; an empty name forgets it."""
        update_databag(self._data, {_PROFILE: name})
