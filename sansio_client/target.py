"""What the calls to one destination share, and the short way in and out for calls that nothing happens to.

The short way: `enter` and `leave`. A call that finds a free slot and a healthy target needs no `Call`:

    generation = target.enter()                  # 0: take the long way, `core.call(...)`
    answer = send()                              # the attempt
    if not target.leave(generation):             # it succeeded; False: say when
        target.leave_at(generation, now)
    # it failed instead: core.adopt(target, generation, now, ...).on_done(...) decides whether it is repeated

Both ways change the same counters, so they may be mixed freely; a property test holds one against the other.
"""

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Protocol

from sansio_client import events as event
from sansio_client.adaptive import Limit
from sansio_client.breaker import HALF_OPEN, Breaker
from sansio_client.budget import Budget
from sansio_client.bulkhead import Bulkhead
from sansio_client.latency import Quantile
from sansio_client.outcome import BREAKER_IGNORE, BREAKER_OK, OK, THROTTLED, TIMED_OUT, TRANSIENT
from sansio_client.policy import HEDGE_FLOOR, Hedge, Policy
from sansio_client.ratelimit import RateLimiter
from sansio_client.throttle import ClientThrottleGate


class Waiter(Protocol):
    """What waits at a target: a `call.Call`."""

    id: int

    def wake(self, now: float) -> None:
        """It got what it waited for, or should look again."""


class Common:
    """What all targets of a core share: chance, the sink of events, the calls that have just been unblocked."""

    __slots__ = ("events", "random", "wakeups")

    def __init__(self, random: Callable[[], float], events: list[event.Event] | None) -> None:
        self.random = random
        self.events = events
        self.wakeups: list[Waiter] = []


class Target:
    """The gates and counters of one destination. Its parts may be read at any time; only calls change them."""

    __slots__ = (
        "_era", "_sees_all", "adaptive", "breaker", "budget", "bulkhead", "calls", "clean", "common", "gate",
        "generation", "key", "last_used_at", "latency", "limiter", "parked", "policy", "quiet", "throttle",
    )  # fmt: skip

    def __init__(self, key: str, policy: Policy, common: Common) -> None:
        self.key = key
        self.policy = policy
        self.common = common
        self.breaker: Breaker | None = policy.breaker.make(common.random) if policy.breaker else None
        self.bulkhead = policy.bulkhead.make() if policy.bulkhead else Bulkhead()
        self.budget: Budget | None = policy.budget.make() if policy.budget else None
        self.limiter: RateLimiter | None = policy.rate_limit.make() if policy.rate_limit else None
        self.throttle: ClientThrottleGate | None = policy.throttle.make() if policy.throttle else None
        self.adaptive: Limit | None = policy.adaptive.make(common.random) if policy.adaptive else None
        self.latency = _latency_of(policy)
        if self.adaptive is not None:
            self.bulkhead.limit = self.adaptive.limit
        self.calls = 0  # begun and not finished; enter and leave do not count here
        self.parked: OrderedDict[Waiter, None] | None = None  # retries that wait for the breaker, longest first
        self.last_used_at = -inf
        # These four are `enter` and `leave`; a hot path may write the two out.
        self.gate: float = 0  # slots that `enter` may use: all, or none while something needs a closer look
        self.generation = 1  # what attempts that enter report with
        self.clean = 0  # the generation whose successes may wait to be told, or 0
        self.quiet = 0  # such successes, which breaker and budget have not been told yet
        self._era = 1  # the generation of attempts admitted without a breaker
        self._sees_all = self._must_see_all()
        self.refresh()

    @property
    def in_flight(self) -> int:
        """Slots in use: attempts that have not reported, and calls that were granted one and do not know yet."""
        return self.bulkhead.used

    @property
    def pristine(self) -> bool:
        """Whether a new one in its place would behave the same, but for what success has taught it.

        To be asked after `tell_quiet`.
        """
        return (
            not self.calls
            and not self.bulkhead.used
            and (self.breaker is None or self.breaker.healthy)
            and (self.budget is None or self.budget.full)
            and self.limiter is None
            and self.throttle is None
        )

    def enter(self) -> int:
        """Begin an attempt the short way: the generation to leave with, or 0 when it takes a `Call`."""
        bulkhead = self.bulkhead
        used = bulkhead.used
        if used < self.gate:
            bulkhead.used = used + 1
            return self.generation
        return 0

    def leave(self, generation: int) -> bool:
        """The attempt of `enter` succeeded. False: nothing was done, call `leave_at` with the time."""
        if generation == self.clean:
            self.bulkhead.used -= 1
            self.quiet += 1
            return True
        return False

    def leave_at(self, generation: int, now: float) -> None:
        """The attempt of `enter` succeeded, where `leave` said False."""
        self.end_attempt(generation, BREAKER_OK, OK, 0, now, 0.0)
        self.give_slot_back(now)

    def leave_unproved(self, generation: int, now: float) -> None:
        """The attempt of `enter` ended and says nothing about the peer: it was cancelled."""
        if self.breaker is not None:
            self.breaker.record(generation, BREAKER_IGNORE, now)
        self.give_slot_back(now)

    def end_attempt(self, generation: int, effect: int, verdict: int, cost: int, now: float, elapsed: float) -> None:
        """Tell breaker, budget, latency, limit and throttle what became of an attempt. Its slot stays taken.

        Follow it with `give_slot_back`, at once or later.
        """
        if self.quiet:
            self.tell_quiet(now)
        breaker = self.breaker
        if breaker is not None:
            before = breaker.generation
            breaker.record(generation, effect, now, elapsed)
            if breaker.generation != before:
                self._breaker_moved(before, now)
            if self.parked:
                self.offer_probe(now)  # the permit is free again, and the call may go on without another for now
        if self.budget is not None:
            if verdict in (TRANSIENT, THROTTLED, TIMED_OUT):
                self.budget.failure(now)
            self.budget.settle(cost, verdict == OK, now)
        if self.throttle is not None and effect == BREAKER_OK:
            self.throttle.accepted(now)
        if self.latency is not None and effect == BREAKER_OK:
            self.latency.add(elapsed)
        # Netflix's three words: a success is a sample, a timeout or a refusal for load is a drop, all else is ignored.
        dropped = verdict in (THROTTLED, TIMED_OUT)
        if self.adaptive is not None and (dropped or effect == BREAKER_OK):
            self._resize(self.adaptive.on_sample(now, elapsed, self.bulkhead.used, dropped), now)

    def tell_quiet(self, now: float) -> None:
        """Tell breaker and budget of the successes that were only counted, before they change or are read.

        Nothing has moved since: every move tells them first.
        """
        count, self.quiet = self.quiet, 0
        if count and self.breaker is not None:
            self.breaker.record_successes(count, now)
        if count and self.budget is not None:
            self.budget.successes(count, now)

    def give_slot_back(self, now: float) -> None:
        """An attempt is over: its slot goes to the next call in the queue, if there is one."""
        self.last_used_at = now
        bulkhead = self.bulkhead
        if not bulkhead.live:
            bulkhead.used -= 1  # as `release` would
            return
        waiter = bulkhead.release()
        if waiter is not None:
            self._grant(waiter, now)
        self.refresh()

    def park(self, waiter: Waiter) -> None:
        """Have `waiter` woken when the breaker moves or has a permit again."""
        if self.parked is None:
            self.parked = OrderedDict()
        self.parked[waiter] = None

    def unpark(self, waiter: Waiter) -> None:
        """`waiter` waits no longer; does nothing when it did not."""
        if self.parked is not None:
            self.parked.pop(waiter, None)

    def breaker_refuses(self, now: float) -> bool:
        """Whether the breaker would refuse an attempt now. Asking may find that a probe was lost."""
        breaker = self.breaker
        if breaker is None:
            return False
        before = breaker.generation
        admitted = breaker.peek(now)
        self._breaker_moved(before, now)
        return not admitted

    def pass_breaker(self, now: float) -> int:
        """Admit one attempt: the generation it reports with, or 0. One admitted may be the probe that half-opens it."""
        breaker = self.breaker
        if breaker is None:
            return self._era
        before = breaker.generation
        generation = breaker.acquire(now)
        if breaker.generation != before and generation:
            self.emit(now, event.BREAKER, 0, self.key, breaker.state_name)  # the parked wait for the probe's report
        else:
            self._breaker_moved(before, now)
        return generation

    def offer_probe(self, now: float) -> None:
        """A half-open breaker may have a permit again: wake the call that has waited longest for it."""
        breaker = self.breaker
        if breaker is None or breaker.state != HALF_OPEN or self.breaker_refuses(now):
            return
        if self.parked:
            self._wake(self.parked.popitem(last=False)[0], now)

    def force_breaker(self, state: int, now: float) -> None:
        """`Breaker.force`, and those who wait for it are told. Does nothing without a breaker."""
        if self.breaker is not None:
            self.tell_quiet(now)
            before = self.breaker.generation
            self.breaker.force(state, now)
            self._breaker_moved(before, now)
            self.refresh()

    def reconfigure(self, policy: Policy, now: float) -> None:
        """Other settings from now on. Calls under way keep their own; slots in use stay theirs.

        Parts whose settings are unchanged keep what they know; the others begin anew, the breaker in a new era.
        """
        self.tell_quiet(now)
        old, self.policy, random = self.policy, policy, self.common.random
        if policy.breaker != old.breaker:
            before = self.breaker.generation if self.breaker is not None else 0
            if policy.breaker is None:
                self._era = before + 1
                self.breaker = None
                self._wake_all(now)
            elif self.breaker is None:
                self.breaker = policy.breaker.make(random)
                self.breaker.generation = self._era + 1  # what was admitted without one is nothing to it
            else:
                self.breaker.reconfigure(policy.breaker, now)
                self._breaker_moved(before, now)
        if policy.budget != old.budget:
            self.budget = policy.budget.make() if policy.budget else None
        if policy.rate_limit != old.rate_limit:
            self.limiter = policy.rate_limit.make() if policy.rate_limit else None
        if policy.throttle != old.throttle:
            self.throttle = policy.throttle.make() if policy.throttle else None
        if policy.hedge != old.hedge:
            self.latency = _latency_of(policy)
        if (policy.bulkhead, policy.adaptive) != (old.bulkhead, old.adaptive):
            if policy.adaptive != old.adaptive:
                self.adaptive = policy.adaptive.make(random) if policy.adaptive else None
            settings = policy.bulkhead
            self.bulkhead.queue_limit = settings.queue_limit if settings else 0
            self.bulkhead.lifo = settings is not None and settings.order == "lifo"
            self._resize(self.adaptive.limit if self.adaptive else settings.limit if settings else inf, now)
        self._sees_all = self._must_see_all()
        self.refresh()

    def hedge_delay(self, hedge: Hedge) -> float:
        """Seconds without an answer after which a hedge goes out; `inf` while too little is known."""
        if hedge.after is not None:
            return hedge.after
        return max(HEDGE_FLOOR, self.latency.value) if self.latency is not None else inf

    def refresh(self) -> None:
        """Open or close the short way. To be called after every change that did not come through it."""
        breaker, bulkhead = self.breaker, self.bulkhead
        if self._sees_all or not (breaker is None or breaker.admits_all):
            self.gate = self.clean = 0
            return
        self.gate = bulkhead.limit
        self.generation = breaker.generation if breaker is not None else self._era
        self.clean = 0 if bulkhead.live else self.generation

    def emit(self, now: float, name: str, call_id: int, a: object = None, b: object = None) -> None:
        """Write an event down, if anybody reads them."""
        if self.common.events is not None:
            self.common.events.append((now, name, call_id, a, b))

    def _must_see_all(self) -> bool:
        """Whether some part has to be told of every call, so that there is no short way."""
        return (
            (self.breaker is not None and self.breaker.settings.eager)
            or (self.budget is not None and self.budget.eager)
            or self.limiter is not None
            or self.throttle is not None
            or self.adaptive is not None
            or self.latency is not None
        )

    def _breaker_moved(self, generation_before: int, now: float) -> None:
        """If it has moved: say so, and wake the calls that wait for it."""
        breaker = self.breaker
        assert breaker is not None
        if breaker.generation != generation_before:
            self.emit(now, event.BREAKER, 0, self.key, breaker.state_name)
            self._wake_all(now)
            self.refresh()

    def _resize(self, limit: float, now: float) -> None:
        if limit != self.bulkhead.limit:
            self.emit(now, event.LIMIT, 0, self.key, limit)
        for waiter in self.bulkhead.resize(limit):
            self._grant(waiter, now)

    def _grant(self, waiter: Waiter, now: float) -> None:
        self._wake(waiter, now)
        self.emit(now, event.GRANT, waiter.id, self.bulkhead.used)

    def _wake(self, waiter: Waiter, now: float) -> None:
        waiter.wake(now)
        self.common.wakeups.append(waiter)

    def _wake_all(self, now: float) -> None:
        parked, self.parked = self.parked, None
        for waiter in parked or ():
            self._wake(waiter, now)


def _latency_of(policy: Policy) -> Quantile | None:
    hedge = policy.hedge
    if hedge is None or hedge.quantile is None:
        return None
    return Quantile(hedge.quantile, hedge.minimum_samples)
