"""The rate limiter: no window of time sees too many, waits are promises, and what is not used comes back."""

from bisect import insort
from dataclasses import FrozenInstanceError
from math import inf, nan
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sansio_client.errors import LocalProtocolError, SettingError
from sansio_client.ratelimit import NO_WAIT_SECONDS, RateLimit, RateLimiter


def limiter(rate: float, burst: int = 1) -> RateLimiter:
    return RateLimit(rate, burst).make()


def excess(granted: list[tuple[float, int]], rate: float, burst: int) -> float:
    """How many permits the worst window, both ends counted, sees above `rate * T + burst`; `granted` is in order."""
    worst = -inf
    for first in range(len(granted)):
        seen = 0
        for at, n in granted[first:]:
            seen += n
            worst = max(worst, seen - (at - granted[first][0]) * rate - burst)
    return worst


def test_an_even_pace_without_a_burst() -> None:
    even = limiter(4)
    assert [even.reserve(100.0, inf) for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_a_burst_goes_at_once_and_then_the_pace_begins() -> None:
    bursty = limiter(4, burst=3)
    assert [bursty.reserve(100.0, inf) for _ in range(5)] == [0.0, 0.0, 0.0, 0.25, 0.5]


def test_a_pause_brings_back_the_burst_and_no_more() -> None:
    bursty = limiter(4, burst=3)
    for _ in range(3):
        bursty.reserve(100.0, inf)
    assert [bursty.reserve(1_000_000.0, inf) for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]


def test_a_wait_that_is_too_long_takes_nothing() -> None:
    even = limiter(4)
    assert even.reserve(0.0, 0.0) == 0.0
    assert even.reserve(0.0, 0.2499) == -1.0
    assert even.reserve(0.0, 0.0) == -1.0
    assert even.reserve(0.0, -5.0) == -1.0
    assert even.reserve(0.0, 0.25) == 0.25
    assert even.reserve(0.5, -5.0) == 0.0


def test_several_permits_at_a_time() -> None:
    bursty = limiter(2, burst=4)
    assert bursty.reserve(0.0, inf, 3) == 0.0
    assert bursty.reserve(0.0, inf, 2) == 0.5
    assert bursty.reserve(0.0, 2.0, 4) == -1.0
    assert bursty.reserve(0.0, 2.5, 4) == 2.5


@pytest.mark.parametrize("n", [0, -1, 4])
def test_more_than_a_burst_or_less_than_one_is_misuse(n: int) -> None:
    bursty = limiter(2, burst=3)
    with pytest.raises(LocalProtocolError, match="1 to 3"):
        bursty.reserve(0.0, inf, n)
    with pytest.raises(LocalProtocolError, match="1 to 3"):
        bursty.peek(0.0, n)
    assert [bursty.reserve(0.0, inf) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_peek_says_what_reserve_would_and_takes_nothing() -> None:
    bursty = limiter(2, burst=2)
    for now in (0.0, 0.0, 0.25, 0.25, 0.5, 3.0, 2.5, 2.9, -100.0):
        for n in (1, 2):
            assert bursty.peek(now, n) == bursty.peek(now, n)
        expected = bursty.peek(now)
        assert bursty.reserve(now, inf) == expected


@pytest.mark.parametrize("start", [0.0, 1.0, 12_345.678, 1e6])
@pytest.mark.parametrize("rate", [10.0, 3.0, 7.0, 1000.0, 0.1])
def test_asking_just_when_a_permit_is_due_is_not_refused_for_a_rounding_error(rate: float, start: float) -> None:
    even, granted = limiter(rate), 0
    for step in range(2_000):
        granted += even.reserve(start + step / rate, 0.0) == 0.0
    assert granted == 2_000


@pytest.mark.parametrize("start", [0.0, 1.7e9])
def test_polling_often_neither_loses_nor_gains_permits(start: float) -> None:
    random, even, now, granted = Random(5), limiter(50.0, burst=5), start, 0
    while now < start + 20.0:
        granted += even.reserve(now, 0.0) == 0.0
        now += random.random() * 0.002
    assert 50 * 20 + 5 - 2 <= granted <= 50 * 20 + 5


def test_a_permit_given_back_at_once_is_there_again() -> None:
    even = limiter(1)
    assert even.reserve(10.0, 0.0) == 0.0
    even.cancel(10.0)
    assert even.reserve(10.0, 0.0) == 0.0
    assert even.reserve(10.0, 0.0) == -1.0


def test_the_last_of_the_waiting_gives_its_place_back_in_full() -> None:
    even = limiter(1)
    assert [even.reserve(0.0, inf) for _ in range(3)] == [0.0, 1.0, 2.0]
    even.cancel(0.5, due_at=2.0)
    assert even.reserve(0.5, inf) == 1.5


def test_one_in_the_middle_gives_back_nothing_as_two_would_meet_at_the_end() -> None:
    even = limiter(1)
    assert [even.reserve(0.0, inf) for _ in range(3)] == [0.0, 1.0, 2.0]
    even.cancel(0.5, due_at=1.0)
    assert even.reserve(0.5, inf) == 2.5


def test_of_several_permits_as_many_come_back_as_were_not_passed_on() -> None:
    bursty = limiter(1, burst=3)
    assert bursty.reserve(0.0, inf, 3) == 0.0
    assert bursty.reserve(0.0, inf, 3) == 3.0
    assert bursty.reserve(0.0, inf, 1) == 4.0
    bursty.cancel(0.0, 3, due_at=3.0)
    assert bursty.reserve(0.0, inf, 1) == 3.0


def test_a_permit_whose_moment_has_gone_by_does_not_come_back() -> None:
    bursty = limiter(1, burst=2)
    due_at = 0.0 + bursty.reserve(0.0, 0.0)
    assert bursty.reserve(1.0, 0.0) == 0.0
    bursty.cancel(1.0, due_at=due_at)
    assert [bursty.reserve(1.0, inf) for _ in range(2)] == [0.0, 1.0]


def test_giving_back_more_than_was_taken_never_makes_more_than_a_burst() -> None:
    bursty = limiter(1, burst=2)
    for _ in range(10):
        bursty.cancel(5.0, 2)
        assert bursty._level == 0.0
    assert [bursty.reserve(5.0, inf) for _ in range(3)] == [0.0, 0.0, 1.0]


class Windows(RuleBasedStateMachine):
    """Any order of reservations and cancellations; all numbers are dyadic, so the arithmetic is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.granted: list[tuple[float, int]] = []
        self.rate, self.burst = 4.0, 3
        self.limiter = limiter(self.rate, self.burst)

    @rule(ticks=st.integers(0, 24))
    def time_passes(self, ticks: int) -> None:
        self.now += ticks / 32

    @rule(n=st.integers(1, 3), timeout=st.sampled_from([0.0, 0.25, 1.0, inf]))
    def reserve(self, n: int, timeout: float) -> None:
        expected = self.limiter.peek(self.now, n)
        wait = self.limiter.reserve(self.now, timeout, n)
        assert wait == (expected if expected <= timeout else -1.0)
        if wait >= 0:
            insort(self.granted, (self.now + wait, n))

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        due_at, n = self.granted[data.draw(st.integers(-min(6, len(self.granted)), -1))]
        self.limiter.cancel(self.now, n, due_at)
        if due_at >= self.now:  # what is due is used by then
            self.granted.remove((due_at, n))

    @invariant()
    def no_window_sees_too_many(self) -> None:
        assert excess(self.granted[-24:], self.rate, self.burst) <= 0


Windows.TestCase.settings = settings(
    max_examples=int(__import__("os").environ.get("MX", 60)), stateful_step_count=40, deadline=None
)
TestWindows = Windows.TestCase


@given(
    st.floats(0.01, 1e5),
    st.integers(1, 8),
    st.floats(0, 2e9),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 8)), max_size=40),
)
def test_no_window_sees_too_many_at_any_rate(
    rate: float, burst: int, now: float, asked: list[tuple[float, int]]
) -> None:
    any_rate, granted = limiter(rate, burst), []
    for pause, n in asked:
        now += pause / rate
        if n <= burst:
            granted.append((now + any_rate.reserve(now, inf, n), n))
    clock_error = 4 * 2.4e-7 * rate  # of 2e9 seconds in a float, in permits
    assert excess(granted, rate, burst) <= NO_WAIT_SECONDS * rate + clock_error + 1e-9


def test_the_rate_is_reached_when_asked_for_more() -> None:
    busy, now, granted = limiter(8.0, burst=4), 0.0, 0
    while now <= 100.0:
        granted += busy.reserve(now, 0.0) == 0.0
        now += 1 / 64
    assert granted == 8 * 100 + 4


instants = st.floats(-1e6, 1e6) | st.floats(0, 10) | st.integers(-5, 5).map(float)


@given(
    st.sampled_from([0.5, 10.0, 1000.0]),
    st.integers(1, 5),
    st.lists(st.tuples(instants, st.integers(0, 2)), max_size=60),
)
def test_p11_whatever_the_clock_does_nothing_raises_and_no_wait_is_longer_than_the_backlog(
    rate: float, burst: int, calls: list[tuple[float, int]]
) -> None:
    odd, taken = limiter(rate, burst), 0
    for now, what in calls:
        if what == 0:
            wait = odd.reserve(now, 2.0)
            assert wait == -1.0 or 0.0 <= wait <= 2.0
        elif what == 1:
            wait = odd.reserve(now, inf)
            assert 0.0 <= wait <= max(0.0, taken + 1 - burst) / rate + 1e-9
        else:
            odd.cancel(now, 1, now)
        taken += what < 2
        assert odd.peek(now) >= 0.0


def test_p11_after_the_clock_was_set_back_the_pace_goes_on() -> None:
    even = limiter(10.0)
    for step in range(10):
        even.reserve(1_000.0 + step, 0.0)
    assert even.reserve(400.0, 0.0) == -1.0
    assert even.reserve(400.05, 0.0) == -1.0
    assert even.reserve(400.1, 0.0) == 0.0
    assert even.reserve(400.15, 1.0) == pytest.approx(0.05)


def test_p11_refusals_alone_learn_that_the_clock_was_set_back() -> None:
    slow = limiter(0.5)
    assert slow.reserve(1_000.0, 0.0) == 0.0
    assert [slow.reserve(now, 0.0) for now in (10.0, 11.0, 11.9, 12.0)] == [-1.0, -1.0, -1.0, 0.0]


def test_p11_threads_that_read_the_clock_out_of_order_earn_nothing_twice() -> None:
    even, granted = limiter(10.0), 0
    for step in range(10_000):
        now = step * 0.001 + (0.03 if step % 2 else 0.0)
        granted += even.reserve(now, 0.0) == 0.0
    assert 99 <= granted <= 10 * 10.03 + 1


def test_p11_neither_taking_nor_giving_back_late_earns_anything() -> None:
    bursty, kept = limiter(1.0, burst=50), 0
    for _ in range(60):
        kept += bursty.reserve(1.0, 0.0) == 0.0
        kept += bursty.reserve(0.5, 0.0) == 0.0
        if bursty.reserve(1.0, 0.0) == 0.0:
            bursty.cancel(0.5, due_at=1.0)
    assert kept == 50


def test_p11_time_that_stands_still_gives_one_burst() -> None:
    still = limiter(10.0, burst=4)
    assert [still.reserve(7.0, 0.0) for _ in range(100)].count(0.0) == 4


@pytest.mark.parametrize(("rate", "burst", "field"), [
    (0.0, 1, "rate_per_second"), (-1.0, 1, "rate_per_second"), (inf, 1, "rate_per_second"),
    (nan, 1, "rate_per_second"), (True, 1, "rate_per_second"), (1e-7, 1, "rate_per_second"),
    (1.0, 0, "burst"), (1.0, 1.5, "burst"), (1.0, True, "burst"),
])  # fmt: skip
def test_a_setting_out_of_range_is_named(rate: float, burst: int, field: str) -> None:
    with pytest.raises(SettingError) as caught:
        RateLimit(rate, burst)
    assert caught.value.field == field


def test_settings_are_immutable_and_two_targets_share_no_permits() -> None:
    shared = RateLimit(1.0)
    with pytest.raises(FrozenInstanceError):
        shared.burst = 5  # type: ignore[misc]
    one, other = shared.make(), shared.make()
    assert one.reserve(0.0, 0.0) == 0.0
    assert one.reserve(0.0, 0.0) == -1.0
    assert other.reserve(0.0, 0.0) == 0.0
    assert not hasattr(one, "__dict__")
