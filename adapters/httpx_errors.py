"""What `ResilientClient` raises: one tree, whose every member says how the call went, and which status leads where.

| ended with | raised |
|---|---|
| 401, 403 | `AuthenticationError` |
| 404 | `NotFoundError` |
| 400, 422 | `InvalidRequestError` |
| 408 | `ServerTimeoutError` |
| 502, 503, 504 | `ServiceUnavailableError` |
| any other 5xx | `ServerError` |
| any other 4xx, 429 among them | `APIStatusError` |
| no answer in time | `APITimeoutError` |
| not connected, broken off, not HTTP, not decodable | `APIConnectionError` |
| no connection of the pool, or no slot of the bulkhead, became free | `PoolTimeoutError` |
| the circuit breaker was open | `CircuitOpenError` |
| our own pace or throttle permits no more | `BudgetExhaustedError` |
| the time for the call is over, and the peer has said nothing | `DeadlineExceededError` |

A call that ends by a decision of this side after the peer has spoken raises what the peer said, and `reason` says why
no more was tried: a breaker that opens during the retries never hides the 503 that opened it.
"""

from types import ModuleType
from typing import Any


class MyAPIError(Exception):
    """The base of all that a `ResilientClient` raises for a call.

    Attributes:
        response: the last response, read and closed, or None when the last attempt had none.
        attempts: how many were sent; 0 when the call was refused by this side.
        request_id: the `X-Request-ID` all attempts carried.
        retry_after: seconds before which another call has little chance, None when nobody said.
        reason: why no more was tried, a word of `sansio_client.call.REASONS`.

    """

    def __init__(
        self,
        message: str,
        *,
        response: Any = None,
        attempts: int = 0,
        request_id: str | None = None,
        retry_after: float | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.response = response
        self.attempts = attempts
        self.request_id = request_id
        self.retry_after = retry_after
        self.reason = reason


APIError = MyAPIError


class APIConnectionError(MyAPIError):
    """The peer could not be reached, broke off, or could not serve."""


class APITimeoutError(APIConnectionError):
    """No answer in time."""


class ServerTimeoutError(APIConnectionError):
    """The server gave up: 408."""


class ServiceUnavailableError(APIConnectionError):
    """502, 503 or 504."""


class ServerError(APIConnectionError):
    """Another 5xx."""


class CircuitOpenError(APIConnectionError):
    """Not sent, as the circuit breaker is open.

    Attributes:
        retry_at: the monotonic instant from which a probe is let through; `retry_after` is the same in seconds.

    """

    def __init__(self, message: str, *, retry_at: float, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_at = retry_at


class DeadlineExceededError(APITimeoutError):
    """The time for the whole call, all attempts and waits, is over."""


class APIStatusError(MyAPIError):
    """A final answer that is not what was asked for."""


class AuthenticationError(APIStatusError):
    """401 or 403."""


class NotFoundError(APIStatusError):
    """404."""


class InvalidRequestError(APIStatusError):
    """400 or 422."""


class PoolTimeoutError(MyAPIError):
    """No slot of the bulkhead, or no connection of the pool, became free in time."""


class BudgetExhaustedError(MyAPIError):
    """Not sent: this side's rate limit or throttle permits no more."""


_STATUSES: dict[int, type[MyAPIError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    408: ServerTimeoutError,
    422: InvalidRequestError,
    502: ServiceUnavailableError,
    503: ServiceUnavailableError,
    504: ServiceUnavailableError,
}

# Names of httpx's exceptions, the special before the general: the first that fits decides.
_EXCEPTIONS: tuple[tuple[str, type[MyAPIError]], ...] = (
    ("PoolTimeout", PoolTimeoutError),
    ("TimeoutException", APITimeoutError),
    ("UnsupportedProtocol", MyAPIError),
    ("LocalProtocolError", MyAPIError),
    ("TransportError", APIConnectionError),
    ("DecodingError", APIConnectionError),
    ("RequestError", MyAPIError),
    ("StreamError", MyAPIError),
)

REFUSALS: dict[str, type[MyAPIError]] = {
    "open": CircuitOpenError,
    "full": PoolTimeoutError,
    "queue-timeout": PoolTimeoutError,
    "rate": BudgetExhaustedError,
    "throttled": BudgetExhaustedError,
    "deadline": DeadlineExceededError,
}
"""By `Rejected.why`."""


def error_of_status(status: int) -> type[MyAPIError]:
    """The class for a response that is not what was asked for."""
    return _STATUSES.get(status) or (ServerError if status >= 500 else APIStatusError)


def error_of_exception(module: ModuleType, error: BaseException) -> type[MyAPIError] | None:
    """The class for an exception of httpx's; None for one that is not, which is nobody's to translate."""
    for name, kind in _EXCEPTIONS:
        if isinstance(error, getattr(module, name)):
            return kind
    return APITimeoutError if isinstance(error, TimeoutError) else None
