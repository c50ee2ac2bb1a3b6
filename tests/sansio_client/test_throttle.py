"""Client-side throttling: it sees requests when they are sent, drops by the book, and always lets some through."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansio_client.errors import SettingError
from sansio_client.throttle import ClientThrottle, ClientThrottleGate


def sent(gate: ClientThrottleGate, now: float, count: int, accepted: int = 0) -> None:
    for _ in range(count):
        gate.sent(now)
    for _ in range(accepted):
        gate.accepted(now)


@pytest.mark.parametrize(
    ("requests", "accepts", "expected"),
    [
        (0, 0, 0.0),
        (100, 100, 0.0),
        (100, 50, 0.0),
        (100, 49, 2 / 101),
        (100, 25, 50 / 101),
        (100, 13, 74 / 101),
        (100, 12, 0.75),
        (100, 0, 0.75),
        (10, 90, 0.0),
    ],
)
def test_the_probability_is_the_books_up_to_the_highest(requests: int, accepts: int, expected: float) -> None:
    gate = ClientThrottle().make()
    sent(gate, 0.0, requests, accepts)
    assert gate.drop_probability(0.0) == expected


def test_a_draw_below_the_probability_is_dropped() -> None:
    gate = ClientThrottle().make()
    sent(gate, 0.0, 100, accepted=25)
    p = gate.drop_probability(0.0)
    assert not gate.admit(0.0, 0.0)
    assert not gate.admit(0.0, p - 1e-9)
    assert gate.admit(0.0, p)
    assert gate.drop_probability(0.0) == p, "to ask counts nothing"
    assert ClientThrottle().make().admit(0.0, 0.0), "nothing seen, nothing dropped"


def test_p39_requests_in_flight_raise_the_probability_before_they_end() -> None:
    gate = ClientThrottle().make()
    sent(gate, 0.0, 100, accepted=100)
    before = gate.drop_probability(1.0)
    sent(gate, 1.0, 400)  # and nothing of them has come back
    assert before == 0.0
    assert gate.drop_probability(1.0) == 300 / 501


def test_p39_what_hangs_counts_until_the_window_is_over() -> None:
    gate = ClientThrottle(window_seconds=120.0, buckets=20, min_rps=0.0).make()
    sent(gate, 0.0, 100)
    assert gate.drop_probability(113.9) == 0.75
    assert gate.drop_probability(120.0) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_p40_after_a_total_outage_the_first_success_comes_within_bounded_calls(seed: int) -> None:
    draw = random.Random(seed).random
    gate = ClientThrottle().make()
    now, calls_per_second = 0.0, 50
    for _ in range(300 * calls_per_second):  # five minutes in which nothing is accepted
        now += 1 / calls_per_second
        if gate.admit(now, draw()):
            gate.sent(now)
    assert gate.drop_probability(now) == 0.75
    calls = 1
    while not gate.admit(now, draw()):
        calls += 1
    assert calls <= 50, "one in four passes: 50 in a row are dropped once in a million"
    for _ in range(120 * calls_per_second):
        now += 1 / calls_per_second
        if gate.admit(now, draw()):
            gate.sent(now)
            gate.accepted(now)
    assert gate.drop_probability(now) == 0.0, "recovered within one window"


def test_p40_no_setting_allows_to_drop_everything() -> None:
    gate = ClientThrottle(k=1.0, max_drop=0.95).make()
    sent(gate, 0.0, 1_000_000)
    assert gate.drop_probability(0.0) == 0.95
    with pytest.raises(SettingError, match="max_drop"):
        ClientThrottle(max_drop=1.0)


def test_nothing_is_dropped_at_few_requests_a_second() -> None:
    gate = ClientThrottle(min_rps=5.0).make()
    sent(gate, 0.0, 4)
    assert gate.drop_probability(0.0) == 0.0
    sent(gate, 0.5, 1)
    assert gate.drop_probability(0.9) == 0.75, "five in the first second"
    assert gate.drop_probability(2.0) == 0.0, "five in two seconds"
    sent(gate, 100.0, 495)
    assert gate.drop_probability(100.0) == 0.75
    assert gate.drop_probability(101.0) == 0.0


def test_the_rate_is_taken_from_the_first_request_after_a_silence() -> None:
    gate = ClientThrottle(min_rps=5.0).make()
    sent(gate, 0.0, 5)
    sent(gate, 1000.0, 5)
    assert gate.drop_probability(1000.5) == 0.75


def test_the_rate_of_steady_traffic_is_over_the_window() -> None:
    gate = ClientThrottle(min_rps=5.0, window_seconds=120.0).make()
    for i in range(5000):  # 6.25 a second, for longer than the window
        gate.sent(i * 0.16)
    assert gate.drop_probability(800.0) == 0.75


def test_p11_a_clock_that_goes_back_forgets_nothing_and_keeps_nothing_for_longer() -> None:
    gate = ClientThrottle(min_rps=0.0).make()
    sent(gate, 1000.0, 100)
    sent(gate, 995.0, 1)
    assert gate._ring.totals[0] == 101
    assert gate.drop_probability(900.0) == 0.75
    assert gate.drop_probability(1020.0) == 0.0, "120 s after the clock stood at 900"


def test_p11_the_rate_is_not_taken_for_higher_when_the_clock_goes_back() -> None:
    gate = ClientThrottle(min_rps=5.0).make()
    sent(gate, 1000.0, 100)
    sent(gate, 0.0, 1)
    assert gate.drop_probability(60.0) == 0.0, "101 requests in a minute are less than 5 a second"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-1e9, 1e9) | st.floats(-10, 10), st.sampled_from("sap"), st.integers(1, 20)), max_size=60
    ),
    st.sampled_from([0.0, 5.0]),
)
def test_p11_no_clock_moves_the_probability_out_of_its_range(
    steps: list[tuple[float, str, int]], min_rps: float
) -> None:
    gate = ClientThrottle(min_rps=min_rps).make()
    now = 0.0
    for step, what, count in steps:
        now += step
        if what != "p":
            sent(gate, now, count, accepted=count if what == "a" else 0)
        assert 0.0 <= gate.drop_probability(now) <= 0.75
        assert gate.admit(now, 0.75)


def test_accepts_that_outlive_their_requests_do_not_make_it_negative() -> None:
    gate = ClientThrottle(min_rps=0.0).make()
    sent(gate, 0.0, 100)
    sent(gate, 119.0, 0, accepted=100)
    assert gate.drop_probability(125.0) == 0.0


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ClientThrottle(k=0.9), "k"),
        (lambda: ClientThrottle(window_seconds=0.5), "window_seconds"),
        (lambda: ClientThrottle(buckets=1), "buckets"),
        (lambda: ClientThrottle(max_drop=-0.1), "max_drop"),
        (lambda: ClientThrottle(min_rps=-1.0), "min_rps"),
    ],
)
def test_a_setting_out_of_range_is_named(make: Callable[[], ClientThrottle], field: str) -> None:
    with pytest.raises(SettingError) as caught:
        make()
    assert caught.value.field == field


def test_a_gate_is_small() -> None:
    assert not hasattr(ClientThrottle().make(), "__dict__")
