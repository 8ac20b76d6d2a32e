"""A way for httpx to the network on which everything ends at a deadline.

httpx bounds each read, not their sum: a server that sends one byte of a header every few seconds
would hold a hook for ever.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx


class DeadlineTransport(httpx.HTTPTransport):
    """HTTP without proxies, whose every wait ends at `until` (of time.monotonic) at the latest.

    Args:
        secure: whether it is asked for https; to read the certificates takes longer than a request.
    """

    def __init__(self, *, secure: bool) -> None:
        super().__init__(verify=False)
        self.until = float("inf")
        context = httpx.create_ssl_context(trust_env=False) if secure else None
        self._pool = httpcore.ConnectionPool(ssl_context=context, network_backend=_Backend(self))

    def left(self, timeout: float | None) -> float:
        """The seconds that one wait may take.

        Raises:
            TimeoutException: the deadline has passed.
        """
        remaining = self.until - time.monotonic()
        if remaining <= 0:
            raise httpcore.ReadTimeout("the deadline has passed")
        return remaining if timeout is None else min(timeout, remaining)


class _Backend(httpcore.SyncBackend):
    def __init__(self, clock: DeadlineTransport):
        self._clock = clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        remaining = self._clock.left(timeout)
        stream = super().connect_tcp(host, port, remaining, local_address, socket_options)
        return _Stream(stream, self._clock)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, clock: DeadlineTransport):
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._clock.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._clock.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        remaining = self._clock.left(timeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, remaining), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
