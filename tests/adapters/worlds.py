"""Three worlds with one face, all in virtual time, so that one scenario can be played in each of them.

A scenario is an `async def` whatever the world: in the world of threads nothing it awaits ever suspends, because what
it awaits blocks its thread. There, threads hand a baton round: one runs until it waits, and when all wait, the clock
jumps to the instant at which the first of them stops waiting.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from math import inf
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing

import adapters.asyncio
import adapters.threads
import adapters.trio
from adapters.calling import INSIDE, AttemptView, Finished
from sansio_client.policy import Policy
from tests.virtual_time import run_virtual

Scenario = Callable[["World"], Coroutine[Any, Any, None]]
PATIENCE = 30.0  # real seconds before a test of threads gives up on a deadlock


def median() -> float:
    """Chance without surprises: back-off waits are half of the most they may be."""
    return 0.5


class World:
    """What scenarios may use."""

    name: str
    module: ModuleType
    hedges = True

    def __init__(self, *, long_way: bool = False) -> None:
        self._long_way = long_way  # make a `Call` for every call from the start, also for those that need none

    def play(self, scenario: Scenario) -> None:
        """Run it to its end, and see that all tasks and threads ended with it."""
        raise NotImplementedError

    def now(self) -> float:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def is_cancelled(self) -> bool:
        """Whether this task will be cancelled as soon as it waits."""
        return False

    async def together(self, *parts: Callable[[], Awaitable[None]]) -> None:
        """Run all at the same time, started in this order; the first failure is raised."""
        raise NotImplementedError

    async def cancel_after(self, seconds: float, hops: int, part: Callable[[], Awaitable[None]]) -> bool:
        """Run `part`, and cancel it after `seconds` and `hops` rounds of the scheduler. Whether that ended it."""
        raise NotImplementedError

    async def limit(self, seconds: float, part: Callable[[], Awaitable[None]]) -> bool:
        """Run `part` for `seconds` at most, as users do it in this world. Whether that ended it."""
        raise NotImplementedError

    def resilient(self, policy: Policy | None = None, **options: Any) -> Any:
        options.setdefault("random", median)
        return self.module.Resilient(policy, clock=self.now, **options)

    async def run(self, resilient: Any, send: Callable[..., Awaitable[Any]], **options: Any) -> Finished[Any]:
        if self._long_way:
            options.setdefault("deadline", float("inf"))
        return await resilient.run(send, **options)  # type: ignore[no-any-return]

    def decorate(self, resilient: Any, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        return resilient.resilient(**options)(function)  # type: ignore[no-any-return]

    async def guard(self, resilient: Any, block: Callable[[AttemptView], Awaitable[None]], **options: Any) -> None:
        async with resilient.guard(**options) as attempt:
            await block(attempt)

    async def attempts(self, resilient: Any, block: Callable[[AttemptView], Awaitable[None]], **options: Any) -> None:
        async for attempt in resilient.attempts(**options):
            with attempt as view:
                await block(view)


class AsyncioWorld(World):
    name = "asyncio"
    module = adapters.asyncio

    def play(self, scenario: Scenario) -> None:
        async def main() -> None:
            await scenario(self)
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"

        run_virtual(main())

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def together(self, *parts: Callable[[], Awaitable[None]]) -> None:
        async def one(part: Callable[[], Awaitable[None]]) -> None:
            await part()

        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(one(part))

    async def cancel_after(self, seconds: float, hops: int, part: Callable[[], Awaitable[None]]) -> bool:
        async def one() -> None:
            await part()

        def cancel(hops: int) -> None:
            if hops:
                loop.call_soon(cancel, hops - 1)
            else:
                task.cancel()

        loop = asyncio.get_running_loop()
        task = loop.create_task(one())
        loop.call_later(seconds, cancel, hops)
        await asyncio.wait([task])
        if not task.cancelled():
            await task
        return task.cancelled()

    async def limit(self, seconds: float, part: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await part()
        except TimeoutError:
            return True
        return False


class TrioWorld(World):
    name = "trio"
    module = adapters.trio

    def play(self, scenario: Scenario) -> None:
        async def main() -> None:
            await scenario(self)
            nurseries = trio.lowlevel.current_task().child_nurseries
            assert not nurseries, "a task was left behind"

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    now = staticmethod(trio.current_time)

    def is_cancelled(self) -> bool:
        return trio.current_effective_deadline() == -inf

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def together(self, *parts: Callable[[], Awaitable[None]]) -> None:
        async def one(part: Callable[[], Awaitable[None]], turn: int) -> None:
            for _ in range(turn):  # trio starts tasks in an order of its own
                await trio.lowlevel.checkpoint()
            await part()

        async with trio.open_nursery() as nursery:
            for turn, part in enumerate(parts):
                nursery.start_soon(one, part, turn)

    async def cancel_after(self, seconds: float, hops: int, part: Callable[[], Awaitable[None]]) -> bool:
        async def cancel() -> None:
            await trio.sleep(seconds)
            for _ in range(hops):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        failure = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            with trio.CancelScope() as scope:
                try:
                    await part()
                except Exception as error:  # noqa: BLE001 - raised below
                    failure = error  # the nursery would wrap it
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return scope.cancelled_caught

    async def limit(self, seconds: float, part: Callable[[], Awaitable[None]]) -> bool:
        with trio.move_on_after(seconds) as scope:
            await part()
        return scope.cancelled_caught


class ThreadsWorld(World):
    name = "threads"
    module = adapters.threads
    hedges = False

    def __init__(self, *, long_way: bool = False) -> None:
        super().__init__(long_way=long_way)
        self.time = ThreadTime()

    def play(self, scenario: Scenario) -> None:
        before = threading.active_count()
        blocking(scenario(self))
        assert threading.active_count() == before, "a thread was left behind"

    def now(self) -> float:
        return self.time.now

    async def sleep(self, seconds: float) -> None:
        self.time.bell().wait(seconds)

    async def together(self, *parts: Callable[[], Awaitable[None]]) -> None:
        failures: list[BaseException] = []
        ended = self.time.bell()
        left = len(parts)

        def one(part: Callable[[], Awaitable[None]]) -> None:
            nonlocal left
            self.time.take_baton()
            try:
                blocking(part())
            except BaseException as failure:  # noqa: BLE001 - raised in the thread of the scenario
                failures.append(failure)
            left -= 1
            if not left:
                ended.set()
            self.time.pass_baton()

        threads = [threading.Thread(target=one, args=(part,), daemon=True) for part in parts]
        for thread in threads:
            self.time.queue(thread)
            thread.start()
        ended.wait()
        for thread in threads:
            thread.join(PATIENCE)
        if failures:
            raise failures[0]

    def resilient(self, policy: Policy | None = None, **options: Any) -> Any:
        return super().resilient(policy, waitable=self.time.bell, **options)

    async def run(self, resilient: Any, send: Callable[..., Awaitable[Any]], **options: Any) -> Finished[Any]:
        if self._long_way:
            options.setdefault("deadline", float("inf"))
        return resilient.run(lambda attempt: blocking(send(attempt)), **options)  # type: ignore[no-any-return]

    def decorate(self, resilient: Any, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        decorated = resilient.resilient(**options)(lambda *values: blocking(function(*values)))

        async def call(*values: Any) -> Any:
            return decorated(*values)

        return call

    async def guard(self, resilient: Any, block: Callable[[AttemptView], Awaitable[None]], **options: Any) -> None:
        with resilient.guard(**options) as attempt:
            await block(attempt)

    async def attempts(self, resilient: Any, block: Callable[[AttemptView], Awaitable[None]], **options: Any) -> None:
        for attempt in resilient.attempts(**options):
            with attempt as view:
                await block(view)


def blocking(awaitable: Awaitable[Any]) -> Any:
    """The value of a coroutine that never suspends."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the world of threads has nothing to suspend for")


class ThreadTime:
    """A clock for threads of which one runs at a time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._changed = threading.Condition()
        self._running: threading.Thread | None = threading.current_thread()
        self._ready: deque[threading.Thread] = deque()
        self._waiting: list[Bell] = []  # with a `thread`, in the order they came

    def bell(self) -> "Bell":
        return Bell(self)

    def queue(self, thread: threading.Thread) -> None:
        """Let it run when its turn comes."""
        self._ready.append(thread)

    def take_baton(self) -> None:
        """Block this thread until its turn comes."""
        me = threading.current_thread()
        with self._changed:
            assert self._changed.wait_for(lambda: self._running is me, PATIENCE), "deadlock"

    def pass_baton(self) -> None:
        """Let the next thread run: one that is ready, else the one whose time is over first."""
        with self._changed:
            if not self._ready:
                first = min(self._waiting, key=lambda bell: bell.until, default=None)
                if first is None or first.until == inf:
                    raise RuntimeError("every thread waits for something that cannot happen")
                self.now = max(self.now, first.until)
                first.release()
            self._running = self._ready.popleft()
            self._changed.notify_all()

    def start_waiting(self, bell: "Bell") -> None:
        self._waiting.append(bell)

    def stop_waiting(self, bell: "Bell") -> None:
        self._waiting.remove(bell)


class Bell:
    """A `Waitable` of a `ThreadTime`, for one waiting thread."""

    def __init__(self, time: ThreadTime) -> None:
        self._time = time
        self._rung = False
        self._thread: threading.Thread | None = None
        self.until = inf

    def set(self) -> None:
        self._rung = True
        if self._thread is not None:
            self.release()

    def clear(self) -> None:
        self._rung = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._rung:
            self.until = inf if timeout is None else self._time.now + timeout
            self._thread = threading.current_thread()
            self._time.start_waiting(self)
            self._time.pass_baton()
            self._time.take_baton()
        return self._rung

    def release(self) -> None:
        assert self._thread is not None
        self._time.stop_waiting(self)
        self._time.queue(self._thread)
        self._thread = None


def _worlds(*kinds: type[World]) -> Any:
    """A mark that plays a test in each world, by the short way and by the long one."""
    return pytest.mark.parametrize(
        "world",
        [
            pytest.param(partial(kind, long_way=long_way), id=f"{kind.name}, {'long' if long_way else 'short'} way")
            for kind in kinds
            for long_way in (False, True)
        ],
    )


every_world = _worlds(AsyncioWorld, TrioWorld, ThreadsWorld)
every_async_world = _worlds(AsyncioWorld, TrioWorld)


def assert_nothing_leaked(resilient: Any) -> None:
    """Every slot, place and permit that was taken has come back, and this code is not inside of any attempt."""
    assert INSIDE.get() is None
    assert not resilient.core.wakeups
    for target in resilient.core.targets.values():
        assert target.in_flight == 0, "a slot was lost"
        assert target.calls == 0, "a call is not over"
        assert target.bulkhead.live == 0, "somebody is in the queue"
        assert not target.parked, "somebody waits for the breaker"
        if target.breaker is not None:
            assert target.breaker._probes_out == 0, "a permit of a half-open breaker was lost"


class Peer:
    """What calls talk to: it answers by a script, one step for each attempt, the last one for all that follow.

    A step is a value, or a class of exception to raise, or a tuple of the seconds it takes and either.
    """

    def __init__(self, world: World, *script: Any) -> None:
        self._world = world
        self._script = list(script)
        self.began: list[float] = []
        self.ended: list[float] = []  # with whatever
        self.numbers: list[int] = []
        self.in_vain = 0

    @property
    def attempts(self) -> int:
        return len(self.began)

    async def __call__(self, attempt: AttemptView | None = None) -> Any:
        step = self._script[min(self.attempts, len(self._script) - 1)]
        seconds, answer = step if isinstance(step, tuple) else (0.0, step)
        self.began.append(self._world.now())
        if self._world.is_cancelled():
            self.in_vain += 1  # an attempt was begun for a call that had been cancelled before
        if attempt is not None:
            self.numbers.append(attempt.number)
        try:
            if seconds:
                await self._world.sleep(seconds)
        finally:
            self.ended.append(self._world.now())
        if isinstance(answer, type) and issubclass(answer, BaseException):
            raise answer(f"attempt {self.attempts}")
        return answer
