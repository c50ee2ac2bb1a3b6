"""Scenarios that the random walk or the mutation run found, told by hand: each was wrong once, or unwatched."""

from math import inf

import pytest

from sansio_client.backoff import Constant
from sansio_client.breaker import CLOSED, HALF_OPEN, OPEN, BreakerSettings
from sansio_client.budget import AwsQuota, ConcurrentShare
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.call import ABANDONED, BACKING_OFF, CANCEL, COMMITTED, FINISH, PARKED, QUEUED, SEND, WOKEN
from sansio_client.outcome import BREAKER_FAIL, BREAKER_IGNORE, BREAKER_OK, FAILURE, OK, SUCCESS, TRANSIENT, Outcome
from sansio_client.policy import Hedge
from sansio_client.ratelimit import RateLimit
from sansio_client.throttle import ClientThrottle
from tests.sansio_client.driving import Driven, plain

TOO_EARLY = Outcome(TRANSIENT, BREAKER_OK, unsent=True)  # as 425 is: worth another attempt, and the peer is well


def asked(seconds: float) -> Outcome:
    return Outcome(TRANSIENT, BREAKER_FAIL, retry_after=seconds)


TOUCHY = BreakerSettings(consecutive_failures=1, open_seconds=1.0, open_jitter=0.0)


def test_a_hedge_that_was_planned_does_not_cut_the_back_off_short() -> None:
    driven = Driven(plain(hedge=Hedge(after=0.2), backoff=Constant(0.5)))
    attempt = driven.sent()
    driven.now = 0.1
    assert driven.done(attempt, asked(10.0)) == 0
    assert attempt.call.timer == pytest.approx(10.6)


def test_headers_of_a_retry_while_the_attempt_before_still_owes_its_report() -> None:
    driven = Driven(plain(attempt_timeout=1.0, backoff=Constant(0.5)))
    first = driven.sent()
    call = first.call
    assert driven.timer(call) == CANCEL
    assert driven.timer(call) == SEND
    assert first.state == ABANDONED
    assert call.attempt is not None
    assert call.on_headers(call.attempt, driven.now) == 0
    assert call.state == COMMITTED
    assert driven.done(first) == 0
    assert driven.done(call.attempt) == FINISH


def test_headers_that_come_after_the_attempts_time_blame_no_hedge() -> None:
    driven = Driven(plain(attempt_timeout=1.0, hedge=Hedge(after=0.5), breaker=BreakerSettings()))
    first = driven.sent()
    call = first.call
    assert driven.timer(call) == SEND
    driven.now = 1.25
    assert call.on_headers(first, driven.now) == CANCEL
    assert call.victim is not first
    breaker = call.target.breaker
    assert breaker is not None
    assert breaker.consecutive == 0
    assert call.on_timer(driven.now) == CANCEL | FINISH
    assert call.victim is first
    assert breaker.consecutive == 1


@pytest.mark.parametrize("seconds", [3.0, 30.0])
def test_what_one_attempt_was_asked_for_holds_for_the_hedges_after_it(seconds: float) -> None:
    """A hedge is no way round a Retry-After, whichever attempt was told so."""
    driven = Driven(plain(hedge=Hedge(after=0.5, parallel=2), max_attempts=5, max_retry_after=10.0))
    first = driven.sent()
    call = first.call
    assert driven.timer(call) == SEND
    second = call.attempt
    assert second is not None
    assert driven.done(first, asked(seconds)) == 0
    assert call.timer == (0.5 + seconds if seconds < 10.0 else 100.0)
    driven.now = 0.75
    mask = driven.done(second, FAILURE)
    if seconds < 10.0:
        assert mask == 0
        assert call.state == BACKING_OFF
        assert call.timer == 0.5 + seconds + 1.0
    else:
        assert mask == FINISH
        assert call.reason == "retry-after"


def test_the_longest_of_several_wishes_holds() -> None:
    driven = Driven(plain(hedge=Hedge(after=0.5), max_attempts=5))
    first = driven.sent()
    call = first.call
    assert driven.timer(call) == SEND
    second = call.attempt
    assert second is not None
    driven.done(first, asked(10.0))
    driven.done(second, asked(2.0))
    assert call.timer == 0.5 + 10.0 + 1.0


def test_what_the_peer_asked_for_is_no_longer_when_the_clock_has_gone_back() -> None:
    driven = Driven(plain(hedge=Hedge(after=0.5), max_attempts=5))
    driven.now = 1000.0
    first = driven.sent()
    call = first.call
    assert driven.timer(call) == SEND
    second = call.attempt
    assert second is not None
    driven.done(first, asked(10.0))
    driven.now = 200.0
    driven.done(second, FAILURE)
    assert call.timer == 200.0 + 10.0 + 1.0


def test_how_long_an_attempt_took_is_right_when_the_clock_has_gone_back() -> None:
    slow = BreakerSettings(slow_call_seconds=2.0, minimum_calls=1)
    driven = Driven(plain(breaker=slow, max_attempts=1))
    driven.now = 1000.0
    attempt = driven.sent()
    driven.now = 990.0
    attempt.call.on_timer(driven.now)
    driven.now = 992.0
    driven.done(attempt)
    breaker = attempt.call.target.breaker
    assert breaker is not None
    assert breaker.state == OPEN


def test_a_probe_that_neither_ends_its_call_nor_the_half_open_state_lets_the_next_one_try() -> None:
    driven = Driven(plain(breaker=BreakerSettings(consecutive_failures=1, open_jitter=0.0, probe_successes=2)))
    attempts = [driven.sent() for _ in range(3)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    driven.now = 1.0
    first, second, third = (attempt.call for attempt in attempts)
    assert first.on_timer(driven.now) == SEND
    for call in (second, third):
        call.on_timer(driven.now)
        assert call.state == PARKED
    assert first.attempt is not None
    driven.done(first.attempt, TOO_EARLY)
    assert first.state == BACKING_OFF
    assert driven.woken() == [(second, SEND)]


def test_a_call_that_was_woken_for_the_probe_and_gives_up_passes_it_on() -> None:
    driven = Driven(plain(breaker=TOUCHY))
    attempts = [driven.sent() for _ in range(3)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    driven.now = 1.0
    first, second, third = (attempt.call for attempt in attempts)
    first.on_timer(driven.now)
    second.on_timer(driven.now)
    third.on_timer(driven.now)
    first.cancel(driven.now)
    assert first.attempt is not None
    driven.done(first.attempt)
    assert second.state == WOKEN
    second.cancel(driven.now)
    assert third.state == WOKEN


def test_what_was_admitted_without_a_breaker_is_nothing_to_one_that_comes_later() -> None:
    driven = Driven(plain(breaker=None))
    before = driven.sent()
    target = before.call.target
    driven.core.reconfigure(plain(breaker=TOUCHY), driven.now)
    driven.done(before, FAILURE)
    assert target.breaker is not None
    assert target.breaker.state == CLOSED


def test_what_an_earlier_breaker_admitted_is_nothing_to_its_successor() -> None:
    driven = Driven(plain(breaker=TOUCHY))
    driven.fail(1)
    driven.now = 1.0
    probe = driven.sent()
    target = probe.call.target
    driven.core.reconfigure(plain(breaker=None), driven.now)
    driven.core.reconfigure(plain(breaker=TOUCHY), driven.now)
    driven.done(probe, FAILURE)
    assert target.breaker is not None
    assert target.breaker.state == CLOSED
    for _ in range(3):
        target.force_breaker(CLOSED, driven.now)
    generation = target.enter()
    driven.core.reconfigure(plain(breaker=None), driven.now)
    assert target.enter() > generation
    assert not target.leave(generation), "a success of an earlier era is not told as one of this"


def test_what_an_earlier_budget_was_paid_is_not_given_back_by_the_next() -> None:
    driven = Driven(plain(budget=AwsQuota(20), max_attempts=2))
    attempt = driven.sent()
    driven.done(attempt, FAILURE)
    assert driven.timer(attempt.call) == SEND
    retry = attempt.call.attempt
    driven.core.reconfigure(plain(budget=ConcurrentShare(0.0, 1), max_attempts=2), driven.now)
    other = driven.sent()
    driven.done(other, FAILURE)
    budget = attempt.call.target.budget
    assert budget is not None
    assert budget.level() == 1
    assert retry is not None
    driven.done(retry)
    assert budget.level() == 1, "the other retry is still to come"


def test_a_permit_of_an_earlier_rate_limiter_is_not_given_back_to_the_next() -> None:
    driven = Driven(plain(rate_limit=RateLimit(1.0)))
    driven.sent()
    paced = driven.started()
    driven.core.reconfigure(plain(rate_limit=RateLimit(0.1)), driven.now)
    driven.sent()
    limiter = paced.target.limiter
    assert limiter is not None
    assert limiter.peek(driven.now) == 10.0
    paced.cancel(driven.now)
    assert limiter.peek(driven.now) == 10.0


def test_a_permit_that_is_given_back_after_the_clock_went_back_leaves_those_after_it_their_instants() -> None:
    """One that waits behind it has been told when to go, so giving the permit back frees nothing for a newcomer."""
    driven = Driven(plain(rate_limit=RateLimit(1.0)))
    driven.now = 1000.0
    driven.sent()
    paced, behind = driven.started(), driven.started()
    driven.now = 500.0
    paced.cancel(driven.now)
    limiter = paced.target.limiter
    assert limiter is not None
    assert limiter.peek(driven.now) == 3.0
    behind.cancel(driven.now)
    assert limiter.peek(driven.now) == 2.0


def test_an_attempt_that_was_entered_before_the_clock_went_back_waits_no_longer_for_it() -> None:
    driven = Driven(plain(attempt_timeout=5.0))
    driven.now = 1000.0
    target = driven.core.target("host", driven.now)
    generation = target.enter()
    driven.now = 10.0
    attempt = driven.core.adopt(target, generation, 1000.0, driven.now)
    assert attempt.call.timer == 15.0
    assert attempt.call.deadline == 110.0


def test_a_call_has_the_hedge_of_its_own_policy() -> None:
    driven = Driven(plain())
    attempt = driven.sent(policy=plain(hedge=Hedge(after=0.25)))
    assert attempt.call.timer == 0.25


def test_a_hedge_is_throttled_like_any_other_attempt() -> None:
    driven = Driven(plain(throttle=ClientThrottle(min_rps=0.0), hedge=Hedge(after=0.5)), u=lambda: 0.9)
    call = driven.sent().call
    driven.core.common.random = lambda: 0.0
    call._random = lambda: 0.0
    for _ in range(10):
        call.target.throttle.sent(driven.now)  # type: ignore[union-attr]
    assert driven.timer(call) == 0
    assert call.attempts == 1


def test_what_the_peer_refused_is_not_accepted_for_the_throttle() -> None:
    driven = Driven(plain(throttle=ClientThrottle(min_rps=0.0)), u=lambda: 0.99)
    driven.fail(20)
    throttle = driven.core.targets["host"].throttle
    assert throttle is not None
    assert throttle.drop_probability(driven.now) == 0.75


@pytest.mark.parametrize("effect", [BREAKER_FAIL, BREAKER_IGNORE])
def test_an_answer_that_somebodys_classifier_holds_against_the_peer_is_told_to_the_breaker(effect: int) -> None:
    driven = Driven(plain(breaker=TOUCHY))
    assert driven.done(driven.sent(), Outcome(OK, effect)) == FINISH
    breaker = driven.core.targets["host"].breaker
    assert breaker is not None
    assert (breaker.state == CLOSED) == (effect == BREAKER_IGNORE)


def test_a_target_in_use_is_not_forgotten_however_many_there_are() -> None:
    driven = Driven(plain(breaker=TOUCHY), spare_targets=1, max_targets=2)
    attempt = driven.sent("in use")
    driven.fail(1, "in use")
    for number in range(20):
        driven.fail(1, f"host-{number}")
        driven.now += 10_000.0
    assert driven.core.targets["in use"] is attempt.call.target


def test_a_call_that_frees_its_own_slot_may_be_granted_it() -> None:
    """Its attempt was given up for its time and reports only now; the retry is first in the queue."""
    policy = plain(bulkhead=BulkheadSettings(limit=1, queue_timeout=inf), attempt_timeout=1.0, backoff=Constant(0.0))
    driven = Driven(policy)
    attempt = driven.sent()
    call = attempt.call
    assert driven.timer(call) == CANCEL
    assert driven.timer(call) == 0
    assert call.state == QUEUED
    assert driven.done(attempt) == 0
    assert driven.woken() == [(call, SEND)]


def test_a_probe_that_was_lost_is_found_when_the_clock_has_gone_back_too() -> None:
    driven = Driven(plain(breaker=BreakerSettings(consecutive_failures=1, open_jitter=0.0, probe_life_seconds=5.0)))
    driven.now = 1000.0
    driven.fail(1)
    driven.now = 1001.0
    driven.sent()
    breaker = driven.core.targets["host"].breaker
    assert breaker is not None
    assert breaker.state == HALF_OPEN
    driven.now = 500.0
    assert not breaker.peek(driven.now)
    assert breaker.ask_again_at == 505.0


def test_success_closes_and_the_short_way_is_open_again() -> None:
    driven = Driven(plain(breaker=TOUCHY))
    driven.fail(1)
    driven.now = 1.0
    target = driven.core.targets["host"]
    assert target.enter() == 0
    driven.done(driven.sent(), SUCCESS)
    assert target.leave(target.enter())
