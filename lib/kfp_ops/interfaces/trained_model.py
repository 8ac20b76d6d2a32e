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
    """The model that serves."""

    name: str
    """Name of the model."""

    version: int
    """Version number in the registry; a higher one is not always better."""

    uri: str
    """Folder of the model in object storage, s3://BUCKET/PATH."""

    format: str
    """Format of the folder, such as tensorflow-saved-model."""

    accuracy: float
    """Accuracy on the test set, 0 to 1."""

    run_id: str = ""
    """ID of the run in Kubeflow Pipelines that trained it."""

    signature: Mapping[str, object] = dataclasses.field(default_factory=dict[str, object])
    """Inputs and outputs by name, each with dtype and shape; -1 is any length."""

    @property
    def published(self) -> dict[str, str]:
        """Data that the provider's leader writes to the relation."""
        return {"model": json.dumps(dataclasses.asdict(self), sort_keys=True)}


class TrainedModelRequirer:
    """The requiring side of the interface trained_model.

    Args:
        charm: Charm that has the relation.
        relation_name: Name of the relation in charmcraft.yaml.
    """

    def __init__(self, charm: ops.CharmBase, relation_name: str = "trained-model"):
        self._charm = charm
        self.relation_name = relation_name

    def get(self) -> TrainedModel | None:
        """Return the served model, or None if there is none.

        Raises:
            RelationDataError: The remote application wrote invalid data.
        """
        relation = next(iter(self._charm.model.relations[self.relation_name]), None)
        document = read_databag(relation, "model")
        if not document:
            return None
        try:
            data = json.loads(document)
            # JSON can contain unpaired surrogates, which cannot be encoded.
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
                f"relation {self.relation_name}: invalid data: {printable(repr(error), 200)}"
            ) from error
