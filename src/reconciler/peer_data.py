"""Leader state that survives re-election and that neither options nor Kubeflow Pipelines hold.

It is stored in the application's databag of the peer relation.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from kfp_ops import update_databag
from reconciler.run_records import RunRecords

_PROFILE = "profile"


class PeerData:
    """The application's databag of the peer relation; only the leader may write to it.

    Args:
        data: The databag, or an empty mapping if the relation does not exist yet.
    """

    def __init__(self, data: MutableMapping[str, str]):
        self._data = data
        self.runs = RunRecords(data)

    @property
    def profile(self) -> str:
        """Profile that the trainer last used; empty if it never used one."""
        return self._data.get(_PROFILE, "")

    def set_profile(self, name: str) -> None:
        """Record the profile that the trainer uses; an empty name clears it."""
        update_databag(self._data, {_PROFILE: name})
