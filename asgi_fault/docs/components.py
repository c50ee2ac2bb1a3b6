"""What the OpenAPI document says once for all operations: headers, errors, the partition, the token.

The shapes are those that `errors.render` writes; a test sends real requests and holds them against these.
"""

from typing import Any

from asgi_fault.docs.examples import SAMPLE_ID, error
from asgi_fault.docs.shapes import ANSWERED, ASKED
from asgi_fault.errors import (
    HEAD_MAX,
    BadRequest,
    BodyTooLarge,
    HeadTooLarge,
    RequestTimedOut,
    Unavailable,
    ValidationFailed,
)
from asgi_fault.partitions import NAME

JSON = "application/json"
PROBLEM = "application/problem+json"

PARTITION_PARAMETER: dict[str, Any] = {
    "name": "X-Fault-Partition",
    "in": "header",
    "required": False,
    "description": (
        "The partition this request belongs to. Same as the path prefix `/~NAME/`, which wins where both are given."
    ),
    "schema": {"type": "string", "pattern": f"^{NAME.pattern}$"},
}

TOKEN_SCHEME: dict[str, Any] = {
    "type": "http",
    "scheme": "bearer",
    "description": "Asked for by the control plane when `SERVER_ADMIN_TOKEN` is set, and by nothing otherwise.",
}

HEADERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "The `X-Request-ID` of the request where it is well formed, else a fresh uuid4.",
        "required": True,
        "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{1,256}$"},
        "example": SAMPLE_ID,
    },
    "X-Correlation-ID": {
        "description": "A fresh uuid4 for every answer; the log lines of the request carry it.",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
        "example": SAMPLE_ID,
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
    "WWW-Authenticate": {
        "description": "The scheme the token is sent with (RFC 6750 section 3).",
        "required": True,
        "schema": {"type": "string"},
        "example": 'Bearer realm="asgi-fault"',
    },
    "Accept": {
        "description": "What the request has to say that its body is (RFC 9110 section 15.5.16).",
        "required": True,
        "schema": {"const": JSON},
        "example": JSON,
    },
    "Location": {
        "description": "Of the rule, when one was set and not several.",
        "required": False,
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/faults/r1",
    },
    "X-Journal-Next": {
        "description": "`next` of the answer, which only JSON has room for. A stream has ids in its place.",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "example": 2,
    },
}

ALWAYS = ("X-Request-ID", "X-Correlation-ID")
"""The headers of every answer."""

_STATUS = {"type": "integer", "minimum": 400, "maximum": 599}

SCHEMAS: dict[str, Any] = {
    "Error": {
        "description": "Any error without a contract of its own: the union of what four older services answered.",
        "type": "object",
        "properties": {
            "error": {"type": "string", "description": "The class of the error."},
            "message": {"type": "string", "description": "What is wrong, and where possible what to do about it."},
            "detail": {"type": "string", "description": "The same text as `message`."},
            "status_code": _STATUS,
            "request_id": {"type": "string", "description": "The `X-Request-ID` of the answer."},
            "details": {"type": "object", "description": "Further facts."},
        },
        "required": ["error", "message", "detail", "status_code", "request_id"],
    },
    "Violation": {
        "description": "One thing that is wrong with a request, in the words of pydantic 2.",
        "type": "object",
        "properties": {
            "type": {"type": "string", "description": "The kind, such as `int_parsing`."},
            "loc": {
                "type": "array",
                "items": {"type": ["string", "integer"]},
                "description": "Where: `path`, `query`, `header` or `body`, then the name.",
            },
            "msg": {"type": "string", "description": "The kind in words."},
            "input": {"description": "The value that was sent, cut when it is long."},
            "ctx": {"type": "object", "description": "The bounds it missed."},
        },
        "required": ["type", "loc", "msg", "input"],
    },
    "ValidationError": {
        "description": "Every violation at once, in the order path, query, header, body.",
        "type": "object",
        "properties": {
            "error": {"const": ValidationFailed.error},
            "message": {"type": "string"},
            "detail": {"type": "array", "items": {"$ref": "#/components/schemas/Violation"}, "minItems": 1},
            "status_code": {"const": ValidationFailed.status},
            "request_id": {"type": "string"},
            "details": {
                "type": "object",
                "properties": {
                    "validation_errors": {"type": "array", "items": {"$ref": "#/components/schemas/Violation"}}
                },
                "required": ["validation_errors"],
            },
        },
        "required": ["error", "message", "detail", "status_code", "request_id", "details"],
    },
    "Timeout": {
        "description": "Fixed by contract.",
        "type": "object",
        "properties": {"detail": {"const": "Request timeout"}},
        "required": ["detail"],
    },
    "Problem": {
        "description": "Any error as RFC 9457, with our `details` as extension members.",
        "type": "object",
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": _STATUS,
            "detail": {"type": "string"},
            "error": {"type": "string"},
            "request_id": {"type": "string"},
        },
        "required": ["type", "title", "status", "detail", "error", "request_id"],
    },
    **ASKED,
    **ANSWERED,
}


def headers(*more: str) -> dict[str, Any]:
    """References to the headers of every answer and to `more`."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*ALWAYS, *more)}


def _answer(description: str, schema: str, example: Any, *more_headers: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": headers(*more_headers),
        "content": {
            JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example},
            PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }


def _invalid(violation: dict[str, Any]) -> dict[str, Any]:
    whole = error(422, ValidationFailed.error, "Request validation failed", validation_errors=[violation])
    return {**whole, "detail": [violation]}


_VIOLATION = {
    "type": "less_than_equal",
    "loc": ["query", "delay"],
    "msg": "Input should be less than or equal to 30000",
    "input": "30001",
    "ctx": {"le": 30000},
}
_BODY_VIOLATION = {
    "type": "int_type",
    "loc": ["body", "statuses", 1],
    "msg": "Input should be a valid integer",
    "input": "503",
}

RESPONSES: dict[str, Any] = {
    "BadRequest": _answer(
        "The partition has no possible name, or the target of the request makes no sense.",
        "Error",
        error(400, BadRequest.error, "A partition's name is 1 to 64 letters, digits, dots, hyphens or underscores."),
    ),
    "AuthenticationFailed": _answer(
        "`SERVER_ADMIN_TOKEN` is set, and the request does not carry it.",
        "Error",
        error(401, "AuthenticationError", "The control plane needs `Authorization: Bearer <SERVER_ADMIN_TOKEN>`."),
        "WWW-Authenticate",
    ),
    "TimedOut": _answer(
        "The request body took longer than `SERVER_REQUEST_TIMEOUT` to arrive.",
        "Timeout",
        RequestTimedOut.exact,
    ),
    "BodyTooLarge": _answer(
        "The request body is larger than `SERVER_MAX_BODY`; the connection is closed.",
        "Error",
        error(413, BodyTooLarge.error, "The request body is larger than 1048576 bytes."),
    ),
    "ValidationFailed": _answer(
        "A parameter is not what it has to be. Nothing was done, and no fault was used up.",
        "ValidationError",
        _invalid(_VIOLATION),
    ),
    "BodyInvalid": _answer(
        "The body is no JSON, does not fit the schema, or contradicts itself; or a parameter is not what it has to be. "
        "Nothing was done. In a body `loc` is the path to what has to change; every mistake is listed, up to 50.",
        "ValidationError",
        _invalid(_BODY_VIOLATION),
    ),
    "UnsupportedMediaType": _answer(
        "The body is not said to be JSON, by `Content-Type: application/json`.",
        "Error",
        error(
            415,
            "UnsupportedMediaTypeError",
            "Rules are JSON: send them with `Content-Type: application/json`.",
            content_type="text/plain",
        ),
        "Accept",
    ),
    "HeadTooLarge": _answer(
        "The header fields are too large together, or too many.",
        "Error",
        error(431, HeadTooLarge.error, f"The header fields are larger than {HEAD_MAX} bytes, or more than 256."),
    ),
    "Unavailable": _answer(
        "All slots of the partition are taken and too many requests wait, there is no room for one more partition, "
        "or the server is stopping.",
        "Error",
        error(503, Unavailable.error, "All 50 slots are taken and 1000 requests wait already."),
        "Retry-After",
    ),
    "NoRoom": _answer(
        "There is no room for one more partition or one more follower of a journal, or the server is stopping. Slots "
        "are not asked for.",
        "Error",
        error(503, Unavailable.error, "The server is stopping."),
        "Retry-After",
    ),
}
