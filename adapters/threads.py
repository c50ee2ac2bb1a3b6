"""The world of threads: a call runs in its caller's thread; one lock around decisions, none around what is sent.

    resilient = Resilient(Policy(attempt_timeout=5.0))
    finished = resilient.run(lambda attempt: fetch(url), key="api.example", may_repeat=True)
    page = finished.unwrap()

Nothing can stop what runs in a thread, so there is no hedging, and a time limit is a matter of `send`: it is handed the
attempt's `deadline` and `seconds_left()`, and has to return by then.
"""

import random as chance
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from math import inf
from types import CoroutineType, TracebackType
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar

from sansio_client.call import Attempt, Call
from sansio_client.core import Core
from sansio_client.errors import LocalProtocolError, SettingError
from sansio_client.events import Event
from sansio_client.outcome import CANCELLATION, SUCCESS
from sansio_client.policy import Policy

from .calling import (
    INSIDE,
    NOTHING,
    AttemptView,
    Base,
    Finished,
    Judge,
    Nested,
    judge_exception,
    judge_on,
    log_failure,
)
from .driver import CANCELLED, TIMER, WAKEUP, Done, Driver, Input, Wait, drive, report

P = ParamSpec("P")
T = TypeVar("T")

Send = Callable[[AttemptView], T]
Discard = Callable[[Any], object]


class Waitable(Protocol):
    """As much of `threading.Event` as is needed to wait here."""

    def set(self) -> None:
        """Let `wait` return."""

    def clear(self) -> None:
        """Make it wait again."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for `timeout` seconds of the clock."""


class Resilient(Base):
    """Calls under one policy, from any number of threads.

    The terms of a call, in `run` and most of them in the other methods, too:

    * `send`: makes one attempt. It has to return by `attempt.deadline`: nobody can stop it.
    * `key`: of the target whose breaker, slots and budget it shares.
    * `may_repeat`: sending it twice does no harm.
    * `replayable`: it can be sent again: its body is not used up.
    * `judge`: what a value or an exception means.
    * `discard`: disposes of a value that nobody gets: a loser's, or one that is about to be retried.
    * `deadline`: an instant of `clock` by which it must be over, beside the policy's limits.
    * `timeout`: the same in seconds from now.
    * `policy`: for this call, instead of its target's.

    Args:
        policy: of all calls, unless a call brings its own.
        core: instead of a policy, whose targets are shared with others; they must share `lock`, too.
        clock: monotonic seconds.
        random: numbers from 0 to below 1.
        on_event: hears of every decision, in order (`sansio_client.events`); it may call back into the core. A call
            that nothing happens to makes no event.
        nested: "once": what is called inside an attempt that may be repeated is sent once, by whichever `Resilient`,
            because three attempts of three would be nine. "retry": calls inside know nothing of it.
        waitable: makes what a thread waits for; a test with a clock of its own hands in its own.
        lock: held for decisions, and to be held by whoever uses `core` beside the calls. Listeners are called without.

    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        core: Core | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = chance.random,
        on_event: Callable[[Event], None] | None = None,
        nested: Nested = "once",
        waitable: Callable[[], Waitable] = threading.Event,
        lock: "threading.Lock | None" = None,
    ) -> None:
        self.waitable = waitable
        self.lock = lock if lock is not None else threading.Lock()
        super().__init__(policy, core, clock, random, on_event, nested, self.lock)
        self._first = AttemptView(1, inf, clock, repeats=False)
        _check_hedge(self.core.policy)

    def run(
        self,
        send: Send[T],
        key: str = "default",  # from here on by name, please; the `*` that would see to it costs 100 ns a call
        may_repeat: bool = False,  # noqa: FBT001, FBT002
        replayable: bool = True,  # noqa: FBT001, FBT002
        judge: Judge = judge_exception,
        discard: Discard | None = None,
        deadline: float = inf,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Finished[T]:
        """Make one call: `send(attempt)` for every attempt, one after the other.

        Returns only when no attempt is under way any more. What `send` raises that is no `Exception` passes through.

        """
        generation, known = 0, self._known
        with self.lock:
            target = self._targets.get(key)
            if (
                target is not None
                and known is not None
                and target.policy is known
                and policy is None
                and timeout is None
                and deadline is inf  # another infinity takes the long way and comes to the same
                and INSIDE.get() is None
            ):
                generation = target.enter()
        if target is None or known is None or not generation:
            return self._ride(
                self._new_call(key, may_repeat, replayable, deadline, timeout, policy), send, judge, discard
            ).drive(None)
        value: Any = NOTHING
        error = limit = None
        try:
            if not self._timed and not (may_repeat and self._repeats):
                value = send(self._first)
            else:
                now = self.clock()
                repeats = may_repeat and replayable and self._repeats
                with Limit(1, now + self._limit, self.clock, repeats=repeats, started_at=now) as limit:
                    value = send(limit)
            _check_value(value)
            outcome = SUCCESS if judge is judge_exception else judge(value, None)
        except Exception as failure:  # noqa: BLE001 - judged below
            error = failure
        except BaseException:
            self._leave_unproved(target, generation)
            raise
        else:
            if outcome is SUCCESS:
                with self.lock:
                    left = target.leave(generation)
                if not left:
                    self._leave_late(target, generation)
                return Finished(value)
        started_at = limit.started_at if limit is not None else None
        attempt = self._adopt(target, generation, started_at, known, may_repeat=may_repeat, replayable=replayable)
        ride = self._ride(attempt.call, send, judge, discard)
        try:
            return ride.drive(report(attempt, judge, value, error))
        finally:
            del attempt, error, ride  # or an error would be kept alive by its own traceback

    def call(self, send: Send[T], key: str = "default", may_repeat: bool = False) -> T:  # noqa: FBT001, FBT002
        """The value of `run(send, key, may_repeat)`, or what its `unwrap()` raises."""
        return self.run(send, key, may_repeat).unwrap()

    def guard(
        self,
        key: str = "default",
        *,
        judge: Judge = judge_exception,
        deadline: float = inf,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> "Guard":
        """One attempt around a block, never repeated: `with resilient.guard("db") as attempt:`.

        Raises:
            CallRejected: on entering, when breaker, bulkhead or limits refuse.
            SettingError: the policy hedges.

        """

        def make() -> Ride[None]:
            call = self._new_call(
                key,
                may_repeat=False,
                replayable=False,
                deadline=deadline,
                timeout=timeout,
                policy=policy,
                max_attempts=1,
            )
            return self._ride(call, judge=judge)

        return Guard(make)

    def attempts(
        self,
        key: str = "default",
        *,
        may_repeat: bool,
        judge: Judge = judge_exception,
        deadline: float = inf,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> "Attempts":
        """The attempts of one call as a loop, for code that is no function of its own. Never hedges.

            for attempt in resilient.attempts("api", may_repeat=True):
                with attempt:
                    page = fetch(url)

        An exception that is worth another attempt ends the block and not the loop; any other leaves both, and so does
        the last one when no attempt may follow.
        """

        def make() -> Ride[None]:
            call = self._new_call(
                key,
                may_repeat=may_repeat,
                replayable=True,
                deadline=deadline,
                timeout=timeout,
                policy=self._without_hedge(key, policy),
            )
            return self._ride(call, judge=judge)

        return Attempts(make)

    def resilient(
        self,
        *,
        may_repeat: bool,
        key: str | None = None,
        on: type[Exception] | tuple[type[Exception], ...] | None = None,
        judge: Judge = judge_exception,
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Decorate a function: each call of it is a `run`, unwrapped.

        Args:
            may_repeat: running it twice does no harm. There is no default: only its author knows.
            key: of its target; its module and name unless given.
            on: the exceptions that are worth another attempt; `judge` decides unless given.
            judge: what a value or an exception means.

        Raises:
            TypeError: what is decorated is a coroutine function.

        """
        if on is not None:
            judge = judge_on(*(on if isinstance(on, tuple) else (on,)), judge=judge)

        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            if iscoroutinefunction(function) or isasyncgenfunction(function):
                raise TypeError(
                    f"{function!r} is a coroutine function, so calling it in a thread does nothing yet: "
                    "use adapters.asyncio or adapters.trio"
                )
            name = key if key is not None else f"{function.__module__}.{function.__qualname__}"

            @wraps(function)
            def resilient_function(*args: P.args, **kwargs: P.kwargs) -> T:
                send: Send[T] = lambda _: function(*args, **kwargs)  # noqa: E731 - a def would be slower
                return self.run(send, key=name, may_repeat=may_repeat, judge=judge).unwrap()

            return resilient_function

        return decorate

    def _ride(
        self, call: Call, send: Send[T] | None = None, judge: Judge = judge_exception, discard: Discard | None = None
    ) -> "Ride[T]":
        _check_hedge(call.policy)
        return Ride(self, call, send, judge, discard)


def resilient(
    policy: Policy | None = None,
    *,
    may_repeat: bool,
    key: str | None = None,
    on: type[Exception] | tuple[type[Exception], ...] | None = None,
    judge: Judge = judge_exception,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`Resilient(policy).resilient(...)`: a decorator for a function that shares nothing with others."""
    return Resilient(policy).resilient(may_repeat=may_repeat, key=key, on=on, judge=judge)


def _check_hedge(policy: Policy) -> None:
    if policy.hedge is not None:
        raise SettingError(
            "hedge", policy.hedge, "None: an attempt in a thread cannot be stopped when another one wins"
        )


def _check_value(value: object) -> None:
    """An attempt that returns a coroutine has not done anything yet, and would count as a success."""
    if type(value) is CoroutineType:
        value.close()
        raise TypeError(f"send() returned {value!r}, which nobody awaits: use adapters.asyncio or adapters.trio")


# Time limits


class Limit(AttemptView):
    """What is known of an attempt inside it. In a thread, its deadline is a matter of what runs there.

    Attributes:
        started_at: of the attempt.

    """

    __slots__ = ("_mark", "started_at")

    def __init__(
        self, number: int, deadline: float, clock: Callable[[], float], *, repeats: bool, started_at: float
    ) -> None:
        super().__init__(number, deadline, clock, repeats=repeats)
        self.started_at = started_at

    def __enter__(self) -> Self:
        self._mark = INSIDE.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over = True
        INSIDE.reset(self._mark)


# The long way


def make_attempt(send: Send[T], view: AttemptView) -> tuple[Any, Exception | None]:
    """What `send` gave or raised. A function of its own: an error keeps alive what the frames it crosses know."""
    try:
        value = send(view)
        _check_value(value)
    except Exception as error:  # noqa: BLE001 - judged
        return NOTHING, error
    return value, None


class Ride(Generic[T]):
    """One call that waits, failed, or is more than one attempt: its driver's hands, in its caller's thread."""

    __slots__ = (
        "_bell", "_discard", "_driver", "_drop", "_judge", "_owed", "_send", "_woken", "call", "failure", "finished",
        "owner",
    )  # fmt: skip

    def __init__(
        self,
        owner: Resilient,
        call: Call,
        send: Send[T] | None,
        judge: Judge,
        discard: Discard | None,
    ) -> None:
        self.owner = owner
        self.call = call
        self.finished: Finished[T] | None = None
        self.failure: BaseException | None = None  # what passes through: a cancellation, an interrupt
        self._send = send
        self._judge = judge
        self._discard = discard
        self._driver: Driver[T] | None = None
        self._drop: deque[Any] = deque()  # values to dispose of
        self._owed: Done | None = None  # the report of an attempt that is over
        self._woken = False
        self._bell = owner.waitable()
        call.context = self

    def wake(self) -> None:
        """The call was in `core.wakeups`; in whose thread it was found, matters not."""
        self._woken = True
        self._bell.set()

    def drive(self, first: Input | None) -> Finished[T]:
        """Drive the call to its end; `first` is what has become of an adopted attempt."""
        try:
            wait = self.advance(self.step(first))
            while wait is not None:
                wait = self.advance(self.step(self._attempt(wait)))
            return self.result()
        finally:
            self.close()
            # An error keeps alive all frames it came through, and those they were called from: not this call as well.
            del self, first

    def step(self, event: Input | None) -> Wait | None:
        """Tell the driver; what it wants next, or None when the call is over."""
        try:
            if self._driver is None:
                self._driver = drive(self.call, self.owner.clock, event)
                event = None
            with self.owner.lock:
                wait = self._driver.send(event)
        except StopIteration as stop:
            self.finished = stop.value
            self.close()
            return None
        self.owner.settle()
        self._drop.extend(wait.drop)
        return wait

    def advance(self, wait: Wait | None) -> Wait | None:
        """Carry out what the driver wants, up to the next attempt; None when the call is over."""
        while wait is not None:
            try:
                event = self._carry_out(wait)
                if event is None:
                    return wait
            except BaseException as failure:  # noqa: BLE001 - raised again by `result`, when nothing is under way
                event = self.fail(failure, wait.start)
            wait = self.step(event)
        return None

    def result(self) -> Finished[T]:
        """How it ended, unless something passes through."""
        failure, self.failure = self.failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # or its own traceback would keep it alive
        assert self.finished is not None
        return self.finished

    def close(self) -> None:
        """Nothing of it is under way any more. Harmless when it is over."""
        call = self.call
        with self.owner.lock:
            call.context = None
            if self._driver is not None:
                self._driver.close()
        call.attempt = call.victim = None  # they know their call, and whoever goes in circles waits for the collector
        self.owner.settle()

    def abandon(self) -> None:
        """As `close`, from a finalizer, which may run in the middle of anything: also in a thread that has the lock."""
        locked = self.owner.lock.acquire(timeout=1.0)
        try:
            self.call.context = None
            if self._driver is not None:
                self._driver.close()
        finally:
            if locked:
                self.owner.lock.release()

    def begin(self, wait: Wait) -> Limit:
        """The limit of an attempt in this thread."""
        attempt = wait.start
        assert attempt is not None
        repeats = self.owner.repeats(self.call)
        return Limit(attempt.number, wait.until, self.owner.clock, repeats=repeats, started_at=attempt.started_at)

    def fail(self, failure: BaseException, attempt: Attempt | None) -> Input:
        """Something passes through the call: end it. `attempt` ended with it, or was not even begun."""
        if self.failure is None:
            self.failure = failure
        if attempt is not None:
            self._owed = Done(attempt, CANCELLATION)
        return CANCELLED

    def leave(self, wait: Wait, failure: BaseException | None) -> Wait | None:
        """The attempt was a block of the caller, which has ended. As `step`."""
        attempt = wait.start
        assert attempt is not None
        if failure is None or isinstance(failure, Exception):
            return self.step(report(attempt, self._judge, None, failure))
        self.step(CANCELLED)
        return self.step(Done(attempt, CANCELLATION))

    def _attempt(self, wait: Wait) -> Input:
        attempt = wait.start
        assert attempt is not None
        assert self._send is not None
        limit = self.begin(wait)
        try:
            with limit:
                value, error = make_attempt(self._send, limit)
        except BaseException as failure:  # noqa: BLE001 - raised again by `result`
            return self.fail(failure, attempt)
        try:
            return report(attempt, self._judge, value, error)
        finally:
            del self, wait, attempt, error  # see `drive`

    def _carry_out(self, wait: Wait) -> Input | None:
        """Do what the driver wants; what happened then, or None when an attempt in this thread is next."""
        self._dispose()
        if wait.start is not None:
            return None
        if self._owed is not None:
            owed, self._owed = self._owed, None
            return owed
        return self._pause(wait.until)

    def _dispose(self) -> None:
        while self._drop:
            value = self._drop.popleft()
            if self._discard is not None:
                try:
                    self._discard(value)
                except Exception:  # noqa: BLE001 - it is nobody's value any more
                    log_failure("discard failed")

    def _pause(self, until: float) -> Input:
        """Wait for a wake-up, or until an instant."""
        seconds = until - self.owner.clock()
        if seconds > 0 and not self._woken:
            self._bell.wait(min(seconds, threading.TIMEOUT_MAX) if until < inf else None)
        self._bell.clear()
        woken, self._woken = self._woken, False
        return WAKEUP if woken else TIMER


# Attempts that are blocks of their caller


class Guard:
    """What `Resilient.guard` returns, for one `with`."""

    __slots__ = ("_limit", "_make", "_ride", "_wait")

    def __init__(self, make: "Callable[[], Ride[None]]") -> None:
        self._make = make
        self._ride: Ride[None] | None = None
        self._wait: Wait | None = None
        self._limit: Limit | None = None

    def __enter__(self) -> AttemptView:
        if self._ride is not None:
            raise LocalProtocolError("a guard is for one block; call guard() for each")
        ride = self._ride = self._make()
        try:
            self._wait = ride.advance(ride.step(None))
        except GeneratorExit:
            ride.close()
            raise
        if self._wait is None:
            ride.result().unwrap()
            raise AssertionError("a call that was not sent cannot have succeeded")
        self._limit = ride.begin(self._wait)
        return self._limit.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ride, wait, limit = self._ride, self._wait, self._limit
        assert ride is not None
        assert wait is not None
        assert limit is not None
        limit.__exit__(kind, failure, traceback)
        wait = ride.leave(wait, failure)
        assert wait is None, "a guard has one attempt"


class Attempts:
    """What `Resilient.attempts` returns, for one `for`."""

    __slots__ = ("_block", "_make", "_ride")

    def __init__(self, make: "Callable[[], Ride[None]]") -> None:
        self._make = make
        self._ride: Ride[None] | None = None
        self._block: Block | None = None

    def __iter__(self) -> "Attempts":
        return self

    def __next__(self) -> "Block":
        ride, block = self._ride, self._block
        if ride is None:
            ride = self._ride = self._make()
            wait = ride.step(None)
        else:
            assert block is not None
            if not block.over:
                ride.close()
                raise LocalProtocolError("an attempt that was not used; write `with attempt:` inside the loop")
            wait = block.wait
        try:
            wait = ride.advance(wait)
        except GeneratorExit:
            ride.close()
            raise
        if wait is None:
            ride.result().unwrap()
            raise StopIteration
        self._block = Block(ride, wait)
        return self._block

    def __del__(self) -> None:
        if self._ride is not None and self._ride.finished is None:
            self._ride.abandon()  # the loop was left between two attempts, or before the block of one


class Block:
    """One attempt of `Attempts`: a context manager around its code. `number` and `deadline` are known on entering."""

    __slots__ = ("_limit", "_ride", "over", "wait")

    def __init__(self, ride: "Ride[None]", wait: Wait) -> None:
        self._ride = ride
        self._limit: Limit | None = None
        self.wait: Wait | None = wait
        self.over = False

    def __enter__(self) -> AttemptView:
        if self._limit is not None or self.wait is None:
            raise LocalProtocolError("an attempt is for one block; the loop brings the next one")
        self._limit = self._ride.begin(self.wait)
        return self._limit.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        ride, wait, limit = self._ride, self.wait, self._limit
        assert wait is not None
        assert limit is not None
        self.over = True
        limit.__exit__(kind, failure, traceback)
        self.wait = ride.leave(wait, failure)
        if ride.finished is None:
            return failure is not None  # another attempt follows
        if isinstance(failure, Exception):
            ride.finished.explain(failure)
        return False
