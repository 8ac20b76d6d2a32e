"""Errors in the forms that the server has, and nothing of Flask's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

UNKNOWN, INVALID, NOT_FOUND, EXISTS, DENIED = 2, 3, 5, 6, 7
PRECONDITION, ABORTED, UNIMPLEMENTED, INTERNAL, UNAUTHENTICATED = 9, 10, 12, 13, 16


class ApiError(Exception):
    """An answer of the API proper: {code, message, details}.

    Args:
        status: of HTTP.
        code: of gRPC.
        message: with all that the server's layers put before it.
        reason: the innermost sentence, repeated in `details`; None leaves `details` out.
    """

    def __init__(self, status: int, code: int, message: str, reason: str | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.reason = status, code, message, reason

    @property
    def json(self) -> dict[str, Any]:
        """The answer's body."""
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
    """An answer of the endpoints for uploads, logs and artifacts, without Go's stack.

    Its body is {error_message, error_details}.
    """

    def __init__(self, status: int, message: str, *, as_text: bool = True):
        super().__init__(message)
        self.status, self.message, self.as_text = status, message, as_text


@contextlib.contextmanager
def error_prefix(prefix: str) -> Iterator[None]:
    """Put what one of the server's layers says before the message of an error in here."""
    try:
        yield
    except ApiError as error:
        error.message = prefix + error.message
        raise


def unreadable(message: str) -> ApiError:
    """400: the request is not even of the form that the API has."""
    return ApiError(400, INVALID, message)


def invalid(reason: str) -> ApiError:
    """400: the request asks for something that cannot be."""
    return ApiError(400, INVALID, f"Invalid input error: {reason}", reason)


def not_found(kind: str, identity: str) -> ApiError:
    """404: there is no such object."""
    reason = f"{kind} {identity} not found"
    return ApiError(404, NOT_FOUND, f"ResourceNotFoundError: {reason}", reason)


def exists(kind: str, name: str) -> ApiError:
    """409: another object has the name."""
    reason = (
        f"Failed to create a new {kind}. The name {name} already exists. Please specify a new name"
    )
    return ApiError(409, EXISTS, f"Already exist error: {reason}", reason)


def internal(message: str) -> ApiError:
    """500, as the server answers some bad requests too."""
    return ApiError(500, INTERNAL, message, "Internal Server Error")
