"""Retry budgets: exact arithmetic, refilled as stated, given back once, and never out of their bounds."""

import random
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansio_client.budget import (
    AwsQuota,
    Budget,
    BudgetSettings,
    ConcurrentShare,
    GrpcThrottle,
    RatioBudget,
    decimal_fraction,
)
from sansio_client.errors import SettingError

ALL: list[BudgetSettings] = [AwsQuota(), GrpcThrottle(), RatioBudget(), ConcurrentShare()]


def withdraw(
    budget: Budget, now: float = 0.0, *, timed_out: bool = False, throttled: bool = False, in_flight: int = 0
) -> int:
    return budget.withdraw(now, timed_out=timed_out, throttled=throttled, in_flight=in_flight)


def drain(budget: Budget, now: float = 0.0, in_flight: int = 0) -> int:
    """How many retries are allowed in a row; for the gRPC throttle, which takes nothing for them, there is no end."""
    count = 0
    while count < 2000 and withdraw(budget, now, in_flight=in_flight):
        count += 1
    return count


def random_ratios(count: int) -> list[float]:
    draw = random.Random(14).random
    return [draw() if i % 3 else round(draw(), 2) for i in range(count)]


# --- P14: arithmetic ---


def test_p14_200_random_ratios_are_kept_to_within_one_retry_and_never_exceeded() -> None:
    requests = 1000
    for ratio in random_ratios(200):
        ledger = RatioBudget(ratio=ratio, reserve_per_second=0.0).make()
        for _ in range(requests):
            ledger.request(0.0)
        share = drain(ledger) / requests
        assert ratio - 1 / requests < share <= ratio


def test_p14_a_ratio_is_never_exceeded_on_the_way_either() -> None:
    for ratio in random_ratios(200):
        ledger = RatioBudget(ratio=ratio, reserve_per_second=0.0).make()
        allowed = 0
        for sent in range(1, 60):
            ledger.request(0.0)
            allowed += drain(ledger)
            assert ratio - 1 / sent < allowed / sent <= ratio


@pytest.mark.parametrize(
    ("ratio", "of_1000"), [(0.1, 100), (0.3, 300), (0.6, 600), (0.7, 700), (1.0, 1000), (1.5, 1500)]
)
def test_p14_a_ratio_is_the_decimal_it_is_written_as(ratio: float, of_1000: int) -> None:
    ledger = RatioBudget(ratio=ratio, reserve_per_second=0.0).make()
    for _ in range(1000):
        ledger.request(0.0)
    assert drain(ledger) == of_1000


def test_p14_the_reserve_is_exact() -> None:
    assert drain(RatioBudget(reserve_per_second=0.7, window_seconds=10.0).make()) == 7
    assert drain(RatioBudget(reserve_per_second=2.9, window_seconds=10.0).make()) == 29
    assert drain(RatioBudget().make()) == 100
    assert drain(RatioBudget(ratio=0.0, reserve_per_second=0.0).make()) == 0


def test_p14_every_ratio_of_the_grpc_throttle_is_exact_in_thousandths() -> None:
    for thousandths in range(1, 1000):
        tokens = GrpcThrottle(max_tokens=1000, token_ratio=thousandths / 1000).make()
        tokens.failure(0.0)
        tokens.settle(0, ok=True, now=0.0)
        assert tokens.level() == (999_000 + thousandths) / 1000


def test_p14_a_ratio_of_the_grpc_throttle_that_was_worked_out_is_not_cut_off() -> None:
    tokens = GrpcThrottle(token_ratio=0.3 - 0.2).make()  # 0.09999999999999998
    tokens.failure(0.0)
    tokens.settle(0, ok=True, now=0.0)
    assert tokens.level() == 9.1


def test_p14_a_share_of_what_is_under_way_is_exact() -> None:
    for percent in range(101):
        for in_flight in (7, 10, 100, 1000):
            retries = ConcurrentShare(share=percent / 100, minimum=0).make()
            assert drain(retries, in_flight=in_flight) == in_flight * percent // 100


@settings(deadline=None)
@given(st.floats(0.0, 1e6))
def test_a_decimal_fraction_is_the_decimal(value: float) -> None:
    above, below = decimal_fraction(value)
    assert Fraction(above, below) == Fraction(repr(value))
    assert (above, below) == Fraction(repr(value)).as_integer_ratio()


def test_a_decimal_fraction_knows_every_way_a_float_is_written() -> None:
    assert decimal_fraction(5) == (5, 1)
    assert decimal_fraction(1e-05) == (1, 100_000)
    assert decimal_fraction(1.5e-07) == (3, 20_000_000)
    assert decimal_fraction(1e22) == (10**22, 1)


# --- P15: refill ---


def test_p15_a_drained_aws_quota_allows_a_retry_after_five_successes() -> None:
    tokens = AwsQuota().make()
    assert drain(tokens) == 100, "a burst of 100"
    for successes in range(1, 501):
        tokens.settle(0, ok=True, now=0.0)
        assert tokens.level() == successes
        assert tokens.full == (successes == 500)
    assert drain(tokens) == 100
    for _ in range(4):
        tokens.settle(0, ok=True, now=0.0)
    assert withdraw(tokens) == 0
    tokens.settle(0, ok=True, now=0.0)
    assert withdraw(tokens) == 5


def test_p15_a_drained_grpc_throttle_allows_retries_after_51_successes() -> None:
    tokens = GrpcThrottle().make()
    for _ in range(100):
        tokens.failure(0.0)
    assert tokens.level() == 0.0
    for _ in range(50):
        tokens.settle(0, ok=True, now=0.0)
    assert tokens.level() == 5.0
    assert withdraw(tokens) == 0, "half is not more than half"
    tokens.settle(0, ok=True, now=0.0)
    assert withdraw(tokens) == 1


def test_p15_a_drained_ratio_budget_allows_a_retry_after_five_requests_in_a_later_window() -> None:
    ledger = RatioBudget(reserve_per_second=0.0).make()
    for _ in range(50):
        ledger.request(0.0)
    assert drain(ledger) == 10
    for _ in range(4):
        ledger.request(10.0)
    assert withdraw(ledger, 10.0) == 0
    ledger.request(10.0)
    assert withdraw(ledger, 10.0) == 1
    assert withdraw(ledger, 10.0) == 0


def test_p15_the_reserve_comes_back_without_any_traffic() -> None:
    ledger = RatioBudget().make()
    assert drain(ledger, 0.0) == 100
    assert drain(ledger, 9.9) == 0
    assert drain(ledger, 10.0) == 100
    assert drain(ledger, 1e9) == 100, "once, however long it was idle"


def test_p15_concurrent_retries_are_allowed_again_as_they_end() -> None:
    retries = ConcurrentShare().make()
    assert drain(retries) == 3
    for ok in (True, False):
        retries.settle(1, ok=ok, now=0.0)
        assert withdraw(retries) == 1
    retries.refund(1, 0.0)
    assert withdraw(retries) == 1
    assert withdraw(retries) == 0


# --- the rules of each ---


def test_the_aws_quota_takes_by_how_the_attempt_before_ended() -> None:
    tokens = AwsQuota(capacity=100, retry_cost=14, timeout_cost=10, throttle_cost=5).make()
    costs = [withdraw(tokens), withdraw(tokens, timed_out=True), withdraw(tokens, throttled=True)]
    assert costs == [14, 10, 5]
    assert withdraw(tokens, timed_out=True, throttled=True) == 10
    assert tokens.level() == 61


def test_the_aws_quota_gives_back_the_last_acquisition_of_a_call_and_no_other() -> None:
    tokens = AwsQuota().make()
    first = 0
    tokens.failure(0.0)
    second = withdraw(tokens)
    tokens.settle(first, ok=False, now=0.0)
    third = withdraw(tokens, timed_out=True)
    tokens.settle(second, ok=False, now=0.0)
    tokens.settle(third, ok=True, now=0.0)
    assert tokens.level() == 495, "5 and 10 were taken; the 10 of the attempt that succeeded are back"


def test_the_aws_quota_sustains_one_retry_for_five_successes() -> None:
    tokens = AwsQuota().make()
    drain(tokens)
    retries = 0
    for i in range(10_000):
        tokens.settle(0, ok=True, now=0.0)
        if i % 2:  # every second success is followed by a failure that wants a retry, which fails, too
            cost = withdraw(tokens)
            retries += cost > 0
            tokens.settle(cost, ok=False, now=0.0)
    assert retries == 2000


def test_a_refused_withdrawal_takes_nothing() -> None:
    tokens = AwsQuota(capacity=9).make()
    assert withdraw(tokens) == 5
    assert withdraw(tokens) == 0
    assert tokens.level() == 4
    assert withdraw(tokens, timed_out=True) == 0
    assert withdraw(AwsQuota(capacity=10).make(), timed_out=True) == 10
    assert withdraw(AwsQuota(capacity=9).make(), timed_out=True) == 0


def test_three_families_have_a_setting_that_allows_no_retry_at_all() -> None:
    nothing: list[BudgetSettings] = [
        AwsQuota(capacity=0),
        RatioBudget(ratio=0.0, reserve_per_second=0.0),
        ConcurrentShare(0.0, 0),
    ]
    for budget in [make.make() for make in nothing]:
        budget.request(0.0)
        budget.settle(0, ok=True, now=0.0)
        assert budget.full
        assert withdraw(budget, in_flight=100) == 0


def test_the_grpc_throttle_decides_after_the_failure_was_counted() -> None:
    tokens = GrpcThrottle(max_tokens=10).make()
    allowed = []
    for _ in range(8):
        tokens.failure(0.0)
        allowed.append(withdraw(tokens))
    assert allowed == [1, 1, 1, 1, 0, 0, 0, 0]
    assert tokens.level() == 2.0


@pytest.mark.parametrize(("failures", "sustained"), [(9, True), (10, False)])
def test_the_grpc_throttle_tolerates_about_nine_percent_of_failures(failures: int, *, sustained: bool) -> None:
    tokens = GrpcThrottle().make()
    for _ in range(100):  # blocks of failures and 91 successes: 91 * 0.1 = 9.1
        for i in range(91):
            tokens.settle(0, ok=True, now=0.0)
            if i % 10 == 0 and i // 10 < failures:
                tokens.failure(0.0)
    assert bool(withdraw(tokens)) == sustained


def test_a_throttle_of_one_token_allows_nothing_after_a_failure() -> None:
    tokens = GrpcThrottle(max_tokens=1).make()
    tokens.failure(0.0)
    assert withdraw(tokens) == 0


def test_the_ratio_budget_counts_over_the_window_and_not_longer() -> None:
    ledger = RatioBudget(reserve_per_second=0.0).make()
    for second in range(10):
        for _ in range(10):
            ledger.request(float(second))
    assert ledger.level() == 20
    assert drain(ledger, 9.0) == 20
    ledger.request(10.0)
    assert withdraw(ledger, 10.0) == 0, "the requests of the first second are gone, the retries are not"
    assert ledger.level() == 0


def test_a_ratio_budget_is_as_good_as_new_only_without_a_retry_in_its_window() -> None:
    ledger = RatioBudget().make()
    full = []
    ledger.request(0.0)
    full.append(ledger.full)
    cost = withdraw(ledger)
    full.append(ledger.full)  # who forgets it now gives a fresh reserve away
    ledger.refund(cost, 0.0)
    full.append(ledger.full)
    withdraw(ledger)
    full.append(ledger.full)
    ledger.request(10.0)
    full.append(ledger.full)
    assert full == [True, False, True, False, True]


def test_a_retry_refunded_after_it_has_left_the_window_is_not_given_back_twice() -> None:
    ledger = RatioBudget(ratio=0.0, reserve_per_second=1.0).make()
    cost = withdraw(ledger, 0.0)
    ledger.refund(cost, 30.0)
    assert drain(ledger, 30.0) == 10
    ledger.refund(1, 31.0)
    assert drain(ledger, 31.0) == 1


def test_concurrent_retries_follow_what_is_under_way() -> None:
    retries = ConcurrentShare().make()
    assert drain(retries, in_flight=100) == 20
    assert withdraw(retries, in_flight=104) == 0
    assert withdraw(retries, in_flight=105) == 1
    assert retries.level() == 21
    assert not retries.full
    assert drain(ConcurrentShare(share=0.0, minimum=0).make(), in_flight=1000) == 0


def test_concurrent_retries_are_never_fewer_than_none() -> None:
    retries = ConcurrentShare().make()
    cost = withdraw(retries)
    retries.settle(cost, ok=True, now=0.0)
    retries.refund(cost, 0.0)  # which breaks the contract, and must not raise the limit for ever
    assert drain(retries) == 3


def test_only_the_ratio_must_see_every_request_and_says_so() -> None:
    assert [make.make().eager for make in ALL] == [False, False, True, False]


@pytest.mark.parametrize("make", ALL)
def test_a_full_budget_is_changed_by_no_success(make: BudgetSettings) -> None:
    budget, told = make.make(), make.make()
    assert budget.full
    for _ in range(10):
        told.settle(0, ok=True, now=0.0)
    assert told.level() == budget.level()
    assert drain(told, in_flight=50) == drain(budget, in_flight=50)


@pytest.mark.parametrize("make", ALL)
def test_a_first_attempt_never_needs_permission_and_a_failed_one_gives_nothing(make: BudgetSettings) -> None:
    budget = make.make()
    drain(budget, in_flight=50)
    level = budget.level()
    budget.settle(0, ok=False, now=0.0)
    budget.refund(0, 0.0)
    assert budget.level() == level


# --- P16 and P11: any order of calls, any clock ---

# What happens: a first attempt, a withdrawal, a refund, an end in success or failure, and time between them.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["first", "retry", "timeout", "throttled", "refund", "ok", "bad"]), st.integers(0, 10**6)
    ),
    max_size=80,
)


class Attempts:
    """Drives a budget as a target does, every attempt settled or refunded at most once; and keeps the books itself."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.open: list[int] = []  # the costs of what is under way
        self.now = 0.0

    def step(self, what: str, pick: int) -> tuple[str, int]:
        """Do it if it can be done; return what was done, and the cost."""
        if what == "first":
            self.budget.request(self.now)
            self.open.append(0)
            return "first", 0
        if what in {"retry", "timeout", "throttled"}:
            cost = withdraw(
                self.budget,
                self.now,
                timed_out=what == "timeout",
                throttled=what == "throttled",
                in_flight=len(self.open),
            )
            if cost:
                self.open.append(cost)
            return what, cost
        paid = [i for i, cost in enumerate(self.open) if cost or what != "refund"]
        if not paid:
            return "nothing", 0
        cost = self.open.pop(paid[pick % len(paid)])
        if what == "refund":
            self.budget.refund(cost, self.now)
        else:
            if what == "bad":
                self.budget.failure(self.now)
            self.budget.settle(cost, what == "ok", self.now)
        return what, cost


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.sampled_from([AwsQuota(), AwsQuota(capacity=30, retry_cost=7, throttle_cost=3)]))
def test_p16_the_aws_quota_is_its_capacity_less_what_was_acquired_and_not_released(
    events: list[tuple[str, int]], quota: AwsQuota
) -> None:
    attempts = Attempts(quota.make())
    model = quota.capacity
    price = {"retry": quota.retry_cost, "timeout": quota.timeout_cost, "throttled": quota.throttle_cost}
    for what, pick in events:
        done, cost = attempts.step(what, pick)
        if done in price:
            assert cost == (price[done] if model >= price[done] else 0)
            model -= cost
        elif done == "refund":
            model = min(quota.capacity, model + cost)
        elif done == "ok":
            model = min(quota.capacity, model + (cost or 1))
        assert attempts.budget.level() == model
        assert 0 <= model <= quota.capacity


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.sampled_from([GrpcThrottle(), GrpcThrottle(3, 0.333), GrpcThrottle(1, 2.5)]))
def test_p16_the_grpc_throttle_is_the_proposals_arithmetic(
    events: list[tuple[str, int]], throttle: GrpcThrottle
) -> None:
    attempts = Attempts(throttle.make())
    model, ratio = Fraction(throttle.max_tokens), Fraction(repr(throttle.token_ratio))
    for what, pick in events:
        done, cost = attempts.step(what, pick)
        if done in {"retry", "timeout", "throttled"}:
            assert bool(cost) == (model > Fraction(throttle.max_tokens, 2))
        elif done == "bad":
            model = max(Fraction(0), model - 1)
        elif done == "ok":
            model = min(Fraction(throttle.max_tokens), model + ratio)
        assert attempts.budget.level() == float(model)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["first", "first", "retry", "retry", "refund", "ok", "bad"]), st.integers(0, 4)),
        max_size=120,
    ),
    st.sampled_from([(0.5, 0.0), (0.2, 0.2), (2.0, 0.0), (0.0, 0.3)]),
)
def test_p16_the_ratio_budget_is_its_rule_over_the_list_of_everything(
    events: list[tuple[str, int]], rule: tuple[float, float]
) -> None:
    # Whole seconds and buckets of a second: then a bucket is an instant, and the list of everything is exact.
    ratio, reserve = rule
    attempts = Attempts(RatioBudget(ratio=ratio, reserve_per_second=reserve).make())
    requests: list[float] = []
    retries: list[float] = []
    for what, step in events:
        attempts.now += step // 2
        done, cost = attempts.step(what, step)
        requests = [at for at in requests if attempts.now - at < 10]
        retries = [at for at in retries if attempts.now - at < 10]
        if done == "first":
            requests.append(attempts.now)
        elif done == "retry":
            rule_holds = len(retries) + 1 <= Fraction(repr(ratio)) * len(requests) + int(Fraction(repr(reserve)) * 10)
            assert bool(cost) == rule_holds
            if cost:
                retries.append(attempts.now)
        elif done == "refund" and retries:
            retries.pop()


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_p16_concurrent_retries_are_those_that_were_let_go_and_have_not_ended(events: list[tuple[str, int]]) -> None:
    attempts = Attempts(ConcurrentShare().make())
    for what, pick in events:
        before = len([cost for cost in attempts.open if cost])
        under_way = len(attempts.open)
        done, cost = attempts.step(what, pick)
        if done in {"retry", "timeout", "throttled"}:
            assert bool(cost) == (before < max(3, under_way // 5))
        assert attempts.budget.level() == len([cost for cost in attempts.open if cost])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(ALL),
    st.lists(
        st.tuples(
            st.floats(-1e9, 1e9) | st.floats(-5, 5),
            st.sampled_from(["first", "retry", "timeout", "throttled", "refund", "ok", "bad"]),
            st.integers(0, 10),
        ),
        max_size=80,
    ),
)
def test_p11_no_clock_breaks_a_budget(make: BudgetSettings, events: list[tuple[float, str, int]]) -> None:
    attempts = Attempts(make.make())
    for step, what, pick in events:
        attempts.now += step
        attempts.step(what, pick)
        assert attempts.budget.level() >= 0
    if isinstance(make, AwsQuota):
        assert attempts.budget.level() <= make.capacity


def test_p11_a_drained_budget_is_not_punished_for_a_clock_that_goes_back() -> None:
    ledger = RatioBudget().make()
    assert drain(ledger, 1000.0) == 100
    assert drain(ledger, 940.0) == 0, "the clock went back a minute: nothing is given for that"
    assert drain(ledger, 949.0) == 0
    assert drain(ledger, 950.0) == 100, "and no wait is longer than the window"


def test_machines_are_small() -> None:
    assert not [make for make in ALL if hasattr(make.make(), "__dict__")]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: AwsQuota(capacity=-1), "capacity"),
        (lambda: AwsQuota(capacity=10**7), "capacity"),
        (lambda: AwsQuota(retry_cost=0), "retry_cost"),
        (lambda: AwsQuota(timeout_cost=0), "timeout_cost"),
        (lambda: AwsQuota(throttle_cost=-1), "throttle_cost"),
        (lambda: AwsQuota(success_gain=0), "success_gain"),
        (lambda: GrpcThrottle(max_tokens=0), "max_tokens"),
        (lambda: GrpcThrottle(max_tokens=1001), "max_tokens"),
        (lambda: GrpcThrottle(token_ratio=0.0004), "token_ratio"),
        (lambda: RatioBudget(ratio=-0.1), "ratio"),
        (lambda: RatioBudget(window_seconds=61.0), "window_seconds"),
        (lambda: RatioBudget(reserve_per_second=-1.0), "reserve_per_second"),
        (lambda: ConcurrentShare(share=1.1), "share"),
        (lambda: ConcurrentShare(minimum=-1), "minimum"),
    ],
)
def test_a_setting_out_of_range_is_named(make: Callable[[], BudgetSettings], field: str) -> None:
    with pytest.raises(SettingError) as caught:
        make()
    assert caught.value.field == field
