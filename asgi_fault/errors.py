"""One error shape for every surface, and the exceptions that carry it to the edge of the application.

A handler raises; `application` renders. Clients of four older systems each look for their own key, so the object is
their union: `error`, `message`, `detail`, `status_code`, `request_id` and, where there is more to say, `details`.
`Accept: application/problem+json` gets RFC 9457 instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from asgi_fault.asgi import JSON, Header, Response, reason_phrase, response, to_json

HEAD_MAX = 64 * 1024  # bytes of a request head; h11's default, four to eight times what common servers allow

PROBLEM_JSON = (b"content-type", b"application/problem+json")


class HTTPError(Exception):
    """Ends a request with `status`. Everything in it is shown to the client: never put a secret or a driver's text in.

    Attributes:
        error: the class name clients see; the metric `http_errors_total` counts by it.
        detail: what stands under `detail`: the message, or the list of a 422.
        details: further facts, as an object.
        headers: response headers beside the usual ones.
        exact: when set, the whole JSON body: some failures have a body fixed by contract.
    """

    status = 500
    error = "HTTPException"
    exact: ClassVar[Mapping[str, Any] | None] = None
    closes_connection = False

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail: object = message
        self.details = details
        self.headers = headers


class BadRequest(HTTPError):
    """400: the request line or a header makes no sense."""

    status = 400
    error = "BadRequestError"


class AuthenticationFailed(HTTPError):
    """401: the control plane is guarded and the token is missing or wrong (RFC 6750 section 3)."""

    status = 401
    error = "AuthenticationError"


class NotFound(HTTPError):
    """404: no surface has this path."""

    status = 404


class MethodNotAllowed(HTTPError):
    """405: the path exists, the method does not; `Allow` lists what does (RFC 9110 section 15.5.6)."""

    status = 405


class RequestTimedOut(HTTPError):
    """408: the work of an admitted request outlasted `SERVER_REQUEST_TIMEOUT`. Its body is contract."""

    status = 408
    error = "RequestTimeout"
    exact: ClassVar = {"detail": "Request timeout"}


class BodyTooLarge(HTTPError):
    """413: the body passed its limit; the connection is closed once the client had a chance to read this."""

    status = 413
    error = "RequestEntityTooLarge"
    closes_connection = True


class UnsupportedMediaType(HTTPError):
    """415: the body is not said to be JSON (RFC 9110 section 15.5.16)."""

    status = 415
    error = "UnsupportedMediaTypeError"


def require_json(content_type: bytes, what: str) -> None:
    """Insist that a body is said to be JSON; `what` names it in the error.

    Raises:
        UnsupportedMediaType: it is not. Types are case-insensitive, and parameters do not count.
    """
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise UnsupportedMediaType(
            f"{what} are JSON: send them with `Content-Type: application/json`.",
            details={"content_type": media_type.decode("latin-1")[:80]},
            headers=[(b"accept", b"application/json")],
        )


class ValidationFailed(HTTPError):
    """422: every violation at once, in the order path, query, header, body.

    Args:
        violations: objects `{type, loc, msg, input, ctx?}`, the vocabulary of pydantic 2.
    """

    status = 422
    error = "ValidationError"

    def __init__(self, violations: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("Request validation failed", details={"validation_errors": violations})
        self.detail = violations


class HeadTooLarge(HTTPError):
    """431: the header fields together are past `HEAD_MAX` (RFC 6585 section 5)."""

    status = 431
    error = "RequestHeaderFieldsTooLarge"
    closes_connection = True


class InducedFailure(HTTPError):
    """500 on request: `/fail/*` asked for it. Its body is contract."""

    status = 500
    error = "InducedFailure"
    exact: ClassVar = {"detail": "Induced server failure"}


class Unavailable(HTTPError):
    """503: a bound of this server is reached, or it is stopping; `Retry-After` says when to come back."""

    status = 503
    error = "ServiceUnavailableError"

    def __init__(self, message: str, *, retry_after: int = 1, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, details=details, headers=[(b"retry-after", b"%d" % retry_after)])


class NotSupported(HTTPError):
    """501: this server was started, or installed, without what it takes; the message names the remedy."""

    status = 501
    error = "NotSupportedError"


class Unexpected(HTTPError):
    """500 that nobody asked for: a defect of ours. The client learns the request id, the log has the rest."""

    status = 500
    error = "InternalServerError"


def render(error: HTTPError, request_id: str, *, as_problem: bool) -> Response:
    """The response for `error`: the union object, or RFC 9457 when the client asked for it."""
    headers = [*error.headers, (b"connection", b"close")] if error.closes_connection else error.headers
    if as_problem:
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": reason_phrase(error.status),
            "status": error.status,
            "detail": error.message,
            "error": error.error,
            "request_id": request_id,
        }
        if error.details:
            problem.update(error.details)
        return response(error.status, PROBLEM_JSON, to_json(problem), *headers)
    if error.exact is not None:
        return response(error.status, JSON, to_json(error.exact), *headers)
    body: dict[str, Any] = {
        "error": error.error,
        "message": error.message,
        "detail": error.detail,
        "status_code": error.status,
        "request_id": request_id,
    }
    if error.details:
        body["details"] = error.details
    return response(error.status, JSON, to_json(body), *headers)
