"""Plain books kept beside the core while it walks: slots, eras, permits and tokens, counted from what is seen outside.

Nothing here shares code with the core. A book is told what the walk did and what the core answered; `check` holds it
against the core after every step.
"""

from collections import deque
from fractions import Fraction
from math import inf
from typing import Any

from sansio_client.breaker import CLOSED, FORCED_OPEN, HALF_OPEN, METRICS_ONLY, OPEN, Breaker, BreakerSettings
from sansio_client.budget import AwsQuota, ConcurrentShare, GrpcThrottle, RatioBudget
from sansio_client.outcome import BREAKER_FAIL, BREAKER_IGNORE, BREAKER_OK
from sansio_client.windows import CountWindow

EPSILON = 1e-6  # seconds that rounding may cost after some thousand shifts of a clock


class BreakerBook:
    """What the breaker's rules say its state is. Rates are exact only for windows that no time can empty."""

    def __init__(self, settings: BreakerSettings, moves: set[tuple[int, str, int]]) -> None:
        self.settings = settings
        self.moves = moves
        self.state = CLOSED
        self.era = 0
        self.openings = 0
        self.opened_at = -inf  # in seconds of `elapsed`, which never goes back
        self.open_for = 0.0
        self.probes: set[Any] = set()
        self.successes = 0
        self.probing_since = inf
        self._forget()

    def _forget(self) -> None:
        self.in_a_row = 0
        window = self.settings.window
        self.exact = window is None or (isinstance(window, CountWindow) and window.idle_seconds == inf)
        self.results: deque[tuple[bool, bool]] = deque(maxlen=window.size if isinstance(window, CountWindow) else 0)

    def _go(self, state: int, why: str = "") -> None:
        if why:
            self.moves.add((self.state, why, state))
        self.state = state
        self.era += 1
        self.probes = set()
        self.successes = 0
        self._forget()

    def admits(self, elapsed: float) -> bool:
        """Whether an attempt might pass. While it is open: whether its time may be over; it may know of less."""
        if self.state == OPEN:
            return elapsed - self.opened_at >= self.open_for - EPSILON
        if self.state == HALF_OPEN:
            return len(self.probes) < self.settings.probes
        return self.state != FORCED_OPEN

    def opening_lasts(self) -> tuple[float, float]:
        """The range of the opening that comes next, for `openings` before it."""
        longest = min(
            Fraction(self.settings.open_seconds) * Fraction(self.settings.open_growth) ** min(self.openings, 60),
            Fraction(self.settings.open_seconds_max),
        )
        return float(longest) * (1.0 - self.settings.open_jitter), float(longest)

    def open(self, why: str, elapsed: float, seconds: float) -> None:
        """It opens for `seconds`, which are the breaker's own, if they are in range."""
        low, high = self.opening_lasts()
        assert low - EPSILON <= seconds <= high + EPSILON, (
            f"opening {self.openings} lasts {seconds}, not {low} to {high}"
        )
        self.openings += 1
        self._go(OPEN, why)
        self.opened_at, self.open_for = elapsed, seconds

    def admit(self, who: Any, elapsed: float) -> None:
        """An attempt was sent."""
        assert self.state != FORCED_OPEN, "sent through a breaker forced open"
        if self.state == OPEN:
            assert elapsed - self.opened_at >= self.open_for - EPSILON, "sent through an open breaker before its time"
            self._go(HALF_OPEN, "an attempt after its time")
        if self.state == HALF_OPEN:
            if not self.probes:
                self.probing_since = elapsed
            self.probes.add(who)
            assert len(self.probes) <= self.settings.probes, "more probes in flight than allowed"

    def report(self, who: Any, effect: int, slow_seconds: float, elapsed: float, retry_in: float) -> None:
        """An attempt of this era ended. `retry_in`: seconds to the breaker's `retry_at`, for when it opens now."""
        settings = self.settings
        slow = settings.slow_call_seconds is not None and slow_seconds >= settings.slow_call_seconds
        if self.state == HALF_OPEN:
            self.probes.remove(who)
            if effect == BREAKER_IGNORE:
                return
            if effect != BREAKER_OK or slow:
                self.open("a probe failed", elapsed, retry_in)
                return
            self.successes += 1
            if self.successes >= settings.probe_successes:
                self.openings = 0
                self._go(CLOSED, "enough probes succeeded")
        elif effect != BREAKER_IGNORE and self.state in (CLOSED, METRICS_ONLY):
            failed = effect != BREAKER_OK
            self.in_a_row = 0 if not failed else self.in_a_row + (effect == BREAKER_FAIL)
            self.results.append((failed, slow))
            if self.state == CLOSED and (failed or slow) and self._too_many():
                self.open("too many failures", elapsed, retry_in)

    def _too_many(self) -> bool:
        settings, results = self.settings, self.results
        if settings.consecutive_failures is not None and self.in_a_row >= settings.consecutive_failures:
            return True
        if not self.exact or len(results) < settings.minimum_calls or not results:
            return False
        failures, slow = (Fraction(sum(result[i] for result in results), len(results)) for i in (0, 1))
        if failures >= Fraction(settings.failure_rate):
            return True
        return settings.slow_call_seconds is not None and slow >= Fraction(settings.slow_call_rate)

    def force(self, state: int, elapsed: float, retry_in: float) -> None:
        """It was set by hand."""
        if state == OPEN:
            self.open("", elapsed, retry_in)
        else:
            self.openings = 0
            self._go(state)

    def reconfigure(self, settings: BreakerSettings, elapsed: float, retry_in: float) -> None:
        """It has other settings."""
        self.settings = settings
        if self.state == HALF_OPEN:
            self._go(OPEN)
            self.open_for = -inf
        else:
            state = self.state
            self._go(state)
            if state == OPEN:
                self.opened_at, self.open_for = elapsed, retry_in
                assert retry_in <= settings.open_seconds_max + EPSILON

    def check(self, breaker: Breaker, elapsed: float, now: float, *, told: bool) -> None:
        """Hold the book against the breaker; what only time can have done is taken over if it was time.

        `told`: the breaker knows of all successes.
        """
        if breaker.state == OPEN and self.state == HALF_OPEN:
            assert self.probes, "opened although no probe was out"
            assert elapsed - self.probing_since >= self.settings.probe_life_seconds - EPSILON, "a probe lost too early"
            self.open("a probe never reported", elapsed, breaker.retry_at - now)
        elif breaker.state == OPEN and self.state == CLOSED and not self.exact:
            self.open("too many failures", elapsed, breaker.retry_at - now)
        assert breaker.state == self.state, f"breaker is {breaker.state_name}, the book says {self.state}"
        assert breaker._probes_out == len(self.probes), f"{breaker._probes_out} permits out, not {len(self.probes)}"
        if told and self.state in (CLOSED, METRICS_ONLY):
            assert breaker.consecutive == self.in_a_row, f"{breaker.consecutive} in a row, not {self.in_a_row}"
        if self.state != CLOSED:
            assert breaker.openings == self.openings


class BudgetBook:
    """Tokens by the rules of the four budgets. `level` is None where the book cannot know it."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.taken = 0  # payments that are neither given back nor settled
        self.tokens = 0
        self.requests: deque[float] = deque()
        self.retries: deque[float] = deque()
        self.clock_went_back = False  # since it was last asked or told of a request
        self.blind_until = -inf  # then times mean nothing for a while
        if isinstance(settings, AwsQuota):
            self.tokens = settings.capacity
        elif isinstance(settings, GrpcThrottle):
            self.tokens = settings.max_tokens * 1000

    def request(self, elapsed: float) -> None:
        """A first attempt was sent."""
        if isinstance(self.settings, RatioBudget):
            self._look_at_clock(elapsed)
            self.requests.append(elapsed)

    def _look_at_clock(self, elapsed: float) -> None:
        if self.clock_went_back:
            self.clock_went_back = False
            self.blind_until = elapsed + 2 * self.settings.window_seconds

    def failure(self) -> None:
        if isinstance(self.settings, GrpcThrottle):
            self.tokens = max(0, self.tokens - 1000)

    def withdraw(self, cost: int, *, timed_out: bool, throttled: bool, under_way: int, elapsed: float) -> None:
        """The budget was asked and said `cost`."""
        settings = self.settings
        if isinstance(settings, AwsQuota):
            price = settings.timeout_cost if timed_out else settings.throttle_cost if throttled else settings.retry_cost
            assert cost == (price if price <= self.tokens else 0), f"paid {cost} of {self.tokens} tokens"
            self.tokens -= cost
        elif isinstance(settings, GrpcThrottle):
            assert cost == (self.tokens > settings.max_tokens * 500)
        elif isinstance(settings, ConcurrentShare):
            most = max(settings.minimum, int(Fraction(str(settings.share)) * under_way))
            assert cost == (self.taken < most), f"{self.taken} of {most} retries under way, and the answer was {cost}"
        else:
            self._withdraw_by_ratio(cost, elapsed)
        self.taken += cost > 0

    def _withdraw_by_ratio(self, cost: int, elapsed: float) -> None:
        settings = self.settings
        self._look_at_clock(elapsed)
        for times in (self.requests, self.retries):
            while times and times[0] < elapsed - 2 * settings.window_seconds:
                times.popleft()
        if elapsed > self.blind_until:
            sure, possible = (
                elapsed - 0.9 * settings.window_seconds + EPSILON,
                elapsed - settings.window_seconds - EPSILON,
            )
            reserve = settings.window_seconds * settings.reserve_per_second
            if cost:
                earned = settings.ratio * len([at for at in self.requests if at >= possible]) + reserve
                assert len([at for at in self.retries if at >= sure]) < earned + EPSILON, "more retries than earned"
            else:
                earned = settings.ratio * len([at for at in self.requests if at >= sure]) + reserve
                assert len([at for at in self.retries if at >= possible]) + 1 > earned - 2, (
                    "an earned retry was refused"
                )
        if cost:
            self.retries.append(elapsed)

    def refund(self, cost: int) -> None:
        """A retry that was paid for was never sent."""
        self.taken -= 1
        if isinstance(self.settings, AwsQuota):
            self.tokens = min(self.settings.capacity, self.tokens + cost)
        elif isinstance(self.settings, RatioBudget) and self.retries:
            self.retries.pop()

    def settle(self, cost: int, *, ok: bool) -> None:
        """An attempt ended."""
        self.taken -= cost > 0
        settings = self.settings
        if ok and isinstance(settings, AwsQuota):
            self.tokens = min(settings.capacity, self.tokens + (cost or settings.success_gain))
        elif ok and isinstance(settings, GrpcThrottle):
            self.tokens = min(settings.max_tokens * 1000, self.tokens + round(settings.token_ratio * 1000))

    def check(self, budget: Any) -> None:
        """Hold the book against the budget."""
        level, settings = budget.level(), self.settings
        if isinstance(settings, AwsQuota):
            assert 0 <= level == self.tokens <= settings.capacity, f"{level} tokens, the book says {self.tokens}"
        elif isinstance(settings, GrpcThrottle):
            assert 0 <= level * 1000 == self.tokens <= settings.max_tokens * 1000
        elif isinstance(settings, ConcurrentShare):
            assert 0 <= level == self.taken, f"{level} retries under way, the book says {self.taken}"
        else:
            assert level >= 0
            assert min(budget._ring.totals) >= 0
