"""Windows: exact against a list of what was recorded, forgetful in time, untroubled by a clock that goes back."""

import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansio_client.errors import SettingError
from sansio_client.windows import BucketRing, CountRing, CountWindow, TimeRing, TimeWindow, Window, WindowSettings

RESULTS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


def totals(window: Window) -> tuple[int, int, int]:
    return window.total, window.failures, window.slow


def counted(results: list[tuple[bool, bool]]) -> tuple[int, int, int]:
    return len(results), len([1 for failed, _ in results if failed]), len([1 for _, slow in results if slow])


@settings(deadline=None)
@given(size=st.integers(1, 40), results=RESULTS)
def test_a_count_window_holds_the_last_results(size: int, results: list[tuple[bool, bool]]) -> None:
    ring = CountWindow(size=size).make()
    for i, (failed, slow) in enumerate(results):
        ring.record(0.0, failed, slow)
        assert totals(ring) == counted(results[: i + 1][-size:])


@settings(deadline=None)
@given(size=st.integers(1, 40), parts=st.lists(st.tuples(RESULTS, st.integers(0, 50)), max_size=5))
def test_many_successes_at_once_are_the_same_as_one_by_one(
    size: int, parts: list[tuple[list[tuple[bool, bool]], int]]
) -> None:
    window = CountWindow(size=size)
    at_once, one_by_one = window.make(), window.make()
    for results, successes in parts:
        for failed, slow in results:
            at_once.record(0.0, failed, slow)
            one_by_one.record(0.0, failed, slow)
        at_once.record_successes(0.0, successes)
        for _ in range(successes):
            one_by_one.record(0.0, failed=False)
        assert totals(at_once) == totals(one_by_one)


def test_a_billion_successes_at_once_cost_no_more_than_one() -> None:
    ring = CountWindow().make()
    ring.record(0.0, failed=True, slow=True)
    ring.record_successes(0.0, 10**12)
    assert totals(ring) == (100, 0, 0)
    assert ring._failed == ring._slow == 0
    timed = TimeWindow().make()
    timed.record_successes(0.0, 10**12)
    assert totals(timed) == (10**12, 0, 0)


def test_a_count_ring_is_small_and_shares_its_settings() -> None:
    window = CountWindow(size=100)
    ring = window.make()
    for _ in range(100):
        ring.record(12345.678, failed=True)
    own = sys.getsizeof(ring) + sys.getsizeof(ring._failed) + sys.getsizeof(ring._marked_at)
    assert own <= 150, "the settings are shared, and so is the zero of no slow results"
    assert ring._settings is window
    assert not hasattr(ring, "__dict__")
    assert not hasattr(TimeWindow().make(), "__dict__")


def test_p50_a_count_window_is_forgotten_when_no_bad_result_comes_for_its_idle_time() -> None:
    ring = CountWindow(size=100, idle_seconds=60.0).make()
    for _ in range(20):
        ring.record(0.0, failed=True)
    ring.record(30.0, failed=False)
    ring.expire(60.0)
    assert totals(ring) == (21, 20, 0)
    ring.record(60.1, failed=False)
    assert totals(ring) == (1, 0, 0), "sick in the evening, not in the morning"


def test_p50_slow_results_keep_a_count_window_awake_as_failures_do() -> None:
    ring = CountWindow(idle_seconds=60.0).make()
    ring.record(0.0, failed=True)
    ring.record(50.0, failed=False, slow=True)
    ring.record(100.0, failed=False)
    assert totals(ring) == (3, 1, 1)


def test_p50_a_count_window_of_successes_only_is_forgotten_when_idle_and_not_before() -> None:
    ring = CountWindow(size=10, idle_seconds=60.0).make()
    for i in range(50):
        ring.record(i * 50.0, failed=False)
    assert ring.total == 10, "busy all the time"
    ring.record_successes(2500.0, 3)
    ring.expire(2560.0)
    assert ring.total == 10
    ring.record(2561.0, failed=True)
    assert totals(ring) == (1, 1, 0), "healthy in the evening says nothing about the morning"


def test_p50_successes_that_are_recorded_late_with_the_first_failure_are_kept() -> None:
    ring = CountWindow(idle_seconds=60.0).make()
    ring.record_successes(1000.0, 40)
    ring.record(1000.0, failed=True)
    assert totals(ring) == (41, 1, 0)


def test_p50_the_idle_time_begins_anew_when_the_last_failure_is_pushed_out() -> None:
    ring = CountWindow(size=3, idle_seconds=60.0).make()
    ring.record(0.0, failed=True)
    for at in (20.0, 40.0, 55.0):
        ring.record(at, failed=False)
    ring.record(100.0, failed=False)
    assert totals(ring) == (3, 0, 0)


def test_p11_recording_alone_is_enough_for_a_window_to_notice() -> None:
    ring = TimeWindow(seconds=30.0).make()
    ring.record(1e6, failed=True)
    ring.record(500.0, failed=True)
    ring.record(530.0, failed=False)
    assert totals(ring) == (1, 0, 0), "both were due 30 s after the clock stood at 500"


def test_p50_an_idle_time_window_is_empty() -> None:
    ring = TimeWindow(seconds=30.0, buckets=10).make()
    for i in range(100):
        ring.record(i * 0.1, failed=True, slow=True)
    assert totals(ring) == (100, 100, 100)
    ring.expire(1e9)
    assert totals(ring) == (0, 0, 0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.booleans(), st.integers(1, 3)), max_size=60))
def test_a_time_window_holds_what_is_younger_than_its_seconds(steps: list[tuple[int, bool, bool, int]]) -> None:
    # Whole seconds and buckets of a second: then a bucket is an instant, and the list of all results is exact.
    ring = TimeWindow(seconds=10.0, buckets=10).make()
    now = 1000
    seen: list[tuple[int, bool, bool]] = []
    for step, failed, slow, count in steps:
        now += step
        ring.record(float(now), failed, slow, count)
        seen += [(now, failed, slow)] * count
        assert totals(ring) == counted([(failed, slow) for at, failed, slow in seen if now - at < 10])


@settings(deadline=None)
@given(
    st.lists(st.floats(0.0, 40.0), max_size=60),
    st.integers(2, 20),
    st.floats(0.0, 1e6),
)
def test_a_result_stays_for_the_seconds_less_a_bucket_and_no_longer_than_the_seconds(
    steps: list[float], buckets: int, now: float
) -> None:
    ring = TimeWindow(seconds=30.0, buckets=buckets).make()
    seen = []
    for step in steps:
        now += step
        ring.record(now, failed=False)
        seen.append(now)
        rounding = 1e-6
        least = len([at for at in seen if now - at < 30.0 - 30.0 / buckets - rounding])
        most = len([at for at in seen if now - at < 30.0 + rounding])
        assert least <= ring.total <= most


def test_p11_windows_lose_nothing_when_the_clock_goes_back() -> None:
    for window in (CountWindow(size=2000), TimeWindow(seconds=30.0)):
        ring = window.make()
        for i in range(1000):
            ring.record(100.0 + i * 0.001, i % 2 == 0, i % 4 == 0)
        ring.record(96.0, True, False)
        ring.record_successes(-1e12, 9)
        assert totals(ring) == (1010, 501, 250)


def test_p11_windows_keep_nothing_for_longer_after_the_clock_went_back() -> None:
    counts, times = CountWindow(idle_seconds=60.0).make(), TimeWindow(seconds=30.0).make()
    for ring in (counts, times):
        ring.record(1e6, True, False)
        ring.expire(500.0)
        assert ring.failures == 1
    counts.expire(560.0)
    assert counts.failures == 1
    counts.expire(560.1)
    assert counts.failures == 0
    times.expire(529.0)
    assert times.failures == 1, "not yet"
    times.expire(530.0)
    assert times.failures == 0


@settings(max_examples=200, deadline=None)
@given(
    window=st.sampled_from([CountWindow(size=7, idle_seconds=5.0), TimeWindow(seconds=3.0, buckets=3), TimeWindow()]),
    steps=st.lists(
        st.tuples(st.floats(-1e9, 1e9) | st.floats(-40, 40), st.sampled_from("fskx"), st.integers(0, 9)), max_size=50
    ),
)
def test_p11_no_clock_breaks_a_window(window: WindowSettings, steps: list[tuple[float, str, int]]) -> None:
    ring = window.make()
    now = 0.0
    for step, what, count in steps:
        now += step
        before = ring.total
        if what == "k":
            ring.record_successes(now, count)
        elif what == "x":
            ring.expire(now)
            assert ring.total <= before
            if step <= 0.0:
                assert ring.total == before, "time did not go on, so nothing expires"
        else:
            ring.record(now, what == "f", what == "s")
            assert ring.total >= 1
        assert 0 <= ring.failures <= ring.total
        assert 0 <= ring.slow <= ring.total
        if isinstance(ring, BucketRing):
            assert ring.totals == [sum(ring._counts[kind::3]) for kind in range(3)]
            assert min(ring._counts) >= 0
    ring.clear()
    assert totals(ring) == (0, 0, 0)


@pytest.mark.parametrize("now", [-1e308, -1.0, 0.0, 1e-300, 1e17, 1e308])
def test_p11_a_window_starts_at_any_time(now: float) -> None:
    for window in (CountWindow(), TimeWindow()):
        ring = window.make()
        ring.record(now, True, False)
        ring.record(now, True, False)
        assert totals(ring) == (2, 2, 0)


def test_a_cleared_window_counts_on() -> None:
    for window in (CountWindow(), TimeWindow()):
        ring = window.make()
        ring.record(5.0, True, True)
        ring.clear()
        ring.record(6.0, False, True)
        assert totals(ring) == (1, 0, 1)


def test_what_is_taken_back_from_a_bucket_ring_is_the_newest_and_never_more_than_there_is() -> None:
    ring = BucketRing(10.0, buckets=10, kinds=2)
    for at in (0.0, 4.0, 4.0, 8.0):
        ring.add(at, 1)
    ring.add(8.0, 0, 5)
    ring.take_back(8.0, 1, 2)  # those of 8 and of one 4
    assert ring.totals == [5, 2]
    ring.expire(11.0)  # the one of 0 is gone
    assert ring.totals == [5, 1]
    ring.take_back(11.0, 1, 100)
    assert ring.totals == [5, 0]
    assert min(ring._counts) == 0
    ring.take_back(18.0, 1)
    assert ring.totals == [0, 0], "and what expired meanwhile is gone"


def test_both_windows_have_one_shape() -> None:
    machines: list[Window] = [CountWindow().make(), TimeWindow().make()]
    assert [type(machine) for machine in machines] == [CountRing, TimeRing]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: CountWindow(size=0), "size"),
        (lambda: CountWindow(size=4097), "size"),
        (lambda: CountWindow(idle_seconds=-1.0), "idle_seconds"),
        (lambda: TimeWindow(seconds=0.0), "seconds"),
        (lambda: TimeWindow(seconds=float("inf")), "seconds"),
        (lambda: TimeWindow(buckets=1), "buckets"),
        (lambda: TimeWindow(buckets=121), "buckets"),
    ],
)
def test_a_setting_out_of_range_is_named(make: Callable[[], WindowSettings], field: str) -> None:
    with pytest.raises(SettingError) as caught:
        make()
    assert caught.value.field == field


def test_settings_are_equal_by_what_was_asked_for() -> None:
    assert CountWindow(size=7) == CountWindow(size=7)
    assert repr(CountWindow()) == "CountWindow(size=100, idle_seconds=60.0)"
