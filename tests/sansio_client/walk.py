"""A seeded random walk over everything a core can be told, with its invariants checked after every step.

`Walk(seed).run(steps)` draws its policies, its mix of inputs and its moods from the seed ("swarm testing": each walk
leaves some inputs out, so that states that those would end are stayed in for long). It needs nothing but the core, and
the seed alone repeats a walk on any Python.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import inf
from random import Random
from typing import Any, TypeVar

from sansio_client import breaker as breakers
from sansio_client import call as calls
from sansio_client import events as event
from sansio_client.adaptive import Aimd, Gradient2, LimitSettings, Vegas
from sansio_client.backoff import (
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
from sansio_client.breaker import BreakerSettings
from sansio_client.budget import AwsQuota, ConcurrentShare, GrpcThrottle, RatioBudget
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.call import (
    ABANDONED,
    BACKING_OFF,
    CANCEL,
    DONE,
    FINISH,
    FINISHED,
    FLYING,
    GRANTED,
    IDLE,
    IN_FLIGHT,
    LOSING,
    LOST,
    PACED,
    PARKED,
    QUEUED,
    SEND,
    WOKEN,
    Attempt,
    Call,
)
from sansio_client.core import Core
from sansio_client.errors import LocalProtocolError
from sansio_client.outcome import (
    BREAKER_FAIL,
    BREAKER_IGNORE,
    BREAKER_OK,
    BREAKER_SOFT,
    CANCELLATION,
    CANCELLED,
    DEFINITE,
    FAILURE,
    FATAL,
    OK,
    SUCCESS,
    THROTTLE,
    THROTTLED,
    TIMED_OUT,
    TIMEOUT,
    TRANSIENT,
    Outcome,
    Rejected,
)
from sansio_client.policy import Hedge, Policy
from sansio_client.ratelimit import RateLimit
from sansio_client.target import Target
from sansio_client.throttle import ClientThrottle
from sansio_client.windows import CountWindow, TimeWindow
from tests.sansio_client.model import EPSILON, BreakerBook, BudgetBook

Item = TypeVar("Item")

MOST_CALLS = 24  # at once: enough for every queue and permit drawn below, few enough to look at
LONGEST_SETTLING = 20  # timers due at once for one call: its attempts, and the hedges between them

BAD = (
    FAILURE,
    FAILURE,
    TIMEOUT,
    THROTTLE,
    Outcome(TRANSIENT, BREAKER_FAIL, unsent=True),
    Outcome(TRANSIENT, BREAKER_OK, unsent=True),
    Outcome(TRANSIENT, BREAKER_FAIL, retry_after=0.0),
    Outcome(TRANSIENT, BREAKER_FAIL, retry_after=0.3),
    Outcome(TRANSIENT, BREAKER_SOFT, retry_after=3.0),
    Outcome(THROTTLED, BREAKER_SOFT, retry_after=30.0),
    Outcome(TRANSIENT, BREAKER_FAIL, retry_after=-1.0),
)
FINAL = (
    DEFINITE,
    CANCELLATION,
    Outcome(FATAL, BREAKER_FAIL),
    Outcome(FATAL, BREAKER_IGNORE),
    Outcome(OK, BREAKER_FAIL),  # of somebody's own classifier: an answer, and yet a bad sign
    Outcome(OK, BREAKER_IGNORE),
)
LOCAL = {"open", "full", "queue-timeout", "rate", "throttled", "deadline"}

# The longest delay each law may give, by its own words and not by its `ceiling`: the cap, and for gRPC's a fifth more.
BACKOFFS: tuple[tuple[Backoff, float], ...] = (
    (NoBackoff(), 0.0),
    (FullJitter(0.1, 5.0), 5.0),
    (EqualJitter(0.1, 2.0), 2.0),
    (Decorrelated(0.1, 3.0), 3.0),
    (GrpcJitter(0.1, 1.0), 1.2),
    (PollyDecorrelatedV2(0.2, 4.0), 4.0),
    (Exponential(0.2, 2.0, jitter=0.5), 2.0),
    (Linear(0.3, 1.0), 1.0),
    (Constant(0.7), 0.7),
    (Spread(0.2, 2.0), 2.0),
)
LONGEST_DELAY = dict(BACKOFFS)


class Coverage:
    """Transitions that were seen, of calls and of breakers."""

    def __init__(self) -> None:
        self.calls: set[tuple[int, str, int]] = set()
        self.breakers: set[tuple[int, str, int]] = set()
        self.reasons: set[str] = set()
        self.steps = 0

    def missing(self) -> list[str]:
        """What the tables say is possible and was not seen."""
        missed = []
        for state, inputs in calls.TRANSITIONS.items():
            for name, nexts in inputs.items():
                for after in nexts:
                    if (state, name, after) not in self.calls:
                        missed.append(f"{calls.STATE_NAMES[state]} --{name}--> {calls.STATE_NAMES[after]}")
        for state, moves in breakers.TRANSITIONS.items():
            for name, after in moves.items():
                if (state, name, after) not in self.breakers:
                    missed.append(f"{breakers.STATE_NAMES[state]} --{name}--> {breakers.STATE_NAMES[after]}")
        return missed + [f"reason {reason}" for reason in calls.REASONS if reason not in self.reasons]


class Draw:
    """Choices from one stream, made of `random()` alone so that every Python makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.u = Random(seed).random

    def one(self, items: Sequence[Item]) -> Item:
        return items[int(self.u() * len(items))]

    def chance(self, share: float) -> bool:
        return self.u() < share


class Sent:
    """The book of an attempt."""

    __slots__ = ("attempt", "book", "budget", "cost", "era", "hedge", "known", "sent_at")

    def __init__(self, attempt: Attempt, sent_at: float, cost: int, target: "Books") -> None:
        self.attempt = attempt
        self.sent_at = sent_at  # in the call's own seconds
        self.cost = cost
        self.hedge = False
        self.budget = target.budget
        self.book = target.breaker
        self.era = target.breaker.era if target.breaker is not None else 0
        self.known = FLYING


class Record:
    """The book of a call."""

    def __init__(self, call: Call, books: "Books", deadline_in: float, most: int | None) -> None:
        self.call = call
        self.books = books
        self.seen = IDLE
        self.elapsed = 0.0  # seconds that have passed for this call; a clock that goes back takes none away
        self.last = -inf
        self.deadline_in = deadline_in
        self.most = call.policy.max_attempts if most is None else min(most, call.policy.max_attempts)
        self.permit: Any = None  # the rate limiter whose permit is in hand
        self.queue_ends = inf
        self.not_before = -inf
        self.waits_until = -inf
        self.hedge_pulled = False
        self.dips = 0
        self.stopped = ""
        self.sent: list[Sent] = []
        self.kept: Attempt | None = None
        self.owes = False
        self.paid = 0
        self.payer: BudgetBook | None = None
        self.outcomes: list[Outcome] = []

    @property
    def flying(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.known == FLYING]

    def tick(self, now: float) -> None:
        if now > self.last:
            self.elapsed += now - self.last if self.last != -inf else 0.0
        self.last = now


class Books:
    """The book of a target: who holds a slot, who waits for one, who waits for the breaker."""

    def __init__(self, target: Target, moves: set[tuple[int, str, int]]) -> None:
        self.target = target
        self.moves = moves
        self.out: set[Attempt] = set()  # sent and not reported
        self.entries: list[tuple[int, float, BreakerBook | None, int, object]] = []
        self.granted: set[Record] = set()
        self.queue: list[Record] = []
        self.parked: set[Record] = set()
        self.open_calls = 0
        self.oks = 0  # good answers of the step, which the throttle is told of
        settings = target.policy
        self.breaker = BreakerBook(settings.breaker, moves) if settings.breaker else None
        self.budget = BudgetBook(settings.budget) if settings.budget else None

    @property
    def used(self) -> int:
        return len(self.out) + len(self.entries) + len(self.granted)

    def accepted(self, now: float) -> int:
        """What the throttle counts as answered, without what expires now."""
        throttle = self.target.throttle
        if throttle is None:
            return 0
        for _ in range(2):  # rounding may leave the last bucket to the second time
            throttle._ring.expire(now)
        return throttle._ring.totals[1]


# What is drawn


def draw_breaker(draw: Draw) -> BreakerSettings | None:
    if draw.chance(0.12):
        return None
    window = draw.one((None, CountWindow(5, inf), CountWindow(12, inf), CountWindow(8, 5.0), TimeWindow(2.0, 4)))
    consecutive = draw.one((1, 2, 3, 5)) if window is None or draw.chance(0.6) else None
    open_seconds = draw.one((0.0, 0.1, 1.0))
    return BreakerSettings(
        consecutive_failures=consecutive,
        window=window,
        failure_rate=draw.one((0.25, 0.5, 1.0)),
        slow_call_seconds=draw.one((None, None, 0.5)) if window is not None else None,
        slow_call_rate=draw.one((0.5, 1.0)),
        minimum_calls=draw.one((1, 3, 5)),
        open_seconds=open_seconds,
        open_growth=draw.one((1.0, 1.5, 2.0)),
        open_seconds_max=draw.one((1.0, 5.0, 30.0)),
        open_jitter=draw.one((0.0, 0.2, 0.99)),
        probes=draw.one((1, 1, 2, 3)),
        probe_successes=draw.one((1, 1, 2, 3)),
        probe_life_seconds=draw.one((0.0, 0.5, 60.0)),
    )


def draw_bulkhead(draw: Draw) -> BulkheadSettings | None:
    if draw.chance(0.2):
        return None
    return BulkheadSettings(
        limit=draw.one((1, 1, 2, 3, 6)),
        queue_limit=draw.one((0, 1, 3, 8)),
        queue_timeout=draw.one((0.0, 0.4, 5.0, inf)),
        order=draw.one(("fifo", "lifo")),
    )


BUDGETS = (
    None,
    AwsQuota(12),
    AwsQuota(60, retry_cost=14, timeout_cost=14),
    AwsQuota(),
    GrpcThrottle(),
    GrpcThrottle(3, 0.5),
    RatioBudget(0.2, 2.0, 1.0),
    RatioBudget(0.7, 5.0, 0.0),
    ConcurrentShare(0.3, 1),
    ConcurrentShare(0.0, 2),
)


def draw_policy(draw: Draw) -> Policy:
    """Any policy there is; small limits, so that everything runs out."""
    hedge = None
    if draw.chance(0.6):
        parallel = draw.one((2, 2, 3, 5))
        if draw.chance(0.25):
            hedge = Hedge(quantile=draw.one((0.5, 0.9)), minimum_samples=draw.one((1, 5)), parallel=parallel)
        else:
            hedge = Hedge(after=draw.one((0.0, 0.0, 0.05, 1.0)), parallel=parallel)
    bulkhead = draw_bulkhead(draw)
    adaptive: LimitSettings | None = None
    if bulkhead is not None and draw.chance(0.15):
        choices: tuple[LimitSettings, ...] = (Aimd(3, 1, 6), Vegas(3, 1, 8), Gradient2(3, 1, 8))
        adaptive = draw.one(choices)
    return Policy(
        max_attempts=draw.one((1, 2, 3, 3, 4, 7)),
        total_timeout=draw.one((1.0, 10.0, 120.0, 120.0, inf)),
        attempt_timeout=draw.one((0.1, 1.0, 30.0, inf)),
        backoff=draw.one(BACKOFFS)[0],
        max_retry_after=draw.one((0.5, 10.0, 60.0)),
        retry_on_open=draw.chance(0.85),
        hedge=hedge,
        breaker=draw_breaker(draw),
        bulkhead=bulkhead,
        budget=draw.one(BUDGETS),
        rate_limit=draw.one((RateLimit(2.0), RateLimit(10.0, 5))) if draw.chance(0.2) else None,
        throttle=draw.one((ClientThrottle(min_rps=0.0), ClientThrottle(1.0))) if draw.chance(0.12) else None,
        adaptive=adaptive,
    )


# A few retries that wait for a touchy breaker, and one slot between them: for what is rare elsewhere.
PARKING: dict[str, Any] = {
    "max_attempts": 7,
    "backoff": NoBackoff(),
    "retry_on_open": True,
    "breaker": BreakerSettings(consecutive_failures=1, window=None, open_seconds=0.1, probes=2),
    "bulkhead": BulkheadSettings(limit=1, queue_limit=3),
    "budget": None,
    "rate_limit": None,
    "throttle": None,
    "adaptive": None,
}


def draw_changes(draw: Draw, policy: Policy) -> Policy:
    """`policy` with some fields of another."""
    other = draw_policy(draw)
    share = draw.one((0.1, 0.3, 0.6))
    names = [name for name in Policy.__dataclass_fields__ if draw.chance(share)]
    changes = {name: getattr(other, name) for name in names}
    if changes.get("bulkhead", policy.bulkhead) is None:
        changes["adaptive"] = None
    return policy.replace(**changes)


WEIGHTS = {
    "start": 10.0,
    "report": 14.0,
    "ring": 8.0,
    "early": 1.5,
    "advance": 8.0,
    "wake": 8.0,
    "cancel": 1.5,
    "headers": 1.5,
    "again": 0.7,
    "misuse": 0.3,
    "back": 0.4,
    "reconfigure": 0.4,
    "force": 0.25,
    "enter": 5.0,
    "leave": 4.0,
    "adopt": 2.0,
    "mood": 0.4,
}
NEVER_LEFT_OUT = ("start", "report", "ring", "advance", "wake")


class Walk:
    """One walk. `run` may be called again to go further; `drain` brings every call to its end."""

    def __init__(
        self,
        seed: int,
        coverage: Coverage | None = None,
        *,
        policy: Policy | None = None,
        make_core: Callable[..., Core] = Core,
    ) -> None:
        draw = self.draw = Draw(2 * seed + 1)
        self.coverage = coverage if coverage is not None else Coverage()
        self.now = draw.one((0.0, 17.25, 1e5))
        self.elapsed = 0.0  # as `now`, but never going back
        self.dips = 0  # times the clock went back
        self.events: list[event.Event] = []
        if policy is None:
            policy = draw_policy(draw)
            if draw.chance(0.2):
                policy = policy.replace(**PARKING)
        self.core = make_core(policy, random=Random(2 * seed).random, events=self.events)
        self.steps = 0
        self.records: dict[int, Record] = {}
        self.live: list[Record] = []
        self.out: list[tuple[Record, Sent]] = []
        self.reported: list[tuple[Record, Sent]] = []
        self.woken: list[Record] = []
        self.books = {}
        for key in ("a", "b")[: draw.one((1, 1, 2))]:
            self.books[key] = Books(self.core.target(key, self.now), self.coverage.breakers)
        self.keys = list(self.books)
        self.bad = 0.3
        self.names = list(WEIGHTS)
        weights = [
            weight * draw.one((1.0, 1.0, 3.0) if name in NEVER_LEFT_OUT else (0.0, 0.3, 1.0, 1.0, 3.0))
            for name, weight in WEIGHTS.items()
        ]
        self.bounds = list(accumulate(weights))

    def run(self, steps: int) -> None:
        """At least `steps` inputs to the core, and as many as it takes to answer the last of them."""
        until = self.steps + steps
        actions: list[Callable[[], None]] = [getattr(self, f"do_{name}") for name in self.names]
        bounds, u = self.bounds, self.draw.u
        total = bounds[-1]
        while self.steps < until:
            actions[bisect_right(bounds, u() * total)]()

    # Inputs

    def do_start(self) -> None:
        draw = self.draw
        if len(self.live) >= MOST_CALLS:
            return self.do_report()
        books = self.books[draw.one(self.keys)]
        deadline_in = draw.one((0.0, 0.5, 3.0, 60.0)) if draw.chance(0.2) else inf
        policy = draw_policy(draw) if draw.chance(0.05) else None
        most = draw.one((1, 2, 9)) if draw.chance(0.1) else None
        call = self.core.call(
            books.target.key,
            self.now,
            may_repeat=draw.chance(0.85),
            replayable=draw.chance(0.92),
            deadline=self.now + deadline_in,
            policy=policy,
            max_attempts=most,
        )
        record = self.add(call, books, min(deadline_in, call.policy.total_timeout), most)
        if draw.chance(0.02):  # given up before it was begun
            books.open_calls += 1
            self.feed(record, "cancel", lambda: call.cancel(self.now))
            self.misuse(lambda: call.start(self.now))
            return None
        books.open_calls += 1
        self.feed(record, "start", lambda: call.start(self.now))
        return self.settle(record)

    def do_report(self) -> None:
        """Any attempt that is out ends, be it first or last, long given up, or of a call that is over."""
        if not self.out:
            return
        at = int(self.draw.u() * len(self.out))
        record, sent = self.out[at]
        self.out[at] = self.out[-1]
        self.out.pop()
        self.report(record, sent, self.outcome())

    def outcome(self) -> Outcome:
        u = self.draw.u()
        if u < 0.06:
            return self.draw.one(FINAL)
        return self.draw.one(BAD) if self.draw.u() < self.bad else SUCCESS

    def report(self, record: Record, sent: Sent, outcome: Outcome) -> None:
        call, attempt = record.call, sent.attempt
        self.feed(record, "on_done", lambda: call.on_done(attempt, outcome, self.now), sent, outcome)
        self.reported.append((record, sent))
        if len(self.reported) > 20:
            del self.reported[:10]
        self.settle(record)

    def do_again(self) -> None:
        """A second report changes nothing."""
        if not self.reported:
            return
        record, sent = self.draw.one(self.reported)
        call = record.call
        before = (call.state, call.timer, call.result, record.books.target.bulkhead.used)
        assert call.on_done(sent.attempt, self.outcome(), self.now) == 0
        assert before == (call.state, call.timer, call.result, record.books.target.bulkhead.used)
        assert not self.events
        assert not self.core.wakeups
        self.steps += 1
        self.check(record.books)

    def do_misuse(self) -> None:
        if not self.live or not self.reported:
            return
        record, (other, sent) = self.draw.one(self.live), self.draw.one(self.reported)
        if record is not other:
            self.misuse(lambda: record.call.on_done(sent.attempt, SUCCESS, self.now))
            self.misuse(lambda: record.call.on_headers(sent.attempt, self.now))
        self.misuse(lambda: other.call.on_headers(sent.attempt, self.now))
        self.misuse(lambda: record.call.start(self.now))
        self.misuse(lambda: record.call.adopt(1, self.now, self.now))

    def misuse(self, do: Callable[[], object]) -> None:
        try:
            do()
        except LocalProtocolError:
            pass
        else:
            raise AssertionError("misuse went unnoticed")
        assert not self.events
        assert not self.core.wakeups
        self.steps += 1

    def do_ring(self) -> None:
        """Time goes on to where some call wants it, or a while after; it is told, be it rung for another reason."""
        if not self.live:
            return
        record = self.pick()
        timer = record.call.timer
        if timer == inf:
            return
        late = self.draw.one((0.0, 0.0, 0.0, 0.01, 2.0))
        if timer + late > self.now:
            self.advance(timer + late - self.now)
            self.now = max(self.now, timer)  # rounding
        self.ring(record)
        self.settle(record)

    def pick(self) -> Record:
        """Some call; often one that was woken and has not heard of it, which are the rarest states."""
        return self.draw.one(self.woken if self.woken and self.draw.chance(0.2) else self.live)

    def ring(self, record: Record) -> None:
        self.feed(record, "on_timer", lambda: record.call.on_timer(self.now))

    def do_early(self) -> None:
        """A timer that rings early changes nothing."""
        if not self.live:
            return
        record = self.draw.one(self.live)
        call = record.call
        if call.timer - max(0.0, call._now - self.now) <= self.now:
            return
        state, left = call.state, call.timer - max(call._now, self.now)
        self.ring(record)
        assert call.state == state
        if left >= 0.0 and left != inf:
            assert abs(call.timer - self.now - left) < EPSILON or call.timer - self.now >= left

    def do_wake(self) -> None:
        """Some call hears that it was woken, now or long after, in any order."""
        if not self.woken:
            return
        record = self.woken.pop(0 if self.draw.chance(0.5) else int(self.draw.u() * len(self.woken)))
        self.feed(record, "on_wakeup", lambda: record.call.on_wakeup(self.now))
        self.settle(record)

    def do_cancel(self) -> None:
        if self.live:
            record = self.pick()
            self.feed(record, "cancel", lambda: record.call.cancel(self.now))

    def do_headers(self) -> None:
        """The response of some attempt in flight begins; the others are stopped one by one."""
        chosen = [(record, sent) for record, sent in self.out if sent.known == FLYING and record.seen == IN_FLIGHT]
        if not chosen:
            return
        record, sent = self.draw.one(chosen)
        record.kept = sent.attempt
        self.feed(record, "on_headers", lambda: record.call.on_headers(sent.attempt, self.now))
        self.settle(record)

    def do_advance(self) -> None:
        self.advance(self.draw.one((0.001, 0.01, 0.1, 0.1, 0.5, 2.0, 20.0)) * self.draw.u())

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.elapsed += seconds

    def do_back(self) -> None:
        self.dips += 1
        self.now -= self.draw.one((1e-6, 0.01, 0.5, 5.0, 5000.0)) * self.draw.u()
        for books in self.books.values():
            if books.budget is not None:
                books.budget.clock_went_back = True

    def do_mood(self) -> None:
        self.bad = self.draw.one((0.02, 0.1, 0.3, 0.6, 0.97))

    def do_reconfigure(self) -> None:
        policy = draw_changes(self.draw, self.core.policy)
        old = {key: (books.target.breaker, books.target.policy) for key, books in self.books.items()}
        generations = {key: self.generation(books) for key, books in self.books.items()}
        self.core.reconfigure(policy, self.now)
        self.steps += 1
        for key, books in self.books.items():
            before, settings = old[key]
            breaker = books.target.breaker
            if policy.breaker != settings.breaker:
                if policy.breaker is None or books.breaker is None or breaker is None:
                    books.breaker = BreakerBook(policy.breaker, books.moves) if policy.breaker is not None else None
                    assert before is None or breaker is None
                else:
                    books.breaker.reconfigure(policy.breaker, self.elapsed, breaker.retry_at - self.now)
                    assert breaker.generation > generations[key]
            if policy.budget != settings.budget:
                books.budget = BudgetBook(policy.budget) if policy.budget is not None else None
        self.read_events(None)
        self.read_wakeups()
        for books in self.books.values():
            self.check(books)

    def do_force(self) -> None:
        books = self.books[self.draw.one(self.keys)]
        state = self.draw.one(
            (breakers.CLOSED, breakers.CLOSED, breakers.OPEN, breakers.FORCED_OPEN, breakers.FORCED_CLOSED,
             breakers.METRICS_ONLY)
        )  # fmt: skip
        books.target.force_breaker(state, self.now)
        self.steps += 1
        if books.breaker is not None and books.target.breaker is not None:
            books.breaker.force(state, self.elapsed, books.target.breaker.retry_at - self.now)
        self.read_events(None)
        self.read_wakeups()
        self.check(books)

    # The short way

    def do_enter(self) -> None:
        books = self.books[self.draw.one(self.keys)]
        target = books.target
        generation = target.enter()
        self.steps += 1
        if generation:
            assert books.used < target.bulkhead.limit, "entered without a free slot"
            assert not books.queue, "overtook those who wait for a slot"
            book = books.breaker
            assert book is None or book.state not in (breakers.OPEN, breakers.HALF_OPEN, breakers.FORCED_OPEN)
            books.entries.append((generation, self.now, book, book.era if book is not None else 0, object()))
        self.check(books)

    def take_entry(self) -> tuple[Books, tuple[int, float, BreakerBook | None, int, object]] | None:
        books = self.books[self.draw.one(self.keys)]
        if not books.entries:
            return None
        return books, books.entries.pop(int(self.draw.u() * len(books.entries)))

    def do_leave(self) -> None:
        taken = self.take_entry()
        if taken is None:
            return
        books, (generation, _, book, era, who) = taken
        target = books.target
        current = book is books.breaker and (book is None or book.era == era)
        if self.draw.chance(0.2):
            target.leave_unproved(generation, self.now)
            effect = BREAKER_IGNORE
        else:
            effect = BREAKER_OK
            if target.leave(generation):
                assert current, "a success of an earlier era was taken for one of this"
            else:
                target.leave_at(generation, self.now)
        self.steps += 1
        if book is not None and current and target.breaker is not None:
            book.report(who, effect, 0.0, self.elapsed, target.breaker.retry_at - self.now)
        if effect == BREAKER_OK and books.budget is not None:
            books.budget.settle(0, ok=True)
        self.read_events(None)
        self.read_wakeups()
        self.check(books)

    def do_adopt(self) -> None:
        taken = self.take_entry()
        if taken is None:
            return
        books, (generation, started_at, book, era, _) = taken
        draw = self.draw
        most = draw.one((1, 2, None, None))
        attempt = self.core.adopt(
            books.target,
            generation,
            started_at,
            self.now,
            may_repeat=draw.chance(0.85),
            replayable=draw.chance(0.92),
            deadline=inf,
            max_attempts=most,
        )
        call = attempt.call
        record = self.add(call, books, call.policy.total_timeout, most)
        record.elapsed = max(0.0, self.now - started_at)
        record.last = self.now
        record.seen = IN_FLIGHT
        books.open_calls += 1
        books.out.add(attempt)
        if books.budget is not None:
            books.budget.clock_went_back = True  # it is told of a request that began before
            books.budget.request(self.elapsed)
        sent = Sent(attempt, 0.0, 0, books)
        sent.book, sent.era = book, era
        record.sent.append(sent)
        self.out.append((record, sent))
        self.steps += 1
        self.read_events(record)
        assert call.state == IN_FLIGHT
        assert call.deadline <= self.now + call.policy.total_timeout, "the clock went back, and the deadline did not"
        self.check(books)
        if draw.chance(0.7):
            self.out.pop()
            self.report(record, sent, self.outcome())
        else:
            self.settle(record)

    # What an input came to

    def add(self, call: Call, books: Books, deadline_in: float, most: int | None = None) -> Record:
        record = self.records[call.id] = Record(call, books, deadline_in, most)
        self.live.append(record)
        return record

    def generation(self, books: Books) -> int:
        return books.target.breaker.generation if books.target.breaker is not None else 0

    def feed(
        self,
        record: Record,
        name: str,
        do: Callable[[], int],
        sent: Sent | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        """One input to a call, and the books brought up to date with what it said."""
        call, books, now = record.call, record.books, self.now
        before, due = record.seen, call.timer - max(0.0, call._now - now) <= now
        used, generation = books.target.bulkhead.used, self.generation(books)
        level, accepted = self.level(books.target), books.accepted(now)
        books.oks = 0
        record.tick(now)
        mask = do()
        self.steps += 1
        decided: Outcome | None = None
        if sent is not None and outcome is not None:
            books.out.remove(sent.attempt)
            assert sent.attempt.state == DONE
            if sent.known != ABANDONED:
                in_time = before != FINISHED and sent.known == FLYING
                effect, verdict = (outcome.effect, outcome.verdict) if in_time else (BREAKER_IGNORE, CANCELLED)
                self.tell(record, sent, effect, verdict)
                decided = outcome if in_time else None
            sent.known = DONE
        given_up, timed_out = self.given_up(record, now)
        if timed_out and mask & CANCEL:
            decided = TIMEOUT
        expected = self.expect(record, before, decided) if decided is not None else None
        self.read_events(record, generation)
        self.read_wakeups()
        before = record.seen  # the slot that its own attempt gave back may have been granted to the call itself
        after = record.seen = call.state
        if after != before or name != "on_timer" or due:
            self.coverage.calls.add((before, name, after))
        allowed = calls.TRANSITIONS[before].get(name, ())
        assert after == before or after in allowed, (calls.STATE_NAMES[before], name, calls.STATE_NAMES[after])
        self.move(record, before, after)
        self.obey(record, mask, given_up, before, used)
        if mask & FINISH:
            self.hold_to_reason(record, before, decided)
        if expected is not None:
            self.hold(record, mask, expected)
        self.hold_permit(record, mask, self.level(books.target) - level)
        assert books.accepted(now) - accepted == books.oks, "the throttle took a failure for an answer, or the reverse"
        if name == "on_timer" and not due:
            assert mask == 0, "a timer that rang early did something"
        self.check(books)

    def tell(self, record: Record, sent: Sent, effect: int, verdict: int) -> None:
        """Into the books of the target: an attempt has ended for the breaker and the budget."""
        books = record.books
        book, breaker = books.breaker, books.target.breaker
        if book is not None and book is sent.book and sent.era == book.era and breaker is not None:
            took = record.elapsed - sent.sent_at
            book.report(sent, effect, took, self.elapsed, breaker.retry_at - self.now)
        books.oks += effect == BREAKER_OK and books.target.throttle is not None
        if books.budget is not None:
            if verdict in (TRANSIENT, THROTTLED, TIMED_OUT):
                books.budget.failure()
            cost = sent.cost if sent.budget is books.budget else 0
            if cost and sent.hedge:  # an extra is spent, whatever comes of it
                books.budget.settle(cost, ok=False)
                cost = 0
            books.budget.settle(cost, ok=verdict == OK)

    def given_up(self, record: Record, now: float) -> tuple[list[Sent], bool]:
        """The attempts that this step gave up, and whether it was for their time."""
        given_up, timed_out = [], False
        for sent in record.sent:
            known, sent.known = sent.known, sent.attempt.state
            if sent.known == known:
                continue
            if sent.known in (LOST, LOSING):
                assert record.kept not in (None, sent.attempt), "lost, and nobody won"
            if sent.known == LOSING:
                given_up.append(sent)
            elif sent.known == ABANDONED:
                assert known == FLYING
                assert sent.attempt.deadline <= now, "given up before its time"
                self.tell(record, sent, BREAKER_FAIL, TIMED_OUT)
                given_up.append(sent)
                timed_out = True
        return given_up, timed_out

    def expect(self, record: Record, before: int, outcome: Outcome) -> str:
        """What has to come of an outcome: a reason to end, "wait" for those still in flight, or "again"."""
        call = record.call
        if outcome.verdict == OK:
            record.outcomes.append(outcome)
            return "ok"
        if outcome.verdict == CANCELLED:
            return "cancelled"
        record.outcomes.append(outcome)
        if outcome.verdict == FATAL:
            return "fatal"
        if record.kept is not None:
            return "committed"
        asked = outcome.retry_after
        if asked is not None:
            if asked < 0:
                record.stopped = "told-not-to"
            elif asked > call.policy.max_retry_after:
                record.stopped = record.stopped or "retry-after"
            else:
                record.not_before = max(record.not_before, record.elapsed + asked)
        record.hedge_pulled = True
        if record.flying:
            return "wait"
        if len(record.sent) >= record.most:
            return "attempts"
        if not (call.may_repeat or outcome.unsent):
            return "unsafe"
        if not call.replayable:
            return "body"
        return record.stopped or "again"

    def hold(self, record: Record, mask: int, expected: str) -> None:
        call = record.call
        if expected == "wait":
            assert not mask & FINISH, f"ended for {call.reason} while others are in flight"
        elif expected == "again":
            assert call.state == BACKING_OFF or call.reason in ("deadline", "budget"), "not repeated, for no reason"
        else:
            assert mask & FINISH, f"not ended, but {expected}"
            assert call.reason == expected, f"ended for {call.reason}, not {expected}"

    def hold_to_reason(self, record: Record, before: int, decided: Outcome | None) -> None:
        """A call that this side ended had that reason to end."""
        call, books, reason = record.call, record.books, record.call.reason
        if reason == "deadline" and decided is None:
            assert self.now >= call.deadline, "ended for a deadline that has not come"
        elif reason == "queue-timeout":
            assert before == QUEUED
            assert record.elapsed >= record.queue_ends - EPSILON, "lost its place before its time was over"
        elif reason == "open":
            book, breaker = books.breaker, books.target.breaker
            assert book is not None
            assert breaker is not None
            assert not breaker.admits_all, "refused by a closed breaker"
            if breaker.state == breakers.HALF_OPEN:
                assert len(book.probes) >= book.settings.probes, "refused while a permit is free"
        elif reason == "full":
            settings = books.target.policy.bulkhead
            assert len(books.queue) >= (settings.queue_limit if settings is not None else 0)
        elif reason == "rate":
            assert books.target.limiter is not None
        elif reason == "throttled":
            assert books.target.throttle is not None

    def level(self, target: Target) -> float:
        """How full the rate limiter is, in permits."""
        limiter = target.limiter
        if limiter is None:
            return 0.0
        return max(0.0, limiter._level - max(0.0, self.now - limiter._at) * limiter._rate)

    def hold_permit(self, record: Record, mask: int, taken: float) -> None:
        """A permit of the rate limiter is taken once for each attempt, and given back only if it is not sent."""
        limiter = record.books.target.limiter
        if taken > EPSILON:
            assert abs(taken - 1.0) < EPSILON
            assert record.permit is None, "took a second permit for one attempt"
            record.permit = limiter
        elif taken < -EPSILON:
            assert taken >= -1.0 - EPSILON
            assert record.permit is limiter, "gave back a permit that was used, or was another limiter's"
            assert mask & FINISH
        if mask & (SEND | FINISH):
            record.permit = None

    def move(self, record: Record, before: int, after: int) -> None:
        books = record.books
        if before != after:
            if before == QUEUED:
                books.queue.remove(record)
            elif before == GRANTED:
                books.granted.remove(record)
            elif before == PARKED:
                books.parked.remove(record)
            wait = record.call.timer - self.now
            if after == QUEUED:
                books.queue.append(record)
                settings, breaker = books.target.policy.bulkhead, books.target.breaker
                assert settings is not None
                assert len(books.queue) <= settings.queue_limit
                assert wait <= settings.queue_timeout + EPSILON
                record.queue_ends = record.elapsed + settings.queue_timeout
                book = books.breaker
                assert book is None or book.admits(self.elapsed), "queued before a breaker that is open"
            elif after == PARKED:
                books.parked.add(record)
                record.dips = self.dips
                breaker = books.target.breaker
                assert breaker is not None
                opened = breaker.state == breakers.OPEN
                most = breaker.settings.open_seconds_max if opened else breaker.settings.probe_life_seconds
                assert wait <= most + EPSILON, "parked for longer than any breaker is open"

    def obey(self, record: Record, mask: int, given_up: list[Sent], before: int, used: int) -> None:
        """What a driver would do, and whether it may be asked to."""
        call, books = record.call, record.books
        assert before != FINISHED or mask == 0, "a call that was over said something"
        if mask & SEND:
            assert mask == SEND
            self.sent(record)
        if mask & CANCEL:
            assert [sent.attempt for sent in given_up] == [call.victim], "not the one attempt that was given up"
        else:
            assert not given_up or call.reason == "deadline"
        if mask & FINISH:
            self.finished(record)
        assert (call.state == FINISHED) == (record not in self.live or bool(mask & FINISH))
        if mask & FINISH:
            self.live.remove(record)
        limit = books.target.bulkhead.limit
        assert books.target.bulkhead.used <= max(limit, used), "more slots in use than there are"

    def sent(self, record: Record) -> None:
        """One more attempt is out: everything that must be so when one is sent."""
        call, books, now = record.call, record.books, self.now
        attempt, policy, flying = call.attempt, call.policy, record.flying
        assert attempt is not None
        assert attempt.call is call
        assert attempt.state == FLYING
        assert now < call.deadline, "sent at or after the deadline"
        assert record.elapsed < record.deadline_in + EPSILON, "sent after the deadline the caller meant"
        assert attempt.number == len(record.sent) + 1 <= record.most, "more attempts than allowed"
        assert attempt.deadline <= min(call.deadline, now + policy.attempt_timeout + EPSILON)
        assert record.kept is None, "sent once more after the headers"
        assert record.elapsed >= record.not_before - EPSILON, "sent earlier than the peer asked for"
        if record.sent:
            if flying:
                record.owes = books.budget is not None
            assert call.replayable
            assert not record.stopped, "sent against the peer's word"
            if flying:
                hedge = policy.hedge
                assert hedge is not None, "a second attempt in flight without hedging"
                assert call.may_repeat
                assert len(flying) < hedge.parallel
                after = hedge.after if hedge.after is not None else 0.001
                waited = record.elapsed - record.sent[-1].sent_at
                assert record.hedge_pulled or waited >= after - EPSILON, "hedged too early"
            else:
                assert call.may_repeat or record.outcomes[-1].unsent
                assert record.elapsed >= record.waits_until - EPSILON, "the back-off was cut short"
        sent = Sent(attempt, record.elapsed, record.paid, books)
        sent.budget = record.payer
        sent.hedge = bool(flying)
        assert record.paid or not record.sent or not record.owes, "a retry or hedge that nobody paid for"
        record.paid, record.payer, record.hedge_pulled = 0, None, False
        record.sent.append(sent)
        self.out.append((record, sent))
        books.out.add(attempt)
        if books.budget is not None and len(record.sent) == 1:
            books.budget.request(self.elapsed)
        if books.breaker is not None:
            books.breaker.admit(sent, self.elapsed)
            sent.era = books.breaker.era

    def finished(self, record: Record) -> None:
        """A call is over: whether its result is what its callers should see."""
        books, reason, result = record.books, record.call.reason, record.call.result
        self.coverage.reasons.add(reason)
        books.open_calls -= 1
        if record.paid and record.payer is not None and record.payer is books.budget:
            record.payer.refund(record.paid)
        record.paid = 0
        said = [outcome for outcome in record.outcomes if outcome.verdict != OK]
        if reason == "ok":
            assert result is record.outcomes[-1]
        elif reason == "cancelled":
            assert isinstance(result, Outcome)
            assert result.verdict == CANCELLED
        elif isinstance(result, Rejected):
            assert reason in LOCAL
            assert result.why == reason
            assert result.last is (said[-1] if said else None)
            assert not said or reason == "deadline", "the peer's last word was kept from the caller"
        else:
            assert result is said[-1]
        if reason == "told-not-to" or reason == "retry-after":
            assert record.stopped == reason

    def read_events(self, record: Record | None, generation: int | None = None) -> None:
        moved = 0
        for _, name, call_id, a, b in self.events:
            if name == event.BUDGET:
                assert record is not None
                assert call_id == record.call.id
                self.paid(record, a, b)
            elif name == event.RETRY:
                assert record is not None
                assert isinstance(b, float)
                assert a == len(record.sent) + 1
                asked = max(0.0, record.not_before - record.elapsed)
                most = asked + LONGEST_DELAY[record.call.policy.backoff]
                assert asked - EPSILON <= b <= most + EPSILON, f"a retry after {b}, not {asked} to {most}"
                record.waits_until = record.elapsed + b
                record.owes = record.books.budget is not None
            elif name == event.BREAKER:
                moved += 1
                breaker = self.books[str(a)].target.breaker
                assert breaker is not None
                assert b == breaker.state_name
        if record is not None and generation is not None:
            assert moved == (self.generation(record.books) != generation), "a move of the breaker was told wrongly"
        self.events.clear()

    def paid(self, record: Record, level: Any, cost: Any) -> None:
        """The budget was asked for a retry or, with others in flight, for a hedge."""
        books = record.books
        assert books.budget is not None
        hedge = bool(record.flying)
        verdict = OK if hedge else record.outcomes[-1].verdict
        books.budget.withdraw(
            cost,
            timed_out=verdict == TIMED_OUT,
            throttled=verdict == THROTTLED,
            under_way=books.used + len(books.queue) + hedge,
            elapsed=self.elapsed,
        )
        if cost:
            record.paid, record.payer = cost, books.budget
        assert level == books.target.budget.level() if books.target.budget is not None and cost else True

    def read_wakeups(self) -> None:
        """Calls that were woken: each in its turn, and none that did not wait."""
        for waiter in self.core.wakeups:
            record = self.records[waiter.id]
            books, call = record.books, record.call
            record.tick(self.now)
            if record.seen == QUEUED:
                settings = books.target.policy.bulkhead
                last = settings is not None and settings.order == "lifo"
                assert books.queue.pop(-1 if last else 0) is record, "somebody was overtaken in the queue"
                books.granted.add(record)
                record.seen = GRANTED
                self.coverage.calls.add((QUEUED, "granted", GRANTED))
            else:
                assert record.seen == PARKED
                books.parked.remove(record)
                record.seen = WOKEN
                self.coverage.calls.add((PARKED, "woken", WOKEN))
            assert call.state == record.seen
            self.woken.append(record)
        self.core.wakeups.clear()

    def settle(self, record: Record) -> None:
        """What a driver owes: `on_timer` at once, as long as the timer is due."""
        call = record.call
        for _ in range(LONGEST_SETTLING):
            if call.state == FINISHED or call.timer > self.now:
                break
            self.ring(record)
        else:
            raise AssertionError(f"the timer of a call in {calls.STATE_NAMES[call.state]} rings for ever")
        if call.state == FINISHED:
            return
        assert call.timer <= call.deadline

    def check(self, books: Books) -> None:
        """The books of one target against the target."""
        target = books.target
        bulkhead, breaker, budget = target.bulkhead, target.breaker, target.budget
        if self.draw.chance(0.3):
            target.tell_quiet(self.now)
        assert bulkhead.used == books.used, f"{bulkhead.used} slots in use, the books say {books.used}"
        assert bulkhead.live == len(books.queue)
        assert not bulkhead.live or bulkhead.used >= bulkhead.limit, "somebody waits while a slot is idle"
        assert target.calls == books.open_calls
        if target.adaptive is not None:
            assert bulkhead.limit == target.adaptive.limit
        if books.breaker is not None and breaker is not None:
            books.breaker.check(breaker, self.elapsed, self.now, told=not target.quiet)
            if books.parked:
                assert not breaker.admits_all, "parked before a closed breaker"
                if breaker.state == breakers.HALF_OPEN and len(books.breaker.probes) < breaker.settings.probes:
                    coming = [other for other in self.live if other.books is books and self.is_coming(other)]
                    assert coming, "a permit is free, and of those who wait for it none was woken"
        else:
            assert breaker is None
            assert not books.parked
        if books.budget is not None and budget is not None and not target.quiet:
            books.budget.check(budget)
        gate, clean = target.gate, target.clean
        target.refresh()
        assert (gate, clean) == (target.gate, target.clean), "the short way was not opened or closed in time"

    def is_coming(self, record: Record) -> bool:
        """Whether a call will ask for a permit without more ado; one that parked before the clock went back may not."""
        if record.seen == PARKED:
            return record.call.timer <= self.now or record.dips != self.dips
        return record.seen in COMING

    # The end

    def drain(self) -> None:
        """No more calls, and a driver that does all it owes: every call ends, and nothing is left."""
        for _ in range(100_000):
            if self.woken:
                self.do_wake()
            elif self.out and self.draw.chance(0.5):
                self.do_report()
            elif self.live:
                record = min(self.live, key=lambda record: record.call.timer)
                if record.call.timer == inf:
                    entered = any(books.entries for books in self.books.values())
                    assert self.out or entered, f"a call in {calls.STATE_NAMES[record.seen]} will never end"
                    self.do_report()
                    self.do_leave()
                    continue
                self.advance(max(0.0, record.call.timer - self.now))
                self.now = max(self.now, record.call.timer)
                self.ring(record)
                self.settle(record)
            elif self.out:
                self.do_report()
            elif not any(books.entries for books in self.books.values()):
                break
            else:
                self.do_leave()
        assert not self.live, "a call never ends"
        for books in self.books.values():
            assert books.target.bulkhead.used == books.target.bulkhead.live == books.target.calls == 0
            self.check(books)


COMING = (WOKEN, QUEUED, GRANTED, PACED)


def walk(seed: int, steps: int, coverage: Coverage) -> None:
    """One walk from its beginning to its end."""
    walker = Walk(seed, coverage)
    try:
        walker.run(steps)
        walker.drain()
    except Exception as error:
        error.add_note(f"walk(seed={seed}) at step {walker.steps}, now {walker.now!r}")
        raise
    coverage.steps += walker.steps
