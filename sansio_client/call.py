"""One logical request as a state machine: it is told what happened, and says what to do.

You feed it: `start` once, `on_done` once for every attempt it had you send, `on_timer` when its `timer` is due,
`on_wakeup` when it turns up in `core.wakeups`, `on_headers` if you hand a response on before it has ended, `cancel` if
you lose interest. Each returns a mask of SEND, CANCEL and FINISH:

* SEND: send `call.attempt`. Whatever becomes of it, and be it after the call is over, report it with one `on_done`:
  only that frees its slot.
* CANCEL: stop sending `call.victim`. It still owes its `on_done`.
* FINISH: the call is over. `call.result` is the peer's last word or a local refusal, `call.reason` why no more was
  tried. All attempts still out are to be cancelled.
* 0: wait, for an attempt to end, for `core.wakeups`, or until `call.timer`.

If `timer` is not after `now` when an input returns, call `on_timer(now)` at once; so each step says one thing.
`timer` is state, not a subscription: one that rings late, early or for nothing does no harm.

A call is in one state; each of its attempts is FLYING, LOST (another one won), LOSING (and was told to stop), ABANDONED
(its time was over, and the target knows) or DONE; all but the DONE hold their slots. The order of the gates for each
attempt is fixed: deadline, throttle, rate limit, breaker (a look), bulkhead (a slot, or the queue), and the breaker
again, for good: a permit of a half-open breaker is never held by one who waits for a slot.
"""

from collections.abc import Callable
from math import inf

from sansio_client import events as event
from sansio_client.breaker import HALF_OPEN
from sansio_client.budget import Budget
from sansio_client.bulkhead import Ticket
from sansio_client.errors import LocalProtocolError
from sansio_client.outcome import (
    BREAKER_IGNORE,
    BREAKER_OK,
    CANCELLATION,
    CANCELLED,
    FATAL,
    OK,
    THROTTLED,
    TIMED_OUT,
    TIMEOUT,
    Outcome,
    Rejected,
)
from sansio_client.policy import Policy
from sansio_client.ratelimit import RateLimiter
from sansio_client.target import Target

SEND, CANCEL, FINISH = 1, 2, 4

IDLE, QUEUED, GRANTED, PACED, BACKING_OFF, PARKED, WOKEN, IN_FLIGHT, COMMITTED, FINISHED = range(10)
STATE_NAMES = (
    "IDLE", "QUEUED", "GRANTED", "PACED", "BACKING_OFF", "PARKED", "WOKEN", "IN_FLIGHT", "COMMITTED", "FINISHED",
)  # fmt: skip

# What an input may lead to; one that is not listed for a state leaves it as it is. "granted" and "woken" come from
# another call's input; all others are methods. The diagram in docs/call.md is drawn from this table, and a random walk
# is held against it.
_SENT_OR_WAITING = (QUEUED, PACED, IN_FLIGHT, FINISHED)  # a first attempt at the gates
_PAST_THE_PACE = (QUEUED, PARKED, IN_FLIGHT, FINISHED)  # at the breaker, for which a retry may wait
TRANSITIONS: dict[int, dict[str, tuple[int, ...]]] = {
    IDLE: {"start": _SENT_OR_WAITING, "cancel": (FINISHED,)},
    QUEUED: {"granted": (GRANTED,), "on_timer": (FINISHED,), "cancel": (FINISHED,)},
    GRANTED: {
        "on_wakeup": (PARKED, IN_FLIGHT, FINISHED),
        "on_timer": (FINISHED,),
        "cancel": (FINISHED,),
    },
    PACED: {"on_timer": _PAST_THE_PACE, "cancel": (FINISHED,)},
    BACKING_OFF: {"on_timer": (PACED, *_PAST_THE_PACE), "cancel": (FINISHED,)},
    PARKED: {"woken": (WOKEN,), "on_timer": _PAST_THE_PACE, "cancel": (FINISHED,)},
    WOKEN: {"on_wakeup": _PAST_THE_PACE, "on_timer": _PAST_THE_PACE, "cancel": (FINISHED,)},
    IN_FLIGHT: {
        "on_done": (IN_FLIGHT, BACKING_OFF, FINISHED),
        "on_headers": (COMMITTED,),
        "on_timer": (IN_FLIGHT, BACKING_OFF, FINISHED),
        "cancel": (FINISHED,),
    },
    COMMITTED: {"on_done": (FINISHED,), "on_timer": (COMMITTED, FINISHED), "cancel": (FINISHED,)},
    FINISHED: {},
}

FLYING, LOST, LOSING, ABANDONED, DONE = range(5)

# Why a call is over, `call.reason`. The first four end with the outcome just reported; the local refusals end with the
# peer's last word if there was one, else with `Rejected` (so does a deadline that passes with an attempt in flight: its
# `last` is that word); the others say why a failure was not repeated.
REASONS = (
    "ok", "fatal", "cancelled", "committed",
    "open", "full", "queue-timeout", "rate", "throttled", "deadline",
    "attempts", "unsafe", "body", "told-not-to", "retry-after", "budget",
)  # fmt: skip


class Attempt:
    """One try. `deadline` is the instant by which it must have ended, `number` counts from 1 within its call."""

    __slots__ = ("call", "cost", "deadline", "generation", "hedge", "number", "payer", "started_at", "state")

    def __init__(
        self,
        call: "Call",
        number: int,
        generation: int,
        started_at: float,
        deadline: float,
        cost: int,
        payer: Budget | None,
    ) -> None:
        self.call = call
        self.number = number
        self.generation = generation
        self.started_at = started_at
        self.deadline = deadline
        self.cost = cost
        self.payer = payer
        self.hedge = False
        self.state = FLYING


class Call:
    """Made by `Core.call`. See the module's docstring for how it is driven.

    `may_repeat`: sending it twice does no harm: the method is idempotent or the request carries an idempotency key.
    `replayable`: its body can be sent again. `context` is the driver's to use.
    """

    __slots__ = (
        "_hedge_at",
        "_may_send",
        "_not_before",
        "_now",
        "_paid",
        "_payer",
        "_permit_at",
        "_permit_of",
        "_previous_delay",
        "_random",
        "_retries",
        "_ticket",
        "_told_to_stop",
        "_waited",
        "_waits_until",
        "attempt",
        "attempts",
        "context",
        "deadline",
        "flying",
        "id",
        "last",
        "max_attempts",
        "may_repeat",
        "policy",
        "reason",
        "replayable",
        "result",
        "state",
        "target",
        "timer",
        "victim",
    )  # fmt: skip

    def __init__(
        self,
        call_id: int,
        target: Target,
        policy: Policy,
        *,
        may_repeat: bool,
        replayable: bool,
        deadline: float,
        max_attempts: int,
        random: Callable[[], float],
    ) -> None:
        self.id = call_id
        self.target = target
        self.policy = policy
        self.may_repeat = may_repeat
        self.replayable = replayable
        self.deadline = deadline
        self.max_attempts = max_attempts
        self.state = IDLE
        self.timer = inf
        self.attempt: Attempt | None = None
        self.victim: Attempt | None = None
        self.result: Outcome | Rejected | None = None
        self.reason = ""
        self.last: Outcome | None = None  # the peer's last word
        self.attempts = 0  # sent so far
        self.flying: list[Attempt] = []  # sent and not yet reported, abandoned ones included
        self.context: object = None
        self._random = random
        self._now = -inf
        self._retries = 0
        self._previous_delay = self._waited = 0.0
        self._waits_until = inf  # of the queue, the pace, the back-off, the parking
        self._hedge_at = inf
        self._ticket: Ticket | None = None
        self._paid = 0  # the price of the retry to come, given back if it is never sent
        self._payer: Budget | None = None  # who took it
        self._may_send = False  # throttle and limiter were asked for the attempt to come
        self._permit_at = inf  # when the rate limiter's permit in hand is due
        self._permit_of: RateLimiter | None = None  # whose it is
        self._told_to_stop = ""  # by the peer: the reason to end with
        self._not_before = -inf  # the peer asked for nothing earlier

    # Inputs

    def start(self, now: float) -> int:
        """Begin. Once.

        Raises:
            LocalProtocolError: it was called before, or after `cancel`.

        """
        if self.state != IDLE:
            raise LocalProtocolError("start() was called before; make a new call with core.call() for every request")
        self._now = now
        self.deadline = min(self.deadline, now + self.policy.total_timeout)
        self.target.calls += 1
        self.target.emit(now, event.START, self.id, self.target.key, self.deadline)
        return self._pass_gates(now)

    def on_done(self, attempt: Attempt, outcome: Outcome, now: float) -> int:
        """`attempt` has ended, its connection is free again. Once for every SEND; a second report does nothing.

        Raises:
            LocalProtocolError: `attempt` was not sent by this call.

        """
        if attempt.call is not self:
            raise LocalProtocolError("on_done() got an attempt of another call; report it to attempt.call")
        if attempt.state == DONE:
            return 0
        if now < self._now:
            self._tick(now)
        self._now = now
        was, attempt.state = attempt.state, DONE
        self.flying.remove(attempt)
        target = self.target
        decided = self.state != FINISHED and was == FLYING
        unpaid_success = outcome.verdict == OK and outcome.effect == BREAKER_OK and not attempt.cost
        if decided and unpaid_success and attempt.generation == target.clean:  # as for `target.leave`
            target.bulkhead.used -= 1
            target.quiet += 1
            if target.common.events is not None:
                target.emit(now, event.ENDED, self.id, attempt.number, OK)
            return self._finish(outcome, "ok", now)
        if was != ABANDONED:
            effect, verdict = (outcome.effect, outcome.verdict) if decided else (BREAKER_IGNORE, CANCELLED)
            self._tell_target(attempt, effect, verdict, now)
            target.emit(now, event.ENDED, self.id, attempt.number, verdict)
        target.give_slot_back(now)
        return self._judge(outcome, now) if decided else 0

    def on_headers(self, attempt: Attempt, now: float) -> int:
        """The response of `attempt` is being handed to the application: no retry from here on, and the others stop.

        Raises:
            LocalProtocolError: `attempt` is not in flight for this call.

        """
        if attempt.call is not self:
            raise LocalProtocolError("on_headers() got an attempt of another call; report it to attempt.call")
        if attempt.state != FLYING or self.state == FINISHED:
            raise LocalProtocolError("on_headers() got an attempt that is not in flight; ignore what it still receives")
        self._tick(now)
        self.state = COMMITTED
        self._hedge_at = inf
        for other in self.flying:
            if other is not attempt and other.state == FLYING:
                other.state = LOST
        return self._drop_loser()

    def on_wakeup(self, now: float) -> int:
        """It was in `core.wakeups`: it has a slot now, or the breaker has moved. Harmless when that has passed."""
        self._tick(now)
        if self.state == GRANTED:
            return self._launch(now) if now < self.deadline else self._refuse_granted("deadline", now)
        if self.state == WOKEN:
            return self._pass_gates(now)
        return 0

    def on_timer(self, now: float) -> int:
        """`now` has reached `timer`; earlier it does nothing."""
        self._tick(now)
        if now < self.timer:
            return 0
        state = self.state
        if state in (IN_FLIGHT, COMMITTED):
            return self._on_timer_in_flight(now)
        if state == QUEUED:
            assert self._ticket is not None
            self.target.bulkhead.abandon(self._ticket)
            self.target.refresh()
            return self._end_without("deadline" if now >= self.deadline else "queue-timeout", now)
        if state == GRANTED:
            return self._refuse_granted("deadline", now)
        if state == PARKED:
            self.target.unpark(self)
        return self._pass_gates(now) if state != FINISHED else 0

    def cancel(self, now: float) -> int:
        """The caller has lost interest. Attempts in flight are to be cancelled; nothing is held against the peer."""
        self._tick(now)
        if self.state == FINISHED:
            return 0
        if self.state == IDLE:
            self.target.calls += 1
        elif self.state == QUEUED:
            assert self._ticket is not None
            self.target.bulkhead.abandon(self._ticket)
            self.target.refresh()
        elif self.state == GRANTED:
            self.target.give_slot_back(now)
        elif self.state == PARKED:
            self.target.unpark(self)
        return self._finish(CANCELLATION, "cancelled", now)

    def adopt(self, generation: int, started_at: float, now: float) -> Attempt:
        """Take over the attempt of `Target.enter`, which is in flight: as if this call had sent it as its first.

        Raises:
            LocalProtocolError: the call has been started.

        """
        if self.state != IDLE:
            raise LocalProtocolError("adopt() wants a new call; make one with core.call()")
        self._now = now
        started_at = min(started_at, now)  # the clock may have gone back meanwhile
        self.deadline = min(self.deadline, started_at + self.policy.total_timeout)
        self.target.calls += 1
        self.target.emit(started_at, event.START, self.id, self.target.key, self.deadline)
        return self._take_off(generation, started_at)

    def wake(self, now: float) -> None:
        """What the target does to a call that waits for it; the driver hears of it through `core.wakeups`."""
        self._tick(now)
        if self.state == QUEUED:
            self.state = GRANTED
            self._ticket = None
            self._waits_until = inf
        else:
            self.state = WOKEN
            self._waits_until = now
        self._set_timer()

    # The gates

    def _pass_gates(self, now: float) -> int:
        """Send an attempt, or wait for what it takes, or end the call."""
        if now >= self.deadline:
            return self._end_without("deadline", now)
        target = self.target
        bulkhead = target.bulkhead
        if bulkhead.used < target.gate:  # nothing is wrong here: all gates are open, as for `target.enter`
            bulkhead.used += 1
            self.attempt = self._take_off(target.generation, now)
            return SEND
        if not self._may_send:
            throttle, limiter = target.throttle, target.limiter
            if throttle is not None and not throttle.admit(now, self._random()):
                return self._end_without("throttled", now)
            self._may_send = True
            if limiter is not None:
                seconds = limiter.reserve(now, self.deadline - now)
                if seconds < 0:
                    return self._end_without("rate", now)
                self._permit_at, self._permit_of = now + seconds, limiter
                if seconds > 0:
                    target.emit(now, event.PACE, self.id, None, seconds)
                    return self._wait(PACED, now + seconds)
        if target.breaker_refuses(now):
            return self._wait_for_breaker(now)
        if not target.bulkhead.acquire():
            return self._queue(now)
        return self._launch(now)

    def _queue(self, now: float) -> int:
        bulkhead, settings = self.target.bulkhead, self.target.policy.bulkhead
        self._ticket = bulkhead.enqueue(self)
        if self._ticket is None:
            return self._end_without("full", now)
        timeout = settings.queue_timeout if settings is not None else inf
        self.target.refresh()
        self.target.emit(now, event.QUEUE, self.id, bulkhead.live, timeout)
        return self._wait(QUEUED, now + timeout)

    def _launch(self, now: float) -> int:
        """Send, with a slot in hand."""
        generation = self.target.pass_breaker(now)
        if not generation:
            self.target.give_slot_back(now)
            return self._wait_for_breaker(now)
        self.attempt = self._take_off(generation, now)
        return SEND

    def _take_off(self, generation: int, now: float) -> Attempt:
        target = self.target
        self.attempts += 1
        deadline = min(self.deadline, now + self.policy.attempt_timeout)
        attempt = Attempt(self, self.attempts, generation, now, deadline, self._paid, self._payer)
        self._paid = 0
        self._may_send = False
        self._permit_of = None
        self._waits_until = inf
        self.flying.append(attempt)
        if target.throttle is not None:
            target.throttle.sent(now)
        if target.budget is not None and self.attempts == 1:
            target.budget.request(now)
        self._hedge_at = inf if self.policy.hedge is None else self._next_hedge_at(now)
        self.state = IN_FLIGHT
        self._set_timer()
        if target.common.events is not None:
            target.emit(now, event.SEND, self.id, attempt.number, attempt.deadline)
        return attempt

    def _wait_for_breaker(self, now: float) -> int:
        """A retry may wait for an open breaker; what was never sent is refused at once, and so is the hopeless."""
        breaker = self.target.breaker
        assert breaker is not None
        hopeless = breaker.retry_at >= self.deadline and breaker.state != HALF_OPEN
        if self.last is None or not self.policy.retry_on_open or hopeless:
            return self._end_without("open", now)
        self.target.park(self)
        self.target.emit(now, event.PARK, self.id, breaker.state_name, breaker.ask_again_at)
        return self._wait(PARKED, breaker.ask_again_at)

    # What became of an attempt

    def _judge(self, outcome: Outcome, now: float) -> int:
        """An attempt of a call that is not over has ended: done, repeated, or given up."""
        verdict = outcome.verdict
        if verdict == OK:
            return self._finish(outcome, "ok", now)
        if verdict == CANCELLED:
            return self._finish(outcome, "cancelled", now)
        self.last = outcome
        if verdict == FATAL:
            return self._finish(outcome, "fatal", now)
        if self.state == COMMITTED:
            return self._finish(outcome, "committed", now)
        self._heed(outcome.retry_after, now)
        if any(other.state == FLYING for other in self.flying):
            # A hedge is still out, so its answer may save the call; the next one need not wait (gRPC A6).
            self._hedge_at = inf if self._told_to_stop else max(now, self._not_before)
            return self._set_timer()
        reason = self._why_not_again(outcome)
        if reason:
            return self._finish(outcome, reason, now)
        policy = self.policy
        delay = policy.backoff.delay(self._retries, self._random(), self._previous_delay, self._waited)
        at = max(now, self._not_before) + delay
        if at >= self.deadline:
            return self._finish(outcome, "deadline", now)
        if not self._pay(outcome, now):
            return self._finish(outcome, "budget", now)
        self._retries += 1
        self._previous_delay = delay
        self._waited += delay
        self.target.emit(now, event.RETRY, self.id, self.attempts + 1, at - now)
        return self._wait(BACKING_OFF, at)

    def _why_not_again(self, outcome: Outcome) -> str:
        """The reason not to repeat, or nothing. A retry needs every one of these."""
        if self.attempts >= self.max_attempts:
            return "attempts"
        if not (self.may_repeat or outcome.unsent):
            return "unsafe"
        if not self.replayable:
            return "body"
        return self._told_to_stop

    def _heed(self, retry_after: float | None, now: float) -> None:
        """What the peer asked for in one answer holds for every attempt after it, whichever answers next."""
        if retry_after is None:
            return
        if retry_after < 0:
            self._told_to_stop = "told-not-to"
        elif retry_after > self.policy.max_retry_after:
            self._told_to_stop = self._told_to_stop or "retry-after"
        else:
            self._not_before = max(self._not_before, now + retry_after)

    def _pay(self, outcome: Outcome | None, now: float) -> bool:
        """Take the price of one more attempt from the budget."""
        target = self.target
        budget = target.budget
        if budget is None:
            return True
        verdict = outcome.verdict if outcome is not None else OK
        if target.quiet:
            target.tell_quiet(now)
        self._payer = budget
        self._paid = budget.withdraw(
            now,
            timed_out=verdict == TIMED_OUT,
            throttled=verdict == THROTTLED,
            in_flight=target.bulkhead.used + target.bulkhead.live,
        )
        target.emit(now, event.BUDGET, self.id, budget.level(), self._paid)
        return self._paid > 0

    def _on_timer_in_flight(self, now: float) -> int:
        """The call's deadline, an attempt's, or the next hedge; one at a time, in this order."""
        if now >= self.deadline:
            for attempt in self.flying:
                if attempt.state == FLYING:
                    self.target.emit(now, event.TIMEOUT, self.id, attempt.number, now - attempt.started_at)
                    self._abandon(attempt, now)
            return self._finish(Rejected("deadline", inf, self.last), "deadline", now)
        if self.state == COMMITTED and any(attempt.state == LOST for attempt in self.flying):
            return self._drop_loser()
        for attempt in self.flying:
            if attempt.state == FLYING and attempt.deadline <= now:
                self.victim = attempt
                self.target.emit(now, event.TIMEOUT, self.id, attempt.number, now - attempt.started_at)
                self._abandon(attempt, now)
                return CANCEL | self._judge(TIMEOUT, now)
        return self._hedge(now)

    def _drop_loser(self) -> int:
        """Cancel the first attempt that has lost, if there is one; the timer is due until all are told."""
        loser = next((attempt for attempt in self.flying if attempt.state == LOST), None)
        if loser is not None:
            loser.state = LOSING
            self.victim = loser
        self._set_timer()
        return CANCEL if loser is not None else 0

    def _abandon(self, attempt: Attempt, now: float) -> None:
        """Its time is over: the peer failed it. The slot stays taken until its report comes."""
        attempt.state = ABANDONED
        self._tell_target(attempt, TIMEOUT.effect, TIMED_OUT, now)

    def _tell_target(self, attempt: Attempt, effect: int, verdict: int, now: float) -> None:
        elapsed = max(0.0, now - attempt.started_at)
        # What an earlier budget was paid is nothing to the one that has taken its place.
        cost = attempt.cost if attempt.payer is self.target.budget else 0
        if cost and attempt.hedge and attempt.payer is not None:
            # A hedge is an extra: its price is spent, win or lose. Else a peer whose hedges always win would be sent
            # everything twice, for ever.
            attempt.payer.settle(cost, False, now)  # noqa: FBT003
            cost = 0
        self.target.end_attempt(attempt.generation, effect, verdict, cost, now, elapsed)

    # Hedging

    def _next_hedge_at(self, now: float) -> float:
        hedge = self.policy.hedge
        if hedge is None or not self._may_hedge(hedge.parallel):
            return inf
        return now + self.target.hedge_delay(hedge)

    def _may_hedge(self, parallel: int) -> bool:
        return (
            self.may_repeat
            and self.replayable
            and not self._told_to_stop
            and self.attempts < self.max_attempts
            and len([attempt for attempt in self.flying if attempt.state == FLYING]) < parallel
        )

    def _hedge(self, now: float) -> int:
        """Send another attempt beside those in flight, if it takes no waiting and the budget agrees; else leave it."""
        target, hedge = self.target, self.policy.hedge
        self._hedge_at = inf
        if hedge is None or not self._may_hedge(hedge.parallel) or target.breaker_refuses(now):
            return self._set_timer()
        if not target.bulkhead.acquire():
            self._hedge_at = self._later(now + target.hedge_delay(hedge), now)
            return self._set_timer()
        if target.throttle is not None and not target.throttle.admit(now, self._random()):
            target.give_slot_back(now)
            return self._set_timer()
        paced = target.limiter is None or target.limiter.reserve(now, 0.0) == 0
        if not (paced and self._pay(None, now)):
            if paced and target.limiter is not None:
                target.limiter.cancel(now, due_at=now)
            target.give_slot_back(now)
            return self._set_timer()
        generation = target.pass_breaker(now)
        assert generation, "a breaker that was asked a moment ago"
        target.emit(now, event.HEDGE, self.id, self.attempts + 1, len(self.flying))
        self.attempt = self._take_off(generation, now)
        self.attempt.hedge = True
        return SEND

    @staticmethod
    def _later(at: float, now: float) -> float:
        """`at`, but never an instant that has come: a hedge without delay that found no slot is not tried again."""
        return at if at > now else inf

    # The end, and time

    def _refuse_granted(self, why: str, now: float) -> int:
        self.target.give_slot_back(now)
        return self._end_without(why, now)

    def _end_without(self, why: str, now: float) -> int:
        """End by a decision of this side: with the peer's last word, or, where it said none, with a refusal."""
        if self.last is not None:
            return self._finish(self.last, why, now)
        breaker, limiter = self.target.breaker, self.target.limiter
        retry_at = inf
        if why == "open" and breaker is not None:
            retry_at = breaker.retry_at
        elif why == "rate" and limiter is not None:
            retry_at = now + limiter.peek(now)
        return self._finish(Rejected(why, retry_at, None), why, now)

    def _finish(self, result: Outcome | Rejected, reason: str, now: float) -> int:
        target = self.target
        payer = self._payer
        if self._paid and payer is not None and payer is target.budget:
            payer.refund(self._paid, now)
        if self._permit_of is not None:
            self._permit_of.cancel(now, due_at=self._permit_at)
        self._paid = 0
        self._permit_of = None
        self._ticket = None
        self.state = FINISHED
        self.timer = inf
        self.result = result
        self.reason = reason
        target.calls -= 1
        if target.parked:
            target.offer_probe(now)  # it may have been woken for that
        target.emit(now, event.FINISH, self.id, self.attempts, reason)
        return FINISH

    def _wait(self, state: int, until: float) -> int:
        self.state = state
        self._waits_until = until
        self._hedge_at = inf  # of an attempt that has ended: it must not cut the wait short
        return self._set_timer()

    def _set_timer(self) -> int:
        timer = min(self.deadline, self._waits_until, self._hedge_at)
        for attempt in self.flying:
            if attempt.state == FLYING and attempt.deadline < timer:
                timer = attempt.deadline
            elif attempt.state == LOST:
                timer = self._now
        self.timer = timer
        return 0

    def _tick(self, now: float) -> None:
        if now < self._now:  # a clock that went back must not prolong a wait: all instants go back with it
            back = self._now - now
            self.deadline -= back
            self.timer -= back
            self._waits_until -= back
            self._hedge_at -= back
            self._not_before -= back
            self._permit_at -= back
            for attempt in self.flying:
                attempt.started_at -= back
                attempt.deadline -= back
        self._now = now
