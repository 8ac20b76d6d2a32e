"""The model that serves (interface trained_model)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import ops

from kfp_ops._databag import RelationDataError, read_databag
from kfp_ops.text import printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model that serves: what a relation of the interface trained_model tells.

    Attributes:
        name: of the model.
        version: its number in the registry; a higher one need not be a better one.
        uri: of its folder in object storage, s3://BUCKET/PATH.
        format: of what is in the folder, such as tensorflow-saved-model.
        accuracy: on the test set, 0 to 1.
        run_id: the run in Kubeflow Pipelines that made it.
        signature: inputs and outputs by name, each with dtype and shape; -1 is any length.
    """

    name: str
    version: int
    uri: str
    format: str
    accuracy: float
    run_id: str = ""
    signature: Mapping[str, object] = dataclasses.field(default_factory=dict[str, object])

    @property
    def published(self) -> dict[str, str]:
        """What the leader of the provider writes to the relation."""
        return {"model": json.dumps(dataclasses.asdict(self), sort_keys=True)}


class TrainedModelRequirer:
    """The requiring side of the interface trained_model.

    Args:
        charm: whose relation it is.
        relation_name: its name in charmcraft.yaml.
    """

    def __init__(self, charm: ops.CharmBase, relation_name: str = "trained-model"):
        self._charm = charm
        self.relation_name = relation_name

    def get(self) -> TrainedModel | None:
        """Return the served model, or None if there is none.

        Raises:
            RelationDataError: the remote application wrote something else.
        """
        relation = next(iter(self._charm.model.relations[self.relation_name]), None)
        document = read_databag(relation, "model")
        if not document:
            return None
        try:
            data = json.loads(document)
            # JSON can hold halves of characters, which can be written nowhere.
            json.dumps(data, ensure_ascii=False).encode()
            return TrainedModel(
                name=str(data["name"]),
                version=int(data["version"]),
                uri=str(data["uri"]),
                format=str(data["format"]),
                accuracy=float(data["accuracy"]),
                run_id=str(data.get("run_id", "")),
                signature=data.get("signature") or {},
            )
        except (
            AttributeError,
            KeyError,
            OverflowError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise RelationDataError(
                f"relation {self.relation_name}: its data is wrong: {printable(repr(error), 200)}"
            ) from error
