"""The world of asyncio: a call runs in its caller's task, under one timer for all calls; only a hedge is a task.

    resilient = Resilient(Policy(attempt_timeout=5.0))
    finished = await resilient.run(lambda attempt: fetch(url), key="api.example", may_repeat=True)
    page = finished.unwrap()

Cancelling the caller's task ends what is under way, reports it, and is never swallowed nor retried. A time limit
cancels the same task, and is told from its caller's wish as `asyncio.timeout` does it, by counting with `uncancel`.
"""

import asyncio
import random as chance
import sys
import time
from _thread import get_ident
from asyncio import AbstractEventLoop, CancelledError, Future, Task, TimerHandle
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Token
from functools import partial, wraps
from inspect import isawaitable, iscoroutinefunction
from math import inf
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast

from sansio_client.call import Attempt, Call
from sansio_client.core import Core
from sansio_client.errors import LocalProtocolError
from sansio_client.events import Event
from sansio_client.outcome import CANCELLATION, SUCCESS, TIMEOUT
from sansio_client.policy import Policy
from sansio_client.target import Target

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

Send = Callable[[AttemptView], Awaitable[T]]
Discard = Callable[[Any], object]

# For the short way: looked up once.
if sys.version_info >= (3, 12):
    current_task = asyncio.current_task
else:  # it is Python code still, and takes three times as long as what it calls; 3.11 will not change any more
    current_task = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]  # noqa: SLF001
inside = INSIDE.get
new = object.__new__


class Resilient(Base):
    """Calls under one policy. Belongs to one event loop at a time.

    The terms of a call, in `run` and most of them in the other methods, too:

    * `send`: makes one attempt. It should not outlast `attempt.deadline`, and is cancelled when it does.
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
        core: instead of a policy, to share targets with others on the same loop.
        clock: monotonic seconds. A test with a loop whose clock jumps hands in that loop's `time`.
        random: numbers from 0 to below 1.
        on_event: hears of every decision, in order (`sansio_client.events`); it may call back into the core. A call
            that nothing happens to makes no event.
        nested: "once": what is called inside an attempt that may be repeated is sent once, by whichever `Resilient`,
            because three attempts of three would be nine. "retry": calls inside know nothing of it.

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
    ) -> None:
        super().__init__(policy, core, clock, random, on_event, nested)
        self._first = AttemptView(1, inf, clock, repeats=False)
        self._loop: AbstractEventLoop | None = None
        self._sweep: Sweep | None = None

    async def run(
        self,
        send: Send[T],
        key: str = "default",  # from here on by name, please; the `*` that would see to it costs 100 ns a call
        may_repeat: bool = False,  # noqa: FBT001, FBT002
        replayable: bool = True,  # noqa: FBT001, FBT002
        judge: Judge = judge_exception,
        discard: Discard | None = None,
        deadline: float = inf,
        timeout: float | None = None,  # noqa: ASYNC109 - of all attempts and waits together
        policy: Policy | None = None,
    ) -> Finished[T]:
        """Make one call: `send(attempt)` for every attempt, one at a time unless the policy hedges.

        Returns only when no attempt is under way any more. What `send` raises that is no `Exception` passes through.

        """
        # `Target.enter` and `leave` are written out: to call them would cost as much as all they do.
        try:
            target = self._targets[key]
        except KeyError:
            target = self._new_target(key)
        if (
            target.policy is not (known := self._known)
            or policy is not None
            or timeout is not None
            or deadline is not inf  # another infinity takes the long way and comes to the same
            or inside() is not None
            or (bulkhead := target.bulkhead).used >= target.gate
        ):
            return await self._ride(
                self._new_call(key, may_repeat, replayable, deadline, timeout, policy), send, judge, discard
            ).drive(None)
        bulkhead.used += 1
        generation = target.generation
        limit = error = None
        value: Any = NOTHING
        if self._timed or (may_repeat and self._repeats):
            limit = self._begin(target, generation, may_repeat and replayable and self._repeats)
        try:
            value = await send(self._first if limit is None else limit)
            outcome = SUCCESS if judge is judge_exception else judge(value, None)
        except Exception as failure:  # noqa: BLE001 - judged below
            error = failure
        except BaseException as failure:
            if limit is None or not limit.end(failure):
                self._leave_unproved(target, generation)
                raise
        else:
            if outcome is SUCCESS:
                if limit is not None:
                    limit.end()
                if generation == target.clean:
                    bulkhead.used -= 1
                    target.quiet += 1
                else:
                    self._leave_late(target, generation)
                finished: Finished[T] = new(Finished)  # and its `__init__` written out
                finished.value = value
                return finished
        try:
            return await self._go_on(
                target, generation, limit, known, value, error, send, judge, discard, may_repeat, replayable
            )
        finally:
            del error  # or it would be kept alive by its own traceback

    async def call(self, send: Send[T], key: str = "default", may_repeat: bool = False) -> T:  # noqa: FBT001, FBT002
        """The value of `run(send, key, may_repeat)`, or what its `unwrap()` raises; the shortest way of all."""
        target, known = self._targets.get(key), self._known
        if (
            target is None
            or target.policy is not known
            or self._timed
            or (may_repeat and self._repeats)
            or inside() is not None
            or (bulkhead := target.bulkhead).used >= target.gate
        ):
            return (await self.run(send, key, may_repeat)).unwrap()
        bulkhead.used += 1
        generation = target.generation
        try:
            value = await send(self._first)
        except Exception as failure:  # noqa: BLE001 - judged
            error = failure
        except BaseException:
            self._leave_unproved(target, generation)
            raise
        else:
            if generation == target.clean:
                bulkhead.used -= 1
                target.quiet += 1
            else:
                self._leave_late(target, generation)
            return value
        try:
            finished = await self._go_on(
                target,
                generation,
                None,
                known,
                NOTHING,
                error,
                send,
                judge_exception,
                None,
                may_repeat,
                True,  # noqa: FBT003
            )
            return finished.unwrap()
        finally:
            del error  # or it would be kept alive by its own traceback

    def guard(
        self,
        key: str = "default",
        *,
        judge: Judge = judge_exception,
        deadline: float = inf,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> "Guard":
        """One attempt around a block, never repeated: `async with resilient.guard("db") as attempt:`.

        Raises:
            CallRejected: on entering, when breaker, bulkhead or limits refuse.
            TimeoutError: on leaving, when the time for the block was over.

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

            async for attempt in resilient.attempts("api", may_repeat=True):
                with attempt:
                    page = await fetch(url)

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
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """Decorate a coroutine function: each call of it is a `run`, unwrapped.

        Args:
            may_repeat: running it twice does no harm. There is no default: only its author knows.
            key: of its target; its module and name unless given.
            on: the exceptions that are worth another attempt; `judge` decides unless given.
            judge: what a value or an exception means.

        Raises:
            TypeError: what is decorated is no coroutine function.

        """
        if on is not None:
            judge = judge_on(*(on if isinstance(on, tuple) else (on,)), judge=judge)

        def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
            if not iscoroutinefunction(function):
                raise TypeError(
                    f"{function!r} is no coroutine function, so asyncio cannot wait for it: "
                    "make it `async def`, or use adapters.threads"
                )
            name = key if key is not None else f"{function.__module__}.{function.__qualname__}"

            @wraps(function)
            async def resilient_function(*args: P.args, **kwargs: P.kwargs) -> T:
                send: Send[T] = lambda _: function(*args, **kwargs)  # noqa: E731
                if judge is judge_exception:
                    return await self.call(send, name, may_repeat)
                return (await self.run(send, name, may_repeat, judge=judge)).unwrap()

            return resilient_function

        return decorate

    def _new_target(self, key: str) -> Target:
        self._running_loop()  # better the first call than the first that fails
        return super()._new_target(key)

    def _begin(self, target: Target, generation: int, repeats: bool) -> "Limit":  # noqa: FBT001
        """The limit of an attempt on the short way. No method of any object is called that could be written out."""
        sweep = self._sweep
        if (
            sweep is None
            or sweep.thread != get_ident()
            or (task := current_task(sweep.loop)) is None
            or sweep.seconds != self._limit
        ):
            self._check_loop(target, generation)
            sweep = self._sweep = Sweep(asyncio.get_running_loop(), self.clock, self._limit)
            task = cast("Task[Any]", current_task(sweep.loop))
        limit = new(Limit)
        limit.number = 1
        limit.clock = self.clock
        limit.repeats = repeats
        limit.over = limit.expired = limit.cut = False
        limit.started_at = now = self.clock()
        limit.deadline = now + sweep.seconds
        limit.task = task
        limit.before = task.cancelling()
        limit.handle = limit.entries = None
        if self._timed:
            limit.entries = entries = sweep.entries
            entries[limit] = None
            if sweep.handle is None:
                sweep.arm(limit)
        limit.mark = INSIDE.set(limit) if repeats else None  # else nobody inside needs to know
        return limit

    async def _go_on(
        self,
        target: Target,
        generation: int,
        limit: "Limit | None",
        policy: Policy,
        value: Any,
        error: Exception | None,
        send: Send[T],
        judge: Judge,
        discard: Discard | None,
        may_repeat: bool,  # noqa: FBT001
        replayable: bool,  # noqa: FBT001
    ) -> Finished[T]:
        """The long way for an attempt of the short one that did not end well."""
        if limit is not None:
            limit.end()
        self._check_loop(target, generation)
        started_at = limit.started_at if limit is not None else None
        attempt = self._adopt(target, generation, started_at, policy, may_repeat=may_repeat, replayable=replayable)
        ride = self._ride(attempt.call, send, judge, discard)
        first = ride.land(attempt, value, error, limit)
        try:
            return await ride.drive(first)
        finally:
            del attempt, error, first, ride  # or an error would be kept alive by its own traceback

    def _check_loop(self, target: Target, generation: int) -> None:
        """Give the slot of the short way back when this is not the loop to wait on."""
        try:
            self._running_loop()
        except RuntimeError:
            self._leave_unproved(target, generation)
            raise

    def _running_loop(self) -> AbstractEventLoop:
        """The loop to wait on, from now on. Another one only when that has stopped."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            error.add_note("adapters.asyncio waits on an asyncio event loop; under trio use adapters.trio")
            raise
        if self._loop is not loop:
            if self._loop is not None and self._loop.is_running():
                raise RuntimeError("this Resilient is in use on another event loop; make one for each loop")
            self._loop = loop
        return loop

    def _ride(
        self, call: Call, send: Send[T] | None = None, judge: Judge = judge_exception, discard: Discard | None = None
    ) -> "Ride[T]":
        kind = Ride if call.policy.hedge is None or call.max_attempts == 1 else HedgedRide
        return kind(self, self._running_loop(), call, send, judge, discard)


def resilient(
    policy: Policy | None = None,
    *,
    may_repeat: bool,
    key: str | None = None,
    on: type[Exception] | tuple[type[Exception], ...] | None = None,
    judge: Judge = judge_exception,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """`Resilient(policy).resilient(...)`: a decorator for a function that shares nothing with others."""
    return Resilient(policy).resilient(may_repeat=may_repeat, key=key, on=on, judge=judge)


# Time limits


class Limit(AttemptView):
    """A time limit on what its task awaits; also what is known of the attempt inside.

    Attributes:
        started_at: of the attempt.
        task: whose attempt it is.
        before: how often that had been cancelled when the attempt began.
        expired: the time was over, and the task has been cancelled for it.
        cut: that, and nothing else, has ended the attempt.
        entries: of the sweep that sees to it, if one does.
        handle: the timer of its own, if it has one.
        mark: what makes `INSIDE` again what it was.

    """

    __slots__ = ("before", "cut", "entries", "expired", "handle", "mark", "started_at", "task")

    # `Resilient._begin` has this written out.
    def __init__(
        self,
        number: int,
        deadline: float,
        clock: Callable[[], float],
        *,
        repeats: bool,
        started_at: float,
        task: Task[Any],
    ) -> None:
        super().__init__(number, deadline, clock, repeats=repeats)
        self.expired = self.cut = False
        self.started_at = started_at
        self.task = task
        self.before = task.cancelling()
        self.handle: TimerHandle | None = None
        self.entries: dict[Limit, None] | None = None
        self.mark: Token[AttemptView | None] | None = INSIDE.set(self)

    def arm(self, loop: AbstractEventLoop) -> None:
        """Have a timer of its own."""
        if self.deadline < inf:
            self.handle = loop.call_later(max(0.0, self.deadline - self.clock()), self._ring, loop)

    def expire(self) -> None:
        """Cancel what the task awaits."""
        self.expired = True
        self.task.cancel()

    def end(self, cause: BaseException | None = None) -> bool:
        """The attempt is over, with `cause` if it was raised. Returns `cut`; again when called again."""
        if self.over:
            return self.cut
        self.over = True
        if self.mark is not None:
            try:
                INSIDE.reset(self.mark)
            except ValueError:
                pass  # closed by the garbage collector, in a context that never saw the mark
        if self.expired:
            # As asyncio.timeout does: a count that is not what it was means that somebody else has cancelled, too.
            if self.task.uncancel() <= self.before:
                self.cut = isinstance(cause, CancelledError)
        elif self.entries is not None:
            del self.entries[self]
        if self.handle is not None:
            self.handle.cancel()
        return self.cut

    def _ring(self, loop: AbstractEventLoop) -> None:
        if self.clock() < self.deadline:  # a loop's timer may be a little early
            self.arm(loop)
        else:
            self.expire()


class Sweep:
    """All limits of the same length on one loop, oldest first, and one timer for the first of them."""

    __slots__ = ("_clock", "entries", "handle", "loop", "seconds", "thread")

    def __init__(self, loop: AbstractEventLoop, clock: Callable[[], float], seconds: float) -> None:
        self.loop = loop
        self.thread = get_ident()
        self.seconds = seconds
        self.entries: dict[Limit, None] = {}
        self.handle: TimerHandle | None = None
        self._clock = clock

    def arm(self, first: Limit) -> None:
        """Wait for the first deadline."""
        self.handle = self.loop.call_later(max(0.0, first.deadline - self._clock()), self._ring)

    def _ring(self) -> None:
        """Expire those whose time is over; then wait for the first of the others, if there is one."""
        now = self._clock()
        self.handle = None
        due = []
        for limit in self.entries:
            if limit.deadline > now:
                self.arm(limit)
                break
            due.append(limit)
        for limit in due:
            del self.entries[limit]
            limit.expire()


# The long way


async def make_attempt(send: Send[T], view: AttemptView) -> tuple[Any, Exception | None]:
    """What `send` gave or raised. A function of its own: an error keeps alive what the frames it crosses know."""
    try:
        return await send(view), None
    except Exception as error:  # noqa: BLE001 - judged
        return NOTHING, error


class Ride(Generic[T]):
    """One call that waits, that failed, or that is more than one attempt: its driver's hands, in its caller's task."""

    __slots__ = (
        "_discard", "_driver", "_drop", "_future", "_handle", "_handle_at", "_judge", "_loop", "_owed", "_send",
        "_woken", "call", "failure", "finished", "owner",
    )  # fmt: skip

    def __init__(
        self,
        owner: Resilient,
        loop: AbstractEventLoop,
        call: Call,
        send: Send[T] | None,
        judge: Judge,
        discard: Discard | None,
    ) -> None:
        self.owner = owner
        self.call = call
        self.finished: Finished[T] | None = None
        self.failure: BaseException | None = None  # what passes through: a cancellation, an interrupt
        self._loop = loop
        self._send = send
        self._judge = judge
        self._discard = discard
        self._driver: Driver[T] | None = None
        self._drop: deque[Any] = deque()  # values to dispose of
        self._owed: Done | None = None  # the report of an attempt that is over
        self._woken = False
        self._future: Future[None] | None = None
        self._handle: TimerHandle | None = None
        self._handle_at = inf
        call.context = self

    def wake(self) -> None:
        """The call was in `core.wakeups`."""
        self._woken = True
        self._stir()

    async def drive(self, first: Input | None) -> Finished[T]:
        """Drive the call to its end; `first` is what has become of an adopted attempt."""
        try:
            wait = await self.advance(self.step(first))
            while wait is not None:
                wait = await self.advance(self.step(await self._attempt(wait)))
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
            wait = self._driver.send(event)
        except StopIteration as stop:
            self.finished = stop.value
            self.close()
            return None
        self.owner.settle()
        self._drop.extend(wait.drop)
        return wait

    async def advance(self, wait: Wait | None) -> Wait | None:
        """Carry out what the driver wants, up to the next attempt; None when the call is over."""
        while wait is not None:
            try:
                event = await self._carry_out(wait)
                if event is None:
                    return wait
            except GeneratorExit:
                raise
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
        call.context = None
        if self._driver is not None:
            self._driver.close()
        call.attempt = call.victim = None  # they know their call, and whoever goes in circles waits for the collector
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.owner.settle()

    def begin(self, wait: Wait) -> Limit:
        """The limit of an attempt in this task."""
        attempt = wait.start
        assert attempt is not None
        repeats = self.owner.repeats(self.call)
        limit = Limit(
            attempt.number,
            wait.until,
            self.owner.clock,
            repeats=repeats,
            started_at=attempt.started_at,
            task=cast("Task[Any]", current_task(self._loop)),
        )
        limit.arm(self._loop)
        return limit

    def land(self, attempt: Attempt, value: Any, error: Exception | None, limit: Limit | None) -> Input:
        """An attempt in this task is over: what to tell the driver."""
        if limit is not None and limit.expired and (value is NOTHING or error is not None):
            self._owed = Done(attempt, TIMEOUT)
            return TIMER
        return report(attempt, self._judge, value, error)

    def fail(self, failure: BaseException, attempt: Attempt | None) -> Input:
        """Something passes through the call: end it. `attempt` ended with it, or was not even begun."""
        if self.failure is None:
            self.failure = failure
        if attempt is not None:
            self._owed = Done(attempt, CANCELLATION)
        return CANCELLED

    def leave(self, wait: Wait, limit: Limit, failure: BaseException | None) -> Wait | None:
        """The attempt was a block of the caller, which has ended. As `step`."""
        attempt = wait.start
        assert attempt is not None
        event: Input
        if limit.end(failure) or isinstance(failure, Exception):
            event = self.land(attempt, NOTHING, failure if isinstance(failure, Exception) else None, limit)
        elif failure is None:
            event = report(attempt, self._judge, None, None)
        else:
            event, self._owed = CANCELLED, Done(attempt, CANCELLATION)
        after = self.step(event)
        if self._owed is not None:
            owed, self._owed = self._owed, None
            after = self.step(owed)
        return after

    async def _attempt(self, wait: Wait) -> Input:
        attempt = wait.start
        assert attempt is not None
        assert self._send is not None
        limit = self.begin(wait)
        value, error = NOTHING, None
        try:
            value, error = await make_attempt(self._send, limit)
        except GeneratorExit:
            raise
        except BaseException as failure:  # noqa: BLE001 - raised again by `result`
            if not limit.end(failure):
                return self.fail(failure, attempt)
        finally:
            limit.end()
        try:
            return self.land(attempt, value, error, limit)
        finally:
            del self, attempt, error, wait  # see `drive`

    async def _carry_out(self, wait: Wait) -> Input | None:
        """Do what the driver wants; what happened then, or None when an attempt in this task is next."""
        await self._dispose()
        if wait.start is not None:
            if wait.start.number > 1:
                await asyncio.sleep(0)  # or a call that has just been cancelled would begin another attempt
            return None
        if self._owed is not None:
            owed, self._owed = self._owed, None
            return owed
        return await self._pause(wait.until)

    async def _dispose(self) -> None:
        while self._drop:
            value = self._drop.popleft()
            if self._discard is not None:
                try:
                    disposed = self._discard(value)
                    if isawaitable(disposed):
                        await disposed
                except Exception:  # noqa: BLE001 - it is nobody's value any more
                    log_failure("discard failed")

    async def _pause(self, until: float) -> Input:
        """Wait for a wake-up, or until an instant."""
        seconds = until - self.owner.clock()
        if seconds > 0 and not self._woken:
            if until < inf and (self._handle is None or until < self._handle_at):
                if self._handle is not None:
                    self._handle.cancel()
                self._handle = self._loop.call_later(seconds, self._ring)
                self._handle_at = until
            self._future = self._loop.create_future()
            try:
                await self._future
            finally:
                self._future = None
        woken, self._woken = self._woken, False
        return WAKEUP if woken else TIMER

    def _ring(self) -> None:
        self._handle = None
        self._stir()

    def _stir(self) -> None:
        """End the pause, if there is one."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class HedgedRide(Ride[T]):
    """A call whose attempts may be in flight together, so each is a task of its own."""

    __slots__ = ("_landed", "_stopped", "_tasks")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._tasks: dict[Attempt, Task[tuple[Any, Exception | None]]] = {}
        self._stopped: set[Attempt] = set()
        self._landed: deque[Done] = deque()

    def close(self) -> None:
        """Also cancel what is under way; there is nothing when the call has ended as it should."""
        for task in self._tasks.values():
            task.cancel()
        super().close()

    def fail(self, failure: BaseException, attempt: Attempt | None) -> Input:
        """The attempt, if it was begun, ends by itself."""
        return super().fail(failure, None if attempt in self._tasks else attempt)

    async def _carry_out(self, wait: Wait) -> Input | None:
        for attempt in wait.stop:
            self._stopped.add(attempt)
            if attempt in self._tasks:
                self._tasks[attempt].cancel()
        await self._dispose()
        if wait.start is not None:
            task = self._loop.create_task(self._fly(wait.start))
            self._tasks[wait.start] = task
            task.add_done_callback(partial(self._ended, wait.start))
        if self._owed is not None:
            owed, self._owed = self._owed, None
            return owed
        if not self._landed:
            event = await self._pause(wait.until)
            if event is WAKEUP or not self._landed:
                return event
        return self._landed.popleft()

    async def _fly(self, attempt: Attempt) -> tuple[Any, Exception | None]:
        assert self._send is not None
        view = AttemptView(attempt.number, attempt.deadline, self.owner.clock, repeats=self.owner.repeats(self.call))
        INSIDE.set(view)
        try:
            return await make_attempt(self._send, view)
        finally:
            view.over = True
            del self, attempt  # see `drive`

    def _ended(self, attempt: Attempt, task: Task[tuple[Any, Exception | None]]) -> None:
        del self._tasks[attempt]
        if task.cancelled():
            if attempt not in self._stopped and self.failure is None:
                self.failure = CancelledError("an attempt was cancelled from inside")
        elif task.exception() is not None:
            self.failure = self.failure or task.exception()
        self._landed.append(
            Done(attempt, CANCELLATION)
            if task.cancelled() or task.exception() is not None
            else report(attempt, self._judge, *task.result())
        )
        self._stir()


# Attempts that are blocks of their caller


class Guard:
    """What `Resilient.guard` returns, for one `async with`."""

    __slots__ = ("_limit", "_make", "_ride", "_wait")

    def __init__(self, make: "Callable[[], Ride[None]]") -> None:
        self._make = make
        self._ride: Ride[None] | None = None
        self._wait: Wait | None = None
        self._limit: Limit | None = None

    async def __aenter__(self) -> AttemptView:
        if self._ride is not None:
            raise LocalProtocolError("a guard is for one block; call guard() for each")
        ride = self._ride = self._make()
        try:
            self._wait = await ride.advance(ride.step(None))
        except GeneratorExit:
            ride.close()
            raise
        if self._wait is None:
            ride.result().unwrap()
            raise AssertionError("a call that was not sent cannot have succeeded")
        self._limit = ride.begin(self._wait)
        return self._limit

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ride, wait, limit = self._ride, self._wait, self._limit
        assert ride is not None
        assert wait is not None
        assert limit is not None
        wait = ride.leave(wait, limit, failure)
        assert wait is None, "a guard has one attempt"
        if limit.cut:
            ride.result().unwrap()  # raises what says that the time is over


class Attempts:
    """What `Resilient.attempts` returns, for one `async for`."""

    __slots__ = ("_block", "_make", "_ride")

    def __init__(self, make: "Callable[[], Ride[None]]") -> None:
        self._make = make
        self._ride: Ride[None] | None = None
        self._block: Block | None = None

    def __aiter__(self) -> "Attempts":
        return self

    async def __anext__(self) -> "Block":
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
            wait = await ride.advance(wait)
        except GeneratorExit:
            ride.close()
            raise
        if wait is None:
            ride.result().unwrap()
            raise StopAsyncIteration
        self._block = Block(ride, wait)
        return self._block

    def __del__(self) -> None:
        if self._ride is not None and self._ride.finished is None:
            self._ride.close()  # the loop was left between two attempts, or before the block of one


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
        return self._limit

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        ride, wait, limit = self._ride, self.wait, self._limit
        assert wait is not None
        assert limit is not None
        self.over = True
        self.wait = ride.leave(wait, limit, failure)
        if ride.finished is None:
            return isinstance(failure, Exception) or limit.cut  # another attempt follows
        if limit.cut:
            ride.finished.unwrap()
        elif isinstance(failure, Exception):
            ride.finished.explain(failure)
        return False
