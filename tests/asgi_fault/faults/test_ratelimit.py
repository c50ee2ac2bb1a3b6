"""Rate limits against slow models, and their word: who waits as long as told is let in."""

import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_fault.faults.plan import Plan
from asgi_fault.faults.ratelimit import KEYS_MAX, LOG_MAX, FixedWindow, SlidingWindow, TokenBucket
from tests.asgi_fault.faults.rule_documents import arrival, rule_set

LIMITS = st.integers(1, 5)
WINDOWS = st.integers(1, 40)
INSTANTS = st.lists(st.integers(0, 25), max_size=40).map(lambda steps: [sum(steps[: i + 1]) for i in range(len(steps))])


@given(LIMITS, WINDOWS, INSTANTS)
@settings(max_examples=300)
def test_fixed_window(limit: int, window: int, instants: list[int]) -> None:
    quota = FixedWindow(limit, window)
    taken: list[int] = []
    for now in instants:
        same = [at for at in taken if at // window == now // window]
        verdict = quota.take(now)
        assert verdict.admitted == (len(same) < limit)
        taken += [now] * verdict.admitted
        assert verdict.remaining == limit - len(same) - verdict.admitted
        assert verdict.more_in == (now // window + 1) * window - now


@given(LIMITS, WINDOWS, INSTANTS)
@settings(max_examples=300)
def test_sliding_window(limit: int, window: int, instants: list[int]) -> None:
    quota = SlidingWindow(limit, window)
    taken: list[int] = []
    for now in instants:
        recent = [at for at in taken if now - window < at <= now]
        verdict = quota.take(now)
        assert verdict.admitted == (len(recent) < limit)
        taken += [now] * verdict.admitted
        recent += [now] * verdict.admitted
        assert verdict.remaining == limit - len(recent)
        assert verdict.more_in == recent[0] + window - now
    # What it is for: no window, wherever it begins, has more than the limit.
    for start in taken:
        assert sum(start <= at < start + window for at in taken) <= limit


@given(LIMITS, WINDOWS, INSTANTS)
@settings(max_examples=300)
def test_token_bucket(limit: int, window: int, instants: list[int]) -> None:
    quota = TokenBucket(limit, window)
    tokens, before = Fraction(limit), None
    for now in instants:
        if before is not None:
            tokens = min(Fraction(limit), tokens + Fraction(limit * (now - before), window))
        before = now
        verdict = quota.take(now)
        assert verdict.admitted == (tokens >= 1)
        tokens -= verdict.admitted
        assert verdict.remaining == int(tokens)
        needed = (int(tokens) + 1 - tokens) * window / limit
        assert verdict.more_in - 1 < needed <= verdict.more_in


@given(
    st.sampled_from([FixedWindow, SlidingWindow, TokenBucket]),
    LIMITS,
    st.integers(1, 10**8),
    st.lists(st.integers(0, 10**7), max_size=20),
)
@settings(max_examples=300)
def test_the_door_opens_when_it_was_said_to_and_not_before(
    kind: Any, limit: int, window: int, steps: list[int]
) -> None:
    quota = kind(limit, window)
    now = 0
    for step in steps:
        now += step
        verdict = quota.take(now)
        while not verdict.admitted:
            assert verdict.more_in > 0
            if verdict.more_in > 1:
                assert not quota.take(now + verdict.more_in - 1).admitted
            now += verdict.more_in
            verdict = quota.take(now)
            assert verdict.admitted


def limited(**options: Any) -> Any:
    document = {"algorithm": "fixed-window", "limit": 2, "window_s": 10, **options}
    return rule_set({"match": {"path": "/msg"}, "rate_limit": document})


def fields(plan: "Plan | None") -> dict[str, str]:
    assert plan is not None
    headers = plan.answer.headers if plan.answer else plan.headers
    return {name.decode(): value.decode() for name, value in headers}


def test_the_real_answer_with_fields_then_429() -> None:
    rules = limited()
    first, second, third = (rules.decide(arrival(now=now)) for now in (0.0, 1.5, 2.5))
    assert first == Plan(
        rule_id="r1", headers=((b"ratelimit-policy", b'"default";q=2;w=10'), (b"ratelimit", b'"default";r=1;t=10'))
    )
    assert fields(second)["ratelimit"] == '"default";r=0;t=9'
    assert third is not None
    assert third.answer is not None
    assert (third.answer.status, third.answer.body) == (429, b'{"detail":"Too Many Requests"}')
    assert fields(third) == {
        "content-type": "application/json",
        "ratelimit-policy": '"default";q=2;w=10',
        "ratelimit": '"default";r=0;t=8',
        "retry-after": "8",
    }
    assert rules.decide(arrival(now=10.0)).answer is None
    assert rules.decide(arrival(path="/other", now=10.0)) is None


def test_429_as_a_problem() -> None:
    rules = limited(limit=1)
    plans = [rules.decide(arrival(headers={"Accept": "application/problem+json"})) for _ in range(2)]
    assert plans[1].answer is not None
    assert fields(plans[1])["content-type"] == "application/problem+json"
    assert b'"violated-policies":["default"]' in plans[1].answer.body


@pytest.mark.parametrize("algorithm", ["fixed-window", "sliding-window", "token-bucket"])
@pytest.mark.parametrize("window", [0.1, 1, 7.3])
def test_a_client_that_waits_as_told_is_never_refused_twice(algorithm: str, window: float) -> None:
    rules = limited(algorithm=algorithm, window_s=window, limit=3)
    now, refusals = 1234.567, 0
    for _ in range(50):
        plan = rules.decide(arrival(now=now))
        if plan.answer is None:
            now += 0.01
            continue
        refusals += 1
        now += int(fields(plan)["retry-after"])
        assert rules.decide(arrival(now=now)).answer is None
    assert refusals > 0


@pytest.mark.parametrize(("window", "announced"), [(0.5, 1), (2.4, 3), (60, 60)])
def test_a_window_is_announced_in_whole_seconds_never_shorter_than_it_is(window: float, announced: int) -> None:
    assert fields(limited(window_s=window).decide(arrival()))["ratelimit-policy"] == f'"default";q=2;w={announced}'


def test_the_fields_are_structured() -> None:
    for field in (fields(limited(window_s=0.5).decide(arrival()))[name] for name in ("ratelimit", "ratelimit-policy")):
        assert re.fullmatch(r'"default"(;[a-z]=[0-9]+){2}', field)


def test_who_shares_a_quota() -> None:
    def refusals(rules: Any, *arrivals: Any) -> list[bool]:
        return [rules.decide(each).answer is not None for each in arrivals]

    a, b = arrival(client="a"), arrival(client="b")
    assert refusals(limited(limit=1), a, b, a) == [False, False, True]
    assert refusals(limited(limit=1, key="client"), a, b, a) == [False, False, True]
    assert refusals(limited(limit=1, key="partition"), a, b, a) == [False, True, True]
    keyed = limited(limit=1, key={"header": "X-Api-Key"})
    key_a, key_b = arrival(headers={"x-api-key": "a"}), arrival(headers={"x-api-key": "b"})
    assert refusals(keyed, key_a, key_b, key_a, a, b) == [False, False, True, False, True]


def test_keys_are_bounded_and_the_one_silent_longest_starts_anew() -> None:
    rules = limited(limit=1)
    limit = rules.rules[0]._limit
    for number in range(KEYS_MAX + 50):
        assert rules.decide(arrival(client=f"c{number}")).answer is None
    assert len(limit) == KEYS_MAX
    assert rules.decide(arrival(client="c50")).answer is not None
    rules.decide(arrival(client="one more"))
    assert rules.decide(arrival(client="c50")).answer is not None
    assert rules.decide(arrival(client=f"c{KEYS_MAX + 49}")).answer is not None
    assert rules.decide(arrival(client="c0")).answer is None


def test_the_log_of_a_sliding_window_is_bounded_over_all_keys() -> None:
    limit = limited(algorithm="sliding-window", limit=10_000).rules[0]._limit
    assert limit._keys_max * 10_000 <= LOG_MAX
    assert limit._keys_max >= 1


def test_who_waited_in_the_queue_does_not_turn_the_clock_back() -> None:
    for algorithm in ("fixed-window", "sliding-window", "token-bucket"):
        rules = limited(algorithm=algorithm, limit=1, window_s=10)
        assert rules.decide(arrival(now=25.0)).answer is None
        assert rules.decide(arrival(now=1.0)).answer is not None
        assert rules.decide(arrival(now=26.0)).answer is not None
