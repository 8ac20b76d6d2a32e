"""The sandbox: servers of Kubeflow Pipelines' API and of S3, executor and scheduler."""

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

import yaml
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
# Namespace of runs on a single-user server.
NAMESPACE = "kubeflow"


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


class Sandbox:
    """A server of Kubeflow Pipelines' API and one of S3, by default on loopback.

    Args:
        root: Folder with the state; created if needed.
        api_port: Port of the API; 0 for the last one, or a free one.
        s3_port: Port of S3; 0 for the last one, or a free one.
        execute: If False, runs stay PENDING until `set_run_state` changes them.
        limit: Maximum number of concurrent runs.
        clock: Returns the time, UTC, of new objects; schedules use the machine's clock.
        ids: Returns IDs of new objects.
        users: Users of a multi-user server; None for a single-user server.
        host: Address to listen on. Use anything other than loopback only if everyone on the network is
            trusted: without users, the API needs no authentication; the S3 server checks no signature;
            and a submitted run executes programs.
        keys: Access key and secret key of S3; by default the last ones, or new ones.
        s3_without_conditional_writes: Ignore If-None-Match and If-Match of puts, like Charmed MinIO, and
            serve Kubernetes' ConfigMaps, whose kubeconfig is passed to steps.

    Attributes:
        bucket: Bucket that exists from the start.
        access_key, secret_key: Credentials in the Secret for S3.
        kubeconfig: Path of the kubeconfig for the ConfigMaps; None without them.
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
        """Start the servers.

        Raises:
            OSError: A port is in use, or the folder is not writable.
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
        """Stop the servers and kill running runs."""
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
        """Return a store of the objects under a prefix in the bucket."""
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

    def databags(self) -> dict[str, dict[str, str]]:
        """Return what the charms kfp-api and minio would publish about the servers, by relation."""

        def databag(data: dict[str, object]) -> dict[str, str]:
            return {"_supported_versions": "- v1\n", "data": yaml.safe_dump(data)}

        (host, api_port), (s3_host, s3_port) = (
            url.removeprefix("http://").split(":") for url in (self.api_url, self.s3_url)
        )
        return {
            "kfp-api": databag({"service-name": host, "service-port": api_port}),
            "object-storage": databag(
                {
                    "access-key": self.access_key,
                    "secret-key": self.secret_key,
                    "namespace": None,
                    "port": int(s3_port),
                    "secure": False,
                    "service": s3_host,
                }
            ),
        }

    def run_log(self, run_id: str) -> Path:
        """Return the path of the log of a run's steps, which exists when the run has started."""
        return self.root / "artifacts" / run_id / "log"

    def set_run_state(
        self, run_id: str, state: str, tasks: Mapping[str, str] | None = None
    ) -> None:
        """Set the state of a run and of its steps, for tests that execute nothing.

        For CANCELING in the history of a terminated run, set it before the final state.

        Raises:
            KeyError: There is no such run.
        """
        run = self.store.get("runs", run_id)
        if run is None:
            raise KeyError(run_id)
        update_states(self.store, run, tasks or {})
        self.store.set_run_state(run_id, state)

    def pass_time(self, now: datetime.datetime) -> None:
        """Submit the runs that are due at a time (UTC), for tests."""
        self._scheduler.tick(now)

    def _changed(self, event: str, identity: str) -> None:
        if event == "scheduled":
            self._scheduler.changed()
        elif self._execute:
            self._executor.changed(event, identity)

    def _serve_config_maps(self, kubeconfig: Path) -> None:
        """Serve ConfigMaps, and write a kubeconfig that only its owner can read."""
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
        # Write JSON, which is valid YAML, so that steps need no YAML parser.
        kubeconfig.write_text(json.dumps(document))

    def _last_ports(self) -> dict[str, int]:
        path = self.root / "ports.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _keys(self) -> tuple[str, str]:
        """Return the given S3 keys, or generated ones from a file that only its owner can read."""
        if self._given:
            return self._given
        path = self.root / "keys.json"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(json.dumps([secrets.token_hex(10), secrets.token_hex(20)]))
        access_key, secret_key = json.loads(path.read_text())
        return access_key, secret_key


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
    """Return a socket on the port; for 0, on the last port if free, else on any port."""
    if not port and last:
        with contextlib.suppress(OSError):
            return socket.create_server((host, last))
    return socket.create_server((host, port))
