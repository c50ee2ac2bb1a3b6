"""What an attempt's end means: a value, and the pure functions that make it of a status, its headers, or a failure.

A verdict says what to do next, an effect what the breaker makes of it, and neither follows from the other: a 404 ends
the call and shows a healthy peer, a 507 ends the call and shows a sick one.

| verdict    | worth another attempt | meaning |
|---|---|---|
| OK         | no  | the call has its answer |
| TRANSIENT  | yes | this attempt failed, another may not |
| THROTTLED  | yes | the peer asks this client for less |
| FATAL      | no  | repeating the same request would end the same way, or there is no knowing |
| CANCELLED  | no  | this side gave up: it says nothing about the peer |
| TIMED_OUT  | yes | no answer in the time one attempt has |

Worth it is not enough: whether the request may be repeated is for `idempotency.may_repeat`, the body, `unsent`, the
budget and the deadline to say.
"""

from collections.abc import Mapping
from math import inf
from types import MappingProxyType
from typing import Any

from sansio_client.errors import LocalProtocolError
from sansio_client.retry_after import DELAY_FIELDS, Headers, asked_delay, fields_of, quota_delay

# Plain ints: `&` and `==` on members of an enum cost half a microsecond.
OK, TRANSIENT, THROTTLED, FATAL, CANCELLED, TIMED_OUT = range(6)
VERDICT_NAMES = ("ok", "transient", "throttled", "fatal", "cancelled", "timed-out")

# FAIL counts in the breaker's rate and in its consecutive count and fails a half-open probe; SOFT does all but the
# consecutive count; IGNORE records nothing and gives a probe its permit back.
BREAKER_OK, BREAKER_FAIL, BREAKER_IGNORE, BREAKER_SOFT = range(4)

WHYS = ("open", "full", "queue-timeout", "rate", "throttled", "deadline")
"""The reasons a call can be refused by this side, as `Rejected.why` names them."""


class Outcome:
    """How one attempt ended. Ready-made ones are shared, so never assign to an attribute; make another.

    `retry_after`: None when the peer did not say, seconds of 0 or more to wait at least, negative: the peer says not to
    retry. `unsent`: the request was provably never processed by the peer, so even a POST may be repeated. `status`: the
    HTTP status of a failed response, 0 where there is none and in everything ready-made. `value`: whatever the adapter
    wants back, a response or an exception; never looked at by the core.
    """

    __slots__ = ("effect", "retry_after", "status", "unsent", "value", "verdict")

    def __init__(
        self,
        verdict: int,
        effect: int,
        *,
        retry_after: float | None = None,
        unsent: bool = False,
        status: int = 0,
        value: Any = None,
    ) -> None:
        self.verdict = verdict
        self.effect = effect
        self.retry_after = retry_after
        self.unsent = unsent
        self.status = status
        self.value = value

    def with_value(self, value: Any) -> "Outcome":
        """A new outcome that differs from this one in `value` only."""
        return Outcome(
            self.verdict,
            self.effect,
            retry_after=self.retry_after,
            unsent=self.unsent,
            status=self.status,
            value=value,
        )

    def __repr__(self) -> str:
        parts = ["Outcome", VERDICT_NAMES[self.verdict] if 0 <= self.verdict < 6 else str(self.verdict)]
        if self.status:
            parts.append(str(self.status))
        if self.retry_after is not None:
            parts.append(f"retry_after={self.retry_after:g}")
        if self.unsent:
            parts.append("unsent")
        return f"<{' '.join(parts)}>"  # `value` stays out: it may be large, or secret


class Rejected:
    """A decision of this side: nothing more was sent. `why` is one of `WHYS`.

    `retry_at` is the instant (the adapter's monotonic clock) from which another call has a chance, `inf` when unknown.
    `last` is what the peer said last, None when it said nothing: the caller should see that, not only "open".
    """

    __slots__ = ("last", "retry_at", "why")

    def __init__(self, why: str, retry_at: float = inf, last: Outcome | None = None) -> None:
        self.why = why
        self.retry_at = retry_at
        self.last = last

    def __repr__(self) -> str:
        last = "" if self.last is None else f" last={self.last!r}"
        return f"<Rejected {self.why} retry_at={self.retry_at:g}{last}>"


SUCCESS = Outcome(OK, BREAKER_OK)
FAILURE = Outcome(TRANSIENT, BREAKER_FAIL)
CANCELLATION = Outcome(CANCELLED, BREAKER_IGNORE)
TIMEOUT = Outcome(TIMED_OUT, BREAKER_FAIL)
THROTTLE = Outcome(THROTTLED, BREAKER_SOFT)
DEFINITE = Outcome(FATAL, BREAKER_OK)
"""A final no about the request itself, as 404 is one: nothing to repeat, and the peer is well."""

STATUSES: Mapping[int, tuple[int, int]] = MappingProxyType(
    {
        408: (TRANSIENT, BREAKER_FAIL),
        425: (TRANSIENT, BREAKER_OK),
        429: (THROTTLED, BREAKER_SOFT),
        500: (TRANSIENT, BREAKER_FAIL),
        501: (FATAL, BREAKER_OK),
        502: (TRANSIENT, BREAKER_FAIL),
        503: (TRANSIENT, BREAKER_FAIL),
        504: (TRANSIENT, BREAKER_FAIL),
        505: (FATAL, BREAKER_OK),
    }
)
"""Verdict and effect of the statuses that differ from the rest of their class, which `classify` describes."""

RETRIED_WHEN_ASKED = (409, 413)
"""Final by themselves, but temporary when the response carries a valid Retry-After: RFC 9110 section 15.5.14 says so of
413, and a 409 to an Idempotency-Key still in progress needs no correction (the Idempotency-Key draft, section 2.7)."""

HINTS = ("x-should-retry", "stripe-should-retry")
"""Fields by which a server decides instead of its status: `true` and `false` (Stainless SDKs, Stripe)."""

_FIELDS = (*DELAY_FIELDS, *HINTS)


def classify(status: int, headers: Headers = (), *, now_wall: float | None = None) -> Outcome:
    """What the response to one attempt means. Pure, never raises for anything a peer can send.

    1. 100 to 399: `SUCCESS` itself, headers unread (whoever follows redirects waits their Retry-After).
    2. `STATUSES`, else a 4xx is FATAL from a healthy peer, and anything else FATAL from a sick one: a status outside
       100 to 599 is invalid and counts as 5xx (RFC 9110 section 15).
       * 501 and 505 refuse this method or version for good: five PATCHes to a server without PATCH must not cut off
         the GETs. Other 5xx (507, 511, 520 to 530) need not pass, but the peer cannot serve: the breaker counts them.
       * 503 is a failure with or without Retry-After: it speaks of the peer, 429 of this client, and a field that
         proxies add and strip should not decide whether the breaker opens. The wait is kept either way.
       * 408 counts against the peer, because servers send it for their own slowness, also after processing.
       * 425 refuses to process a request that could be a replay, so it is `unsent` (RFC 8470 section 5.2).
       * 421 asks for another connection, which is not the core's to promise: final.
    3. Retry-After and its relatives (`retry_after.asked_delay`) become `retry_after` for every status but those of 1,
       for the caller to see, and make `RETRIED_WHEN_ASKED` TRANSIENT. Where another attempt is worth it and none of
       them is valid, the window of a used-up RateLimit takes their place. A date counts from the `Date` field, else
       from `now_wall` (Unix seconds), else it is as if absent.
    4. `HINTS`: `false` (which wins) makes `retry_after` -1 and leaves a failure a failure for the budgets; `true` makes
       FATAL TRANSIENT. The effect on the breaker remains the status's.
    """
    if 100 <= status < 400:
        return SUCCESS
    verdict, effect = STATUSES.get(status) or (FATAL, BREAKER_OK if 400 <= status < 500 else BREAKER_FAIL)
    retry_after: float | None = None
    found = fields_of(headers, _FIELDS)
    if found:
        retry_after = asked_delay(found, now_wall)
        hint = _hint(found)
        if verdict == FATAL and (hint is True or (retry_after is not None and status in RETRIED_WHEN_ASKED)):
            verdict = TRANSIENT
        if hint is False:
            retry_after = -1.0
        elif retry_after is None and verdict != FATAL:
            retry_after = quota_delay(found)
    return Outcome(verdict, effect, retry_after=retry_after, unsent=status == 425, status=status)


def _hint(found: Mapping[str, list[str]]) -> bool | None:
    words = [value.strip(" \t").lower() for name in HINTS for value in found.get(name, ())]
    if "false" in words:
        return False
    return True if "true" in words else None


FAILURES: Mapping[str, Outcome] = MappingProxyType(
    {
        "connect": Outcome(TRANSIENT, BREAKER_FAIL, unsent=True),  # refused, DNS, TLS: before the first byte
        "connect-timeout": Outcome(TIMED_OUT, BREAKER_FAIL, unsent=True),
        "write": FAILURE,  # a part was sent, and the peer may have acted on it
        "read": FAILURE,  # the connection was lost after sending
        "timeout": TIMEOUT,  # no answer in time
        "protocol": FAILURE,  # closed without a reply, or the reply is broken
        # This side's own lack of connections: nothing to hold against the peer, nor to try again in a loop; who wants
        # to wait longer sets a longer pool timeout.
        "pool-timeout": Outcome(FATAL, BREAKER_IGNORE, unsent=True),
        "cancelled": CANCELLATION,
        # A bad URL, a defect of the caller: no evidence about the peer, none that a repetition would differ.
        "unknown": Outcome(FATAL, BREAKER_IGNORE),
    }
)
"""The outcome of each kind of failure that leaves no response."""


def classify_failure(kind: str) -> Outcome:
    """The shared outcome of an attempt without a response; put the exception in with `with_value`.

    Raises `LocalProtocolError` for a kind that is not in `FAILURES`: an adapter that does not know says "unknown".
    """
    outcome = FAILURES.get(kind)
    if outcome is None:
        raise LocalProtocolError(f"{kind!r} is no kind of failure; use one of {', '.join(FAILURES)}")
    return outcome
