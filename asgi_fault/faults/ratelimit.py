"""Rate limits: fixed window, sliding window (a log of what was let in) and token bucket, in whole microseconds.

Integers, because a client that waits exactly as long as it was told must find the door open. What is announced follows
draft-ietf-httpapi-ratelimit-headers-11: `q` per `w` seconds, `r` left, and `t` seconds until there is more.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, NamedTuple, Protocol

from asgi_fault.asgi import JSON, Header, to_json
from asgi_fault.faults.matching import Arrival
from asgi_fault.faults.plan import Answer, Plan

KEYS_MAX = 1000
LOG_MAX = 200_000  # instants that one rule remembers, over all keys
MICROSECONDS = 1_000_000

PROBLEM_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class Verdict(NamedTuple):
    """Whether one request is let in, what is then left, and microseconds until there is more."""

    admitted: bool
    remaining: int
    more_in: int


class Quota(Protocol):
    """The count of one key."""

    def take(self, now: int) -> Verdict:
        """Let a request in at `now` (microseconds since the rule was set) if there is room for it."""


class FixedWindow:
    """`limit` requests in each window; windows are counted from the moment the rule was set."""

    __slots__ = ("_limit", "_taken", "_window", "_window_us")

    def __init__(self, limit: int, window_us: int) -> None:
        self._limit, self._window_us = limit, window_us
        self._window = -1
        self._taken = 0

    def take(self, now: int) -> Verdict:
        """As `Quota.take`."""
        window, into = divmod(now, self._window_us)
        if window != self._window:
            self._window, self._taken = window, 0
        admitted = self._taken < self._limit
        self._taken += admitted
        return Verdict(admitted, self._limit - self._taken, self._window_us - into)


class SlidingWindow:
    """`limit` requests in any window: the instants of those let in are kept until they are a window old."""

    __slots__ = ("_admitted", "_limit", "_window_us")

    def __init__(self, limit: int, window_us: int) -> None:
        self._limit, self._window_us = limit, window_us
        self._admitted: deque[int] = deque()

    def take(self, now: int) -> Verdict:
        """As `Quota.take`."""
        admitted_at = self._admitted
        while admitted_at and admitted_at[0] <= now - self._window_us:
            admitted_at.popleft()
        admitted = len(admitted_at) < self._limit
        if admitted:
            admitted_at.append(now)
        return Verdict(admitted, self._limit - len(admitted_at), admitted_at[0] + self._window_us - now)


class TokenBucket:
    """`limit` tokens at first, and `limit` more each window, one by one; a request takes one.

    The level is counted in `limit`-ths of a microsecond: a token is a window's worth, each microsecond adds `limit`.
    """

    __slots__ = ("_at", "_level", "_limit", "_window_us")

    def __init__(self, limit: int, window_us: int) -> None:
        self._limit, self._window_us = limit, window_us
        self._level = limit * window_us
        self._at: int | None = None

    def take(self, now: int) -> Verdict:
        """As `Quota.take`."""
        if self._at is not None:
            self._level = min(self._limit * self._window_us, self._level + (now - self._at) * self._limit)
        self._at = now
        admitted = self._level >= self._window_us
        if admitted:
            self._level -= self._window_us
        remaining, part = divmod(self._level, self._window_us)
        return Verdict(admitted, remaining, -((part - self._window_us) // self._limit))


ALGORITHMS: dict[str, Callable[[int, int], Quota]] = {
    "fixed-window": FixedWindow,
    "sliding-window": SlidingWindow,
    "token-bucket": TokenBucket,
}


class RateLimit:
    """A rule's rate limit with the quotas of its keys.

    Args:
        document: a `rate_limit` without violations.
        rule_id: of the rule it belongs to.
    """

    __slots__ = (
        "_header",
        "_keys_max",
        "_kind",
        "_latest",
        "_limit",
        "_make",
        "_policy",
        "_quotas",
        "_rule_id",
        "_window_us",
    )

    def __init__(self, document: Mapping[str, Any], rule_id: str) -> None:
        self._rule_id = rule_id
        self._make = ALGORITHMS[document["algorithm"]]
        self._limit = int(document["limit"])
        self._window_us = max(1, round(document["window_s"] * MICROSECONDS))
        key = document.get("key", "client")
        self._kind = "header" if isinstance(key, Mapping) else key
        self._header = key["header"].lower().encode() if isinstance(key, Mapping) else b""
        policy = f'"default";q={self._limit};w={ceil(document["window_s"])}'
        self._policy: Header = (b"ratelimit-policy", policy.encode())
        self._quotas: OrderedDict[bytes | str, Quota] = OrderedDict()
        self._latest = 0
        is_log = self._make is SlidingWindow
        self._keys_max = min(KEYS_MAX, LOG_MAX // self._limit) if is_log else KEYS_MAX

    def __len__(self) -> int:
        return len(self._quotas)

    def take(self, arrival: Arrival, age: float) -> Plan:
        """Count `arrival`, `age` seconds after the rule was set.

        The key that was silent longest is forgotten when there are too many; it starts anew.
        """
        key = self._key_of(arrival)
        quota = self._quotas.get(key)
        if quota is None:
            quota = self._quotas[key] = self._make(self._limit, self._window_us)
            if len(self._quotas) > self._keys_max:
                self._quotas.popitem(last=False)
        else:
            self._quotas.move_to_end(key)
        # Who waited in the queue is asked about late: for the quota it arrives now.
        self._latest = max(self._latest, round(age * MICROSECONDS))
        verdict = quota.take(self._latest)
        wait = -(-verdict.more_in // MICROSECONDS)
        headers = (self._policy, (b"ratelimit", b'"default";r=%d;t=%d' % (verdict.remaining, wait)))
        if verdict.admitted:
            return Plan(rule_id=self._rule_id, headers=headers)
        return Plan(rule_id=self._rule_id, answer=_refusal(arrival, wait, headers))

    def _key_of(self, arrival: Arrival) -> bytes | str:
        if self._kind == "client":
            return arrival.client
        # Without the header, all share one quota; a long value is told by its beginning.
        return arrival.headers.get(self._header, b"")[:256] if self._kind == "header" else ""


def _refusal(arrival: Arrival, wait: int, headers: tuple[Header, ...]) -> Answer:
    """429, as RFC 9457 when the client asked for that."""
    content_type, body = JSON, b'{"detail":"Too Many Requests"}'
    if b"application/problem+json" in arrival.headers.get(b"accept", b""):
        content_type = (b"content-type", b"application/problem+json")
        body = to_json(
            {"type": PROBLEM_TYPE, "title": "Too Many Requests", "status": 429, "violated-policies": ["default"]}
        )
    return Answer(429, (content_type, *headers, (b"retry-after", b"%d" % wait)), body)
