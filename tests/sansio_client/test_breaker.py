"""The circuit breaker alone, with a clock and chance of the test's own."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansio_client.breaker import (
    CLOSED,
    FORCED_CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    METRICS_ONLY,
    OPEN,
    Breaker,
    BreakerSettings,
)
from sansio_client.errors import LocalProtocolError, SettingError
from sansio_client.outcome import BREAKER_FAIL, BREAKER_IGNORE, BREAKER_OK, BREAKER_SOFT
from sansio_client.windows import CountWindow, TimeWindow


def made(u: Callable[[], float] = lambda: 0.0, **changes: Any) -> Breaker:
    return BreakerSettings(**changes).make(u)


def report(breaker: Breaker, effect: int, now: float = 0.0, times: int = 1, elapsed: float = 0.0) -> None:
    for _ in range(times):
        generation = breaker.acquire(now)
        assert generation
        assert breaker.record(generation, effect, now, elapsed)


def opened(now: float = 0.0, **changes: Any) -> Breaker:
    breaker = made(**changes)
    report(breaker, BREAKER_FAIL, now, 5)
    assert breaker.state == OPEN
    return breaker


def test_five_failures_in_a_row_open_it_and_a_success_between_does_not_let_them_add_up() -> None:
    breaker = made(window=None)
    for _ in range(10):
        report(breaker, BREAKER_FAIL, times=4)
        report(breaker, BREAKER_OK)
    assert breaker.state == CLOSED
    report(breaker, BREAKER_FAIL, times=5)
    assert breaker.state_name == "OPEN"
    assert breaker.acquire(0.5) == 0


def test_it_admits_a_probe_at_retry_at_and_not_before() -> None:
    breaker = opened(100.0, open_seconds=2.0)
    assert breaker.retry_at == 102.0
    assert breaker.acquire(101.999) == 0
    assert breaker.acquire(102.0)
    assert breaker.state == HALF_OPEN


@pytest.mark.parametrize("probes", [1, 3])
def test_p1_a_thousand_at_once_get_exactly_the_probes(probes: int) -> None:
    breaker = opened(probes=probes, probe_successes=probes)
    assert len([1 for _ in range(1000) if breaker.acquire(1.0)]) == probes


def test_p2_a_probe_that_never_reports_opens_it_again_and_later_probes_go_out() -> None:
    breaker = opened(probe_life_seconds=10.0)
    assert breaker.acquire(1.0)
    assert breaker.acquire(10.999) == 0
    assert breaker.state == HALF_OPEN
    assert breaker.acquire(11.0) == 0
    assert breaker.state == OPEN
    assert breaker.retry_at == 13.0, "the second opening is twice as long"
    assert breaker.acquire(13.0)


def test_p2_half_open_without_a_probe_out_does_not_open_by_itself() -> None:
    breaker = opened(probe_life_seconds=10.0)
    breaker.record(breaker.acquire(1.0), BREAKER_IGNORE, 2.0)
    assert breaker.acquire(500.0)
    assert breaker.acquire(509.0) == 0
    assert breaker.state == HALF_OPEN


def test_p3_what_an_older_era_reports_changes_nothing() -> None:
    breaker = made()
    late = [breaker.acquire(0.0) for _ in range(20)]
    report(breaker, BREAKER_FAIL, times=5)
    assert not breaker.record(late.pop(), BREAKER_OK, 0.1)
    assert not breaker.record(late.pop(), BREAKER_FAIL, 0.1)
    assert (breaker.state, breaker.retry_at) == (OPEN, 1.0)
    probe = breaker.acquire(1.0)
    for effect in (BREAKER_OK, BREAKER_FAIL, BREAKER_IGNORE, BREAKER_SOFT):
        assert not breaker.record(late.pop(), effect, 1.1)
        assert breaker.state == HALF_OPEN
        assert breaker.acquire(1.1) == 0, "no permit came from it"
    assert breaker.record(probe, BREAKER_OK, 1.2)
    assert breaker.state == CLOSED
    for _ in range(10):
        assert not breaker.record(late.pop(), BREAKER_FAIL, 1.3)
    assert breaker.state == CLOSED
    assert breaker.consecutive == 0


def test_p4_a_probe_that_was_cancelled_gives_its_permit_back_and_proves_nothing() -> None:
    breaker = opened(window=None)
    for _ in range(100):
        probe = breaker.acquire(1.0)
        assert probe
        assert breaker.acquire(1.0) == 0
        assert breaker.record(probe, BREAKER_IGNORE, 1.0)
        assert breaker.state == HALF_OPEN
    breaker.record(breaker.acquire(1.0), BREAKER_IGNORE, 1.0)
    breaker.record(breaker.generation, BREAKER_IGNORE, 1.0)  # one report too many makes no permit
    assert breaker.acquire(1.0)
    assert breaker.acquire(1.0) == 0


def test_p5_cancellations_say_nothing() -> None:
    breaker = made()
    report(breaker, BREAKER_IGNORE, times=100)
    assert breaker.healthy
    report(breaker, BREAKER_FAIL, times=4)
    report(breaker, BREAKER_IGNORE)
    report(breaker, BREAKER_FAIL)
    assert breaker.state == OPEN, "it does not interrupt a row either"


def test_p6_failures_that_come_late_do_not_open_it_again() -> None:
    breaker = made()
    late = [breaker.acquire(0.0) for _ in range(55)]
    for number, generation in enumerate(late):
        assert breaker.record(generation, BREAKER_FAIL, number / 100) == (number < 5)
    assert breaker.retry_at == 1.04
    assert breaker.openings == 1


def test_a_failed_probe_opens_it_for_longer_up_to_the_maximum_and_a_close_starts_anew() -> None:
    breaker = opened(open_seconds=1.0, open_seconds_max=5.0)
    lengths = []
    for _ in range(5):
        now = breaker.retry_at
        breaker.record(breaker.acquire(now), BREAKER_FAIL, now)
        lengths.append(breaker.retry_at - now)
    assert lengths == [2.0, 4.0, 5.0, 5.0, 5.0]
    now = breaker.retry_at
    breaker.record(breaker.acquire(now), BREAKER_OK, now)
    assert breaker.state == CLOSED
    report(breaker, BREAKER_FAIL, now, 5)
    assert breaker.retry_at - now == 1.0


def test_chance_shortens_an_opening_by_no_more_than_its_share() -> None:
    assert made(u=lambda: 0.0).settings.open_jitter == 0.2
    for u in (0.0, 0.5, 0.999):
        breaker = made(u=lambda u=u: u, open_seconds=10.0)
        report(breaker, BREAKER_FAIL, times=5)
        assert breaker.retry_at == pytest.approx(10.0 * (1 - 0.2 * u))


def test_p46_ten_thousand_openings_do_not_overflow() -> None:
    breaker = opened(open_seconds_max=1e9)
    for _ in range(10_000):
        now = breaker.retry_at
        breaker.record(breaker.acquire(now), BREAKER_FAIL, now)
        assert 0 < breaker.retry_at - now <= 1e9


def test_several_successes_may_be_asked_for() -> None:
    breaker = opened(probes=2, probe_successes=3)
    first, second = breaker.acquire(1.0), breaker.acquire(1.0)
    breaker.record(first, BREAKER_OK, 1.1)
    breaker.record(second, BREAKER_OK, 1.1)
    assert breaker.state == HALF_OPEN
    breaker.record(breaker.acquire(1.1), BREAKER_OK, 1.2)
    assert breaker.state == CLOSED


def test_soft_failures_count_in_the_rate_only() -> None:
    breaker = made(window=CountWindow(20), minimum_calls=20)
    report(breaker, BREAKER_OK, times=11)
    report(breaker, BREAKER_SOFT, times=9)
    assert breaker.consecutive == 0
    assert breaker.state == CLOSED
    report(breaker, BREAKER_SOFT)
    assert breaker.state == OPEN, "10 of the last 20"


def test_soft_failures_fail_a_probe() -> None:
    breaker = opened()
    breaker.record(breaker.acquire(1.0), BREAKER_SOFT, 1.0)
    assert breaker.state == OPEN


def test_the_rate_counts_successes_from_before_the_first_failure() -> None:
    breaker = made(consecutive_failures=None, window=CountWindow(100), minimum_calls=10, failure_rate=0.5)
    report(breaker, BREAKER_OK, times=10)
    report(breaker, BREAKER_FAIL, times=9)
    assert breaker.state == CLOSED
    report(breaker, BREAKER_FAIL)
    assert breaker.state == OPEN


@pytest.mark.parametrize("failures", range(1, 101))
def test_a_rate_is_reached_exactly(failures: int) -> None:
    breaker = made(consecutive_failures=None, window=CountWindow(100), minimum_calls=100, failure_rate=failures / 100)
    report(breaker, BREAKER_OK, times=100 - failures)
    report(breaker, BREAKER_FAIL, times=failures - 1)
    assert breaker.state == CLOSED
    report(breaker, BREAKER_FAIL)
    assert breaker.state == OPEN


def test_p50_a_rate_of_a_few_calls_means_nothing() -> None:
    breaker = made(consecutive_failures=None, minimum_calls=20)
    report(breaker, BREAKER_FAIL, times=19)
    assert breaker.state == CLOSED
    report(breaker, BREAKER_FAIL)
    assert breaker.state == OPEN


def test_p50_a_time_window_forgets_when_it_is_idle() -> None:
    window = TimeWindow(seconds=10.0, buckets=10)
    breaker = made(consecutive_failures=None, window=window, minimum_calls=10)
    report(breaker, BREAKER_FAIL, 0.0, 9)
    report(breaker, BREAKER_FAIL, 11.1, 9)
    assert breaker.state == CLOSED
    report(breaker, BREAKER_FAIL, 11.2)
    assert breaker.state == OPEN


def test_slow_answers_open_it_when_they_are_too_many() -> None:
    breaker = made(slow_call_seconds=1.0, slow_call_rate=0.5, minimum_calls=10, window=CountWindow(10))
    report(breaker, BREAKER_OK, times=5, elapsed=0.999)
    report(breaker, BREAKER_OK, times=4, elapsed=1.0)
    assert breaker.state == CLOSED
    report(breaker, BREAKER_OK, elapsed=5.0)
    assert breaker.state == OPEN
    breaker.record(breaker.acquire(1.0), BREAKER_OK, 3.0, elapsed=2.0)
    assert breaker.state == OPEN, "a slow probe has not shown that it is well again"


def test_after_recovery_it_remembers_nothing() -> None:
    breaker = opened()
    breaker.record(breaker.acquire(1.0), BREAKER_OK, 1.0)
    assert breaker.healthy
    report(breaker, BREAKER_FAIL, 1.0, 4)
    assert breaker.state == CLOSED


def test_p4_successes_in_closed_count_towards_nothing_that_a_reset_keeps() -> None:
    breaker = opened()
    breaker.force(CLOSED, 0.5)
    assert breaker.acquire(0.5)
    assert breaker.openings == 0


@pytest.mark.parametrize(("state", "admits"), [(FORCED_OPEN, False), (FORCED_CLOSED, True), (METRICS_ONLY, True)])
def test_a_forced_state_holds_whatever_is_reported(state: int, admits: bool) -> None:
    breaker = made()
    old = breaker.acquire(0.0)
    breaker.force(state, 0.0)
    assert not breaker.record(old, BREAKER_FAIL, 0.0)
    for _ in range(50):
        generation = breaker.acquire(1.0)
        assert bool(generation) == admits == breaker.peek(1.0)
        breaker.record(generation, BREAKER_FAIL, 1.0)
    assert breaker.state == state
    breaker.force(CLOSED, 2.0)
    assert breaker.acquire(2.0)
    assert breaker.healthy


def test_only_states_one_can_choose_can_be_forced() -> None:
    with pytest.raises(LocalProtocolError, match="FORCED_OPEN"):
        made().force(HALF_OPEN, 0.0)
    breaker = made()
    breaker.force(OPEN, 5.0)
    assert breaker.retry_at == 6.0


def test_reconfiguring_begins_a_new_era_and_never_prolongs_an_opening() -> None:
    breaker = opened(open_seconds=30.0)
    breaker.reconfigure(BreakerSettings(open_seconds=1.0, open_seconds_max=2.0), 10.0)
    assert breaker.retry_at == 12.0
    probe = breaker.acquire(12.0)
    breaker.reconfigure(BreakerSettings(), 12.0)
    assert not breaker.record(probe, BREAKER_OK, 12.0)
    assert breaker.acquire(12.0), "the permit of the old era is not lost"


def test_p11_a_clock_that_goes_back_does_not_prolong_an_opening() -> None:
    breaker = opened(1000.0, open_seconds=2.0)
    assert breaker.acquire(10.0) == 0
    assert breaker.retry_at == 12.0
    assert breaker.acquire(12.0)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["acquire", "ok", "fail", "soft", "ignore", "stale"]), st.floats(-100, 100)),
        max_size=80,
    ),
    probes=st.integers(1, 3),
)
@settings(max_examples=300, deadline=None)
def test_p11_whatever_happens_at_whatever_time_the_waits_are_bounded_and_the_permits_exact(
    steps: list[tuple[str, float]], probes: int
) -> None:
    breaker = made(probes=probes, consecutive_failures=2, window=None, open_seconds_max=8.0, probe_life_seconds=20.0)
    now = 0.0
    out: list[int] = []
    effects = {"ok": BREAKER_OK, "fail": BREAKER_FAIL, "soft": BREAKER_SOFT, "ignore": BREAKER_IGNORE}
    for step, jump in steps:
        now += jump
        breaker.peek(now)
        if step == "acquire":
            generation = breaker.acquire(now)
            if generation:
                out.append(generation)
        elif step == "stale":
            before = breaker.state, breaker.consecutive, breaker.generation
            breaker.record(breaker.generation - 1, BREAKER_FAIL, now)
            assert before == (breaker.state, breaker.consecutive, breaker.generation)
        elif out:
            breaker.record(out.pop(0), effects[step], now)
        if breaker.state == HALF_OPEN:
            assert len([generation for generation in out if generation == breaker.generation]) <= probes
            assert breaker.ask_again_at - now <= 20.0
        if breaker.state == OPEN:
            assert breaker.retry_at - now <= 8.0


@pytest.mark.parametrize(
    "changes",
    [
        {"consecutive_failures": 0},
        {"consecutive_failures": None, "window": None},
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"slow_call_seconds": -1},
        {"slow_call_seconds": 1, "window": None},
        {"slow_call_rate": float("nan")},
        {"minimum_calls": 0},
        {"minimum_calls": 101},
        {"open_seconds": -1},
        {"open_growth": 0.5},
        {"open_seconds_max": 0.5},
        {"open_jitter": 1.0},
        {"probes": 0},
        {"probe_successes": True},
        {"probe_life_seconds": "1"},
    ],
)
def test_a_bad_setting_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        BreakerSettings(**changes)
    assert caught.value.field.removeprefix("breaker.") in changes or caught.value.field == "breaker.window"
    assert "expected" in str(caught.value)
