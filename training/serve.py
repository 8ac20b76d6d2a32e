"""`python -m training.serve REGISTRY`: serve the champion over the V1 and V2 inference protocols.

KServe's model server (https://kserve.github.io/website) responds at `/v1/models/fashion-mnist:predict`
and `/v2/models/fashion-mnist/infer`. It takes raw images, uint8 (n, 28, 28), and returns probabilities
(n, 10): the SavedModel includes all preprocessing. After a promotion or rollback in the registry, the
server loads the new champion within `--poll` seconds; if it cannot, the previous model keeps serving.
`/metrics` has latencies, responses by status, and the version that serves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import logging
import sys
import tempfile
import threading
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve.errors import InvalidInput
from kserve.logging import configure_logging
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from prometheus_client import Counter, Gauge

from fashion_mnist.model import export, prediction
from fashion_mnist.storage import open_registry
from model_registry import Registry, RegistryError

NAME = "fashion-mnist"
INPUT = {"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}
OUTPUT = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}
RESPONSES = Counter("fashion_mnist_responses", "Responses by HTTP status", ["code"])
VERSION = Gauge("fashion_mnist_served_version", "Number of the version that serves")

logger = logging.getLogger("kserve")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """The version that serves."""

    version: int
    """Number of the version."""

    serve: Any
    """Signature `serving_default` of its SavedModel."""


class ChampionModel(Model):
    """The champion of a registry as a KServe model.

    Args:
        registry: registry of the champion.
    """

    def __init__(self, registry: Registry):
        super().__init__(NAME, return_response_headers=True)
        self._registry = registry
        self._served: Served | None = None

    def load(self) -> bool:
        """Load the champion if it changed.

        Returns:
            whether a version serves.

        Raises:
            RegistryError: Object storage cannot be reached, or has unexpected content.
            ServingError, OSError: The version does not load or does not predict.
        """
        champion = self._registry.champion()
        if champion and (self._served is None or champion.version != self._served.version):
            # Replace version and signature together: requests are answered meanwhile.
            self._served = Served(version=champion.version, serve=self._fetch(champion.version))
            VERSION.set(champion.version)
            logger.info("serving version %d", champion.version)
        self.ready = self._served is not None
        return self.ready

    def _fetch(self, version: int) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            self._registry.fetch(version, Path(folder))
            prediction.check(Path(folder), np.zeros((8, 28, 28), np.uint8))
            return export.load(Path(folder))

    def get_input_types(self) -> list[dict[str, Any]]:
        """Return the input for the metadata of the V2 protocol."""
        return [INPUT]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Return the output for the metadata of the V2 protocol."""
        return [OUTPUT]

    async def predict(  # pyright: ignore[reportIncompatibleMethodOverride] - gRPC is not served
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,  # noqa: ARG002 - KServe passes them
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """Answer a request of either protocol, with the version in the header `model-version`.

        Raises:
            InvalidInput: The request has no raw images; KServe responds 400.
        """
        served = self._served
        assert served is not None  # noqa: S101 - KServe calls only ready models
        images = _v2_images(payload) if isinstance(payload, InferRequest) else _v1_images(payload)
        # Keep the event loop free for other requests.
        probabilities = await asyncio.to_thread(_predict, served.serve, images)
        if response_headers is not None:
            response_headers["model-version"] = str(served.version)
        if not isinstance(payload, InferRequest):
            return {"predictions": probabilities.tolist()}
        output = InferOutput(OUTPUT["name"], list(probabilities.shape), OUTPUT["datatype"])
        output.set_data_from_numpy(probabilities, binary_data=False)
        return InferResponse(
            payload.id or str(uuid.uuid4()), NAME, [output], model_version=str(served.version)
        )


def _predict(serve: Any, images: np.ndarray) -> np.ndarray:
    return serve(images=images)["probabilities"].numpy()


def _v1_images(payload: object) -> np.ndarray:
    """Return the images of a V1 request, `{"instances": [image, ...]}`, uint8 (n, 28, 28)."""
    if not isinstance(payload, dict) or not isinstance(payload.get("instances"), list):
        raise InvalidInput('send {"instances": [image, ...]} as application/json')
    instances = payload["instances"]
    # TensorFlow Serving accepts inputs by name, too.
    rows = [row.get("images") if isinstance(row, dict) else row for row in instances]
    try:
        images = np.array(rows)
    except ValueError:
        raise InvalidInput("the images in instances are not all 28 rows of 28 pixels") from None
    return _checked(images)


def _v2_images(payload: InferRequest) -> np.ndarray:
    """Return the images of a V2 request, its only tensor `images`, uint8 (n, 28, 28)."""
    tensors = [tensor for tensor in payload.inputs if tensor.name == INPUT["name"]]
    if len(tensors) != 1 or len(payload.inputs) != 1:
        raise InvalidInput("inputs must be one tensor named images")
    if tensors[0].datatype != INPUT["datatype"]:
        raise InvalidInput(f"images has datatype {tensors[0].datatype}; send raw pixels as UINT8")
    try:
        return _checked(_pixels(tensors[0]))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"images cannot be read: {error}") from error


def _pixels(tensor: InferInput) -> np.ndarray:
    """Return a tensor as it was sent: KServe would turn 0.9 in JSON into 0, and -1 into 255."""
    if tensor.data is None:
        return tensor.as_numpy()  # binary, and so bytes
    return np.array(tensor.data).reshape(tensor.shape)


def _checked(images: np.ndarray) -> np.ndarray:
    if images.shape[1:] != (28, 28) or not len(images):
        raise InvalidInput(f"images have shape {list(images.shape)}; send [n, 28, 28]")
    if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > 255:
        raise InvalidInput("pixels must be integers from 0 to 255; send raw pixels")
    return images.astype(np.uint8)


@contextlib.contextmanager
def _follow_champion(model: ChampionModel, seconds: float) -> Generator[None]:
    """Poll the registry for its champion in a thread, while the body runs.

    Args:
        model: model to update.
        seconds: interval.
    """
    stop = threading.Event()

    def follow() -> None:
        while True:
            try:
                if not model.load():
                    logger.warning("there is no champion yet; retrying in %g s", seconds)
            except (RegistryError, OSError, RuntimeError) as error:
                first_line = (str(error).strip().splitlines() or [repr(error)])[0]
                logger.warning("cannot load the champion: %s; retrying", first_line[:300])
            if stop.wait(seconds):
                return

    thread = threading.Thread(target=follow, name="follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@app.middleware("http")
async def _count(request: Any, call_next: Any) -> Any:
    """Count responses by status; KServe's own histograms have their latencies."""
    code = 500
    try:
        response = await call_next(request)
        code = response.status_code
    finally:
        RESPONSES.labels(code=str(code)).inc()
    return response


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT.

    Args:
        arguments: command line, None for that of the process.

    Returns:
        exit status: 1 if the registry's address is invalid.
    """
    parser = argparse.ArgumentParser(prog="python -m training.serve", description=__doc__)
    parser.add_argument("registry", help="s3://BUCKET/PREFIX or a directory")
    parser.add_argument("--s3-endpoint", default="", help="http://HOST:PORT of the S3 server")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--poll", type=float, default=5, help="seconds between polls of the registry"
    )
    options = parser.parse_args(arguments)
    try:
        model = ChampionModel(open_registry(options.registry, options.s3_endpoint))
    except ValueError as error:
        print(f"training.serve: {error}", file=sys.stderr)
        return 1
    models = ModelRepository()
    models.update(model)
    # Avoid kserve.ModelServer, which listens on all addresses and exits if no model is ready.
    server = RESTServer(
        "kserve.model_server:app", DataPlane(models), ModelRepositoryExtension(models), options.port
    )
    server.config.host = options.host
    configure_logging()
    # uvicorn raises KeyboardInterrupt after SIGINT once it has shut down.
    with contextlib.suppress(KeyboardInterrupt), _follow_champion(model, options.poll):
        server.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
