"""One logical request, step by step. The random walk (test_walk.py) does all this in every order."""

from itertools import pairwise
from math import inf
from typing import Any

import pytest

from sansio_client.backoff import Constant, FullJitter, NoBackoff
from sansio_client.breaker import HALF_OPEN, OPEN, BreakerSettings
from sansio_client.budget import AwsQuota
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.call import (
    BACKING_OFF,
    CANCEL,
    FINISH,
    FINISHED,
    GRANTED,
    IN_FLIGHT,
    PARKED,
    QUEUED,
    REASONS,
    SEND,
    STATE_NAMES,
    TRANSITIONS,
    Call,
)
from sansio_client.errors import LocalProtocolError, SettingError
from sansio_client.outcome import (
    BREAKER_FAIL,
    CANCELLATION,
    DEFINITE,
    FAILURE,
    SUCCESS,
    THROTTLE,
    TRANSIENT,
    Outcome,
    Rejected,
)
from sansio_client.policy import Hedge, Policy
from sansio_client.ratelimit import RateLimit
from sansio_client.throttle import ClientThrottle
from tests.sansio_client.driving import Driven, plain

UNSENT = Outcome(TRANSIENT, BREAKER_FAIL, unsent=True)


def asking(seconds: float) -> Outcome:
    return Outcome(TRANSIENT, BREAKER_FAIL, retry_after=seconds)


def one_slot(**options: Any) -> Policy:
    return plain(bulkhead=BulkheadSettings(limit=1, **options))


def rejected(call: Call) -> Rejected:
    assert isinstance(call.result, Rejected)
    return call.result


# The way through


def test_a_call_that_succeeds_at_once() -> None:
    driven = Driven()
    attempt = driven.sent()
    call = attempt.call
    assert (attempt.number, attempt.deadline, call.timer) == (1, 100.0, 100.0)
    assert driven.done(attempt) == FINISH
    assert (call.result, call.reason, call.attempts, call.timer) == (SUCCESS, "ok", 1, inf)


def test_a_failure_is_repeated_after_the_back_off_until_the_attempts_are_used_up() -> None:
    driven = Driven()
    call = driven.run(lambda attempt: FAILURE)
    assert (call.reason, call.attempts, call.result) == ("attempts", 3, FAILURE)
    assert [event[0] for event in driven.named("send")] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_p25_n_attempts_have_n_minus_one_delays_and_the_first_has_index_zero(attempts: int) -> None:
    asked = []

    class Watched(Constant):
        def delay(self, k: int, u: float, previous: float, waited: float) -> float:
            asked.append((k, previous, waited))
            return float(k + 1)

    driven = Driven(plain(max_attempts=attempts, backoff=Watched(1.0)))
    assert driven.run(lambda attempt: FAILURE).attempts == attempts
    assert asked == [(k, float(k), k * (k + 1) / 2) for k in range(attempts - 1)]


def test_a_definite_answer_is_not_repeated() -> None:
    call = Driven().run(lambda attempt: DEFINITE)
    assert (call.reason, call.attempts, call.result) == ("fatal", 1, DEFINITE)


def test_p12_the_timer_rung_early_does_nothing_and_stays() -> None:
    driven = Driven()
    attempt = driven.sent()
    call = attempt.call
    driven.done(attempt, asking(2.0))
    assert call.timer == 3.0
    for now in (0.0, 1.0, 2.9999999):
        assert call.on_timer(now) == 0
        assert (call.timer, call.state) == (3.0, BACKING_OFF)
    assert call.on_timer(3.0) == SEND


# What may be repeated


@pytest.mark.parametrize(
    ("may_repeat", "replayable", "outcome", "reason"),
    [
        (False, True, FAILURE, "unsafe"),
        (False, True, UNSENT, "attempts"),
        (True, False, FAILURE, "body"),
        (False, False, UNSENT, "body"),
        (True, True, FAILURE, "attempts"),
        (True, True, asking(-1.0), "told-not-to"),
    ],
)
def test_p22_a_retry_needs_a_safe_request_and_a_body_to_send_again(
    may_repeat: bool, replayable: bool, outcome: Outcome, reason: str
) -> None:
    call = Driven().run(lambda attempt: outcome, may_repeat=may_repeat, replayable=replayable)
    assert call.reason == reason
    assert call.attempts == (3 if reason == "attempts" else 1)
    assert call.result is outcome, "the original outcome is handed back"


@pytest.mark.parametrize(("seconds", "attempts"), [(59.0, 3), (60.0, 3), (60.1, 1), (1e9, 1)])
def test_p18_a_longer_wait_than_allowed_is_handed_on_and_never_shortened(seconds: float, attempts: int) -> None:
    driven = Driven(plain(total_timeout=1000.0))
    call = driven.run(lambda attempt: asking(seconds))
    assert call.attempts == attempts
    assert call.reason == ("attempts" if attempts == 3 else "retry-after")
    assert isinstance(call.result, Outcome)
    assert call.result.retry_after == seconds
    times = [event[0] for event in driven.named("send")]
    assert all(later - earlier >= seconds for earlier, later in pairwise(times))


def test_retry_after_is_a_floor_under_the_jitter() -> None:
    driven = Driven(plain(backoff=FullJitter(base_seconds=4.0, cap_seconds=4.0)), u=lambda: 0.25)
    driven.run(lambda attempt: asking(2.0))
    assert [event[0] for event in driven.named("send")] == [0.0, 3.0, 6.0]


def test_p45_the_last_real_answer_is_the_result_whatever_ends_the_call() -> None:
    driven = Driven(plain(breaker=BreakerSettings(consecutive_failures=1, open_seconds=500.0, open_seconds_max=500.0)))
    call = driven.run(lambda attempt: FAILURE)
    assert (call.result, call.reason, call.attempts) == (FAILURE, "open", 1)
    budget = Driven(plain(budget=AwsQuota(capacity=1)))
    assert budget.run(lambda attempt: FAILURE).reason == "budget"


# Deadlines


def test_p27_no_back_off_ends_at_or_after_the_deadline() -> None:
    driven = Driven(plain(total_timeout=1.0))
    call = driven.run(lambda attempt: FAILURE)
    assert (call.reason, call.attempts, driven.now) == ("deadline", 1, 0.0)


def test_p27_an_attempt_never_has_more_time_than_the_call() -> None:
    driven = Driven(plain(total_timeout=2.5, attempt_timeout=2.0))
    first = driven.sent()
    assert first.deadline == 2.0
    driven.now = 1.0
    driven.done(first, FAILURE)
    assert driven.timer(first.call) == SEND
    assert first.call.attempt is not None
    assert first.call.attempt.deadline == 2.5


def test_p27_nothing_is_sent_once_the_deadline_has_passed() -> None:
    driven = Driven()
    late = driven.call(deadline=-1.0)
    assert late.start(0.0) == FINISH
    assert (rejected(late).why, late.attempts) == ("deadline", 0)
    driven = Driven(one_slot(queue_timeout=inf))
    first, waiting = driven.sent(), driven.started(deadline=5.0)
    driven.now = 5.0
    driven.done(first)
    assert driven.woken() == [(waiting, FINISH)]
    assert waiting.attempts == 0
    assert waiting.target.in_flight == 0


def test_the_deadline_in_flight_ends_the_call_and_counts_against_the_peer() -> None:
    driven = Driven(plain(total_timeout=3.0, breaker=BreakerSettings()))
    attempt = driven.sent()
    assert driven.timer(attempt.call) == FINISH
    assert (rejected(attempt.call).why, attempt.call.reason) == ("deadline", "deadline")
    breaker = attempt.call.target.breaker
    assert breaker is not None
    assert breaker.consecutive == 1
    assert attempt.call.target.in_flight == 1, "until the report comes"
    driven.done(attempt, CANCELLATION)
    assert attempt.call.target.in_flight == 0


def test_the_earlier_of_two_deadlines_holds() -> None:
    driven = Driven(plain(total_timeout=10.0))
    assert driven.started(deadline=4.0).timer == 4.0
    assert driven.started(deadline=40.0).timer == 10.0


def test_an_attempt_that_times_out_is_cancelled_and_repeated_but_keeps_its_slot_until_it_reports() -> None:
    driven = Driven(plain(attempt_timeout=2.0, bulkhead=BulkheadSettings(limit=2)))
    first = driven.sent()
    call = first.call
    assert driven.timer(call) == CANCEL
    assert call.victim is first
    assert driven.timer(call) == SEND
    assert call.target.in_flight == 2
    assert driven.done(first, CANCELLATION) == 0
    assert call.target.in_flight == 1
    assert call.attempt is not None
    assert driven.done(call.attempt) == FINISH
    assert call.reason == "ok"


def test_a_timed_out_post_is_not_sent_again() -> None:
    driven = Driven(plain(attempt_timeout=2.0))
    attempt = driven.sent(may_repeat=False)
    assert driven.timer(attempt.call) == CANCEL | FINISH
    assert attempt.call.reason == "unsafe"


# The bulkhead


def test_a_call_without_a_slot_waits_and_is_woken_with_one() -> None:
    driven = Driven(one_slot())
    first = driven.sent()
    second = driven.started()
    assert (second.state, second.timer) == (QUEUED, 5.0)
    driven.done(first)
    assert second.state == GRANTED
    assert driven.woken() == [(second, SEND)]


def test_p29_a_slot_granted_to_a_call_that_gives_up_goes_to_the_next() -> None:
    for give_up in ("cancel", "timeout", "deadline"):
        driven = Driven(one_slot(queue_timeout=20.0))
        first = driven.sent()
        second, third = driven.started(deadline=5.0), driven.started()
        driven.done(first)
        assert second.state == GRANTED
        if give_up == "cancel":
            assert second.cancel(driven.now) == FINISH
        else:
            driven.now = 5.0
            assert (second.on_timer if give_up == "timeout" else second.on_wakeup)(5.0) == FINISH
        assert third.state == GRANTED
        assert dict(driven.woken()) == {second: 0, third: SEND}
        assert third.target.in_flight == 1


def test_p29_one_that_gives_up_before_the_grant_is_passed_over() -> None:
    driven = Driven(one_slot())
    first, second, third = driven.sent(), driven.started(), driven.started()
    assert second.cancel(1.0) == FINISH
    driven.now = 5.0
    assert third.on_timer(5.0) == FINISH
    assert rejected(third).why == "queue-timeout"
    driven.done(first)
    assert driven.core.wakeups == []
    assert first.call.target.in_flight == 0


def test_p31_a_second_report_is_a_no_op() -> None:
    driven = Driven(plain(bulkhead=BulkheadSettings(limit=3), breaker=BreakerSettings()))
    other = driven.sent()
    attempt = driven.sent()
    driven.done(attempt, FAILURE)
    before = attempt.call.state, attempt.call.timer
    for _ in range(3):
        assert driven.done(attempt, FAILURE) == 0
    assert other.call.target.in_flight == 1
    assert (attempt.call.state, attempt.call.timer) == before
    assert attempt.call.target.breaker is not None
    assert attempt.call.target.breaker.consecutive == 1


def test_p33_nobody_waits_for_a_slot_beyond_its_deadline() -> None:
    driven = Driven(one_slot(queue_timeout=50.0))
    driven.sent()
    call = driven.started(deadline=2.0)
    assert call.timer == 2.0
    assert driven.timer(call) == FINISH
    assert rejected(call).why == "deadline"


def test_a_full_queue_refuses_at_once() -> None:
    driven = Driven(one_slot(queue_limit=1))
    driven.sent()
    driven.started()
    assert rejected(driven.started()).why == "full"


def test_no_slot_is_held_while_backing_off() -> None:
    driven = Driven(one_slot())
    first = driven.sent()
    waiting = driven.started()
    driven.done(first, FAILURE)
    assert driven.woken() == [(waiting, SEND)]


# The breaker


def breaking(**changes: Any) -> Policy:
    settings = BreakerSettings(**{"open_jitter": 0.0, "window": None} | changes)
    return plain(breaker=settings, backoff=NoBackoff())


def test_p42_every_attempt_of_a_call_counts_and_is_admitted_afresh() -> None:
    driven = Driven(breaking(consecutive_failures=3).replace(max_attempts=5))
    call = driven.call()
    assert call.start(0.0) == SEND
    for _ in range(2):
        assert call.attempt is not None
        driven.done(call.attempt, FAILURE)
        assert driven.timer(call) == SEND
    assert call.attempt is not None
    driven.done(call.attempt, FAILURE)
    assert driven.timer(call) == 0
    assert (call.state, call.attempts, call.timer) == (PARKED, 3, 1.0)
    assert driven.timer(call) == SEND
    assert call.target.breaker is not None
    assert call.target.breaker.state == HALF_OPEN


def test_p44_a_call_that_was_never_sent_is_refused_and_told_when_to_come_back() -> None:
    driven = Driven(breaking())
    driven.fail(5)
    refused = driven.started()
    assert (rejected(refused).why, rejected(refused).retry_at) == ("open", 1.0)
    breaker = refused.target.breaker
    assert breaker is not None
    assert (breaker.openings, refused.target.in_flight, refused.target.calls) == (1, 0, 0)


def test_p44_a_retry_waits_for_the_breaker_only_when_its_deadline_allows_and_it_wants_to() -> None:
    for changes, timeout, state in (
        ({}, 100.0, PARKED),
        ({}, 0.9, FINISHED),
        ({"retry_on_open": False}, 100.0, FINISHED),
    ):
        driven = Driven(breaking().replace(total_timeout=timeout, **changes))
        driven.fail(4)
        attempt = driven.sent()
        driven.done(attempt, FAILURE)
        driven.timer(attempt.call)
        assert attempt.call.state == state
        assert attempt.call.target.breaker is not None
        assert attempt.call.target.breaker.openings == 1


def test_parked_calls_go_on_one_as_the_probe_and_the_others_when_it_has_succeeded() -> None:
    driven = Driven(breaking())
    attempts = [driven.sent() for _ in range(20)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    calls = [attempt.call for attempt in attempts]
    assert [driven.timer(call) for call in calls] == [0] * 20
    masks = [driven.timer(call) for call in calls]
    assert masks == [SEND] + [0] * 19
    assert calls[0].attempt is not None
    assert driven.done(calls[0].attempt) == FINISH
    assert driven.woken() == [(call, SEND) for call in calls[1:]]


def test_when_the_probe_fails_the_parked_wait_for_the_next_and_the_hopeless_end() -> None:
    driven = Driven(breaking())
    attempts = [driven.sent(deadline=deadline) for deadline in (100.0, 100.0, 2.5, 100.0, 100.0)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    calls = [attempt.call for attempt in attempts]
    for call in calls:
        driven.timer(call)
    for call in calls:
        driven.timer(call)
    assert calls[0].attempt is not None
    driven.done(calls[0].attempt, FAILURE)
    masks = dict(driven.woken())
    assert masks == {calls[1]: 0, calls[2]: FINISH, calls[3]: 0, calls[4]: 0}
    assert (calls[2].result, calls[2].reason) == (FAILURE, "open")
    assert [call.timer for call in calls[3:]] == [3.0, 3.0]


def test_a_probe_that_is_cancelled_lets_the_next_parked_call_try() -> None:
    driven = Driven(breaking())
    attempts = [driven.sent() for _ in range(5)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    calls = [attempt.call for attempt in attempts]
    for call in calls * 2:
        driven.timer(call)
    assert calls[0].cancel(driven.now) == FINISH
    assert driven.core.wakeups == []
    assert calls[0].attempt is not None
    driven.done(calls[0].attempt, CANCELLATION)
    assert driven.woken() == [(calls[1], SEND)]


def test_p34_the_probes_permit_is_taken_only_with_the_slot_in_hand() -> None:
    driven = Driven(breaking().replace(bulkhead=BulkheadSettings(limit=1), backoff=Constant(0.5)))
    slow = driven.sent()  # holds the only slot through the outage
    target = slow.call.target
    target.force_breaker(OPEN, 0.0)
    driven.now = 1.0
    first = driven.started()
    assert first.state == QUEUED
    breaker = target.breaker
    assert breaker is not None
    assert breaker.state == OPEN, "looked at, not taken"
    driven.done(slow)
    assert driven.woken() == [(first, SEND)]
    assert breaker.state == HALF_OPEN


def test_a_granted_slot_is_given_back_when_the_breaker_has_opened_meanwhile() -> None:
    driven = Driven(breaking().replace(bulkhead=BulkheadSettings(limit=5), max_attempts=1))
    attempts = [driven.sent() for _ in range(5)]
    waiting = [driven.started() for _ in range(3)]
    for attempt in attempts:
        driven.done(attempt, FAILURE)
    assert [mask for _, mask in driven.woken()] == [FINISH] * 3
    assert {rejected(call).why for call in waiting} == {"open"}
    assert attempts[0].call.target.in_flight == 0


# Pace and budget


def test_the_rate_limiter_paces_and_gives_unused_permits_back() -> None:
    driven = Driven(plain(rate_limit=RateLimit(rate_per_second=1.0, burst=1)))
    driven.sent()
    second, third = driven.started(), driven.started()
    assert (second.timer, third.timer) == (1.0, 2.0)
    assert third.cancel(0.0) == FINISH
    assert driven.started().timer == 2.0
    assert driven.timer(second) == SEND


def test_a_pace_beyond_the_deadline_is_refused_without_using_a_permit() -> None:
    driven = Driven(plain(rate_limit=RateLimit(rate_per_second=1.0, burst=1)))
    driven.sent()
    refused = driven.started(deadline=0.5)
    assert (rejected(refused).why, rejected(refused).retry_at) == ("rate", 1.0)
    assert driven.started().timer == 1.0


def test_p16_the_price_of_a_retry_that_is_never_sent_comes_back() -> None:
    driven = Driven(plain(budget=AwsQuota()))
    for _ in range(50):
        attempt = driven.sent()
        driven.done(attempt, FAILURE)
        assert attempt.call.target.budget is not None
        assert attempt.call.target.budget.level() == 495
        assert attempt.call.cancel(0.5) == FINISH
        assert attempt.call.target.budget.level() == 500


def test_p5_a_hundred_cancellations_leave_no_trace() -> None:
    driven = Driven(Policy())
    for _ in range(100):
        attempt = driven.sent()
        attempt.call.cancel(driven.now)
        driven.done(attempt, CANCELLATION)
    target = driven.core.targets["host"]
    assert target.pristine
    assert target.breaker is not None
    assert target.breaker.consecutive == 0


# Hedging


def hedging(**changes: Any) -> Policy:
    return plain(hedge=Hedge(after=0.1), **changes)


def test_a_slow_attempt_gets_company_and_the_first_success_wins() -> None:
    driven = Driven(hedging(breaker=BreakerSettings()))
    first = driven.sent()
    call = first.call
    assert driven.timer(call) == SEND
    second = call.attempt
    assert second is not None
    assert (second.number, driven.now) == (2, 0.1)
    assert driven.done(second) == FINISH
    assert call.flying == [first]
    assert driven.done(first, FAILURE) == 0, "the loser's word is ignored"
    assert call.target.in_flight == 0
    assert call.target.breaker is not None
    assert call.target.breaker.consecutive == 0


def test_p36_the_first_error_does_not_win() -> None:
    driven = Driven(hedging())
    first = driven.sent()
    driven.timer(first.call)
    second = first.call.attempt
    assert second is not None
    assert driven.done(first, FAILURE) == 0
    assert driven.done(second) == FINISH
    assert first.call.reason == "ok"


def test_p36_a_primary_that_fails_before_its_hedge_is_retried() -> None:
    driven = Driven(hedging())
    call = driven.run(lambda attempt: FAILURE if attempt.number == 1 else SUCCESS)
    assert (call.reason, call.attempts) == ("ok", 2)
    assert [event[0] for event in driven.named("send")] == [0.0, 1.0], "after the back-off, not when the hedge was due"


def test_a_failure_beside_a_hedge_brings_the_next_one_forward() -> None:
    driven = Driven(plain(hedge=Hedge(after=5.0, parallel=2), max_attempts=3))
    first = driven.sent()
    driven.timer(first.call)
    driven.now = 6.0
    assert driven.done(first, FAILURE) == 0
    assert first.call.timer == 6.0
    assert first.call.on_timer(6.0) == SEND
    assert first.call.attempts == 3


def test_p17_a_budget_that_is_empty_suppresses_the_hedge_and_nothing_else() -> None:
    driven = Driven(hedging(budget=AwsQuota(capacity=1)))
    attempt = driven.sent()
    assert driven.timer(attempt.call) == 0
    assert attempt.call.timer == 100.0
    assert driven.done(attempt) == FINISH
    assert attempt.call.reason == "ok"


def test_a_hedge_never_waits_for_a_slot_and_never_starts_what_may_not_be_repeated() -> None:
    driven = Driven(hedging(bulkhead=BulkheadSettings(limit=1)))
    attempt = driven.sent()
    assert driven.timer(attempt.call) == 0
    assert attempt.call.target.bulkhead.live == 0
    assert attempt.call.timer == pytest.approx(0.2), "it looks again"
    assert Driven(hedging()).sent(may_repeat=False).call.timer == 100.0
    assert Driven(hedging()).sent(replayable=False).call.timer == 100.0


def test_hedges_without_delay_go_out_one_after_the_other_at_once() -> None:
    driven = Driven(plain(hedge=Hedge(after=0.0, parallel=3)))
    call = driven.sent().call
    assert (call.timer, call.on_timer(0.0)) == (0.0, SEND)
    assert (call.timer, call.on_timer(0.0)) == (0.0, SEND)
    assert call.timer == 100.0
    assert len(call.flying) == 3


def test_p37_no_hedge_by_quantile_before_enough_is_known() -> None:
    driven = Driven(plain(hedge=Hedge(quantile=0.9, minimum_samples=10)))
    for _ in range(10):
        attempt = driven.sent()
        assert attempt.call.timer == driven.now + 100.0
        driven.now += 0.5
        driven.done(attempt)
    assert driven.sent().call.timer < driven.now + 2.0


def test_p38_every_send_gets_one_report_and_losers_hold_their_slots_until_then() -> None:
    driven = Driven(plain(hedge=Hedge(after=0.0, parallel=3), bulkhead=BulkheadSettings(limit=3)))
    first = driven.sent()
    call = first.call
    call.on_timer(0.0)
    call.on_timer(0.0)
    attempts = list(call.flying)
    assert driven.done(attempts[1]) == FINISH
    waiting = driven.started()
    assert waiting.state == IN_FLIGHT
    assert call.target.in_flight == 3
    for attempt in attempts:
        driven.done(attempt, CANCELLATION)
    assert call.target.in_flight == 1


def test_a_hedge_that_wins_does_not_get_its_price_back() -> None:
    driven = Driven(hedging(budget=AwsQuota(capacity=100, retry_cost=5)))
    for number in range(1, 5):
        first = driven.sent()
        driven.timer(first.call)
        assert first.call.attempt is not None
        driven.done(first.call.attempt)
        driven.done(first, CANCELLATION)
        assert first.call.target.budget is not None
        assert first.call.target.budget.level() == 100 - 4 * number, "five for the hedge, one for the success"


def test_told_not_to_retry_also_ends_hedging() -> None:
    driven = Driven(hedging(max_attempts=5))
    first = driven.sent()
    driven.timer(first.call)
    second = first.call.attempt
    assert second is not None
    driven.done(first, asking(-1.0))
    assert first.call.timer == 100.0
    assert driven.done(second, FAILURE) == FINISH
    assert first.call.reason == "told-not-to"


def test_headers_commit_the_call_and_stop_the_others() -> None:
    driven = Driven(plain(hedge=Hedge(after=0.0, parallel=3)))
    first = driven.sent()
    call = first.call
    call.on_timer(0.0)
    call.on_timer(0.0)
    assert call.on_headers(first, 0.0) == CANCEL
    victims = [call.victim]
    assert call.timer <= 0.0
    assert call.on_timer(0.0) == CANCEL
    victims.append(call.victim)
    assert [victim.number for victim in victims if victim] == [2, 3]
    assert call.timer == 100.0
    for victim in victims:
        assert victim is not None
        driven.done(victim, FAILURE)
    assert driven.done(first, FAILURE) == FINISH
    assert (call.reason, call.attempts, call.target.in_flight) == ("committed", 3, 0)


def test_headers_with_a_hedge_that_was_given_up_before_commit_all_the_same() -> None:
    driven = Driven(plain(hedge=Hedge(after=3.0), attempt_timeout=5.0))
    first = driven.sent()
    driven.timer(first.call)
    assert driven.timer(first.call) == CANCEL
    second = first.call.attempt
    assert second is not None
    assert first.call.on_headers(second, driven.now) == 0
    driven.done(first, CANCELLATION)
    assert driven.timer(first.call) == CANCEL | FINISH
    assert first.call.reason == "committed"


# Cancelling, misuse, time


@pytest.mark.parametrize("state", ["IDLE", "QUEUED", "GRANTED", "PACED", "BACKING_OFF", "PARKED", "IN_FLIGHT"])
def test_a_call_can_be_cancelled_in_every_state_and_leaves_nothing_behind(state: str) -> None:
    driven = Driven(breaking().replace(bulkhead=BulkheadSettings(limit=1), backoff=Constant(1.0)))
    if state == "PACED":
        driven = Driven(plain(rate_limit=RateLimit(rate_per_second=1.0, burst=1)))
    holder = driven.sent()
    call = driven.call() if state == "IDLE" else driven.started()
    if state in ("GRANTED", "IN_FLIGHT", "BACKING_OFF", "PARKED"):
        driven.done(holder)
    if state in ("IN_FLIGHT", "BACKING_OFF", "PARKED"):
        driven.woken()
    attempt = call.attempt
    if state in ("BACKING_OFF", "PARKED"):
        assert attempt is not None
        driven.done(attempt, FAILURE)
    if state == "PARKED":
        call.target.force_breaker(OPEN, 0.9)
        driven.timer(call)
    assert STATE_NAMES[call.state] == state
    assert call.cancel(driven.now) == FINISH
    assert (call.result, call.reason, call.cancel(driven.now)) == (CANCELLATION, "cancelled", 0)
    for owed in [*call.flying, holder]:
        owed.call.on_done(owed, CANCELLATION, driven.now)
    driven.woken()
    target = call.target
    assert (target.in_flight, target.calls, target.bulkhead.live, target.parked or None) == (0, 0, 0, None)


def test_misuse_says_what_to_do_and_changes_nothing() -> None:
    driven = Driven()
    attempt, other = driven.sent(), driven.sent()
    with pytest.raises(LocalProtocolError, match=r"core\.call\(\)"):
        attempt.call.start(0.0)
    with pytest.raises(LocalProtocolError, match=r"attempt\.call"):
        attempt.call.on_done(other, SUCCESS, 0.0)
    with pytest.raises(LocalProtocolError, match=r"attempt\.call"):
        attempt.call.on_headers(other, 0.0)
    with pytest.raises(LocalProtocolError, match=r"core\.call\(\)"):
        attempt.call.adopt(1, 0.0, 0.0)
    assert driven.done(attempt) == FINISH
    with pytest.raises(LocalProtocolError, match="not in flight"):
        attempt.call.on_headers(attempt, 0.0)


def test_p11_a_clock_that_goes_back_takes_the_calls_instants_with_it() -> None:
    driven = Driven()
    driven.now = 1000.0
    attempt = driven.sent()
    driven.now = 10.0
    driven.done(attempt, FAILURE)
    assert attempt.call.timer == 11.0
    assert attempt.call.deadline == 110.0


def test_throttled_answers_cost_and_count_like_others() -> None:
    driven = Driven(plain(budget=AwsQuota(), breaker=BreakerSettings()))
    call = driven.run(lambda attempt: THROTTLE)
    assert call.attempts == 3
    assert call.target.breaker is not None
    assert call.target.breaker.consecutive == 0


def test_the_tables_are_whole() -> None:
    assert set(TRANSITIONS) == set(range(len(STATE_NAMES)))
    methods = {name for row in TRANSITIONS.values() for name in row} - {"granted", "woken"}
    assert all(callable(getattr(Call, method)) for method in methods)
    assert len(set(REASONS)) == len(REASONS)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_attempts": 0},
        {"max_attempts": 1001},
        {"total_timeout": 0},
        {"total_timeout": -1},
        {"attempt_timeout": float("nan")},
        {"backoff": 3},
        {"max_retry_after": -1},
        {"hedge": 0.1},
        {"breaker": True},
        {"bulkhead": 10},
        {"budget": 500},
        {"rate_limit": 10},
        {"throttle": 2.0},
        {"adaptive": "vegas"},
    ],
)
def test_a_bad_setting_of_a_policy_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        Policy(**changes)
    assert caught.value.field in changes
    assert repr(caught.value.value) in str(caught.value)


def test_p39_the_throttle_must_remember_an_attempt_for_as_long_as_it_may_take() -> None:
    Policy(throttle=ClientThrottle(window_seconds=10.0), attempt_timeout=10.0)
    with pytest.raises(SettingError, match=r"throttle\.window_seconds"):
        Policy(throttle=ClientThrottle(window_seconds=10.0), attempt_timeout=11.0)


@pytest.mark.parametrize(
    "changes",
    [{}, {"after": 1, "quantile": 0.9}, {"after": -1}, {"quantile": 1.0}, {"after": 1, "parallel": 6}],
)
def test_a_bad_hedge_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="hedge"):
        Hedge(**changes)
