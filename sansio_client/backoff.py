"""How long to wait before the next attempt: laws without state, of the retry's index and one random draw.

Every law has one method, `delay(k, u, previous, waited)`, and these rules hold for all of them.

* `k` counts retries from 0: the delay after the first attempt is `delay(0, ...)`, and N attempts have N - 1 delays.
* `u` is one fresh draw, 0 <= u < 1. Nothing else is random.
* `previous` is the backoff delay before this one (0.0 at first) and `waited` the sum of all of them in this call; both
  without what a Retry-After added. Most laws look at neither. They are arguments because the law itself remembers
  nothing: one object serves every call, and calls that run at the same time cannot disturb each other's schedule.
* The result is 0 <= delay <= `ceiling`, for any `k` however large.
* Jitter is applied after the cap, never before it. Clamping a jittered delay gives every client that has reached the
  cap the same delay, just when the herd is largest.

A server's Retry-After is not known here: it is a floor that the caller adds, so a fleet does not return in one instant.
"""

from dataclasses import dataclass
from math import sqrt, tanh
from typing import Protocol

from sansio_client.checks import check_number, check_seconds, check_share

SHORTEST_BASE_SECONDS = 0.001  # growth from nothing is no growth; whoever wants no delay says NoBackoff
LONGEST_SECONDS = 1_000_000.0  # eleven days: so no law can reach infinity


class Backoff(Protocol):
    """A law of delays; the rules of the module docstring hold. Implementations are immutable."""

    @property
    def ceiling(self) -> float:
        """The longest delay in seconds that `delay` can return."""

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return the seconds to wait before retry `k`; pure, and never above `ceiling`."""


@dataclass(frozen=True, slots=True)
class FullJitter:
    """Full jitter after the cap, the default: `u * min(cap, base * multiplier^k)`.

    The law of AWS (botocore retries/standard.py, `ExponentialBackoff`), with its cap of 20 s. Our base lies between its
    neighbours: botocore starts at 1 s; the AWS retry standard 2.1 at 0.05 s, and at 1 s when throttled. We do
    not tell the two apart, because a throttled answer usually brings a Retry-After, which is a floor under this delay.
    """

    base_seconds: float = 0.5
    cap_seconds: float = 20.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        _check_growth(self.base_seconds, self.cap_seconds, self.multiplier)

    @property
    def ceiling(self) -> float:
        """The cap: full jitter only shortens."""
        return self.cap_seconds

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return a delay anywhere between none and the capped exponential."""
        return u * _grown(self.base_seconds, self.multiplier, k, self.cap_seconds)


@dataclass(frozen=True, slots=True)
class EqualJitter:
    """Half of it certain, half of it jitter: `(0.5 + 0.5u) * min(cap, base * multiplier^k)`.

    The law and the defaults of smithy-rs (25 ms, 20 s). It never retries at once, and spreads a herd half as far as
    `FullJitter` does.
    """

    base_seconds: float = 0.025
    cap_seconds: float = 20.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        _check_growth(self.base_seconds, self.cap_seconds, self.multiplier)

    @property
    def ceiling(self) -> float:
        """The cap."""
        return self.cap_seconds

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return a delay in the upper half of the capped exponential."""
        return (0.5 + 0.5 * u) * _grown(self.base_seconds, self.multiplier, k, self.cap_seconds)


@dataclass(frozen=True, slots=True)
class Decorrelated:
    """Each delay drawn from the one before: `base + u * (min(cap, 3 * max(base, previous)) - base)`.

    AWS ("Exponential Backoff And Jitter") writes `min(cap, U(base, 3 * previous))`, of which two draws in three are
    the cap itself once the cap is reached. Here the cap bounds the range that is drawn from instead.
    """

    base_seconds: float = 0.5
    cap_seconds: float = 20.0

    def __post_init__(self) -> None:
        _check_growth(self.base_seconds, self.cap_seconds, 1.0)

    @property
    def ceiling(self) -> float:
        """The cap."""
        return self.cap_seconds

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return a delay between the base and three times the `previous` one; `k` plays no part."""
        high = min(self.cap_seconds, 3.0 * max(self.base_seconds, previous))
        return self.base_seconds + u * (high - self.base_seconds)


@dataclass(frozen=True, slots=True)
class GrpcJitter:
    """gRPC's: `(0.8 + 0.4u) * min(cap, base * multiplier^k)`, so up to a fifth above the cap; see `ceiling`.

    grpc/proposal A6-client-retries.md, "Exponential Backoff", as grpc-go's `shouldRetry` does it. A6 has no defaults;
    these are the values of its example.
    """

    base_seconds: float = 0.1
    cap_seconds: float = 1.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        _check_growth(self.base_seconds, self.cap_seconds, self.multiplier)

    @property
    def ceiling(self) -> float:
        """The cap and a fifth of it."""
        return 1.2 * self.cap_seconds

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return a delay within a fifth of the capped exponential, above or below."""
        return (0.8 + 0.4 * u) * _grown(self.base_seconds, self.multiplier, k, self.cap_seconds)


@dataclass(frozen=True, slots=True)
class PollyDecorrelatedV2:
    """Polly's smooth exponential: medians near `base * 2^k`, without the spikes of clamped jitter.

    `t = k + u; n(t) = 2^t * tanh(sqrt(4t)); delay = (n(t) - n before) * base / 1.4`, from Polly.Core/Retry/
    RetryHelper.cs, `DecorrelatedJitterBackoffV2`. A high draw and then a low one leave almost no delay: `base` is
    no floor.

    Polly carries the n before from retry to retry. The delays so far add up to exactly `n * base / 1.4`, so
    `waited` says the same. Where the formula passes the cap, Polly waits the cap, which is the same for every client;
    here it is `cap * (0.5 + 0.5u)`.
    """

    base_seconds: float = 0.5
    cap_seconds: float = 20.0

    def __post_init__(self) -> None:
        _check_growth(self.base_seconds, self.cap_seconds, 1.0)

    @property
    def ceiling(self) -> float:
        """The cap."""
        return self.cap_seconds

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return what is left of `n(k + u)` after the `waited` seconds."""
        try:
            t = k + u
            delay: float = 2.0**t * tanh(sqrt(4.0 * t)) * self.base_seconds / 1.4 - waited
        except OverflowError:
            delay = self.cap_seconds + 1.0
        if delay > self.cap_seconds:
            return self.cap_seconds * (0.5 + 0.5 * u)
        return max(0.0, delay)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Growth with as much jitter as asked for: `(1 - jitter * u) * min(cap, base * multiplier^k)`.

    Without jitter, as here by default, clients that fail together come back together, every time.
    """

    base_seconds: float = 0.5
    cap_seconds: float = 20.0
    multiplier: float = 2.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check_growth(self.base_seconds, self.cap_seconds, self.multiplier)
        check_share("jitter", self.jitter, above_zero=False)

    @property
    def ceiling(self) -> float:
        """The cap: the jitter only shortens."""
        return self.cap_seconds

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return the capped exponential, less up to the share `jitter` of it."""
        return (1.0 - self.jitter * u) * _grown(self.base_seconds, self.multiplier, k, self.cap_seconds)


@dataclass(frozen=True, slots=True)
class Linear:
    """Growth by the same step: `(1 - jitter * u) * min(cap, base * (k + 1))`."""

    base_seconds: float = 0.5
    cap_seconds: float = 20.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check_growth(self.base_seconds, self.cap_seconds, 1.0)
        check_share("jitter", self.jitter, above_zero=False)

    @property
    def ceiling(self) -> float:
        """The cap: the jitter only shortens."""
        return self.cap_seconds

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return k + 1 steps, at most the cap, less up to the share `jitter` of it."""
        # The comparison comes first: an integer of any size can be compared with a float, but not multiplied by one.
        steps = self.cap_seconds / self.base_seconds
        whole = self.cap_seconds if k >= steps else min(self.cap_seconds, self.base_seconds * (k + 1))
        return (1.0 - self.jitter * u) * whole


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same delay: `(1 - jitter * u) * delay_seconds`."""

    delay_seconds: float = 1.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        check_seconds("delay_seconds", self.delay_seconds, 0.0, LONGEST_SECONDS)
        check_share("jitter", self.jitter, above_zero=False)

    @property
    def ceiling(self) -> float:
        """The delay itself: the jitter only shortens."""
        return self.delay_seconds

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return the delay, less up to the share `jitter` of it."""
        return (1.0 - self.jitter * u) * self.delay_seconds


@dataclass(frozen=True, slots=True)
class NoBackoff:
    """Retry at once. For tests, and for peers behind which something else waits."""

    @property
    def ceiling(self) -> float:
        """No delay."""
        return 0.0

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return 0.0."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Full jitter above a minimum: `min + u * (min(max, min * base^(k + 1)) - min)`.

    The law of the façade, where `min_wait_seconds` is a promise. Raising a full-jitter delay to the minimum would make
    every first retry exactly the minimum; here the first is drawn between the minimum and `base` times it. A minimum of
    0 therefore never waits.
    """

    min_seconds: float = 1.0
    max_seconds: float = 60.0
    base: float = 2.0

    def __post_init__(self) -> None:
        check_seconds("min_seconds", self.min_seconds, 0.0, LONGEST_SECONDS)
        check_seconds("max_seconds", self.max_seconds, self.min_seconds, LONGEST_SECONDS)
        check_number("base", self.base, 1.0)

    @property
    def ceiling(self) -> float:
        """The maximum."""
        return self.max_seconds

    def delay(self, k: int, u: float, previous: float, waited: float) -> float:
        """Return a delay between the minimum and the capped exponential one step ahead."""
        low = self.min_seconds
        high = _grown(low, self.base, k + 1, self.max_seconds)
        return low + u * (high - low)


def _grown(base: float, multiplier: float, k: int, cap: float) -> float:
    try:
        power: float = float(multiplier) ** k  # an integer's power would not overflow but fill the memory
    except OverflowError:  # the power, or `k` itself, is beyond any float
        return cap if base else 0.0
    return min(cap, base * power)


def _check_growth(base_seconds: float, cap_seconds: float, multiplier: float) -> None:
    check_seconds("base_seconds", base_seconds, SHORTEST_BASE_SECONDS, LONGEST_SECONDS)
    check_seconds("cap_seconds", cap_seconds, base_seconds, LONGEST_SECONDS)
    check_number("multiplier", multiplier, 1.0)
