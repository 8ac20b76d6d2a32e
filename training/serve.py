"""`python -m training.serve REGISTRY`: the champion, over the V1 and V2 inference protocols.

KServe's model server (https://kserve.github.io/website) answers at `/v1/models/fashion-mnist:predict`
and `/v2/models/fashion-mnist/infer`. It is given raw images, uint8 (n, 28, 28), and gives probabilities
(n, 10): what the images go through is in the SavedModel. When the champion moves in the registry, by a
promotion or a rollback, the server follows within `--poll` seconds; a model that cannot be had leaves
the one that serves. `/metrics` has latencies, answers by status, and the version that serves.
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

sys.path.insert(0, str(Path(__file__).parents[1] / "lib"))
sys.path.insert(0, str(Path(__file__).parent))

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
RESPONSES = Counter("fashion_mnist_responses", "Answers, by HTTP status", ["code"])
VERSION = Gauge("fashion_mnist_served_version", "Number of the version that serves")

logger = logging.getLogger("kserve")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """The version that serves: its number, and its SavedModel's signature."""

    version: int
    serve: Any


class ChampionModel(Model):
    """The registry's champion, as KServe's server asks it.

    Args:
        registry: where the champion is.
    """

    def __init__(self, registry: Registry):
        super().__init__(NAME, return_response_headers=True)
        self._registry = registry
        self._served: Served | None = None

    def load(self) -> bool:
        """See which version is the champion, and load it if it is another; True once one serves.

        Raises:
            RegistryError: object storage cannot be reached, or holds something else than it should.
            ServingError, OSError: the version does not load or does not predict.
        """
        champion = self._registry.champion()
        if champion and (self._served is None or champion.version != self._served.version):
            # In one go, since requests are answered meanwhile.
            self._served = Served(version=champion.version, serve=self._fetch(champion.version))
            VERSION.set(champion.version)
            logger.info("version %d serves", champion.version)
        self.ready = self._served is not None
        return self.ready

    def _fetch(self, version: int) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            self._registry.fetch(version, Path(folder))
            prediction.check(Path(folder), np.zeros((8, 28, 28), np.uint8))
            return export.load(Path(folder))

    def get_input_types(self) -> list[dict[str, Any]]:
        """What the V2 protocol's metadata tell of the input."""
        return [INPUT]

    def get_output_types(self) -> list[dict[str, Any]]:
        """What the V2 protocol's metadata tell of the output."""
        return [OUTPUT]

    async def predict(  # pyright: ignore[reportIncompatibleMethodOverride] - gRPC is not served
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,  # noqa: ARG002 - KServe passes them
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """Answer a request of either protocol; the header `model-version` says which version did.

        Raises:
            InvalidInput: the request has no raw images; becomes a 400.
        """
        served = self._served
        assert served is not None  # noqa: S101 - KServe asks nobody who is not ready
        images = _v2_images(payload) if isinstance(payload, InferRequest) else _v1_images(payload)
        # Not on the event loop, which answers others meanwhile.
        probabilities = await asyncio.to_thread(_ask, served.serve, images)
        if response_headers is not None:
            response_headers["model-version"] = str(served.version)
        if not isinstance(payload, InferRequest):
            return {"predictions": probabilities.tolist()}
        output = InferOutput(OUTPUT["name"], list(probabilities.shape), OUTPUT["datatype"])
        output.set_data_from_numpy(probabilities, binary_data=False)
        return InferResponse(
            payload.id or str(uuid.uuid4()), NAME, [output], model_version=str(served.version)
        )


def _ask(serve: Any, images: np.ndarray) -> np.ndarray:
    return serve(images=images)["probabilities"].numpy()


def _v1_images(payload: object) -> np.ndarray:
    """The images of a request of the V1 protocol: `{"instances": [image, ...]}`."""
    if not isinstance(payload, dict) or not isinstance(payload.get("instances"), list):
        raise InvalidInput('send {"instances": [image, ...]} as application/json')
    instances = payload["instances"]
    # TensorFlow Serving takes the input by its name too.
    rows = [row.get("images") if isinstance(row, dict) else row for row in instances]
    try:
        images = np.array(rows)
    except ValueError:
        raise InvalidInput("the images in instances are not all 28 rows of 28 pixels") from None
    return _checked(images)


def _v2_images(payload: InferRequest) -> np.ndarray:
    """The images of a request of the V2 protocol, whose one tensor is `images`."""
    tensors = [tensor for tensor in payload.inputs if tensor.name == INPUT["name"]]
    if len(tensors) != 1 or len(payload.inputs) != 1:
        raise InvalidInput("inputs must be one tensor with the name images")
    if tensors[0].datatype != INPUT["datatype"]:
        raise InvalidInput(f"images has datatype {tensors[0].datatype}; send raw pixels as UINT8")
    try:
        return _checked(_pixels(tensors[0]))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"images cannot be read: {error}") from error


def _pixels(tensor: InferInput) -> np.ndarray:
    """What a tensor holds, as it was sent: KServe would cut 0.9 to 0 and make 255 of -1 in JSON."""
    if tensor.data is None:
        return tensor.as_numpy()  # binary, and so bytes
    return np.array(tensor.data).reshape(tensor.shape)


def _checked(images: np.ndarray) -> np.ndarray:
    if images.shape[1:] != (28, 28) or not len(images):
        raise InvalidInput(f"the images have the shape {list(images.shape)}; send [n, 28, 28]")
    if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > 255:
        raise InvalidInput("a pixel is not a whole number from 0 to 255; send raw pixels")
    return images.astype(np.uint8)


@contextlib.contextmanager
def _followed(model: ChampionModel, seconds: float) -> Generator[None]:
    """Look at the registry every so many seconds, in a thread, while this goes on."""
    stop = threading.Event()

    def follow() -> None:
        while True:
            try:
                if not model.load():
                    logger.warning("no model is the champion yet; looking again in %g s", seconds)
            except (RegistryError, OSError, RuntimeError) as error:
                first_line = (str(error).strip().splitlines() or [repr(error)])[0]
                logger.warning("the champion cannot be had: %s; trying again", first_line[:300])
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
    """Count answers by status; KServe's own histograms have the time that they took."""
    code = 500
    try:
        response = await call_next(request)
        code = response.status_code
    finally:
        RESPONSES.labels(code=str(code)).inc()
    return response


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT; 0 then."""
    parser = argparse.ArgumentParser(prog="python -m training.serve", description=__doc__)
    parser.add_argument("registry", help="s3://BUCKET/PREFIX or a directory")
    parser.add_argument("--s3-endpoint", default="", help="http://HOST:PORT of the S3 server")
    parser.add_argument("--host", default="127.0.0.1", help="which address to listen on")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--poll", type=float, default=5, help="seconds between looks at the champion"
    )
    options = parser.parse_args(arguments)
    try:
        model = ChampionModel(open_registry(options.registry, options.s3_endpoint))
    except ValueError as error:
        print(f"training.serve: {error}", file=sys.stderr)
        return 1
    models = ModelRepository()
    models.update(model)
    # Not kserve.ModelServer: it listens on all addresses, and exits where no model is ready yet.
    server = RESTServer(
        "kserve.model_server:app", DataPlane(models), ModelRepositoryExtension(models), options.port
    )
    server.config.host = options.host
    configure_logging()
    # What uvicorn does with SIGINT once it has shut down.
    with contextlib.suppress(KeyboardInterrupt), _followed(model, options.poll):
        server.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
