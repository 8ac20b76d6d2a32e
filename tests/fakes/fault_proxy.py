"""A proxy that fails requests on demand."""

import http.server
import threading
from collections.abc import Callable

import httpx


class FaultProxy:
    """Forward HTTP requests to one server, record them, and fail those that ``fault`` selects.

    ``fault`` is called before and after each request is forwarded, with the moment ("before" or
    "after"), the request's number, counted from 1, its method and its path. It returns None to let
    the request pass, "cut" to close the connection without a response, or a status code to respond
    with.
    """

    def __init__(self, upstream: str):
        self.upstream = upstream
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.fault: Callable[[str, int, str, str], object] = lambda *_: None
        proxy = self
        # One client for all requests: creating one takes longer than a request.
        self._client = httpx.Client(verify=False, trust_env=False, timeout=30)

        class Handler(http.server.BaseHTTPRequestHandler):
            def forward(self):
                proxy.requests.append((self.command, self.path))
                proxy.headers.append({k.lower(): v for k, v in self.headers.items()})
                number = len(proxy.requests)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.fails("before", number):
                    return
                response = proxy._client.request(
                    self.command,
                    proxy.upstream + self.path,
                    headers={k: v for k, v in self.headers.items() if k.lower() != "host"},
                    content=body,
                )
                if not self.fails("after", number):
                    self.respond(response.status_code, response.content)

            def fails(self, moment, number):
                fault = proxy.fault(moment, number, self.command, self.path)
                if fault == "cut":
                    self.close_connection = True
                elif isinstance(fault, int):
                    self.respond(fault, b'{"code": 13, "message": "made to fail"}')
                return fault is not None

            def respond(self, status, content):
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = do_PUT = forward

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._client.close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]
