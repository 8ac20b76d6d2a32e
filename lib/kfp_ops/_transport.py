"""HTTP requests that end within a timeout, and responses of a limited size.

httpx limits each read, not their sum: a server that sends one byte of a header every few seconds would
block a hook forever. This is the only module that imports httpx.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from kfp_ops import _errors as errors
from kfp_ops.text import single_line


class Http:
    """Requests to one server, without proxies and redirects.

    Args:
        url: Address of the server.
        timeout: Seconds that a request may take, response included.
        max_bytes: Largest response that is read.
    """

    def __init__(self, url: str, *, timeout: float, max_bytes: int):
        self._url = url
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._transport = _DeadlineTransport(secure=url.startswith("https:"))
        self._http = httpx.Client(
            base_url=url,
            timeout=min(10.0, timeout),
            transport=self._transport,
            trust_env=False,
            follow_redirects=False,
            headers={"accept-encoding": "identity"},
            # Do not return cookies that a login page in between sets.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: Mapping[str, object] | None = None,
        upload: str | None = None,
        token: str = "",
    ) -> tuple[int, bytes]:
        """Send a request and return the response's status code and content.

        Args:
            method: HTTP method.
            path: Path of the resource, quoted.
            query: Query parameters.
            body: Sent as JSON, if any.
            upload: Sent as the file ``pipeline.yaml`` of a form, if any.
            token: Bearer token, if any.

        Raises:
            UnreachableError: There is no response within the timeout.
            AnswerError: The response is encoded or too large.
        """
        endpoint = f"{method} {path}"
        request = self._http.build_request(
            method,
            path,
            params=dict(query),
            json=body,
            files=None if upload is None else {"uploadfile": ("pipeline.yaml", upload.encode())},
            headers={"authorization": f"Bearer {token}"} if token else None,
        )
        self._transport.until = until = time.monotonic() + self._timeout
        try:
            response = self._http.send(request, stream=True)
            try:
                content = self._read(response, endpoint)
            finally:
                response.close()
        except httpx.TimeoutException as error:
            limit = f"within {self._timeout:g} s" if time.monotonic() >= until else "in time"
            raise errors.UnreachableError(
                f"{endpoint}: no response {limit} from {self._url}"
            ) from error
        except httpx.TransportError as error:
            raise errors.UnreachableError(
                f"{endpoint}: cannot reach {self._url}: {single_line(str(error), 150)}"
            ) from error
        return response.status_code, content

    def _read(self, response: httpx.Response, endpoint: str) -> bytes:
        coding = response.headers.get("content-encoding", "identity")
        if coding != "identity":
            raise errors.AnswerError(f"{endpoint}: unexpected content-encoding {coding[:40]!r}")
        content = bytearray()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > self._max_bytes:
                raise errors.AnswerError(
                    f"{endpoint}: the response is larger than {self._max_bytes} bytes"
                )
        return bytes(content)


class _DeadlineTransport(httpx.HTTPTransport):
    """HTTP without proxies, in which every wait ends at ``until`` (of time.monotonic) at the latest.

    Args:
        secure: Whether it is used for https; reading the certificates takes longer than a request.
    """

    def __init__(self, *, secure: bool) -> None:
        super().__init__(verify=False)
        self.until = float("inf")
        context = httpx.create_ssl_context(trust_env=False) if secure else None
        self._pool = httpcore.ConnectionPool(ssl_context=context, network_backend=_Backend(self))

    def left(self, timeout: float | None) -> float:
        """Return the seconds that one wait may take.

        Raises:
            httpcore.ReadTimeout: The deadline has passed.
        """
        remaining = self.until - time.monotonic()
        if remaining <= 0:
            raise httpcore.ReadTimeout("the deadline has passed")
        return remaining if timeout is None else min(timeout, remaining)


class _Backend(httpcore.SyncBackend):
    def __init__(self, clock: _DeadlineTransport):
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
    def __init__(self, stream: httpcore.NetworkStream, clock: _DeadlineTransport):
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
