"""The servers of the sandbox: Kubeflow Pipelines' API, S3, and what executes runs behind them."""

from __future__ import annotations

import contextlib
import datetime
import json
import secrets
import socket
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from obstore.store import S3Store
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from sandbox import HOST
from sandbox.api import create_app
from sandbox.api.auth import Authorizer, User
from sandbox.config_maps import ConfigMaps
from sandbox.executor import Executor
from sandbox.s3 import PersistentS3
from sandbox.schedule import Scheduler
from sandbox.store import Store, utc_now
from sandbox.tasks import update_states

BUCKET = "mlpipeline"
SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - the name of a Kubernetes Secret
# In which runs are executed where there is one user.
NAMESPACE = "kubeflow"


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Say nothing: whoever wants requests logged puts a proxy before."""


class Sandbox:
    """A server of Kubeflow Pipelines' API and one of S3, both on loopback unless told otherwise.

    Args:
        root: the folder with its state; made when it is not there.
        api_port, s3_port: 0 takes those of the last time, or free ones: clients keep addresses.
        execute: False leaves runs PENDING until `set_run_state` moves them.
        limit: how many runs go on at once.
        clock: the time, UTC, that the API writes; schedules fire by the machine's.
        ids: gives what is made its ids.
        users: who may do what, on a multi-user server; None makes a single-user one.
        host: the address to listen on. Anything but loopback, as in a pod, is for a network on which
            everybody is trusted: the API asks nobody who they are unless there are users, the S3
            server checks no signature, and whoever submits a run has a program executed.
        keys: the S3 server's access and secret key; those of the last time, or new ones, if not given.
        s3_without_conditional_writes: the S3 server ignores If-None-Match and If-Match of puts, as
            Charmed MinIO does; beside it are Kubernetes' ConfigMaps, whose kubeconfig steps are given.

    Attributes:
        bucket: the bucket that is there from the start.
        access_key, secret_key: what the S3 server's Secret holds.
        kubeconfig: names the API server with the ConfigMaps; None where the S3 server needs none.
    """

    bucket = BUCKET

    def __init__(
        self,
        root: Path,
        *,
        api_port: int = 0,
        s3_port: int = 0,
        execute: bool = True,
        limit: int = 1,
        clock: Callable[[], datetime.datetime] = utc_now,
        ids: Callable[[], uuid.UUID] = uuid.uuid4,
        users: Sequence[User] | None = None,
        host: str = HOST,
        keys: tuple[str, str] | None = None,
        s3_without_conditional_writes: bool = False,
    ):
        self._authorizer = Authorizer(users)
        self._namespaces = sorted({name for user in users or () for name in user.roles})
        self.kubeconfig = root.resolve() / "kubeconfig" if s3_without_conditional_writes else None
        self._clock = clock
        self._ids = ids
        self.root = root.resolve()
        self._ports = api_port, s3_port
        self._execute = execute
        self._limit = limit
        self._host = host
        self._given = keys
        self._running = False

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Open both servers.

        Raises:
            OSError: a port is taken, or the folder cannot be written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self.access_key, self.secret_key = self._keys()
        self.store = Store(self.root / "kfp.sqlite", self._clock, self._ids)
        self._s3 = PersistentS3(
            self.root / "s3.sqlite", ignores_conditions=self.kubeconfig is not None
        )
        self._s3.make_bucket(BUCKET)
        ports = self._last_ports()
        self._s3_server = _serve(self._s3, self._host, self._ports[1], ports.get("s3", 0))
        self.s3_url = f"http://{self._host}:{self._s3_server.port}"
        service_account: dict[str, str] = {}
        self._config_maps_server = None
        if self.kubeconfig:
            self._serve_config_maps(self.kubeconfig)
            service_account["KUBECONFIG"] = str(self.kubeconfig)
        self._executor = Executor(
            self.store,
            self.root / "artifacts",
            {(SECRET, "accesskey"): self.access_key, (SECRET, "secretkey"): self.secret_key},
            service_account,
            self._limit,
        )
        self._scheduler = Scheduler(self.store, self._changed)
        if self._execute:
            self._executor.start()
        self._scheduler.start()
        app = create_app(self.store, self._authorizer, self._changed)
        self._api_server = _serve(app, self._host, self._ports[0], ports.get("api", 0))
        self.api_url = f"http://{self._host}:{self._api_server.port}"
        ports = {"api": self._api_server.port, "s3": self._s3_server.port}
        (self.root / "ports.json").write_text(json.dumps(ports))
        self._running = True

    def stop(self) -> None:
        """Close the servers and end running runs."""
        if not self._running:
            return
        self._running = False
        for server in (self._api_server, self._s3_server, self._config_maps_server):
            if server:
                server.shutdown()
                server.server_close()
        self._scheduler.stop()
        self._executor.stop()
        self._s3.close()
        if self._config_maps_server:
            self._config_maps.close()
        self.store.close()

    def objects(self, prefix: str = "") -> S3Store:
        """Return a store of the objects in the bucket whose names begin with a prefix."""
        return S3Store(
            BUCKET,
            prefix=prefix or None,
            endpoint=self.s3_url,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def run_log(self, run_id: str) -> Path:
        """Return the log of a run's steps; it does not exist before the run starts."""
        return self.root / "artifacts" / run_id / "log"

    def set_run_state(
        self, run_id: str, state: str, tasks: Mapping[str, str] | None = None
    ) -> None:
        """Report a run's workflow by hand, with the states of its steps; for tests that execute nothing.

        CANCELING is in the history of a terminated run only if it is reported before the end.

        Raises:
            KeyError: there is no such run.
        """
        run = self.store.get("runs", run_id)
        if run is None:
            raise KeyError(run_id)
        update_states(self.store, run, tasks or {})
        self.store.move_run(run_id, state)

    def pass_time(self, now: datetime.datetime) -> None:
        """Submit what recurring runs have due at a time (UTC), as if it had come; for tests."""
        self._scheduler.tick(now)

    def _changed(self, event: str, identity: str) -> None:
        if event == "scheduled":
            self._scheduler.changed()
        elif self._execute:
            self._executor.changed(event, identity)

    def _serve_config_maps(self, kubeconfig: Path) -> None:
        """Serve ConfigMaps, and write the kubeconfig by which they are found, for its owner alone."""
        token = secrets.token_urlsafe(32)
        namespaces = self._namespaces or [NAMESPACE]
        self._config_maps = ConfigMaps(self.root / "config_maps.sqlite", token, namespaces)
        self._config_maps_server = _serve(self._config_maps, self._host, 0, 0)
        url = f"http://{self._host}:{self._config_maps_server.port}"
        context = {"cluster": "sandbox", "user": "sandbox", "namespace": namespaces[0]}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {"server": url}}],
            "users": [{"name": "sandbox", "user": {"token": token}}],
            "contexts": [{"name": "sandbox", "context": context}],
        }
        kubeconfig.unlink(missing_ok=True)
        kubeconfig.touch(mode=0o600)
        # JSON, which is YAML too: steps read it without a YAML parser.
        kubeconfig.write_text(json.dumps(document))

    def _last_ports(self) -> dict[str, int]:
        path = self.root / "ports.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _keys(self) -> tuple[str, str]:
        """Return the S3 keys: those given, or generated ones kept where only the owner can read them."""
        if self._given:
            return self._given
        path = self.root / "keys.json"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(json.dumps([secrets.token_hex(10), secrets.token_hex(20)]))
        authorizer, secret = json.loads(path.read_text())
        return authorizer, secret


def _serve(app: object, host: str, port: int, last: int) -> BaseWSGIServer:
    with _listen(host, port, last) as listener:
        number = listener.getsockname()[1]
        server = make_server(
            host,
            number,
            app,  # type: ignore[arg-type]
            threaded=True,
            request_handler=_Quiet,
            fd=listener.fileno(),
        )
    server.daemon_threads = True  # type: ignore[attr-defined]
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    return server


def _listen(host: str, port: int, last: int) -> socket.socket:
    """Return a socket on the port; for 0, on the last port if it is free, else on any."""
    if not port and last:
        with contextlib.suppress(OSError):
            return socket.create_server((host, last))
    return socket.create_server((host, port))
