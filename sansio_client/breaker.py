"""A circuit breaker: closed, open, half-open; counts attempts, admits probes, forgets what an older era reports.

Rules:

1. Every admitted attempt gets the number of the era (the `generation`) it began in, and reports with it. A report
   of another era changes nothing (gobreaker's guard, github.com/sony/gobreaker).
2. A permit of the half-open state is taken when an attempt is admitted, not when it ends; an attempt that ends without
   a verdict (cancelled, a hedge that lost) gives it back and proves nothing.
3. Two rules trip: failures in a row, then the failure (or slow) rate of a window (linkerd's unified breaker). "Soft"
   failures, a 429 say, count in the rate only, and fail a probe.
4. Open turns half-open when its time is over and somebody asks; there is no timer.
5. Each opening without a close between lasts longer, up to a maximum (linkerd, finagle), a little less each by chance,
   so that many clients do not probe in the same instant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from sansio_client.checks import check_count, check_number, check_seconds, check_share
from sansio_client.errors import LocalProtocolError, SettingError
from sansio_client.outcome import BREAKER_FAIL, BREAKER_IGNORE, BREAKER_OK
from sansio_client.windows import CountRing, CountWindow, TimeRing, TimeWindow

CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED, METRICS_ONLY = range(6)
ROUNDING = 1e-6  # 55 of 100 are 0.55 of them, although 0.55 * 100 is 55.00000000000001
MANY_OPENINGS = 1000  # from here on an opening lasts no longer than the one before
STATE_NAMES = ("CLOSED", "OPEN", "HALF_OPEN", "FORCED_OPEN", "FORCED_CLOSED", "METRICS_ONLY")

# What moves it, beside `force`, which leads from every state to every other but HALF_OPEN, and `reconfigure`, which
# leads from HALF_OPEN back to OPEN. Every move is a new era. The diagram in docs/breaker.md is drawn from this table,
# and a random walk is held against it.
TRANSITIONS: dict[int, dict[str, int]] = {
    CLOSED: {"too many failures": OPEN},
    OPEN: {"an attempt after its time": HALF_OPEN},
    HALF_OPEN: {"enough probes succeeded": CLOSED, "a probe failed": OPEN, "a probe never reported": OPEN},
    FORCED_OPEN: {},
    FORCED_CLOSED: {},
    METRICS_ONLY: {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When it trips, how long it stays open, how it recovers.

    Attributes:
        consecutive_failures: failures in a row that trip it, 1 or more; None switches the rule off.
        window: what the rates are taken over: `CountWindow`, `TimeWindow`, or None to switch both rates off.
        failure_rate: share of failures in the window that trips it, above 0 to 1 (resilience4j: 0.5).
        slow_call_seconds: an answer that took this long or longer is slow; None: none is.
        slow_call_rate: share of slow answers in the window that trips it, above 0 to 1 (resilience4j: 1.0).
        minimum_calls: results the window must hold before a rate means anything (Polly 100, at least 2).
        open_seconds: how long it is open the first time. One second and not the usual 30: a blackout of 300 ms under
            20 callers would fail all of them with 30.
        open_growth: factor from one opening to the next while it has not closed between, 1 or more.
        open_seconds_max: the longest it is open.
        open_jitter: share of the open time that chance may take away, 0 to below 1.
        probes: attempts in flight at once while half-open.
        probe_successes: successes that close it.
        probe_life_seconds: a half-open state whose probes do not report for so long opens again (resilience4j's
            maxWaitDurationInHalfOpenState, off there by default, which leaves breakers half-open for ever).
    """

    consecutive_failures: int | None = 5
    window: CountWindow | TimeWindow | None = CountWindow()
    failure_rate: float = 0.5
    slow_call_seconds: float | None = None
    slow_call_rate: float = 1.0
    minimum_calls: int = 20
    open_seconds: float = 1.0
    open_growth: float = 2.0
    open_seconds_max: float = 30.0
    open_jitter: float = 0.2
    probes: int = 1
    probe_successes: int = 1
    probe_life_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.consecutive_failures is not None:
            check_count("breaker.consecutive_failures", self.consecutive_failures, 1)
        if self.consecutive_failures is None and self.window is None:
            raise SettingError("breaker.window", None, "a window, as consecutive_failures is off too")
        check_share("breaker.failure_rate", self.failure_rate)
        if self.slow_call_seconds is not None:
            check_seconds("breaker.slow_call_seconds", self.slow_call_seconds)
            if self.window is None:
                raise SettingError("breaker.window", None, "a window, as slow_call_seconds is set")
        check_share("breaker.slow_call_rate", self.slow_call_rate)
        check_count("breaker.minimum_calls", self.minimum_calls, 1)
        if isinstance(self.window, CountWindow) and self.minimum_calls > self.window.size:
            raise SettingError(
                "breaker.minimum_calls", self.minimum_calls, f"1 to the window's size {self.window.size}"
            )
        check_seconds("breaker.open_seconds", self.open_seconds)
        check_number("breaker.open_growth", self.open_growth, 1.0)
        check_seconds("breaker.open_seconds_max", self.open_seconds_max, self.open_seconds)
        check_number("breaker.open_jitter", self.open_jitter, 0.0, 0.99)
        check_count("breaker.probes", self.probes, 1)
        check_count("breaker.probe_successes", self.probe_successes, 1)
        check_seconds("breaker.probe_life_seconds", self.probe_life_seconds)

    @property
    def eager(self) -> bool:
        """Whether it must see the time of every success, so that no happy path may keep it to itself."""
        return isinstance(self.window, TimeWindow) or self.slow_call_seconds is not None

    def make(self, random: Callable[[], float]) -> "Breaker":
        """A closed breaker that has seen nothing."""
        return Breaker(self, random)


class Breaker:
    """One breaker. `state` and `retry_at` are for display; `acquire` and `record` decide.

    `retry_at` is the instant from which an open breaker admits a probe; `inf` when it is not open, or forced open.
    """

    __slots__ = (
        "_now",
        "_probe_until",
        "_probes_ok",
        "_probes_out",
        "_quiet",
        "_random",
        "_window",
        "consecutive",
        "generation",
        "openings",
        "retry_at",
        "settings",
        "state",
    )  # fmt: skip

    def __init__(self, settings: BreakerSettings, random: Callable[[], float]) -> None:
        self.settings = settings
        self._random = random
        self.state = CLOSED
        self.generation = 1
        self.consecutive = 0  # failures in a row
        self.openings = 0  # since it was last closed
        self.retry_at = inf
        self._now = -inf
        self._window: CountRing | TimeRing | None = None  # made by the first failure
        self._quiet = 0  # successes before that
        self._probes_out = 0
        self._probes_ok = 0
        self._probe_until = inf

    @property
    def state_name(self) -> str:
        """`CLOSED`, `OPEN`, `HALF_OPEN`, `FORCED_OPEN`, `FORCED_CLOSED` or `METRICS_ONLY`."""
        return STATE_NAMES[self.state]

    @property
    def healthy(self) -> bool:
        """Closed, and nothing it remembers speaks against the peer: as good as a new one."""
        window = self._window
        return (
            self.state == CLOSED and not self.consecutive and (window is None or not (window.failures or window.slow))
        )

    @property
    def admits_all(self) -> bool:
        """Whether `acquire` cannot refuse before the next `record` or `force`."""
        return self.state in (CLOSED, FORCED_CLOSED, METRICS_ONLY)

    @property
    def ask_again_at(self) -> float:
        """The instant from which asking again can help without a report coming in between; `inf` for never."""
        if self.state == OPEN:
            return self.retry_at
        return self._probe_until if self.state == HALF_OPEN else inf

    def peek(self, now: float) -> bool:
        """Whether `acquire` would admit an attempt at `now`. Takes nothing."""
        self._tick(now)
        if self.state == OPEN:
            return now >= self.retry_at
        if self.state == HALF_OPEN:
            if self._probes_out and now >= self._probe_until:
                self._open(now)
                return False
            return self._probes_out < self.settings.probes
        return self.state != FORCED_OPEN

    def acquire(self, now: float) -> int:
        """Admit an attempt: the generation to report with, or 0 for no. Every admitted one owes one `record`."""
        if not self.peek(now):
            return 0
        if self.state == OPEN:
            self._move(HALF_OPEN)
            self._probes_out = self._probes_ok = 0
        if self.state == HALF_OPEN:
            if not self._probes_out:
                self._probe_until = now + self.settings.probe_life_seconds
            self._probes_out += 1
        return self.generation

    def record(self, generation: int, effect: int, now: float, elapsed: float = 0.0) -> bool:
        """What became of an admitted attempt, after `elapsed` seconds; `effect` is an `outcome.BREAKER_*`.

        Returns False when it was dropped, because the breaker has moved since the attempt was admitted.
        """
        self._tick(now)
        if generation != self.generation:
            return False
        if self.state == HALF_OPEN:
            self._record_probe(effect, now, elapsed)
        elif effect != BREAKER_IGNORE and self.state in (CLOSED, METRICS_ONLY):
            self._count(effect, now, elapsed)
        return True

    def record_successes(self, count: int, now: float) -> None:
        """As `count` quick successes of the current era, one after the other."""
        if self.state in (CLOSED, METRICS_ONLY):
            self.consecutive = 0
            self._count_success(now, count, slow=False)

    def force(self, state: int, now: float) -> None:
        """Set the state by hand: FORCED_OPEN (isolate), FORCED_CLOSED (disable), METRICS_ONLY, OPEN, or CLOSED (reset).

        What is in flight reports to an era that has ended, so it changes nothing.
        """
        self._tick(now)
        if state == OPEN:
            self._open(now)
            return
        if state not in (CLOSED, FORCED_OPEN, FORCED_CLOSED, METRICS_ONLY):
            raise LocalProtocolError("force() takes CLOSED, OPEN, FORCED_OPEN, FORCED_CLOSED or METRICS_ONLY")
        self._close(state)

    def reconfigure(self, settings: BreakerSettings, now: float) -> None:
        """Other settings from now on: a new era. An open breaker stays open, for no longer than the new maximum."""
        self._tick(now)
        self.settings = settings
        self._forget()
        if self.state == HALF_OPEN:
            self._move(OPEN)
            self.retry_at = now
        elif self.state == OPEN:
            self.retry_at = min(self.retry_at, now + settings.open_seconds_max)
        self.generation += 1

    def _record_probe(self, effect: int, now: float, elapsed: float) -> None:
        if self._probes_out:
            self._probes_out -= 1
        if effect == BREAKER_IGNORE:
            return
        if effect != BREAKER_OK or self._is_slow(elapsed):
            self._open(now)
            return
        self._probes_ok += 1
        if self._probes_ok >= self.settings.probe_successes:
            self._close(CLOSED)

    def _count(self, effect: int, now: float, elapsed: float) -> None:
        if effect == BREAKER_OK:
            self.consecutive = 0
            slow = self._is_slow(elapsed)
            self._count_success(now, 1, slow=slow)
            if slow:
                self._trip_if_due(now)
            return
        if effect == BREAKER_FAIL:
            self.consecutive += 1
        if self.settings.window is not None:
            if self._window is None:
                self._window = self.settings.window.make()
                self._window.record_successes(now, self._quiet)
                self._quiet = 0
            self._window.record(now, failed=True, slow=self._is_slow(elapsed))
        self._trip_if_due(now)

    def _count_success(self, now: float, count: int, *, slow: bool) -> None:
        if self._window is None and slow and self.settings.window is not None:
            self._window = self.settings.window.make()
            self._window.record_successes(now, self._quiet)
            self._quiet = 0
        if slow and self._window is not None:
            self._window.record(now, failed=False, slow=True)
        elif self._window is not None:
            self._window.record_successes(now, count)
        elif isinstance(self.settings.window, TimeWindow):
            self._window = self.settings.window.make()
            self._window.record_successes(now, count)
        else:
            self._quiet += count

    def _trip_if_due(self, now: float) -> None:
        settings = self.settings
        if self.state != CLOSED:
            return
        if settings.consecutive_failures is not None and self.consecutive >= settings.consecutive_failures:
            self._open(now)
            return
        window = self._window
        if window is None or window.total < settings.minimum_calls:
            return
        too_slow = window.slow + ROUNDING >= settings.slow_call_rate * window.total
        too_many = window.failures + ROUNDING >= settings.failure_rate * window.total
        if too_many or (too_slow and settings.slow_call_seconds is not None):
            self._open(now)

    def _open(self, now: float) -> None:
        settings = self.settings
        seconds = settings.open_seconds
        # A power would overflow after a thousand openings.
        for _ in range(min(self.openings, MANY_OPENINGS)):
            seconds *= settings.open_growth
            if seconds >= settings.open_seconds_max:
                break
        seconds = min(seconds, settings.open_seconds_max)
        self.openings += 1
        self._forget()
        self._move(OPEN)
        self.retry_at = now + seconds * (1.0 - settings.open_jitter * self._random())

    def _close(self, state: int) -> None:
        self._forget()
        self.openings = 0
        self._move(state)

    def _forget(self) -> None:
        self.consecutive = self._quiet = 0
        self._window = None

    def _move(self, state: int) -> None:
        self.state = state
        self.generation += 1
        self.retry_at = self._probe_until = inf
        self._probes_out = self._probes_ok = 0

    def _is_slow(self, elapsed: float) -> bool:
        slow = self.settings.slow_call_seconds
        return slow is not None and elapsed >= slow

    def _tick(self, now: float) -> None:
        if now < self._now:  # a clock that went back must not prolong a wait
            self.retry_at -= self._now - now
            self._probe_until -= self._now - now
        self._now = now
