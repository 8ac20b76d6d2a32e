"""Errors in the server's forms rather than Flask's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

UNKNOWN, INVALID, NOT_FOUND, EXISTS, DENIED = 2, 3, 5, 6, 7
PRECONDITION, ABORTED, UNIMPLEMENTED, INTERNAL, UNAUTHENTICATED = 9, 10, 12, 13, 16


class ApiError(Exception):
    """An error response of the API: {code, message, details}.

    Args:
        status: HTTP status code.
        code: gRPC status code.
        message: Message with the prefixes that the server's layers add.
        reason: Innermost message, repeated in `details`; None omits `details`.
    """

    def __init__(self, status: int, code: int, message: str, reason: str | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.reason = status, code, message, reason

    @property
    def json(self) -> dict[str, Any]:
        """Body of the response."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.reason is not None:
            body["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.Status",
                    "code": self.code,
                    "message": self.reason,
                }
            ]
        return body


class UploadError(Exception):
    """An error response of the endpoints for uploads, logs and artifacts, without Go's stack trace.

    The body is {error_message, error_details}.
    """

    def __init__(self, status: int, message: str, *, as_text: bool = True):
        super().__init__(message)
        self.status, self.message, self.as_text = status, message, as_text


@contextlib.contextmanager
def error_prefix(prefix: str) -> Iterator[None]:
    """Prefix the messages of errors in this context, like one of the server's layers."""
    try:
        yield
    except ApiError as error:
        error.message = prefix + error.message
        raise


def unreadable(message: str) -> ApiError:
    """Return a 400 for a request that cannot be parsed."""
    return ApiError(400, INVALID, message)


def invalid(reason: str) -> ApiError:
    """Return a 400 for an invalid request."""
    return ApiError(400, INVALID, f"Invalid input error: {reason}", reason)


def not_found(kind: str, identity: str) -> ApiError:
    """Return a 404 for an object that does not exist."""
    reason = f"{kind} {identity} not found"
    return ApiError(404, NOT_FOUND, f"ResourceNotFoundError: {reason}", reason)


def exists(kind: str, name: str) -> ApiError:
    """Return a 409 for a name that exists."""
    reason = (
        f"Failed to create a new {kind}. The name {name} already exists. Please specify a new name"
    )
    return ApiError(409, EXISTS, f"Already exist error: {reason}", reason)


def internal(message: str) -> ApiError:
    """Return a 500, which the server also returns for some bad requests."""
    return ApiError(500, INTERNAL, message, "Internal Server Error")
