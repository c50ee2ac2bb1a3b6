"""What may be raised here: bad settings, misuse of a machine, and what adapters raise for refused calls.

The peer's failures never raise inside the core: they are `Outcome` values. An adapter turns a `Rejected` value into one
of the `CallRejected` errors below, a new object every time (a shared one would collect tracebacks).
"""

from typing import Any


class SettingError(ValueError):
    """A setting is out of its range; raised where it is made, naming field, value and range."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field} is {value!r}; expected {expected}")
        self.field = field
        self.value = value
        self.expected = expected


class LocalProtocolError(RuntimeError):
    """The machine was driven wrongly; the message says what to do instead. After it the machine is as it was before."""


class CallRejected(Exception):
    """A call ended by a decision of this side. `why` is a word of `outcome.WHYS`, `last` what the peer said last."""

    def __init__(self, message: str, *, why: str, retry_at: float, last: Any = None, attempts: int = 0) -> None:
        super().__init__(message)
        self.why = why
        self.retry_at = retry_at
        self.last = last
        self.attempts = attempts


class CircuitOpen(CallRejected):
    """The breaker refuses calls until `retry_at` (monotonic seconds of the adapter's clock)."""


class BulkheadFull(CallRejected):
    """No slot is free and the queue has no place, or the wait for a slot took too long."""


class RateLimited(CallRejected):
    """The own rate limiter has no permit within the time this call has."""


class Throttled(CallRejected):
    """Client-side throttling dropped the call, because the peer has been refusing most of them."""


class DeadlineExceeded(CallRejected, TimeoutError):
    """The time for the whole call, all attempts and waits, is over."""


ERRORS: dict[str, tuple[type[CallRejected], str]] = {
    "open": (CircuitOpen, "the circuit breaker is open"),
    "full": (BulkheadFull, "all slots are taken and the queue is full"),
    "queue-timeout": (BulkheadFull, "no slot became free in time"),
    "rate": (RateLimited, "the rate limiter has no permit in time"),
    "throttled": (Throttled, "client-side throttling dropped the call"),
    "deadline": (DeadlineExceeded, "the time for the call is over"),
}
