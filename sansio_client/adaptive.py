"""How many attempts a target can bear at once, learnt from latency and loss: AIMD, Vegas, Gradient2, and windows.

The settings (`Aimd`, `Vegas`, `Gradient2`, `Windowed`) are immutable and shared; `make` gives each target a machine of
its own. A machine is told of an attempt's end in the three words of Netflix concurrency-limits (Limiter.Listener):
*success* and *dropped* are `on_sample` with `dropped` false or true; *ignore*, the end of an attempt that says nothing
about the target (cancelled here, refused here, the loser of a hedge), is not reported at all.

Rules that hold for all, beside the formulae of their sources:

* The limit stays within [min_limit, max_limit].
* It grows only when an attempt ended with at least half of the limit in use: a limit that is not the bottleneck
  teaches nothing. A drop lowers it whatever was in use.
* A drop is not a latency. How long a timeout or a refusal took is never taken for a round trip: timeouts of one length
  would look like a steady target (Gradient2Limit has that fault: Netflix/concurrency-limits#137), quick refusals like
  a very fast one.
* Samples are counted, and only `Windowed` looks at the time. A clock that stands still or goes back does no harm; a
  round trip that is not above zero is no measurement.

Which to take: `Windowed(Gradient2())`. Fed one attempt at a time, Vegas and Gradient2 take the spread of latencies for
a queue. Modelled, with a server of 50 workers whose times are exponential (mean 20 ms, 2,500 a second at most): Vegas
gets 300 a second out of it, Gradient2 1,000, either in windows of a second 2,300 and 2,000, at a latency of 21 ms. AIMD
fills the queue until something is lost, as it must.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from typing import Protocol

from sansio_client.checks import check_count, check_number, check_seconds, check_share
from sansio_client.errors import SettingError

MOST_IN_FLIGHT = 1_000_000
LONGEST_SECONDS = 1e9  # a round trip beyond is a broken clock's; sums of shorter ones stay finite


class Limit(Protocol):
    """A machine that learns a limit; `limit` is the number of attempts that may be in flight now, 1 or more."""

    limit: int

    def on_sample(self, now: float, rtt_seconds: float, in_flight: int, dropped: bool) -> int:  # noqa: FBT001
        """Learn from one attempt that ended at `now` and return the limit from now on.

        `rtt_seconds` is how long it took; `in_flight` how many were under way when it ended, itself counted; `dropped`
        says that it timed out or was turned away for overload. An attempt that says nothing of the target is not told.
        """


class LimitSettings(Protocol):
    """What makes a `Limit`: one of the settings below, or one of your own."""

    def make(self, random: Callable[[], float]) -> Limit:
        """A new machine; `random` gives u with 0 <= u < 1, and is used by those that probe."""


def _check_limits(initial: int, low: int, high: int) -> None:
    check_count("min_limit", low, 1, MOST_IN_FLIGHT)
    check_count("max_limit", high, low, MOST_IN_FLIGHT)
    check_count("initial_limit", initial, low, high)


@dataclass(frozen=True, slots=True)
class Aimd:
    """Add one while all is well, multiply by `backoff_ratio` at a drop: for targets whose latency says little.

    A success slower than `drop_above_seconds` counts as a drop. Formula and defaults: AIMDLimit.java.
    """

    initial_limit: int = 20
    min_limit: int = 20
    max_limit: int = 200
    backoff_ratio: float = 0.9
    drop_above_seconds: float = 5.0

    def __post_init__(self) -> None:
        _check_limits(self.initial_limit, self.min_limit, self.max_limit)
        # AIMDLimit.java: [0.5, 1). Nearer to one than this, a limit of some thousands would barely move.
        check_number("backoff_ratio", self.backoff_ratio, 0.5, 0.999)
        check_seconds("drop_above_seconds", self.drop_above_seconds)
        if self.drop_above_seconds == 0:
            raise SettingError("drop_above_seconds", self.drop_above_seconds, "seconds above 0, or inf for never")

    def make(self, random: Callable[[], float]) -> "AimdLimit":
        """A new machine; it takes no random number."""
        return AimdLimit(self)


class AimdLimit:
    """The machine of `Aimd`."""

    __slots__ = ("_backoff_ratio", "_drop_above", "_max", "_min", "limit")

    def __init__(self, settings: Aimd) -> None:
        self.limit = settings.initial_limit
        self._min = settings.min_limit
        self._max = settings.max_limit
        self._backoff_ratio = settings.backoff_ratio
        self._drop_above = settings.drop_above_seconds

    def on_sample(self, now: float, rtt_seconds: float, in_flight: int, dropped: bool) -> int:  # noqa: FBT001
        """See `Limit.on_sample`."""
        limit = self.limit
        if dropped or rtt_seconds > self._drop_above:
            limit = int(limit * self._backoff_ratio)
            self.limit = limit = max(limit, self._min)
        elif limit < self._max and 2 * in_flight >= limit:
            self.limit = limit = limit + 1
        return limit


@dataclass(frozen=True, slots=True)
class Vegas:
    """Keep a short queue at the target, measured against the fastest round trip seen: TCP Vegas for requests.

    `queue = ceil(limit * (1 - rtt_min/rtt))`. With L = max(1, whole part of log10(limit)): up to L the limit grows by
    6 L, below 3 L by L, above 6 L it shrinks by L, and so it does at a drop. The fastest round trip is measured anew
    every `probe_multiplier * limit` successes, times a jitter of 0.5 to 1, because a target that became slower for
    good would otherwise look queued for ever.

    Formula and defaults: VegasLimit.java, with two differences. Its table of L ends at 999 and goes on with the square
    root, so that one step above takes 31 at once: here L is the logarithm throughout. And drops are not measured.
    """

    initial_limit: int = 20
    min_limit: int = 1
    max_limit: int = 1000
    probe_multiplier: int = 30

    def __post_init__(self) -> None:
        _check_limits(self.initial_limit, self.min_limit, self.max_limit)
        check_count("probe_multiplier", self.probe_multiplier, 1, 1_000_000)

    def make(self, random: Callable[[], float]) -> "VegasLimit":
        """A new machine; `random` is asked once now and once at each probe."""
        return VegasLimit(self, random)


class VegasLimit:
    """The machine of `Vegas`."""

    __slots__ = ("_max", "_min", "_probe_at", "_probe_multiplier", "_random", "_rtt_min", "_samples", "limit")

    def __init__(self, settings: Vegas, random: Callable[[], float]) -> None:
        self.limit = settings.initial_limit
        self._min = settings.min_limit
        self._max = settings.max_limit
        self._probe_multiplier = settings.probe_multiplier
        self._random = random
        self._rtt_min = inf
        self._samples = 0
        self._probe_at = self._draw()

    def _draw(self) -> float:
        """After how many successes, per unit of the limit, the fastest round trip is forgotten."""
        return self._probe_multiplier * (0.5 + 0.5 * self._random())

    def on_sample(self, now: float, rtt_seconds: float, in_flight: int, dropped: bool) -> int:  # noqa: FBT001
        """See `Limit.on_sample`."""
        limit = self.limit
        if dropped:
            self.limit = limit = max(limit - _whole_log10(limit), self._min)
            return limit
        if not 0.0 < rtt_seconds < LONGEST_SECONDS:
            return limit
        self._samples += 1
        if self._samples >= self._probe_at * limit:
            self._samples = 0
            self._probe_at = self._draw()
            self._rtt_min = rtt_seconds
            return limit
        if rtt_seconds < self._rtt_min:
            self._rtt_min = rtt_seconds
            return limit
        if 2 * in_flight < limit:
            return limit
        queue = ceil(limit * (1.0 - self._rtt_min / rtt_seconds))
        step = _whole_log10(limit)
        if queue <= step:
            self.limit = limit = min(limit + 6 * step, self._max)
        elif queue < 3 * step:
            self.limit = limit = min(limit + step, self._max)
        elif queue > 6 * step:
            self.limit = limit = max(limit - step, self._min)
        return limit


def _whole_log10(limit: int) -> int:
    """max(1, whole part of log10(limit)), by counting digits: a library's log10(1000) may be just below 3."""
    return 1 if limit < 100 else 2 if limit < 1000 else len(str(limit)) - 1


@dataclass(frozen=True, slots=True)
class Gradient2:
    """Compare each round trip with the long-term average: for targets whose latency varies, as HTTP services' does.

    `gradient = clamp(rtt_tolerance * long/rtt, 0.5, 1)`, `new = (1-smoothing)*old + smoothing*(gradient*old +
    queue_size)`. `long` is an exponential average of `long_window` samples that begins as the mean of the first ten; it
    is multiplied by 0.95 with each sample below half of it, to forget a long overload soon after its end.

    A drop takes the steepest gradient and no queue, `old*(1 - smoothing/2)`: ten per cent with the defaults. Formula
    and defaults: Gradient2Limit.java, ExpAvgMeasurement.java; they have no reaction to drops.
    """

    initial_limit: int = 20
    min_limit: int = 20
    max_limit: int = 200
    smoothing: float = 0.2
    queue_size: int = 4
    rtt_tolerance: float = 1.5
    long_window: int = 600

    def __post_init__(self) -> None:
        _check_limits(self.initial_limit, self.min_limit, self.max_limit)
        check_share("smoothing", self.smoothing)
        check_count("queue_size", self.queue_size, 1, MOST_IN_FLIGHT)
        check_number("rtt_tolerance", self.rtt_tolerance, 1.0, 1000.0)
        check_count("long_window", self.long_window, 1, 1_000_000)

    def make(self, random: Callable[[], float]) -> "Gradient2Limit":
        """A new machine; it takes no random number."""
        return Gradient2Limit(self)


class Gradient2Limit:
    """The machine of `Gradient2`."""

    __slots__ = (
        "_estimate", "_factor", "_long", "_max", "_min", "_queue_size", "_smoothing", "_tolerance", "_warmup",
        "_warmup_sum", "limit",
    )  # fmt: skip

    WARMUP_SAMPLES = 10

    def __init__(self, settings: Gradient2) -> None:
        self.limit = settings.initial_limit
        self._estimate = float(settings.initial_limit)
        self._min = float(settings.min_limit)
        self._max = float(settings.max_limit)
        self._smoothing = settings.smoothing
        self._queue_size = settings.queue_size
        self._tolerance = settings.rtt_tolerance
        self._factor = 2.0 / (settings.long_window + 1)
        self._long = 0.0
        self._warmup = 0
        self._warmup_sum = 0.0

    def on_sample(self, now: float, rtt_seconds: float, in_flight: int, dropped: bool) -> int:  # noqa: FBT001
        """See `Limit.on_sample`."""
        estimate = self._estimate
        if dropped:
            return self._move(estimate * (1.0 - 0.5 * self._smoothing))
        if not 0.0 < rtt_seconds < LONGEST_SECONDS:
            return self.limit
        if self._warmup < self.WARMUP_SAMPLES:
            self._warmup += 1
            self._warmup_sum += rtt_seconds
            long = self._warmup_sum / self._warmup
        else:
            long = self._long * (1.0 - self._factor) + rtt_seconds * self._factor
        self._long = long * 0.95 if long > 2.0 * rtt_seconds else long
        if 2 * in_flight < self.limit:
            return self.limit
        gradient = self._tolerance * long / rtt_seconds
        if gradient > 1.0:
            gradient = 1.0
        elif gradient < 0.5:
            gradient = 0.5
        target = estimate * gradient + self._queue_size
        return self._move(estimate * (1.0 - self._smoothing) + target * self._smoothing)

    def _move(self, estimate: float) -> int:
        self._estimate = estimate = max(self._min, min(self._max, estimate))
        self.limit = limit = int(estimate)
        return limit


@dataclass(frozen=True, slots=True)
class Windowed:
    """Feed `algorithm` with one sample a window: the mean round trip, the most in flight, and whether many dropped.

    A window ends with the first sample after `window_seconds`, once it has `minimum_samples`. Successes faster than
    100 microseconds are left out: they were answered on the way. Structure and defaults: WindowedLimit.java and
    ImmutableAverageSampleWindow.java, with two differences. There one drop makes a window a drop, so that half a per
    cent of lost requests holds the limit at its minimum; here it takes `drop_share` of them. There a window with too
    few samples is thrown away, so that a slow trickle never teaches anything; here it goes on.
    """

    algorithm: LimitSettings
    window_seconds: float = 1.0
    minimum_samples: int = 10
    drop_share: float = 0.1

    def __post_init__(self) -> None:
        check_seconds("window_seconds", self.window_seconds, 0.1, 3600.0)  # WindowedLimit.java: at least 100 ms
        check_count("minimum_samples", self.minimum_samples, 10, 1_000_000)  # WindowedLimit.java: at least 10
        check_share("drop_share", self.drop_share)

    def make(self, random: Callable[[], float]) -> "WindowedLimit":
        """A new machine around a new machine of `algorithm`, which is given `random`."""
        return WindowedLimit(self, self.algorithm.make(random))


class WindowedLimit:
    """The machine of `Windowed`."""

    __slots__ = ("_began_at", "_dropped", "_inner", "_most_in_flight", "_rtt_sum", "_settings", "_succeeded", "limit")

    LEAST_RTT_SECONDS = 1e-4

    def __init__(self, settings: Windowed, inner: Limit) -> None:
        self.limit = inner.limit
        self._inner = inner
        self._settings = settings
        self._began_at = inf
        self._open_window(inf)

    def _open_window(self, now: float) -> None:
        self._began_at = now
        self._rtt_sum = 0.0
        self._succeeded = 0
        self._dropped = 0
        self._most_in_flight = 0

    def on_sample(self, now: float, rtt_seconds: float, in_flight: int, dropped: bool) -> int:  # noqa: FBT001
        """See `Limit.on_sample`."""
        if dropped:
            self._dropped += 1
        elif self.LEAST_RTT_SECONDS <= rtt_seconds < LONGEST_SECONDS:
            self._succeeded += 1
            self._rtt_sum += rtt_seconds
        else:
            return self.limit
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if now < self._began_at:  # the first sample of all, or a clock that was set: the window begins at the new time
            self._began_at = now
        elif now - self._began_at >= self._settings.window_seconds:
            self._close_window(now)
        return self.limit

    def _close_window(self, now: float) -> None:
        settings, dropped, succeeded = self._settings, self._dropped, self._succeeded
        samples = dropped + succeeded
        if samples < settings.minimum_samples:
            return
        many_dropped = dropped >= settings.drop_share * samples
        rtt = self._rtt_sum / succeeded if succeeded else 0.0
        self.limit = self._inner.on_sample(now, rtt, self._most_in_flight, many_dropped)
        self._open_window(now)
