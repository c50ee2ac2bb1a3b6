"""What an ASGI server hands us and what we hand back: type aliases, and a response as a plain triple.

The shapes are those of the ASGI specification, HTTP & WebSocket message format 2.3.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

Header: TypeAlias = tuple[bytes, bytes]


class BodyStream(Protocol):
    """A body that comes in pieces. Whoever gets one owes it an `aclose`, which also ends a wait for the next piece."""

    def __aiter__(self) -> "BodyStream":
        """Itself."""

    async def __anext__(self) -> bytes:
        """The next piece, not empty."""

    async def aclose(self) -> None:
        """Give up. Harmless when repeated."""


Response: TypeAlias = tuple[int, list[Header], bytes | BodyStream]
"""Status, headers (names in lower case, content-length included), body. A plain tuple: it costs 30 ns to make,
an instance of a class five times that, and every request makes one. A streamed body has no content-length."""

# The names of RFC 9110 where Python's changed from one version to another.
_PHRASES = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}

JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; charset=utf-8")
HTML = (b"content-type", b"text/html; charset=utf-8")


def response(status: int, content_type: Header, body: bytes, *more: Header) -> tuple[int, list[Header], bytes]:
    """A response with its content-length, and `more` headers behind."""
    return status, [content_type, (b"content-length", b"%d" % len(body)), *more], body


def reason_phrase(status: int) -> str:
    """The phrase of RFC 9110 for `status`, the same on every version of Python."""
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def json_response(status: int, value: object, *more: Header) -> tuple[int, list[Header], bytes]:
    """`value` as compact JSON. For answers made at start-up or off the hot path."""
    return response(status, JSON, to_json(value), *more)


def to_json(value: object) -> bytes:
    """Compact UTF-8 JSON; refuses NaN and infinity, which are not JSON (RFC 8259 section 6).

    Raises:
        ValueError: `value` holds NaN or an infinity, or refers to itself.
        TypeError: `value` holds something JSON has no form for.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")
