"""What calls to one destination share: the short way, wake-ups, reconfiguration."""

from math import inf
from typing import Any

import pytest

from sansio_client.adaptive import Aimd
from sansio_client.backoff import NoBackoff
from sansio_client.breaker import CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, BreakerSettings
from sansio_client.budget import AwsQuota, RatioBudget
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.call import FINISH, SEND
from sansio_client.outcome import CANCELLATION, FAILURE, TIMEOUT
from sansio_client.policy import Hedge, Policy
from sansio_client.ratelimit import RateLimit
from sansio_client.target import Target
from sansio_client.throttle import ClientThrottle
from sansio_client.windows import CountWindow, TimeWindow
from tests.sansio_client.driving import Driven, plain


def made(policy: Policy | None = None) -> tuple[Driven, Target]:
    driven = Driven(policy or Policy())
    return driven, driven.core.target("host", 0.0)


def test_the_short_way_in_and_out() -> None:
    _, target = made()
    generations = [target.enter() for _ in range(100)]
    assert all(generations)
    assert target.enter() == 0, "all slots are taken"
    for generation in generations:
        assert target.leave(generation)
    assert (target.in_flight, target.pristine) == (0, True)


def test_the_default_policy_has_the_short_way_and_what_must_see_every_call_closes_it() -> None:
    assert made()[1].enter()
    for changes in (
        {"rate_limit": RateLimit(rate_per_second=10.0)},
        {"throttle": ClientThrottle()},
        {"adaptive": Aimd()},
        {"budget": RatioBudget()},
        {"hedge": Hedge(quantile=0.9)},
        {"breaker": BreakerSettings(window=TimeWindow())},
        {"breaker": BreakerSettings(slow_call_seconds=1.0)},
    ):
        assert made(Policy(**changes))[1].enter() == 0, changes  # type: ignore[arg-type]


def test_successes_of_the_short_way_heal_what_failures_left() -> None:
    driven, target = made(plain(breaker=BreakerSettings(), budget=AwsQuota(capacity=10, retry_cost=3)))
    assert driven.run(lambda attempt: FAILURE).attempts == 3
    assert target.breaker is not None
    assert target.budget is not None
    assert (target.breaker.consecutive, target.budget.level()) == (3, 4)
    for _ in range(5):
        assert target.leave(target.enter())
    assert (target.breaker.consecutive, target.budget.level()) == (3, 4), "they are told before they are asked"
    target.tell_quiet(driven.now)
    assert (target.breaker.consecutive, target.budget.level()) == (0, 9)


def test_successes_come_before_the_failures_that_follow_them() -> None:
    driven, target = made(plain(breaker=BreakerSettings(window=None), budget=AwsQuota(capacity=10, retry_cost=10)))
    for _ in range(3):
        driven.fail(4)
        assert target.leave(target.enter())
    assert target.breaker is not None
    assert target.breaker.state == CLOSED
    assert driven.run(lambda attempt: FAILURE, max_attempts=2).attempts == 2
    for _ in range(10):
        assert target.leave(target.enter())
    driven.fail(1)
    assert driven.run(lambda attempt: FAILURE, max_attempts=2).attempts == 2, "ten successes paid for a retry"


def test_an_open_breaker_closes_the_short_way_and_a_success_from_before_changes_nothing() -> None:
    driven, target = made()
    old = target.enter()
    driven.fail(5)
    assert target.enter() == 0
    assert not target.leave(old)
    target.leave_at(old, 0.5)
    assert target.breaker is not None
    assert (target.breaker.state, target.in_flight) == (OPEN, 0)
    driven.now = 1.0
    probe = driven.sent()
    assert target.enter() == 0
    driven.done(probe)
    assert target.breaker.state == CLOSED
    assert target.enter()


def test_quiet_successes_count_in_the_rate() -> None:
    breaker = BreakerSettings(consecutive_failures=None, window=CountWindow(20), minimum_calls=20)
    driven, target = made(Policy(breaker=breaker))
    for _ in range(11):
        assert target.leave(target.enter())
    driven.fail(9)
    assert target.breaker is not None
    assert target.breaker.state == CLOSED
    driven.fail(1)
    assert target.breaker.state == OPEN


def test_a_failure_on_the_short_way_goes_on_the_long_way() -> None:
    driven, target = made(plain(bulkhead=BulkheadSettings(), breaker=BreakerSettings(), total_timeout=50.0))
    generation = target.enter()
    attempt = driven.core.adopt(target, generation, 3.0, 5.0, may_repeat=True)
    call = attempt.call
    assert (call.deadline, attempt.number, attempt.started_at) == (53.0, 1, 3.0)
    driven.now = 5.0
    assert driven.done(attempt, FAILURE) == 0
    assert driven.timer(call) == SEND
    assert call.attempt is not None
    assert driven.done(call.attempt) == FINISH
    assert (call.reason, call.attempts, target.in_flight) == ("ok", 2, 0)


def test_a_cancelled_attempt_of_the_short_way_gives_its_slot_to_the_next() -> None:
    driven, target = made(Policy(bulkhead=BulkheadSettings(limit=1)))
    generation = target.enter()
    waiting = driven.started()
    target.leave_unproved(generation, 0.0)
    assert driven.woken() == [(waiting, SEND)]
    assert target.breaker is not None
    assert target.breaker.healthy


def test_the_short_way_does_not_overtake_the_queue() -> None:
    driven, target = made(Policy(bulkhead=BulkheadSettings(limit=1)))
    generation = target.enter()
    waiting = driven.started()
    assert not target.leave(generation), "somebody waits"
    target.leave_at(generation, 0.0)
    assert target.enter() == 0
    assert driven.woken() == [(waiting, SEND)]


def test_the_adaptive_limit_moves_the_bulkhead_and_serves_who_waits() -> None:
    driven, target = made(plain(bulkhead=BulkheadSettings(), adaptive=Aimd(initial_limit=2, min_limit=1, max_limit=5)))
    first, second = driven.sent(), driven.sent()
    waiting = driven.started()
    driven.now = 0.1
    driven.done(first)
    assert target.bulkhead.limit == 3
    assert driven.woken() == [(waiting, SEND)]
    driven.done(second, TIMEOUT)
    assert target.bulkhead.limit < 3
    assert {event[4] for event in driven.named("limit")} == {2, 3}


@pytest.mark.parametrize("outcome", [FAILURE, CANCELLATION])
def test_p30_a_plain_failure_is_no_sample_for_the_adaptive_limit(outcome: Any) -> None:
    driven, target = made(plain(bulkhead=BulkheadSettings(), adaptive=Aimd(initial_limit=2, min_limit=1, max_limit=5)))
    driven.done(driven.sent(max_attempts=1), outcome)
    assert target.bulkhead.limit == 2


def test_p39_the_throttle_counts_what_is_sent_when_it_is_sent_and_refuses_locally() -> None:
    driven, target = made(plain(throttle=ClientThrottle(k=1.1)))
    attempts = [driven.sent(max_attempts=1) for _ in range(1)]
    refused = 0
    for _ in range(200):
        call = driven.started(max_attempts=1)
        if call.reason == "throttled":
            refused += 1
        elif call.attempt is not None:
            attempts.append(call.attempt)
    assert refused > 50, "none has answered"
    assert len(attempts) > 2
    assert target.in_flight == len(attempts)


def test_forcing_the_breaker_wakes_those_who_wait_for_it() -> None:
    driven, target = made(plain(breaker=BreakerSettings(open_jitter=0.0), backoff=NoBackoff()))
    attempts = [driven.sent() for _ in range(6)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    for attempt in attempts:
        driven.timer(attempt.call)
    target.force_breaker(FORCED_OPEN, 0.5)
    assert [mask for _, mask in driven.woken()] == [FINISH] * 6, "there is no telling for how long"
    assert driven.started().reason == "open"
    target.force_breaker(CLOSED, 0.6)
    assert driven.started().attempt is not None


def test_a_lost_probe_wakes_the_parked_to_a_new_time() -> None:
    driven, _ = made(plain(breaker=BreakerSettings(open_jitter=0.0, probe_life_seconds=5.0), backoff=NoBackoff()))
    attempts = [driven.sent() for _ in range(6)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    for attempt in attempts:
        driven.timer(attempt.call)
    calls = [attempt.call for attempt in attempts]
    masks = [driven.timer(call) for call in calls]
    assert masks == [SEND, 0, 0, 0, 0, 0]
    assert {call.timer for call in calls[1:]} == {6.0}
    driven.now = 6.0
    refused = driven.started()
    assert refused.reason == "open"
    assert [mask for _, mask in driven.woken()] == [0] * 5
    assert {call.timer for call in calls[1:]} == {8.0}


def test_reconfiguring_keeps_what_did_not_change_and_never_takes_a_slot_away() -> None:
    driven, target = made(Policy(bulkhead=BulkheadSettings(limit=2)))
    first, second = driven.sent(), driven.sent()
    waiting = driven.started()
    budget = target.budget
    driven.core.reconfigure(Policy(bulkhead=BulkheadSettings(limit=1)), 0.0)
    driven.done(first)
    assert driven.core.wakeups == []
    driven.core.reconfigure(Policy(bulkhead=BulkheadSettings(limit=3)), 0.0)
    assert driven.woken() == [(waiting, SEND)]
    assert target.budget is budget
    driven.core.reconfigure(Policy(bulkhead=None), 0.0)
    assert target.bulkhead.limit == inf
    assert first.call.policy.bulkhead == BulkheadSettings(limit=2), "a call keeps its own"
    driven.done(second)


def test_reconfiguring_the_breaker_begins_a_new_era_and_taking_it_away_frees_all_who_wait() -> None:
    driven, target = made(plain(breaker=BreakerSettings(), backoff=NoBackoff()))
    attempts = [driven.sent() for _ in range(6)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    for attempt in attempts:
        driven.timer(attempt.call)
    driven.core.reconfigure(plain(breaker=None), 0.5)
    assert [mask for _, mask in driven.woken()] == [SEND] * 6
    assert target.breaker is None
    driven.core.reconfigure(plain(breaker=BreakerSettings()), 0.5)
    assert target.breaker is not None


def test_p41_events_are_data_and_a_reader_may_call_back_into_the_core() -> None:
    driven, target = made(plain(breaker=BreakerSettings()))
    for _ in range(5):
        driven.done(driven.sent(max_attempts=1), FAILURE)
        for event in list(driven.events):
            if event[1] == "breaker":
                target.force_breaker(CLOSED, driven.now)
                driven.events.clear()
    assert target.breaker is not None
    assert target.breaker.state == CLOSED
    assert driven.sent()


def test_p6_one_opening_is_told_once() -> None:
    driven, _ = made(plain(breaker=BreakerSettings()))
    attempts = [driven.sent(max_attempts=1) for _ in range(55)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    assert [event[4] for event in driven.named("breaker")] == ["OPEN"]
    assert HALF_OPEN not in [event[4] for event in driven.events]
