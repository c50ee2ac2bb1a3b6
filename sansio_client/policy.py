"""The settings of calls and of what they share: immutable, checked when made, every field with its unit.

The defaults protect the peer: three attempts, full jitter, a retry budget, a deadline, and nothing repeated that might
not be safe to repeat.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Any

from sansio_client.adaptive import LimitSettings
from sansio_client.backoff import Backoff, FullJitter
from sansio_client.breaker import BreakerSettings
from sansio_client.budget import AwsQuota, BudgetSettings
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.checks import check_count, check_number, check_seconds
from sansio_client.errors import SettingError
from sansio_client.ratelimit import RateLimit
from sansio_client.throttle import ClientThrottle

HEDGE_FLOOR = 0.001  # seconds; finagle's BackupRequestFilter never hedges earlier


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    """A second attempt beside the first while that has not answered (gRPC A6; "The Tail at Scale", Dean & Barroso).

    Only for calls that may be repeated. A hedge never waits for a slot and never without the budget's consent.

    Attributes:
        after: seconds without an answer after which the next attempt goes out; 0 sends all at once.
        quantile: instead of `after`: the share of answers that take less, above 0 to below 1; measured as calls go.
        minimum_samples: answers to have seen before the quantile means anything; there is no hedge before.
        parallel: attempts in flight at once, the first included, 2 to 5 (gRPC caps at 5).
    """

    after: float | None = None
    quantile: float | None = None
    minimum_samples: int = 100
    parallel: int = 2

    def __post_init__(self) -> None:
        if (self.after is None) == (self.quantile is None):
            raise SettingError("hedge.after", self.after, "either after or quantile, not both and not neither")
        if self.after is not None:
            check_seconds("hedge.after", self.after)
        if self.quantile is not None:
            check_number("hedge.quantile", self.quantile, 0.01, 0.9999)
        check_count("hedge.minimum_samples", self.minimum_samples, 1, 10_000)
        check_count("hedge.parallel", self.parallel, 2, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How calls are made. The first block is read per call, the second makes what the calls to one target share.

    Attributes:
        max_attempts: attempts of a call, the first and hedges included, 1 to 1000.
        total_timeout: seconds for the whole call, waits included; `inf` for none.
        attempt_timeout: seconds for each attempt; never beyond the call's own deadline.
        backoff: the wait before a retry.
        max_retry_after: seconds; when the peer asks for a longer wait, the call ends and hands the value on.
        retry_on_open: whether a retry that finds the breaker open waits for it when its deadline allows. A call that
            has not been sent once is refused at once.
        hedge: a second attempt beside a slow one, or None.
        breaker: None for none. Each attempt passes it, retries included.
        bulkhead: None for no limit.
        budget: what retries and hedges may cost the peer, or None for no bound.
        rate_limit: the pace of our own sending, or None.
        throttle: client-side throttling while the peer refuses most calls, or None.
        adaptive: a limit that follows latency and drops and moves the bulkhead's size, or None.
    """

    max_attempts: int = 3
    total_timeout: float = 120.0
    attempt_timeout: float = inf
    backoff: Backoff = FullJitter()
    max_retry_after: float = 60.0
    retry_on_open: bool = True
    hedge: Hedge | None = None

    breaker: BreakerSettings | None = BreakerSettings()
    bulkhead: BulkheadSettings | None = BulkheadSettings()
    budget: BudgetSettings | None = AwsQuota()
    rate_limit: RateLimit | None = None
    throttle: ClientThrottle | None = None
    adaptive: LimitSettings | None = None

    def __post_init__(self) -> None:
        check_count("max_attempts", self.max_attempts, 1, 1000)
        for name in ("total_timeout", "attempt_timeout"):
            check_seconds(name, getattr(self, name))
            if getattr(self, name) == 0:
                raise SettingError(name, 0, "more than 0 seconds; inf for no limit")
        check_seconds("max_retry_after", self.max_retry_after)
        if not callable(getattr(self.backoff, "delay", None)):
            raise SettingError("backoff", self.backoff, "a Backoff, e.g. FullJitter(); NoBackoff() for no wait")
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise SettingError(name, value, f"None or {kind.__name__}")
        for name in ("budget", "adaptive"):
            value = getattr(self, name)
            if value is not None and not callable(getattr(value, "make", None)):
                raise SettingError(name, value, "None or settings with a make(), such as those of this package")
        longest = min(self.attempt_timeout, self.total_timeout)
        if self.throttle is not None and longest != inf and longest > self.throttle.window_seconds:
            # What is still in flight when the window has forgotten it would count as never sent.
            expected = f"at least the {longest:g} seconds an attempt may take"
            raise SettingError("throttle.window_seconds", self.throttle.window_seconds, expected)
        if self.adaptive is not None and self.bulkhead is None:
            raise SettingError("bulkhead", None, "BulkheadSettings, as adaptive has to limit something")

    def replace(self, **changes: Any) -> "Policy":
        """The same with other values, checked again.

        Raises:
            SettingError: a value is out of its range.
            TypeError: there is no such field.

        """
        return replace(self, **changes)


_KINDS: dict[str, type] = {
    "hedge": Hedge,
    "breaker": BreakerSettings,
    "bulkhead": BulkheadSettings,
    "rate_limit": RateLimit,
    "throttle": ClientThrottle,
}
