"""How many retries a peer is sent at most: four families of retry budget behind one protocol.

A budget is settings (frozen, shared) that make machines (one for each target). What a target owes its machine:

* `request` when a first attempt is sent; a machine that is not `eager` need not be told.
* `failure` when an attempt ends in a failure that could be retried, or in a "do not retry" of the peer; before
  `withdraw`, because the gRPC throttle decides on what is left after the failure.
* `withdraw` before a retry or a hedge; 0 is a refusal and takes nothing. Anything else is the cost, to be kept with the
  attempt it pays for, and given back exactly once: to `refund` if that attempt is never sent, else to `settle`.
* `settle` when any attempt ends, first attempts with the cost 0. A machine that is `full` need not be told of the
  success of a first attempt.

All arithmetic is on integers, and shares are taken as the decimal they are written as: 0.7 is seven tenths. Tokens are
never negative and never above what the settings say, whatever the order of calls and whatever the clock does.
"""

from dataclasses import dataclass
from math import gcd
from typing import ClassVar, Protocol

from sansio_client.checks import check_count, check_number, check_seconds, check_share
from sansio_client.windows import BucketRing

MOST_TOKENS = 1_000_000


class Budget(Protocol):
    """The permission for retries and hedges; the module docstring says who calls what when. Every method is O(1)."""

    eager: ClassVar[bool]  # it must see every `request`, so no fast path may leave that out

    @property
    def full(self) -> bool:
        """Whether all that was paid is back: a first attempt's success changes nothing, a new one allows no more."""

    def request(self, now: float) -> None:
        """A first attempt is being sent."""

    def failure(self, now: float) -> None:
        """An attempt ended in a retryable failure, or in the peer's "do not retry"."""

    def withdraw(self, now: float, *, timed_out: bool, throttled: bool, in_flight: int) -> int:
        """Ask for one retry or hedge; return its cost, at least 1, or 0 for "no", which takes nothing.

        `timed_out` and `throttled` say how the attempt before ended; `in_flight` is the number of attempts under way at
        this target, those waiting for a slot included.
        """

    def refund(self, cost: int, now: float) -> None:
        """The attempt that was paid for was never sent: cancelled, refused by the breaker, or out of time."""

    def settle(self, cost: int, ok: bool, now: float) -> None:  # noqa: FBT001 - a flag on the hot path
        """An attempt ended; `cost` is what it was paid with, 0 for a first attempt. At most once for each attempt."""

    def successes(self, count: int, now: float) -> None:
        """As `settle(0, True, now)`, `count` times."""

    def level(self) -> float:
        """Return a number for events and display; each machine says what it counts."""


class BudgetSettings(Protocol):
    """Settings that make a `Budget`."""

    def make(self) -> Budget:
        """Return a new machine that has not paid for anything yet."""


@dataclass(frozen=True, slots=True)
class AwsQuota:
    """Tokens that retries take and successes bring back: the default.

    botocore retries/quota.py and standard.py (`RetryQuotaChecker`): 500 tokens, 5 for a retry, 10 after a timeout; a
    success brings back what its attempt cost, a first attempt's success `success_gain`, a failure nothing. So a
    burst of 100 retries, and after it one for 5 successes, or 20 %. The AWS retry standard 2.1 takes
    `retry_cost=14, timeout_cost=14, throttle_cost=5`: 7 %. A cost above `capacity` is never paid: no such retries.
    """

    capacity: int = 500
    retry_cost: int = 5
    timeout_cost: int = 10
    throttle_cost: int = 5
    success_gain: int = 1

    def __post_init__(self) -> None:
        check_count("capacity", self.capacity, 0, MOST_TOKENS)
        check_count("retry_cost", self.retry_cost, 1, MOST_TOKENS)
        check_count("timeout_cost", self.timeout_cost, 1, MOST_TOKENS)
        check_count("throttle_cost", self.throttle_cost, 1, MOST_TOKENS)
        check_count("success_gain", self.success_gain, 1, MOST_TOKENS)  # 0 would be a quota that never refills

    def make(self) -> "AwsQuotaTokens":
        """Return a full quota."""
        return AwsQuotaTokens(self)


class AwsQuotaTokens:
    """The tokens of an `AwsQuota`."""

    __slots__ = ("_settings", "_tokens")
    eager: ClassVar[bool] = False

    def __init__(self, settings: AwsQuota) -> None:
        self._settings = settings
        self._tokens = settings.capacity

    @property
    def full(self) -> bool:
        """Whether no token is missing."""
        return self._tokens == self._settings.capacity

    def request(self, now: float) -> None:
        """Nothing: first attempts are free."""

    def failure(self, now: float) -> None:
        """Nothing: retries pay, not failures."""

    def withdraw(self, now: float, *, timed_out: bool, throttled: bool, in_flight: int) -> int:
        """Take the cost of a retry after such an end, if there are as many tokens."""
        settings = self._settings
        cost = settings.timeout_cost if timed_out else settings.throttle_cost if throttled else settings.retry_cost
        if cost > self._tokens:
            return 0
        self._tokens -= cost
        return cost

    def refund(self, cost: int, now: float) -> None:
        """Put the cost back."""
        self._put(cost)

    def settle(self, cost: int, ok: bool, now: float) -> None:  # noqa: FBT001
        """Put the cost of a success back; what failed attempts have paid stays paid.

        Each attempt brings its own cost, which is AWS's rule that a call gets back its last acquisition only.
        """
        if ok:
            self._put(cost or self._settings.success_gain)

    def successes(self, count: int, now: float) -> None:
        """Put what they gain."""
        self._put(count * self._settings.success_gain)

    def level(self) -> float:
        """Return the tokens that are left."""
        return self._tokens

    def _put(self, count: int) -> None:
        self._tokens = min(self._settings.capacity, self._tokens + count)


@dataclass(frozen=True, slots=True)
class GrpcThrottle:
    """No retries while failures outweigh successes: gRPC's retry throttling.

    grpc/proposal A6-client-retries.md, "Throttling Retry Attempts and Hedged RPCs": a retryable failure takes a token,
    a success brings `token_ratio`, and retries and hedges pass only while more than half of `max_tokens` are there.
    Defaults from its example. A share of failures up to `ratio / (1 + ratio)`, here 9 %, goes on for ever.
    A6 keeps three decimals of the ratio, and so do we, rounded; grpc-java cuts them off.
    """

    max_tokens: int = 10
    token_ratio: float = 0.1

    def __post_init__(self) -> None:
        check_count("max_tokens", self.max_tokens, 1, 1000)
        check_number("token_ratio", self.token_ratio, 0.001, 1000.0)  # less would be rounded to a budget without refill

    def make(self) -> "GrpcThrottleTokens":
        """Return a machine with all its tokens."""
        return GrpcThrottleTokens(self)


class GrpcThrottleTokens:
    """The tokens of a `GrpcThrottle`, in thousandths (as grpc-java's `RetriableStream.Throttle` keeps them)."""

    __slots__ = ("_gain", "_most", "_thousandths")
    eager: ClassVar[bool] = False

    def __init__(self, settings: GrpcThrottle) -> None:
        self._most = settings.max_tokens * 1000
        self._gain = round(settings.token_ratio * 1000)
        self._thousandths = self._most

    @property
    def full(self) -> bool:
        """Whether no token is missing."""
        return self._thousandths == self._most

    def request(self, now: float) -> None:
        """Nothing: only ends count."""

    def failure(self, now: float) -> None:
        """Take one token, if there is one."""
        self._thousandths = max(0, self._thousandths - 1000)

    def withdraw(self, now: float, *, timed_out: bool, throttled: bool, in_flight: int) -> int:
        """Allow it above half of the tokens. It takes none: the failure that led here has."""
        return 1 if 2 * self._thousandths > self._most else 0

    def refund(self, cost: int, now: float) -> None:
        """Nothing: nothing was taken."""

    def settle(self, cost: int, ok: bool, now: float) -> None:  # noqa: FBT001
        """Bring `token_ratio` for a success, of whichever attempt."""
        if ok:
            self.successes(1, now)

    def successes(self, count: int, now: float) -> None:
        """Bring `token_ratio` for each."""
        self._thousandths = min(self._most, self._thousandths + count * self._gain)

    def level(self) -> float:
        """Return the tokens that are left."""
        return self._thousandths / 1000


@dataclass(frozen=True, slots=True)
class RatioBudget:
    """In any `window_seconds`, at most the share `ratio` of the requests as retries, and a reserve.

    The rule of finagle (RetryBudget.scala), tower and linkerd, with their defaults: `retries <= ratio * requests +
    reserve_per_second * window_seconds`, all counted over the window. The reserve serves clients with few requests.
    Because requests leave the window before the retries that they allowed, a budget that was spent at once pauses for
    up to a window.
    """

    ratio: float = 0.2
    window_seconds: float = 10.0
    reserve_per_second: float = 10.0

    def __post_init__(self) -> None:
        check_number("ratio", self.ratio, 0.0, 1000.0)
        check_seconds("window_seconds", self.window_seconds, 1.0, 60.0)
        check_number("reserve_per_second", self.reserve_per_second, 0.0, MOST_TOKENS)

    def make(self) -> "RatioLedger":
        """Return a machine that has seen no request."""
        return RatioLedger(self)


_REQUESTS, _RETRIES = 0, 1


class RatioLedger:
    """The requests and retries of the last seconds under a `RatioBudget`.

    finagle and tower keep one balance, into which withdrawals go as negative deposits. With a count of each, a retry
    that is refunded after its withdrawal has left the window is not given back a second time.
    """

    __slots__ = ("_deposit", "_price", "_reserve", "_ring")
    eager: ClassVar[bool] = True

    def __init__(self, settings: RatioBudget) -> None:
        self._deposit, self._price = decimal_fraction(settings.ratio)
        rate, rate_unit = decimal_fraction(settings.reserve_per_second)
        seconds, seconds_unit = decimal_fraction(settings.window_seconds)
        self._reserve = rate * seconds // (rate_unit * seconds_unit)
        self._ring = BucketRing(settings.window_seconds, buckets=10, kinds=2)

    @property
    def full(self) -> bool:
        """Whether no retry was in the window when the ledger was last used."""
        return self._ring.totals[_RETRIES] == 0

    def request(self, now: float) -> None:
        """Count a request, which allows `ratio` of a retry."""
        self._ring.add(now, _REQUESTS)

    def failure(self, now: float) -> None:
        """Nothing: retries pay, not failures."""

    def withdraw(self, now: float, *, timed_out: bool, throttled: bool, in_flight: int) -> int:
        """Count a retry if, with it, the rule holds."""
        self._ring.expire(now)
        if self._left() < 1:
            return 0
        self._ring.add(now, _RETRIES)
        return 1

    def refund(self, cost: int, now: float) -> None:
        """Uncount a retry, unless it has left the window and so come back by itself."""
        if cost:
            self._ring.take_back(now, _RETRIES)

    def settle(self, cost: int, ok: bool, now: float) -> None:  # noqa: FBT001
        """Nothing: a retry that was sent was sent, whatever came of it."""

    def successes(self, count: int, now: float) -> None:
        """Nothing: it is requests that bring retries."""

    def level(self) -> float:
        """Return how many retries were left when the ledger was last used."""
        return max(0, self._left())

    def _left(self) -> int:
        requests, retries = self._ring.totals
        return self._reserve + requests * self._deposit // self._price - retries


@dataclass(frozen=True, slots=True)
class ConcurrentShare:
    """At any moment, at most the share `share` of the attempts under way as retries, but always `minimum`.

    Envoy's retry budget (resource_manager_impl.h, `RetryBudgetImpl`; failsafe-go budget/budget.go), with its defaults:
    `retries under way < max(minimum, share * in_flight)`. Retries that wait out their backoff count, too.
    """

    share: float = 0.2
    minimum: int = 3

    def __post_init__(self) -> None:
        check_share("share", self.share, above_zero=False)
        check_count("minimum", self.minimum, 0, MOST_TOKENS)

    def make(self) -> "ConcurrentRetries":
        """Return a machine without a retry under way."""
        return ConcurrentRetries(self)


class ConcurrentRetries:
    """The retries under way of a `ConcurrentShare`."""

    __slots__ = ("_active", "_minimum", "_part", "_whole")
    eager: ClassVar[bool] = False

    def __init__(self, settings: ConcurrentShare) -> None:
        self._part, self._whole = decimal_fraction(settings.share)
        self._minimum = settings.minimum
        self._active = 0

    @property
    def full(self) -> bool:
        """Whether no retry is under way."""
        return self._active == 0

    def request(self, now: float) -> None:
        """Nothing: the caller of `withdraw` knows what is under way."""

    def failure(self, now: float) -> None:
        """Nothing: only what is under way counts."""

    def withdraw(self, now: float, *, timed_out: bool, throttled: bool, in_flight: int) -> int:
        """Count a retry as under way if fewer are than `in_flight` allows."""
        if self._active >= max(self._minimum, in_flight * self._part // self._whole):
            return 0
        self._active += 1
        return 1

    def refund(self, cost: int, now: float) -> None:
        """Count a retry as no longer under way."""
        if cost and self._active:
            self._active -= 1

    def settle(self, cost: int, ok: bool, now: float) -> None:  # noqa: FBT001
        """Count a retry as no longer under way, however it ended."""
        self.refund(cost, now)

    def successes(self, count: int, now: float) -> None:
        """Nothing: no retry was under way."""

    def level(self) -> float:
        """Return the number of retries under way."""
        return self._active


def decimal_fraction(value: float) -> tuple[int, int]:
    """Return `value` >= 0 as numerator and denominator of the decimal that `repr` writes: 0.7 is 7 and 10.

    The float nearest to 0.7 is a little less than seven tenths; taken exactly it would allow 6 retries for 10 requests.
    """
    mantissa, _, exponent = repr(float(value)).partition("e")
    whole, _, decimals = mantissa.partition(".")
    places = len(decimals) - int(exponent or 0)
    above, below = int(whole + decimals) * 10 ** max(0, -places), 10 ** max(0, places)
    common = gcd(above, below)
    return above // common, below // common
