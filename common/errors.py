"""The error tree: what a client or a calling service may be told, in the API's own codes.

Knows codes and texts, not HTTP numbers (``common/web.py``) and not JSON (``services/gateway/dialects.py``).
Source: InfluxDB 2.x, "errors", and docs/rpc.md.
"""

from __future__ import annotations

from typing import Any, ClassVar


class InfluxError(Exception):
    """Base of what a client may see; ``str(error)`` is the message.

    Args:
        message: what could not be done, to which thing, and why.
        retry_after_s: for troubles that pass by themselves: whole seconds after which to try again.
        details: extra facts for the calling service (msgpack-able), never shown to a client as they are.
    """

    code: ClassVar[str] = "internal error"

    def __init__(
        self, message: str = "", *, retry_after_s: int | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message or self.code)
        self.retry_after_s = retry_after_s
        self.details = details or {}


class InternalError(InfluxError):
    code = "internal error"


class NotImplementedHere(InfluxError):
    code = "not implemented"


class NotFound(InfluxError):
    code = "not found"


class Conflict(InfluxError):
    code = "conflict"


class Invalid(InfluxError):
    code = "invalid"


class Unprocessable(InfluxError):
    code = "unprocessable entity"


class EmptyValue(InfluxError):
    code = "empty value"


class Unavailable(InfluxError):
    """Our own trouble, overload included; always answered with Retry-After."""

    code = "unavailable"

    def __init__(
        self, message: str = "", *, retry_after_s: int | None = 1, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, details=details)


class Forbidden(InfluxError):
    code = "forbidden"


class TooManyRequests(InfluxError):
    code = "too many requests"


class Unauthorized(InfluxError):
    code = "unauthorized"


class MethodNotAllowed(InfluxError):
    code = "method not allowed"


class TooLarge(InfluxError):
    code = "request too large"


class Gone(InfluxError):
    """A segment that was planned with has been replaced: plan again. Never reaches a client."""

    code = "gone"


BY_CODE: dict[str, type[InfluxError]] = {
    cls.code: cls
    for cls in (
        InternalError, NotImplementedHere, NotFound, Conflict, Invalid, Unprocessable, EmptyValue, Unavailable,
        Forbidden, TooManyRequests, Unauthorized, MethodNotAllowed, TooLarge, Gone,
    )
}  # fmt: skip


def error_of(
    code: str, message: str, retry_after_s: int | None = None, details: dict[str, Any] | None = None
) -> InfluxError:
    """The error that *code* names, as raised on the other side of a call; an unknown code is an internal error."""
    return BY_CODE.get(code, InternalError)(message, retry_after_s=retry_after_s, details=details)
