"""The adaptive limits: each step of their formulae, what drops do, and what is no measurement."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from itertools import pairwise
from math import floor, inf, log10, nan
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sansio_client.adaptive import Aimd, Gradient2, Limit, LimitSettings, Vegas, Windowed, _whole_log10
from sansio_client.errors import SettingError

BARE: list[LimitSettings] = [Aimd(), Vegas(), Gradient2()]
ALGORITHMS = [*BARE, *(Windowed(one) for one in BARE)]
NAMES = ["aimd", "vegas", "gradient2", "windowed aimd", "windowed vegas", "windowed gradient2"]
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=NAMES)


def half() -> float:
    return 0.5


def make(algorithm: LimitSettings, random: Callable[[], float] = half) -> Limit:
    return algorithm.make(random)


def lowest(algorithm: LimitSettings) -> int:
    inner = algorithm.algorithm if isinstance(algorithm, Windowed) else algorithm
    assert isinstance(inner, Aimd | Vegas | Gradient2)
    return inner.min_limit


def highest(algorithm: LimitSettings) -> int:
    inner = algorithm.algorithm if isinstance(algorithm, Windowed) else algorithm
    assert isinstance(inner, Aimd | Vegas | Gradient2)
    return inner.max_limit


def raised(limit: Limit, now: float = 0.0) -> float:
    """Bring the limit near its top with steady round trips, all slots in use; return the time after it."""
    for _ in range(5_000):
        now += 0.02
        limit.on_sample(now, 0.05, limit.limit, False)
    return now


# P30


@each_algorithm
def test_p30_timeouts_of_one_length_take_the_limit_to_its_minimum(
    algorithm: LimitSettings,
) -> None:
    limit = make(algorithm)
    now = raised(limit)
    assert limit.limit > 50
    before = limit.limit
    for _ in range(60_000):
        now += 0.02
        limit.on_sample(now, 2.0, limit.limit, True)
        assert limit.limit <= before
        before = limit.limit
    assert limit.limit == lowest(algorithm)


@pytest.mark.parametrize("algorithm", [Aimd(min_limit=1), Vegas(), Gradient2(min_limit=1)])
def test_p30_the_minimum_is_reached_from_a_cold_start_and_down_to_one(algorithm: LimitSettings) -> None:
    limit = make(algorithm)
    for step in range(100):
        limit.on_sample(step * 0.1, 1.0, limit.limit, True)
    assert limit.limit == 1


@each_algorithm
def test_after_an_outage_the_limit_grows_again(algorithm: LimitSettings) -> None:
    limit = make(algorithm)
    now = raised(limit)
    for _ in range(20_000):
        now += 0.02
        limit.on_sample(now, 2.0, limit.limit, True)
    floor_ = limit.limit
    raised(limit, now)
    assert limit.limit > 2 * floor_


@each_algorithm
def test_how_long_a_drop_took_is_not_measured(algorithm: LimitSettings) -> None:
    """Two targets, one refuses after a millisecond and the other after a minute: the same limits."""
    quick, slow = make(algorithm), make(algorithm)
    random, now = Random(3), 0.0
    for _ in range(3_000):
        now += 0.01
        dropped, rtt = random.random() < 0.05, 0.05 * (1 + random.random())
        a = quick.on_sample(now, 0.001 if dropped else rtt, quick.limit, dropped)
        b = slow.on_sample(now, 60.0 if dropped else rtt, slow.limit, dropped)
        assert a == b


# The guard against growing without demand


@each_algorithm
def test_a_limit_that_is_not_half_used_does_not_grow(algorithm: LimitSettings) -> None:
    limit = make(algorithm)
    for step in range(5_000):
        limit.on_sample(step * 0.02, 0.05, (limit.limit - 1) // 2, False)
    assert limit.limit == 20


@each_algorithm
def test_a_limit_that_is_half_used_grows(algorithm: LimitSettings) -> None:
    limit = make(algorithm)
    for step in range(5_000):
        limit.on_sample(step * 0.02, 0.05, (limit.limit + 1) // 2, False)
    assert limit.limit > 60


@pytest.mark.parametrize("algorithm", [Aimd(min_limit=1), Vegas(), Gradient2(min_limit=1)])
def test_a_drop_lowers_the_limit_even_with_one_in_flight(algorithm: LimitSettings) -> None:
    limit = make(algorithm)
    assert limit.on_sample(0.0, 1.0, 1, True) < 20


# AIMD


def test_aimd_adds_one_and_takes_a_tenth() -> None:
    limit = make(Aimd(min_limit=1))
    assert [limit.on_sample(0, 0.1, 50, False) for _ in range(3)] == [21, 22, 23]
    assert [limit.on_sample(0, 0.1, 50, True) for _ in range(3)] == [20, 18, 16]


def test_aimd_takes_a_success_of_more_than_five_seconds_for_a_drop() -> None:
    limit = make(Aimd(min_limit=1))
    assert limit.on_sample(0, 5.0, 50, False) == 21
    assert limit.on_sample(0, 5.001, 50, False) == 18
    assert make(Aimd(drop_above_seconds=inf)).on_sample(0, 1e6, 50, False) == 21


def test_aimd_leaves_every_limit_above_one_at_any_ratio() -> None:
    for ratio in (0.5, 0.9, 0.999):
        limit = make(Aimd(initial_limit=1000, min_limit=1, max_limit=1000, backoff_ratio=ratio))
        steps = [limit.on_sample(0, 0.1, 1, True) for _ in range(1000)]
        assert all(later < earlier for earlier, later in pairwise(steps) if earlier > 1)
        assert steps[-1] == 1


# Vegas: with a limit of 128, L = 2: grows by 12 up to a queue of 2, by 2 below 6, shrinks by 2 above 12


@pytest.mark.parametrize(("queue", "after"), [
    (0, 140), (1, 140), (2, 140), (2.5, 130), (3, 130), (5, 130), (6, 128), (12, 128), (12.5, 126), (13, 126),
    (60, 126),
])  # fmt: skip
def test_vegas_steps_by_the_length_of_the_queue(queue: float, after: int) -> None:
    limit = make(Vegas(initial_limit=128))
    limit.on_sample(0, (128 - queue) / 128, 128, False)
    assert limit.on_sample(0, 1.0, 128, False) == after


def test_vegas_stops_at_its_bounds_in_the_middle_of_a_step() -> None:
    for queue, after in ((0, 129), (4, 129), (60, 127)):
        limit = make(Vegas(initial_limit=128, min_limit=127, max_limit=129))
        limit.on_sample(0, (128 - queue) / 128, 128, False)
        assert limit.on_sample(0, 1.0, 128, False) == after


def test_vegas_steps_down_at_a_drop() -> None:
    limit = make(Vegas(initial_limit=1001, max_limit=2000))
    assert [limit.on_sample(0, 1.0, 1, True) for _ in range(3)] == [998, 996, 994]


def test_vegas_only_measures_when_a_round_trip_is_the_fastest() -> None:
    limit = make(Vegas())
    assert [limit.on_sample(0, rtt, 20, False) for rtt in (0.5, 0.4, 0.3)] == [20, 20, 20]
    assert limit.on_sample(0, 0.3, 20, False) == 26


def test_vegas_measures_the_fastest_round_trip_anew() -> None:
    draws: list[float] = []

    def random() -> float:
        draws.append(0.2)
        return draws[-1]

    limit = Vegas(initial_limit=10, max_limit=10, min_limit=10).make(random)
    limit.on_sample(0, 0.01, 10, False)
    for _ in range(178):  # 30 * (0.5 + 0.5 * 0.2) * 10 = 180 successes, the first counted
        limit.on_sample(0, 1.0, 10, False)
        limit.on_sample(0, 1.0, 10, True)  # drops are no measurements and do not count
    assert limit._rtt_min == 0.01
    assert len(draws) == 1
    limit.on_sample(0, 1.0, 10, False)
    assert limit._rtt_min == 1.0
    assert len(draws) == 2


def test_vegas_accepts_a_target_that_became_slower_for_good() -> None:
    limit = make(Vegas(), Random(1).random)
    for _ in range(2_000):
        limit.on_sample(0, 0.01, limit.limit, False)
    for _ in range(30_000):
        limit.on_sample(0, 0.5, limit.limit, False)
    assert limit.limit == 1000


def test_the_logarithm_is_exact_at_the_powers_of_ten() -> None:
    for limit in [*range(1, 2_000), *(10**k + d for k in range(2, 7) for d in (-1, 0, 1))]:
        assert _whole_log10(limit) == max(1, floor(log10(limit + 0.5)))


# Gradient2


def test_gradient2_grows_by_a_fifth_of_the_queue_while_latency_is_steady() -> None:
    limit = Gradient2().make(half)
    assert [limit.on_sample(0, 0.1, 50, False) for _ in range(6)] == [20, 21, 22, 23, 24, 24]
    assert limit._estimate == pytest.approx(24.8)


def test_gradient2_follows_its_formula() -> None:
    limit = Gradient2(min_limit=1, initial_limit=100).make(half)
    for _ in range(10):
        limit.on_sample(0, 0.1, 1, False)  # the long average is 0.1, the limit not moved
    assert limit.limit == 100
    long = 0.1 * (1 - 2 / 601) + 0.2 * 2 / 601
    expected = 0.8 * 100 + 0.2 * (100 * 1.5 * long / 0.2 + 4)
    assert limit.on_sample(0, 0.2, 100, False) == int(expected)
    assert limit._estimate == pytest.approx(expected)
    long = long * (1 - 2 / 601) + 10 * 2 / 601
    expected = 0.8 * expected + 0.2 * (expected * 0.5 + 4)  # the gradient is never below a half
    limit.on_sample(0, 10.0, 100, False)
    assert limit._estimate == pytest.approx(expected)


def test_gradient2_starts_with_the_mean_of_ten() -> None:
    limit = Gradient2().make(half)
    for n in range(1, 11):
        limit.on_sample(0, float(n), 1, False)
        assert limit._long == pytest.approx((n + 1) / 2)
    limit.on_sample(0, 5.5, 1, False)
    assert limit._long == pytest.approx(5.5)


def test_gradient2_forgets_a_long_overload_within_a_hundred_samples() -> None:
    limit = Gradient2().make(half)
    for _ in range(3_000):
        limit.on_sample(0, 10.0, 1, False)
    for _ in range(100):
        limit.on_sample(0, 0.1, 1, False)
    assert limit._long < 0.25


def test_gradient2_takes_a_tenth_at_a_drop() -> None:
    limit = make(Gradient2(min_limit=1, initial_limit=100))
    assert [limit.on_sample(0, 0.1, 1, True) for _ in range(3)] == [90, 81, 72]


def test_gradient2_shrinks_when_latency_doubles() -> None:
    limit = make(Gradient2(min_limit=5))
    for _ in range(1_000):
        limit.on_sample(0, 0.05, limit.limit, False)
    for _ in range(40):
        limit.on_sample(0, 0.2, limit.limit, False)
    assert limit.limit < 60


# Windows


def test_a_window_gives_its_mean_its_most_in_flight_and_whether_many_were_dropped() -> None:
    seen: list[tuple[float, float, int, bool]] = []

    class Spy:
        limit = 7

        def on_sample(self, now: float, rtt_seconds: float, in_flight: int, dropped: bool) -> int:
            seen.append((now, rtt_seconds, in_flight, dropped))
            return 8

    class SpySettings:
        def make(self, random: Callable[[], float]) -> Limit:
            return Spy()

    limit = make(Windowed(SpySettings(), drop_share=0.2))
    for step in range(10):
        assert limit.on_sample(step * 0.125, 0.25 if step % 2 else 0.75, step, step == 1) == (7 if step < 9 else 8)
    assert seen == [(1.125, (5 * 0.75 + 4 * 0.25) / 9, 9, False)]
    for step in range(10):
        limit.on_sample(2 + step * 0.125, 0.5, 9 - step, step in {2, 5})
    assert seen[1:] == [(3.125, 0.5, 9, True)]


def test_a_window_without_enough_samples_goes_on() -> None:
    limit = make(Windowed(Aimd()))
    assert [limit.on_sample(step * 5.0, 0.1, 30, False) for step in range(20)] == [20] * 9 + [21] * 10 + [22]


def test_a_busy_target_moves_once_a_second() -> None:
    limit = make(Windowed(Aimd()))
    limits = [limit.on_sample(step / 1024, 0.1, 30, False) for step in range(5 * 1024)]
    assert limits[1023:1025] == [20, 21]
    assert limits[-1] == 24


def test_answers_too_fast_to_come_from_the_target_are_left_out() -> None:
    limit = make(Windowed(Aimd()))
    for step in range(1_000):
        limit.on_sample(step * 1.0, 0.00009, 30, False)
    assert limit.limit == 20


def test_a_few_lost_requests_do_not_hold_a_window_down() -> None:
    random, limit = Random(1), make(Windowed(Gradient2()))
    for step in range(100_000):
        limit.on_sample(step / 1000, 0.05, limit.limit, random.random() < 0.02)
    assert limit.limit > 60


def test_windows_find_the_workers_behind_latencies_that_vary() -> None:
    """A server of 50 workers, times 5 to 35 ms: near 50 in flight use them all, far above 50 they only wait."""
    for algorithm in (Windowed(Gradient2()), Windowed(Vegas())):
        random, limit, now, total = Random(2), make(algorithm, Random(1).random), 0.0, 0
        for second in range(120):
            wait = max(0, limit.limit - 50) / 2500
            for _ in range(40):
                now += 1 / 40
                limit.on_sample(now, 0.005 + 0.03 * random.random() + wait, limit.limit, False)
            total += limit.limit if second >= 60 else 0
        assert 40 < total / 60 < 100


# P11


@pytest.mark.parametrize("algorithm", ALGORITHMS[1:], ids=NAMES[1:])  # AIMD alone measures nothing
@pytest.mark.parametrize("nonsense", [0.0, -1.0, -inf, inf, nan, 1e300])
def test_p11_what_is_no_round_trip_teaches_nothing(algorithm: LimitSettings, nonsense: float) -> None:
    clean, dirty, random = make(algorithm), make(algorithm), Random(5)
    for step in range(2_000):
        now, rtt = step * 0.02, 0.05 + 0.05 * random.random()
        a = clean.on_sample(now, rtt, 100, False)
        b = dirty.on_sample(now, rtt, 100, False)
        assert a == b == dirty.on_sample(now, nonsense, 100, False)


@each_algorithm
def test_p11_a_clock_set_back_neither_stops_the_limit_nor_moves_it_faster(algorithm: LimitSettings) -> None:
    steady, odd = make(algorithm), make(algorithm)
    for step in range(6_000):
        now = step / 64
        steady.on_sample(now, 0.05, 200, False)
        odd.on_sample(now if step < 640 else now - 1e6 if step < 1280 else now - 2e6, 0.05, 200, False)
    assert odd.limit == pytest.approx(steady.limit, abs=7)
    assert odd.limit > 60


class Bounds(RuleBasedStateMachine):
    """Any samples at any times: the limit stays in its bounds and is what was returned."""

    @initialize(
        algorithm=st.sampled_from(["aimd", "vegas", "gradient2"]),
        windowed=st.booleans(),
        bounds=st.lists(st.integers(1, 2_000), min_size=3, max_size=3).map(sorted),
        seed=st.integers(0, 9),
    )
    def start(self, algorithm: str, windowed: bool, bounds: list[int], seed: int) -> None:
        self.low, initial, self.high = bounds
        inner: LimitSettings = {"aimd": Aimd, "vegas": Vegas, "gradient2": Gradient2}[algorithm](
            initial_limit=initial, min_limit=self.low, max_limit=self.high
        )
        self.limit = make(Windowed(inner) if windowed else inner, Random(seed).random)

    @rule(
        now=st.floats(-1e6, 1e6),
        rtt=st.floats() | st.floats(1e-4, 10),
        in_flight=st.integers(0, 3_000),
        dropped=st.booleans(),
        times=st.sampled_from([1, 1, 30]),
        pace=st.sampled_from([0.0, 0.1, -0.1]),
    )
    def sample(self, now: float, rtt: float, in_flight: int, dropped: bool, times: int, pace: float) -> None:
        for n in range(times):
            assert self.limit.on_sample(now + n * pace, rtt, in_flight, dropped) == self.limit.limit

    @invariant()
    def in_bounds(self) -> None:
        if hasattr(self, "limit"):
            assert type(self.limit.limit) is int
            assert self.low <= self.limit.limit <= self.high


Bounds.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestBounds = Bounds.TestCase


@given(st.lists(st.tuples(st.floats(0.001, 5), st.integers(1, 40), st.booleans()), max_size=50), st.floats(0.5, 2))
def test_aimd_and_vegas_do_not_depend_on_the_unit_of_time(samples: list[tuple[float, int, bool]], start: float) -> None:
    for algorithm in (Aimd(drop_above_seconds=inf), Vegas()):
        one, other = make(algorithm), make(algorithm)
        for rtt, in_flight, dropped in [(start, 1, False), *samples]:
            a = one.on_sample(0.0, rtt, in_flight, dropped)
            assert a == other.on_sample(0.0, rtt * 1024, in_flight, dropped)


def test_the_same_samples_give_the_same_limits_on_every_python() -> None:
    def trace(algorithm: LimitSettings) -> list[int]:
        random, limit = Random(42), make(algorithm, Random(43).random)
        limits = []
        for step in range(4_000):
            rtt = 0.02 * (1 + random.random()) * max(1.0, limit.limit / 60)
            limits.append(limit.on_sample(step * 0.01, rtt, limit.limit, random.random() < 0.002))
        return limits[399::400]

    assert {name: trace(algorithm) for name, algorithm in zip(NAMES, ALGORITHMS, strict=True)} == {
        "aimd": [200, 200, 200, 200, 200, 200, 200, 200, 190, 200],
        "vegas": [12, 19, 15, 15, 24, 24, 18, 17, 14, 14],
        "gradient2": [118, 179, 200, 200, 200, 200, 200, 200, 188, 200],
        "windowed aimd": [23, 27, 31, 35, 39, 43, 47, 51, 55, 59],
        "windowed vegas": [26, 50, 64, 64, 63, 64, 64, 64, 63, 64],
        "windowed gradient2": [22, 25, 28, 32, 35, 38, 41, 44, 48, 51],
    }


@pytest.mark.parametrize(("settings_of", "field"), [
    (lambda: Aimd(min_limit=0), "min_limit"),
    (lambda: Aimd(min_limit=30), "initial_limit"),
    (lambda: Aimd(max_limit=10), "max_limit"),
    (lambda: Vegas(initial_limit=1001), "initial_limit"),
    (lambda: Gradient2(initial_limit=2.5),  # type: ignore[arg-type]
     "initial_limit"),
    (lambda: Aimd(backoff_ratio=1.0), "backoff_ratio"),
    (lambda: Aimd(backoff_ratio=0.4), "backoff_ratio"),
    (lambda: Aimd(drop_above_seconds=0), "drop_above_seconds"),
    (lambda: Aimd(drop_above_seconds=nan), "drop_above_seconds"),
    (lambda: Vegas(probe_multiplier=0), "probe_multiplier"),
    (lambda: Gradient2(smoothing=0), "smoothing"),
    (lambda: Gradient2(smoothing=1.1), "smoothing"),
    (lambda: Gradient2(queue_size=0), "queue_size"),
    (lambda: Gradient2(rtt_tolerance=0.9), "rtt_tolerance"),
    (lambda: Gradient2(long_window=0), "long_window"),
    (lambda: Windowed(Aimd(), window_seconds=0.05), "window_seconds"),
    (lambda: Windowed(Aimd(), minimum_samples=9), "minimum_samples"),
    (lambda: Windowed(Aimd(), drop_share=0), "drop_share"),
])  # fmt: skip
def test_a_setting_out_of_range_is_named(settings_of: Callable[[], object], field: str) -> None:
    with pytest.raises(SettingError) as caught:
        settings_of()
    assert caught.value.field == field


@each_algorithm
def test_settings_are_immutable_and_two_targets_share_nothing(algorithm: LimitSettings) -> None:
    field = "algorithm" if isinstance(algorithm, Windowed) else "min_limit"
    with pytest.raises(FrozenInstanceError):
        setattr(algorithm, field, 3)
    one, other = make(algorithm), make(algorithm)
    raised(one)
    assert other.limit == 20
    assert not hasattr(one, "__dict__")
