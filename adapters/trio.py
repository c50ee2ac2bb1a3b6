"""The world of trio: a call runs in its caller's task, in a cancel scope where it has a limit; only a hedge is a task.

    resilient = Resilient(Policy(attempt_timeout=5.0))
    finished = await resilient.run(lambda attempt: fetch(url), key="api.example", may_repeat=True)
    page = finished.unwrap()

Cancelling the scope around a call ends what is under way, reports it, and is never swallowed nor retried.
"""

import random as chance
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from inspect import isawaitable, iscoroutinefunction
from math import inf
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

import trio

from sansio_client.call import Attempt, Call
from sansio_client.core import Core
from sansio_client.errors import LocalProtocolError
from sansio_client.events import Event
from sansio_client.outcome import CANCELLATION, FAILURE, SUCCESS, TIMEOUT, Outcome
from sansio_client.policy import Policy

from . import calling
from .calling import INSIDE, NOTHING, AttemptView, Base, Finished, Judge, Nested, judge_on, log_failure
from .driver import CANCELLED, TIMER, WAKEUP, Done, Driver, Input, Wait, drive, report

P = ParamSpec("P")
T = TypeVar("T")

Send = Callable[[AttemptView], Awaitable[T]]
Discard = Callable[[Any], object]


def judge_exception(value: object, error: Exception | None) -> Outcome:
    """As `calling.judge_exception`; of trio's own, `TooSlowError` timed out and `BrokenResourceError` is transient."""
    if isinstance(error, trio.TooSlowError):
        return TIMEOUT
    if isinstance(error, trio.BrokenResourceError):
        return FAILURE
    return calling.judge_exception(value, error)


class Resilient(Base):
    """Calls under one policy. Belongs to one run of trio at a time.

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
        core: instead of a policy, to share targets with others in the same run.
        clock: monotonic seconds. Trio's own by default, so that a `MockClock` is all a test needs.
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
        clock: Callable[[], float] = trio.current_time,
        random: Callable[[], float] = chance.random,
        on_event: Callable[[Event], None] | None = None,
        nested: Nested = "once",
    ) -> None:
        super().__init__(policy, core, clock, random, on_event, nested)
        self._first = AttemptView(1, inf, clock, repeats=False)

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
        try:
            target = self._targets[key]
        except KeyError:
            target = self._new_target(key)
        if (
            target.policy is not (known := self._known)
            or policy is not None
            or timeout is not None
            or deadline is not inf  # another infinity takes the long way and comes to the same
            or INSIDE.get() is not None
            or not (generation := target.enter())
        ):
            return await self._ride(
                self._new_call(key, may_repeat, replayable, deadline, timeout, policy), send, judge, discard
            ).drive(None)
        value: Any = NOTHING
        error = limit = outcome = None
        try:
            if not self._timed and not (may_repeat and self._repeats):
                value = await send(self._first)
            else:
                now = self.clock()
                repeats = may_repeat and replayable and self._repeats
                with Limit(1, now + self._limit, self.clock, repeats=repeats, started_at=now) as limit:
                    value = await send(limit)
            if value is not NOTHING:  # else its time is over
                outcome = SUCCESS if judge is judge_exception else judge(value, None)
        except Exception as failure:  # noqa: BLE001 - judged below
            error = failure
        except BaseException:
            self._leave_unproved(target, generation)
            raise
        else:
            if outcome is SUCCESS:
                if not target.leave(generation):
                    self._leave_late(target, generation)
                return Finished(value)
        started_at = limit.started_at if limit is not None else None
        attempt = self._adopt(target, generation, started_at, known, may_repeat=may_repeat, replayable=replayable)
        ride = self._ride(attempt.call, send, judge, discard)
        try:
            return await ride.drive(ride.land(attempt, value, error, limit))
        finally:
            del attempt, error, ride  # or an error would be kept alive by its own traceback

    async def call(self, send: Send[T], key: str = "default", may_repeat: bool = False) -> T:  # noqa: FBT001, FBT002
        """The value of `run(send, key, may_repeat)`, or what its `unwrap()` raises."""
        return (await self.run(send, key, may_repeat)).unwrap()

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
                    f"{function!r} is no coroutine function, so trio cannot wait for it: "
                    "make it `async def`, or use adapters.threads"
                )
            name = key if key is not None else f"{function.__module__}.{function.__qualname__}"

            @wraps(function)
            async def resilient_function(*args: P.args, **kwargs: P.kwargs) -> T:
                send: Send[T] = lambda _: function(*args, **kwargs)  # noqa: E731 - a def would be slower
                return (await self.run(send, key=name, may_repeat=may_repeat, judge=judge)).unwrap()

            return resilient_function

        return decorate

    def _ride(
        self, call: Call, send: Send[T] | None = None, judge: Judge = judge_exception, discard: Discard | None = None
    ) -> "Ride[T]":
        kind = Ride if call.policy.hedge is None or call.max_attempts == 1 else HedgedRide
        return kind(self, call, send, judge, discard)


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
    """A time limit on a block of its task; also what is known of the attempt inside.

    Attributes:
        started_at: of the attempt.
        expired: the time was over before the block.
        cut: that, and nothing else, has ended the block.

    """

    __slots__ = ("_mark", "_scope", "cut", "expired", "started_at")

    def __init__(
        self, number: int, deadline: float, clock: Callable[[], float], *, repeats: bool, started_at: float
    ) -> None:
        super().__init__(number, deadline, clock, repeats=repeats)
        self.started_at = started_at
        self.expired = self.cut = False
        self._scope = trio.CancelScope(deadline=trio_time(deadline, clock))

    def __enter__(self) -> Self:
        self._mark = INSIDE.set(self)
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.over = True
        INSIDE.reset(self._mark)
        try:
            self.cut = self._scope.__exit__(kind, failure, traceback)
        finally:
            self.expired = self._scope.cancel_called
        return self.cut

    def end(self, failure: BaseException | None) -> BaseException | None:
        """Leave a block that ended with `failure`; what is left of that without this limit's own cancellation."""
        try:
            self.__exit__(type(failure) if failure is not None else None, failure, None)
        except BaseException as rest:  # noqa: BLE001 - for the caller to raise: the other exceptions of a group
            return rest
        return None if self.cut else failure


def trio_time(at: float, clock: Callable[[], float]) -> float:
    """An instant of `clock` on trio's own."""
    return at if at == inf or clock is trio.current_time else trio.current_time() + (at - clock())


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
        self._bell: trio.Event | None = None
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
        self.owner.settle()

    def begin(self, wait: Wait) -> Limit:
        """The limit of an attempt in this task."""
        attempt = wait.start
        assert attempt is not None
        repeats = self.owner.repeats(self.call)
        return Limit(attempt.number, wait.until, self.owner.clock, repeats=repeats, started_at=attempt.started_at)

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
        if limit.cut or isinstance(failure, Exception):
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
            with limit:
                value, error = await make_attempt(self._send, limit)
        except GeneratorExit:
            raise
        except Exception as rest:  # noqa: BLE001 - a group, less the cancellation of this limit
            error = rest
        except BaseException as failure:  # noqa: BLE001 - raised again by `result`
            return self.fail(failure, attempt)
        try:
            return self.land(attempt, value, error, limit)
        finally:
            del self, attempt, error, wait  # see `drive`

    async def _carry_out(self, wait: Wait) -> Input | None:
        """Do what the driver wants; what happened then, or None when an attempt in this task is next."""
        await self._dispose()
        if wait.start is not None:
            await trio.lowlevel.checkpoint_if_cancelled()  # or a cancelled call would begin another attempt
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
        clock = self.owner.clock
        if until > clock() and not self._woken:
            self._bell = trio.Event()
            # When the caller's cancellation has come already, only the ends of attempts are awaited, and it waits, too.
            with trio.CancelScope(deadline=trio_time(until, clock), shield=self.failure is not None):
                await self._bell.wait()
            self._bell = None
        woken, self._woken = self._woken, False
        return WAKEUP if woken else TIMER

    def _stir(self) -> None:
        """End the pause, if there is one."""
        if self._bell is not None:
            self._bell.set()


class HedgedRide(Ride[T]):
    """A call whose attempts may be in flight together, so each is a task of its own."""

    __slots__ = ("_landed", "_nursery", "_scopes")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._nursery: trio.Nursery | None = None
        self._scopes: dict[Attempt, trio.CancelScope] = {}
        self._landed: deque[Done] = deque()

    async def drive(self, first: Input | None) -> Finished[T]:
        """As of any ride. The nursery is left empty, so it has nothing to raise or to wrap."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self.advance(self.step(first))
            return self.result()
        finally:
            self.close()
            # An error keeps alive all frames it came through, and those they were called from: not this call as well.
            del self, first

    def fail(self, failure: BaseException, attempt: Attempt | None) -> Input:
        """The attempt, if it was begun, ends by itself."""
        return super().fail(failure, None if attempt in self._scopes else attempt)

    async def _carry_out(self, wait: Wait) -> Input | None:
        for attempt in wait.stop:
            if attempt in self._scopes:
                self._scopes[attempt].cancel()
        await self._dispose()
        if wait.start is not None:
            assert self._nursery is not None
            self._scopes[wait.start] = trio.CancelScope()
            self._nursery.start_soon(self._fly, wait.start)
        if self._owed is not None:
            owed, self._owed = self._owed, None
            return owed
        if not self._landed:
            event = await self._pause(wait.until)
            if event is WAKEUP or not self._landed:
                return event
        return self._landed.popleft()

    async def _fly(self, attempt: Attempt) -> None:
        """An attempt in a task of its own. It raises nothing: what passes through is raised in the caller's task."""
        assert self._send is not None
        view = AttemptView(attempt.number, attempt.deadline, self.owner.clock, repeats=self.owner.repeats(self.call))
        INSIDE.set(view)
        value, error = NOTHING, None
        try:
            with self._scopes[attempt]:
                await trio.lowlevel.checkpoint_if_cancelled()  # a task begins even when it has been cancelled before
                value, error = await make_attempt(self._send, view)
        except Exception as rest:  # noqa: BLE001 - a group, less the cancellation of this attempt
            error = rest
        except BaseException as failure:  # noqa: BLE001 - raised again by `result`
            self.failure = self.failure or failure
        view.over = True
        del self._scopes[attempt]
        if value is NOTHING and error is None:
            self._landed.append(Done(attempt, CANCELLATION))
        else:
            self._landed.append(report(attempt, self._judge, value, error))
        self._stir()
        del self, attempt, error  # see `drive`


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
        return self._limit.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ride, wait, limit = self._ride, self._wait, self._limit
        assert ride is not None
        assert wait is not None
        assert limit is not None
        rest = limit.end(failure)
        wait = ride.leave(wait, limit, rest)
        assert wait is None, "a guard has one attempt"
        if limit.cut:
            ride.result().unwrap()  # raises what says that the time is over
        if rest is not None and rest is not failure:
            raise rest


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
        return self._limit.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        ride, wait, limit = self._ride, self.wait, self._limit
        assert wait is not None
        assert limit is not None
        self.over = True
        rest = limit.end(failure)
        self.wait = ride.leave(wait, limit, rest)
        if ride.finished is None:
            return failure is not None  # another attempt follows
        if limit.cut:
            ride.finished.unwrap()
        elif isinstance(rest, Exception):
            ride.finished.explain(rest)
        if rest is not None and rest is not failure:
            raise rest
        return False
