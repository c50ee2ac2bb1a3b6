"""Backoff: every law is what it says, keeps its jitter at the cap, never passes its ceiling, and remembers nothing."""

import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from math import sqrt, tanh

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansio_client.backoff import (
    LONGEST_SECONDS,
    Backoff,
    Constant,
    Decorrelated,
    EqualJitter,
    Exponential,
    FullJitter,
    GrpcJitter,
    Linear,
    NoBackoff,
    PollyDecorrelatedV2,
    Spread,
)
from sansio_client.errors import SettingError

EVERY_LAW: list[Backoff] = [
    FullJitter(),
    EqualJitter(),
    Decorrelated(),
    GrpcJitter(),
    PollyDecorrelatedV2(),
    Exponential(),
    Exponential(multiplier=1.0001, jitter=1.0),
    Linear(),
    Linear(jitter=0.5),
    Constant(),
    Constant(delay_seconds=0.0),
    Constant(2.0, jitter=0.5),
    NoBackoff(),
    Spread(),
    Spread(min_seconds=0.0),
    Spread(min_seconds=1, max_seconds=60, base=2),  # integers, as a user writes them
    FullJitter(base_seconds=1, cap_seconds=20, multiplier=2),
]
ALMOST_ONE = 1.0 - 2.0**-53


def schedule(backoff: Backoff, attempts: int, draw: Callable[[], float]) -> list[float]:
    """The delays of one call that fails `attempts` times, driven as the call machine drives a law."""
    delays: list[float] = []
    previous = waited = 0.0
    for k in range(attempts - 1):
        previous = backoff.delay(k, draw(), previous, waited)
        waited += previous
        delays.append(previous)
    return delays


def kolmogorov_smirnov(values: list[float]) -> float:
    """The largest distance between the values' distribution and the uniform one on [0, 1]."""
    distance = 0.0
    for i, value in enumerate(sorted(values)):
        distance = max(distance, (i + 1) / len(values) - value, value - i / len(values))
    return distance


# A law at its cap, and what its stated distribution makes of a delay: something uniform between 0 and 1.
AT_THE_CAP: list[tuple[Backoff, Callable[[float], float]]] = [
    (FullJitter(), lambda d: d / 20),
    (EqualJitter(), lambda d: d / 10 - 1),
    (Decorrelated(), lambda d: (d - 0.5) / 19.5),
    (GrpcJitter(), lambda d: (d - 0.8) / 0.4),
    (PollyDecorrelatedV2(), lambda d: d / 10 - 1),
    (Exponential(jitter=0.5), lambda d: (20 - d) / 10),
    (Linear(jitter=0.25), lambda d: (20 - d) / 5),
    (Constant(20.0, jitter=0.1), lambda d: (20 - d) / 2),
    (Spread(), lambda d: (d - 1) / 59),
]


@pytest.mark.parametrize(("backoff", "uniform"), AT_THE_CAP)
def test_p13_the_jitter_is_not_lost_at_the_cap(backoff: Backoff, uniform: Callable[[float], float]) -> None:
    draw = random.Random(13).random
    delays = [backoff.delay(60, draw(), previous=20.0, waited=400.0) for _ in range(1000)]
    assert len(set(delays)) >= 900
    assert kolmogorov_smirnov([uniform(delay) for delay in delays]) < 1.95 / sqrt(1000), "alpha 0.001"


@pytest.mark.parametrize("k", range(8))
def test_full_jitter_is_uniform_below_the_capped_exponential(k: int) -> None:
    draw = random.Random(k).random
    high = min(20.0, 0.5 * 2**k)
    values = [FullJitter().delay(k, draw(), 0.0, 0.0) / high for _ in range(1000)]
    assert kolmogorov_smirnov(values) < 1.95 / sqrt(1000)


@pytest.mark.parametrize("backoff", EVERY_LAW)
def test_p24_two_calls_at_the_same_time_get_the_schedule_each_gets_alone(backoff: Backoff) -> None:
    alone = [schedule(backoff, 12, random.Random(seed).random) for seed in (1, 2)]
    draws = [random.Random(1).random, random.Random(2).random]
    together: list[list[float]] = [[], []]
    waited = [0.0, 0.0]
    for k in range(11):
        for call in (0, 1):
            previous = together[call][-1] if k else 0.0
            delay = backoff.delay(k, draws[call](), previous, waited[call])
            waited[call] += delay
            together[call].append(delay)
    assert together == alone
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        backoff.state = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("attempts", range(1, 6))
@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (Exponential(), [0.5, 1.0, 2.0, 4.0]),
        (Exponential(cap_seconds=1.5), [0.5, 1.0, 1.5, 1.5]),
        (Linear(), [0.5, 1.0, 1.5, 2.0]),
        (Constant(3.0), [3.0, 3.0, 3.0, 3.0]),
        (NoBackoff(), [0.0, 0.0, 0.0, 0.0]),
        (FullJitter(), [0.25, 0.5, 1.0, 2.0]),
        (EqualJitter(), [0.01875, 0.0375, 0.075, 0.15]),
        (GrpcJitter(), [0.1, 0.2, 0.4, 0.8]),
        (Decorrelated(), [1.0, 1.75, 2.875, 4.5625]),
        (Spread(), [1.5, 2.5, 4.5, 8.5]),
    ],
)
def test_p25_n_attempts_have_n_minus_1_delays_and_the_first_has_index_0(
    backoff: Backoff, expected: list[float], attempts: int
) -> None:
    assert schedule(backoff, attempts, lambda: 0.5) == pytest.approx(expected[: attempts - 1], abs=0, rel=1e-12)


@pytest.mark.parametrize("backoff", EVERY_LAW)
@settings(deadline=None)
@given(
    k=st.integers(0, 200),
    u=st.floats(0.0, 1.0, exclude_max=True),
    previous=st.floats(0.0, 1e7),
    waited=st.floats(0.0, 1e9),
)
def test_p26_jitter_never_passes_the_ceiling(
    backoff: Backoff, k: int, u: float, previous: float, waited: float
) -> None:
    assert 0.0 <= backoff.delay(k, u, previous, waited) <= backoff.ceiling


@settings(deadline=None)
@given(low=st.floats(0.001, 1000.0), more=st.floats(0.0, 1e5), u=st.sampled_from([0.5, ALMOST_ONE]))
def test_p26_not_by_rounding_either(low: float, more: float, u: float) -> None:
    laws: list[Backoff] = [
        Spread(low, low + more, 7.0),
        Decorrelated(low, low + more),
        GrpcJitter(low, low + more),
        EqualJitter(low, low + more),
        PollyDecorrelatedV2(low, low + more),
    ]
    for law in laws:
        for k in range(8):
            assert 0.0 <= law.delay(k, u, low + more, 0.0) <= law.ceiling


@pytest.mark.parametrize("backoff", EVERY_LAW)
@pytest.mark.parametrize("u", [0.0, 0.5, ALMOST_ONE])
def test_p46_no_attempt_count_overflows(backoff: Backoff, u: float) -> None:
    for k in (*range(1, 3000), *range(3000, 10**6, 9973), 10**6, 2**31, 2**63, 2**64, 10**18, 10**400):
        assert 0.0 <= backoff.delay(k, u, backoff.ceiling, 1000.0) <= backoff.ceiling


@pytest.mark.parametrize("backoff", [FullJitter(), EqualJitter(), Exponential(), Linear(), Spread()])
def test_a_law_that_has_reached_its_cap_stays_there(backoff: Backoff) -> None:
    at_60 = backoff.delay(60, 0.5, 0.0, 0.0)
    assert {backoff.delay(k, 0.5, 0.0, 0.0) for k in (61, 1023, 1024, 1025, 10**6, 10**18)} == {at_60}


def test_slow_growth_reaches_the_cap_however_late() -> None:
    law = Exponential(base_seconds=1.0, cap_seconds=20.0, multiplier=1.0001)
    assert law.delay(20_000, 0.5, 0.0, 0.0) < 8.0
    assert law.delay(30_000, 0.5, 0.0, 0.0) == 20.0


def test_a_minimum_of_none_never_waits() -> None:
    assert {Spread(min_seconds=0.0).delay(k, 0.9, 0.0, 0.0) for k in (0, 1, 60, 10**6, 10**400)} == {0.0}


def test_the_ceiling_is_the_cap_except_where_the_law_says_otherwise() -> None:
    assert [law(cap_seconds=5.0).ceiling for law in (FullJitter, EqualJitter, Decorrelated, PollyDecorrelatedV2)] == [
        5
    ] * 4
    assert [law(cap_seconds=5.0).ceiling for law in (Exponential, Linear)] == [5] * 2
    assert (Constant(5.0).ceiling, NoBackoff().ceiling, Spread(max_seconds=5.0).ceiling) == (5.0, 0.0, 5.0)
    assert GrpcJitter(cap_seconds=5.0).ceiling == 6.0
    assert GrpcJitter(cap_seconds=5.0).delay(9, ALMOST_ONE, 0.0, 0.0) == 6.0, "above the cap, as A6 says"
    assert GrpcJitter(cap_seconds=5.0).delay(9, 0.0, 0.0, 0.0) == 4.0


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=16))
def test_pollys_law_is_pollys_although_nothing_is_carried_from_retry_to_retry(draws: list[float]) -> None:
    law = PollyDecorrelatedV2(base_seconds=0.85, cap_seconds=LONGEST_SECONDS)
    before, expected = 0.0, []
    for k, u in enumerate(draws):  # RetryHelper.cs, with its state
        t = k + u
        following = 2.0**t * tanh(sqrt(4.0 * t))
        expected.append((following - before) * (1 / 1.4) * 0.85)
        before = following
    given_draws = iter(draws)
    assert schedule(law, len(draws) + 1, lambda: next(given_draws)) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_pollys_first_delay_has_its_median_near_the_base() -> None:
    draw = random.Random(1).random
    first = sorted(PollyDecorrelatedV2(1.0, 100.0).delay(0, draw(), 0.0, 0.0) for _ in range(2001))
    assert 0.85 < first[1000] < 1.05


def test_a_decorrelated_delay_depends_on_the_one_before() -> None:
    law = Decorrelated(base_seconds=1.0, cap_seconds=10.0)
    assert law.delay(0, 0.0, 0.0, 0.0) == 1.0
    assert law.delay(0, 0.5, 0.0, 0.0) == 2.0, "between the base and three times it"
    assert law.delay(1, 0.5, 2.0, 0.0) == 3.5
    assert law.delay(7, 0.5, 9.0, 0.0) == 5.5, "between the base and the cap"


def test_spread_keeps_both_its_promises() -> None:
    law = Spread(min_seconds=2.0, max_seconds=10.0, base=3.0)
    assert [law.delay(k, 0.0, 0.0, 0.0) for k in range(3)] == [2.0, 2.0, 2.0]
    assert [law.delay(k, 0.5, 0.0, 0.0) for k in range(3)] == [4.0, 6.0, 6.0]
    assert law.delay(50, ALMOST_ONE, 0.0, 0.0) <= 10.0
    assert Spread(min_seconds=3.0, max_seconds=3.0).delay(4, 0.7, 0.0, 0.0) == 3.0


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: FullJitter(base_seconds=0.0), "base_seconds"),
        (lambda: FullJitter(base_seconds=2.0, cap_seconds=1.0), "cap_seconds"),
        (lambda: FullJitter(cap_seconds=float("inf")), "cap_seconds"),
        (lambda: FullJitter(multiplier=0.5), "multiplier"),
        (lambda: EqualJitter(cap_seconds=float("nan")), "cap_seconds"),
        (lambda: GrpcJitter(multiplier=float("inf")), "multiplier"),
        (lambda: Decorrelated(base_seconds=-1.0), "base_seconds"),
        (lambda: PollyDecorrelatedV2(base_seconds=0), "base_seconds"),
        (lambda: Exponential(jitter=1.5), "jitter"),
        (lambda: Linear(jitter=-0.1), "jitter"),
        (lambda: Constant(-1.0), "delay_seconds"),
        (lambda: Constant(1.0, jitter=2.0), "jitter"),
        (lambda: Spread(min_seconds=2.0, max_seconds=1.0), "max_seconds"),
        (lambda: Spread(min_seconds=True), "min_seconds"),
        (lambda: Spread(base=0.9), "base"),
    ],
)
def test_a_setting_out_of_range_is_named(make: Callable[[], Backoff], field: str) -> None:
    with pytest.raises(SettingError) as caught:
        make()
    assert caught.value.field == field
