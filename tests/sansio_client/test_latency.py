"""The running quantile of latency: how near it comes to the exact one, how fast it follows, and what it ignores."""

from collections.abc import Callable
from math import exp, inf, log, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_client.errors import SettingError
from sansio_client.latency import FLOOR_SECONDS, Quantile

Draw = Callable[[Random], float]
DISTRIBUTIONS: dict[str, tuple[Draw, Callable[[float], float]]] = {  # a draw, and its exact quantile
    "uniform": (lambda r: r.random(), lambda q: q),
    "exponential": (lambda r: -log(1.0 - r.random()), lambda q: -log(1.0 - q)),
    "pareto": (lambda r: 0.02 * (1.0 - r.random()) ** -0.4, lambda q: 0.02 * (1.0 - q) ** -0.4),
    "two kinds": (
        lambda r: 0.02 + 0.01 * r.random() if r.random() < 0.8 else 0.2 + 0.05 * r.random(),
        lambda q: 0.02 + 0.01 * q / 0.8 if q < 0.8 else 0.2 + 0.05 * (q - 0.8) / 0.2,
    ),
    "log-normal": (
        lambda r: exp(r.gauss(-4, 0.5)),
        lambda q: exp(-4 + 0.5 * {0.5: 0.0, 0.9: 1.2816, 0.95: 1.6449, 0.99: 2.3263}[q]),
    ),
}
ALLOWED_ERROR = {0.5: 0.08, 0.9: 0.1, 0.95: 0.13, 0.99: 0.16}  # mean relative error at rest


def feed(quantile: Quantile, draw: Draw, random: Random, count: int) -> None:
    for _ in range(count):
        quantile.add(draw(random))


@pytest.mark.parametrize("q", ALLOWED_ERROR)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_at_rest_it_is_near_the_exact_quantile_and_the_right_share_lies_above(name: str, q: float) -> None:
    draw, exact_of = DISTRIBUTIONS[name]
    random, quantile, exact = Random(7), Quantile(q, 20), exact_of(q)
    feed(quantile, draw, random, 3_000)
    above, error, count = 0, 0.0, 20_000
    for _ in range(count):
        seconds = draw(random)
        above += seconds > quantile.value
        error += abs(quantile.value - exact) / exact
        quantile.add(seconds)
    assert error / count < ALLOWED_ERROR[q]
    assert 0.85 * (1 - q) < above / count < 1.15 * (1 - q) + 0.002


@pytest.mark.parametrize("q", ALLOWED_ERROR)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_it_follows_latency_that_changes_tenfold_soon(name: str, q: float, factor: float) -> None:
    draw, exact_of = DISTRIBUTIONS[name]
    random, quantile = Random(7), Quantile(q, 20)
    feed(quantile, draw, random, 2_000)
    for _ in range(800 if q < 0.99 else 1_300):
        quantile.add(draw(random) * factor)
        if 0.75 < quantile.value / (exact_of(q) * factor) < 1.33:
            return
    pytest.fail(f"still {quantile.value}, not {exact_of(q) * factor}")


def test_it_follows_where_all_answers_take_equally_long() -> None:
    quantile = Quantile(0.95, 10)
    for seconds in (0.2, 2.0, 0.02):
        for _ in range(1_500):
            quantile.add(seconds)
        assert quantile.value == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize(("q", "at_most"), [(0.5, 1.2), (0.9, 1.5), (0.95, 1.7), (0.99, 2.0)])
def test_one_answer_that_took_a_minute_does_not_throw_it_about(q: float, at_most: float) -> None:
    random, quantile = Random(7), Quantile(q, 100)
    feed(quantile, lambda r: 0.010 + 0.005 * r.random(), random, 2_000)
    before = quantile.value
    quantile.add(60.0)
    for _ in range(500):
        quantile.add(0.010 + 0.005 * random.random())
        assert before / at_most < quantile.value < before * at_most


def test_it_starts_from_the_exact_quantile_of_the_first_answers() -> None:
    for q, expected in ((0.01, 0.01), (0.5, 0.50), (0.95, 0.95), (0.99, 0.99), (0.9999, 1.0)):
        quantile = Quantile(q, 100)
        seconds = [n / 100 for n in range(1, 101)]
        Random(3).shuffle(seconds)
        for one in seconds:
            quantile.add(one)
        assert quantile.value == expected


def test_a_slow_first_answer_is_not_where_it_starts() -> None:
    quantile = Quantile(0.9, 20)
    quantile.add(3.0)  # name look-up, TCP, TLS
    for _ in range(19):
        quantile.add(0.01)
    assert quantile.value == 0.01


def test_p37_there_is_no_value_before_the_minimum_of_samples() -> None:
    for minimum in (1, 2, 10, 100):
        quantile = Quantile(0.95, minimum)
        for _ in range(minimum - 1):
            assert quantile.value == inf
            quantile.add(0.05)
        assert quantile.value == inf
        quantile.add(0.05)
        assert quantile.value == 0.05


def test_it_is_never_below_a_millisecond_and_comes_back_from_there() -> None:
    quantile = Quantile(0.95, 10)
    for _ in range(1_000):
        quantile.add(0.0)
        assert quantile.value >= FLOOR_SECONDS
    assert quantile.value == FLOOR_SECONDS
    for _ in range(2_000):
        quantile.add(0.1)
    assert quantile.value == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("minimum", [1, 50])
@pytest.mark.parametrize("nonsense", [-5.0, -1e-9, inf, -inf, nan, 1e300])
def test_p11_what_is_no_duration_is_left_out(nonsense: float, minimum: int) -> None:
    random, clean, dirty = Random(1), Quantile(0.9, minimum), Quantile(0.9, minimum)
    for _ in range(300):
        seconds = random.random()
        clean.add(seconds)
        dirty.add(seconds)
        dirty.add(nonsense)
        assert clean.value == dirty.value


@given(
    st.floats(0.01, 0.9999),
    st.integers(1, 20),
    st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 100), max_size=200),
)
def test_whatever_is_added_the_value_stays_between_the_floor_and_a_little_above_the_slowest(
    q: float, minimum: int, added: list[float]
) -> None:
    quantile, durations = Quantile(q, minimum), [FLOOR_SECONDS]
    for seconds in added:
        quantile.add(seconds)
        if 0 <= seconds < 1e9:
            durations.append(seconds)
        if len(durations) <= minimum:
            assert quantile.value == inf
        else:
            assert FLOOR_SECONDS <= quantile.value <= 1.25 * max(durations)


def test_it_keeps_no_answers_once_it_has_started() -> None:
    quantile = Quantile(0.95, 100)
    feed(quantile, lambda r: r.random(), Random(1), 1_000)
    assert all(
        isinstance(getattr(quantile, name), int | float) or getattr(quantile, name) is None
        for name in Quantile.__slots__
    )
    assert not hasattr(quantile, "__dict__")


def test_the_same_answers_give_the_same_digits_on_every_python() -> None:
    random, quantile = Random(42), Quantile(0.95, 20)
    feed(quantile, lambda r: r.random(), random, 5_000)
    assert repr(quantile.value) == "1.0153217935205452"


@pytest.mark.parametrize(("q", "minimum", "field"), [
    (0.0, 10, "q"), (1.0, 10, "q"), (-0.5, 10, "q"), (nan, 10, "q"), (True, 10, "q"),
    (0.9, 0, "minimum_samples"), (0.9, 10_001, "minimum_samples"), (0.9, 2.5, "minimum_samples"),
])  # fmt: skip
def test_a_setting_out_of_range_is_named(q: float, minimum: int, field: str) -> None:
    with pytest.raises(SettingError) as caught:
        Quantile(q, minimum)
    assert caught.value.field == field
