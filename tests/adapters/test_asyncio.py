"""What only asyncio has: cancellation that is counted, timers and results in one iteration, loops that come and go."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any

import pytest
import trio

import adapters.asyncio
from adapters.asyncio import Resilient
from adapters.calling import AttemptView, current_attempt
from sansio_client.backoff import FullJitter, NoBackoff
from sansio_client.breaker import BreakerSettings
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.errors import DeadlineExceeded
from sansio_client.policy import Hedge, Policy
from tests.adapters.worlds import AsyncioWorld, Peer, assert_nothing_leaked
from tests.virtual_time import VirtualTimeLoop, run_virtual

WORLD = AsyncioWorld()


def virtual(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    WORLD.play(lambda _: scenario())


def after(seconds: float, hops: int, action: Callable[[], object]) -> None:
    """Do it after `seconds` and `hops` iterations of the loop."""
    loop = asyncio.get_running_loop()

    def hop(hops: int) -> None:
        if hops:
            loop.call_soon(hop, hops - 1)
        else:
            action()

    loop.call_later(seconds, hop, hops)


async def wait_for_ever(_: object) -> None:
    await asyncio.sleep(1e6)


# By the way that makes a `Call` from the start, and by the one that makes it when something has happened.
both_ways = pytest.mark.parametrize(
    "way", [pytest.param({"deadline": float("inf")}, id="long way"), pytest.param({}, id="short way")]
)


# Whose cancellation it was


@both_ways
@pytest.mark.parametrize("hops", range(4))
def test_the_callers_cancellation_wins_over_a_deadline_of_the_same_instant(way: dict[str, Any], hops: int) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=2.0))
        reasons = []
        for _ in range(2):
            task = asyncio.current_task()
            assert task is not None
            try:
                async with asyncio.timeout(None) as outer:
                    after(2.0, hops, lambda: outer.reschedule(asyncio.get_running_loop().time()))
                    reasons.append((await resilient.run(wait_for_ever, **way)).reason)
                    await asyncio.sleep(5.0)
            except TimeoutError:
                reasons.append("timeout")
            assert task.cancelling() == 0
            assert_nothing_leaked(resilient)
        assert reasons in (["timeout"] * 2, ["deadline", "timeout"] * 2)
        assert hops or reasons == ["timeout"] * 2

    virtual(scenario)


@both_ways
def test_nested_timeouts_of_the_same_instant_all_end(way: dict[str, Any]) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=2.0))
        inner = WORLD.resilient(Policy(attempt_timeout=2.0))
        ends = []
        for _ in range(2):
            try:
                async with asyncio.timeout(2.0):
                    await resilient.run(lambda _: inner.run(wait_for_ever, **way), **way)
            except TimeoutError:
                ends.append(WORLD.now())
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert [at - 1000.0 for at in ends] == [2.0, 4.0]
        for each in (resilient, inner):
            assert_nothing_leaked(each)

    virtual(scenario)


@both_ways
def test_a_deadline_works_in_a_task_that_has_been_cancelled_before(way: dict[str, Any]) -> None:
    """Cleaning up after a cancellation, `cancelling()` is 1 already: the count is compared, not looked at."""

    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=2.0))
        reasons = []

        async def cancelled() -> None:
            try:
                await asyncio.sleep(50.0)
            finally:
                for _ in range(2):
                    reasons.append((await resilient.run(wait_for_ever, **way)).reason)

        task = asyncio.create_task(cancelled())
        after(1.0, 0, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()
        assert reasons == ["deadline"] * 2
        assert WORLD.now() - 1000.0 == 1.0 + 2.0 * 2

    virtual(scenario)


@both_ways
def test_a_task_group_that_fails_ends_its_calls(way: dict[str, Any]) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=20.0))
        peer = Peer(WORLD, "page", (50.0, "late"))

        async def call() -> None:
            for _ in range(2):
                await resilient.run(peer, may_repeat=True, **way)

        async def fail() -> None:
            await asyncio.sleep(1.0)
            raise KeyError

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(call())
                group.create_task(fail())

        with pytest.raises(ExceptionGroup) as caught:
            await together()
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert (WORLD.now() - 1000.0, peer.attempts) == (1.0, 2)
        assert_nothing_leaked(resilient)

    virtual(scenario)


@both_ways
@pytest.mark.parametrize("hops", range(4))
def test_a_result_that_comes_with_the_deadline_is_one_or_the_other(way: dict[str, Any], hops: int) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=2.0))
        for _ in range(2):
            answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            after(2.0, hops, lambda: answer.done() or answer.set_result("page"))  # noqa: B023 - called in this round
            finished = await resilient.run(lambda _: answer, **way)  # noqa: B023
            assert (finished.reason, finished.value) in (("ok", "page"), ("deadline", None))
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            assert_nothing_leaked(resilient)
            await asyncio.sleep(1.0)

    virtual(scenario)


@both_ways
def test_what_an_attempt_makes_of_its_cancellation(way: dict[str, Any]) -> None:
    """A value counts, late as it is; any exception is the time being over."""

    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=2.0))

        async def stubborn(_: object) -> str:
            try:
                await asyncio.sleep(50.0)
            except asyncio.CancelledError:
                return "page"
            raise AssertionError

        async def converting(_: object) -> str:
            try:
                await asyncio.sleep(50.0)
            except asyncio.CancelledError:
                raise KeyError from None
            raise AssertionError

        task = asyncio.current_task()
        assert task is not None
        for _ in range(2):
            assert (await resilient.run(stubborn, **way)).unwrap() == "page"
            assert task.cancelling() == 0
        for _ in range(2):
            finished = await resilient.run(converting, **way)
            with pytest.raises(DeadlineExceeded):
                finished.unwrap()
            assert task.cancelling() == 0
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_what_a_block_makes_of_its_cancellation_is_raised() -> None:
    class Leaving(BaseException):
        pass

    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=2.0))
        task = asyncio.current_task()
        assert task is not None
        for kind in (KeyError, Leaving):

            async def block(_: object, kind: type[BaseException] = kind) -> None:
                try:
                    await asyncio.sleep(50.0)
                except asyncio.CancelledError:
                    raise kind from None

            with pytest.raises(kind):
                await WORLD.guard(resilient, block)
            with pytest.raises(kind):
                await WORLD.attempts(resilient, block, may_repeat=True)
            assert task.cancelling() == 0
            assert_nothing_leaked(resilient)
        for way in ({}, {"deadline": float("inf")}):
            with pytest.raises(Leaving):
                await resilient.run(block, **way)
            assert task.cancelling() == 0
            assert_nothing_leaked(resilient)

    virtual(scenario)


def test_an_attempt_that_is_cancelled_from_inside_ends_the_call_as_cancelled() -> None:
    async def scenario() -> None:
        async def send(_: object) -> None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        for policy in (Policy(), Policy(hedge=Hedge(after=1.0))):
            resilient = WORLD.resilient(policy)
            for _ in range(2):
                with pytest.raises(asyncio.CancelledError):
                    await resilient.run(send, may_repeat=True)
                assert_nothing_leaked(resilient)

    virtual(scenario)


def test_a_call_that_is_cancelled_in_the_iteration_of_its_grant_passes_the_slot_on() -> None:
    """P29: the holder leaves, which wakes the next, and cancels it before that has run."""

    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(bulkhead=BulkheadSettings(limit=1)))
        peer = Peer(WORLD, "never")
        order: list[str] = []

        async def holder() -> None:
            await resilient.run(Peer(WORLD, (1.0, "first")))
            assert resilient.core.targets["default"].in_flight == 1, "it has been handed over"
            second.cancel()

        async def third() -> None:
            await asyncio.sleep(0.5)
            order.append((await resilient.run(Peer(WORLD, "third"))).unwrap())

        first = asyncio.create_task(holder())
        await asyncio.sleep(0)
        second = asyncio.create_task(resilient.run(peer))
        await asyncio.gather(first, asyncio.create_task(third()))
        assert second.cancelled()
        assert (peer.attempts, order, WORLD.now() - 1000.0) == (0, ["third"], 1.0)
        assert_nothing_leaked(resilient)

    virtual(scenario)


@both_ways
def test_a_call_that_is_cancelled_by_its_own_attempt_makes_no_other(way: dict[str, Any]) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(backoff=NoBackoff()))
        numbers = []

        async def send(attempt: AttemptView) -> None:
            numbers.append(attempt.number)
            task.cancel()
            raise ConnectionResetError

        task = asyncio.create_task(resilient.run(send, may_repeat=True, **way))
        await asyncio.wait([task])
        assert task.cancelled()
        assert numbers == [1]
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_a_coroutine_that_is_closed_wherever_it_waits_gives_everything_back() -> None:
    async def scenario() -> None:
        policy = Policy(
            bulkhead=BulkheadSettings(limit=1, queue_timeout=inf),
            breaker=BreakerSettings(consecutive_failures=2, open_seconds=2.0, open_jitter=0.0),
            backoff=FullJitter(base_seconds=2.0, multiplier=1.0),
        )
        for at in (0.5, 1.5, 2.5, 3.5, 4.5, 6.5):
            resilient = WORLD.resilient(policy)
            peer = Peer(WORLD, (1.0, ConnectionResetError), (1.0, ConnectionResetError), (1.0, "page"))

            async def other(resilient: Any = resilient) -> None:
                await resilient.run(Peer(WORLD, (1.0, "first")))

            async def call(resilient: Any = resilient, peer: Any = peer) -> None:
                await resilient.run(peer, may_repeat=True)

            first = asyncio.create_task(other())
            await asyncio.sleep(0)
            coroutine = call()
            stepper = asyncio.create_task(step(coroutine, at))
            await stepper
            coroutine.close()
            await first
            assert_nothing_leaked(resilient)
        for run in (1, 2):
            resilient = WORLD.resilient(policy)
            for _ in range(run - 1):
                await resilient.run(Peer(WORLD, "page"))
            coroutine = resilient.run(Peer(WORLD, (1.0, "late")), may_repeat=True)
            coroutine.send(None)
            coroutine.close()
            assert_nothing_leaked(resilient)

    async def step(coroutine: Coroutine[Any, Any, None], seconds: float) -> None:
        """Drive a coroutine for so long, as its task would."""
        try:
            async with asyncio.timeout(seconds):
                await Yielding(coroutine)
        except TimeoutError:
            return
        raise AssertionError("it ended before")

    virtual(scenario)


class Yielding:
    """Awaits what a coroutine awaits, but keeps cancellation from it."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Any:
        while True:
            try:
                future = self.coroutine.send(None)
            except StopIteration:
                return
            if future is None:
                yield
            else:
                yield from asyncio.wait([future]).__await__()


# Hedges


def test_a_hedged_call_whose_coroutine_is_closed_cancels_its_attempts() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(hedge=Hedge(after=1.0)))
        peer = Peer(WORLD, (50.0, "late"))
        coroutine = resilient.run(peer, may_repeat=True)
        coroutine.send(None)
        await asyncio.sleep(0.5)
        coroutine.close()
        await asyncio.sleep(0.25)
        assert [at - 1000.0 for at in peer.ended] == [0.5]
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_the_first_of_several_cancellations_is_what_is_raised() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(hedge=Hedge(after=1.0)))

        async def send(_: object) -> None:
            try:
                await asyncio.sleep(50.0)
            finally:
                await asyncio.sleep(1.0)

        task = asyncio.create_task(resilient.run(send, may_repeat=True))
        after(0.5, 0, lambda: task.cancel("first"))
        after(0.75, 0, lambda: task.cancel("second"))
        with pytest.raises(asyncio.CancelledError, match="first"):
            await task
        assert (WORLD.now() - 1000.0, task.cancelling()) == (1.5, 2)
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_p38_a_loser_that_answers_all_the_same_is_disposed_of() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(hedge=Hedge(after=1.0)))
        dropped: list[Any] = []

        async def discard(value: Any) -> None:
            await asyncio.sleep(0.25)
            dropped.append(value)

        async def send(attempt: AttemptView) -> str:
            if attempt.number == 1:
                try:
                    await asyncio.sleep(50.0)
                except asyncio.CancelledError:
                    await asyncio.sleep(1.0)
                    return "stubborn"
            return "winner"

        finished = await resilient.run(send, may_repeat=True, discard=discard)
        assert (finished.unwrap(), dropped) == ("winner", ["stubborn"])
        assert WORLD.now() - 1000.0 == 2.25
        assert_nothing_leaked(resilient)
        # The caller is cancelled while it waits for the loser: the winner's value is nobody's either.
        dropped.clear()
        assert await WORLD.cancel_after(1.5, 0, lambda: resilient.run(send, may_repeat=True, discard=discard))
        assert sorted(dropped) == ["stubborn", "winner"]
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_what_is_no_exception_passes_through_a_hedged_call_and_ends_the_others() -> None:
    class Leaving(BaseException):
        pass

    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(hedge=Hedge(after=1.0)))
        peer = Peer(WORLD, (50.0, "late"), (1.0, Leaving))
        with pytest.raises(Leaving):
            await resilient.run(peer, may_repeat=True)
        assert [at - 1000.0 for at in peer.ended] == [2.0, 2.0]
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_attempts_of_a_hedged_call_know_what_they_are() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(hedge=Hedge(after=1.0), attempt_timeout=4.0))
        known = []

        async def send(attempt: AttemptView) -> None:
            assert current_attempt() is attempt
            known.append((attempt.number, attempt.deadline - WORLD.now(), attempt.repeats))
            await asyncio.sleep(50.0 if attempt.number == 1 else 0.0)

        await resilient.run(send, may_repeat=True)
        assert known == [(1, 4.0, True), (2, 4.0, True)]
        assert current_attempt() is None

    virtual(scenario)


@pytest.mark.parametrize("hedge", [None, Hedge(after=1.0)])
def test_what_outlives_its_attempt_is_not_inside_it_any_more(hedge: Hedge | None) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=5.0, backoff=NoBackoff(), hedge=hedge))
        peer = Peer(WORLD, ConnectionResetError)
        tasks = []

        async def later() -> None:
            await asyncio.sleep(10.0)
            assert current_attempt() is None
            await resilient.run(peer, key="later", may_repeat=True)

        async def send(_: object) -> None:
            tasks.append(asyncio.create_task(later()))

        await resilient.run(send, may_repeat=True)
        await resilient.run(send, may_repeat=True)
        await asyncio.gather(*tasks)
        assert peer.attempts == 6

    virtual(scenario)


# One timer for all deadlines


class CountingLoop(VirtualTimeLoop):
    """Counts what is asked of it."""

    tasks = timers = 0

    def create_task(self, *args: Any, **kwargs: Any) -> Any:
        self.tasks += 1
        return super().create_task(*args, **kwargs)

    def call_at(self, *args: Any, **kwargs: Any) -> Any:
        self.timers += 1
        return super().call_at(*args, **kwargs)


@pytest.mark.parametrize("may_repeat", [False, True])
@pytest.mark.parametrize("policy", [Policy(total_timeout=inf), Policy(), Policy(attempt_timeout=5.0)])
def test_the_short_way_makes_no_task_and_no_timer_of_its_own(policy: Policy, may_repeat: bool) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        resilient = Resilient(policy, clock=loop.time)

        async def send(_: object) -> str:
            return "page"

        for _ in range(2):
            await resilient.run(send, may_repeat=may_repeat)
        loop.tasks = loop.timers = 0
        for _ in range(1000):
            await resilient.run(send, may_repeat=may_repeat)
        assert (loop.tasks, loop.timers) == (0, 0)  # the one of the second call still serves them all

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(scenario())


def test_one_timer_ends_every_call_at_its_own_deadline() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=2.0, breaker=None))
        await resilient.run(Peer(WORLD, "page"))
        ends: dict[int, tuple[str, float]] = {}

        async def call(number: int) -> None:
            await asyncio.sleep(number / 16)
            began_at = WORLD.now()
            finished = await resilient.run(Peer(WORLD, (1.0 if number % 3 else 50.0, "page")))
            ends[number] = (finished.reason, WORLD.now() - began_at)

        async with asyncio.TaskGroup() as group:
            for number in range(99):
                group.create_task(call(number))
        assert ends == {number: ("ok", 1.0) if number % 3 else ("deadline", 2.0) for number in range(99)}
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_another_policy_has_limits_of_another_length() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=8.0, breaker=None))
        ends: list[tuple[str, float]] = []

        async def call() -> None:
            finished = await resilient.run(wait_for_ever)
            ends.append((finished.reason, WORLD.now() - 1000.0))

        async with asyncio.TaskGroup() as group:
            for seconds in (8.0, 8.0, 2.0, 4.0):
                resilient.core.reconfigure(Policy(total_timeout=seconds, breaker=None), WORLD.now())
                await resilient.run(Peer(WORLD, "page"))
                group.create_task(call())
                await asyncio.sleep(0)
        assert ends == [("deadline", 2.0), ("deadline", 4.0), ("deadline", 8.0), ("deadline", 8.0)]

    virtual(scenario)


# Loops


def test_one_resilient_serves_one_loop_after_the_other() -> None:
    clock = [0.0]
    resilient = Resilient(Policy(total_timeout=2.0), clock=lambda: clock[0] + asyncio.get_running_loop().time())

    async def main() -> list[str]:
        asyncio.get_running_loop()
        return [
            (await resilient.run(Peer(WORLD, "page"))).reason,
            (await resilient.run(wait_for_ever)).reason,
            (await resilient.run(wait_for_ever)).reason,
            (await resilient.run(Peer(WORLD, ConnectionResetError, "page"), may_repeat=True)).reason,
        ]

    for _ in range(2):
        assert run_virtual(main()) == ["ok", "deadline", "deadline", "ok"]
        clock[0] += 1000.0
    assert_nothing_leaked(resilient)


def test_two_loops_at_once_are_refused_and_lose_no_slot() -> None:
    resilient = Resilient()
    errors: list[BaseException] = []

    async def elsewhere() -> None:
        for call in (Peer(WORLD, "page"), Peer(WORLD, ConnectionResetError)):
            try:
                await resilient.run(call)
            except RuntimeError as error:
                errors.append(error)

    async def main() -> None:
        for _ in range(2):
            await resilient.run(Peer(WORLD, "page"))
        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        thread.join()

    asyncio.run(main())
    assert [str(error) for error in errors] == [
        "this Resilient is in use on another event loop; make one for each loop"
    ] * 2
    assert_nothing_leaked(resilient)


@pytest.mark.parametrize("policy", [Policy(), Policy(total_timeout=inf)])
def test_p47_under_trio_it_says_what_to_use_instead(policy: Policy) -> None:
    resilient = Resilient(policy)

    async def fail(_: object) -> None:
        raise ConnectionRefusedError

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError) as caught:
                await resilient.run(fail)
            assert caught.value.__notes__ == [
                "adapters.asyncio waits on an asyncio event loop; under trio use adapters.trio"
            ]

    async def prepare() -> None:
        await resilient.run(lambda _: asyncio.sleep(0))

    trio.run(main)
    asyncio.run(prepare())  # now there is a target, and the short way to it
    trio.run(main)
    assert_nothing_leaked(resilient)


# Functions


def test_p8_a_plain_function_is_refused_by_name() -> None:
    def plain() -> None: ...

    async def generator() -> Any:
        yield

    for function in (plain, generator, print):
        with pytest.raises(TypeError, match=r"async def.*adapters\.threads"):
            adapters.asyncio.resilient(may_repeat=True)(function)  # type: ignore[type-var]


def test_a_decorated_function_keeps_its_name_and_has_a_target_of_its_own() -> None:
    resilient = Resilient()

    @resilient.resilient(may_repeat=False)
    async def fetch(url: str, *, size: int = 1) -> tuple[str, int]:
        """Fetch it."""
        return url, size

    @adapters.asyncio.resilient(Policy(max_attempts=1), may_repeat=True, on=KeyError)
    async def alone() -> None:
        raise KeyError

    async def main() -> None:
        for _ in range(2):
            assert await fetch("here", size=3) == ("here", 3)
            with pytest.raises(KeyError):
                await alone()

    asyncio.run(main())
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch it.")
    assert list(resilient.core.targets) == [f"{fetch.__module__}.{fetch.__qualname__}"]


def test_a_decorated_function_leaves_no_time_limit_behind() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=2.0, bulkhead=BulkheadSettings(limit=1)))
        order: list[int] = []

        @resilient.resilient(may_repeat=True)
        async def page(number: int, seconds: float) -> None:
            order.append(number)
            await asyncio.sleep(seconds)

        await page(0, 1.0)
        await asyncio.sleep(5.0)  # and is not cancelled
        await asyncio.gather(page(1, 0.5), page(2, 0.5), page(3, 0.5))
        assert order == [0, 1, 2, 3]
        with pytest.raises(DeadlineExceeded):
            await page(4, 50.0)
        assert await WORLD.limit(1.0, lambda: page(5, 50.0))
        assert_nothing_leaked(resilient)

    virtual(scenario)


# Memory


@both_ways
def test_what_failed_is_not_kept_alive_by_its_own_traceback(way: dict[str, Any]) -> None:
    class Something:
        pass

    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(backoff=NoBackoff(), breaker=None))
        kept: list[weakref.ref[Something]] = []

        async def send(_: object) -> None:
            something = Something()
            kept.append(weakref.ref(something))
            raise ConnectionResetError

        async def call() -> None:
            for _ in range(2):
                try:
                    (await resilient.run(send, may_repeat=True, **way)).unwrap()
                except ConnectionResetError:
                    pass

        gc.collect()
        gc.disable()
        try:
            await call()
            assert [ref() for ref in kept] == [None] * 3 * 2
        finally:
            gc.enable()

    virtual(scenario)


def test_a_thousand_calls_leave_nothing_in_memory() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(backoff=NoBackoff(), hedge=Hedge(after=1.0), breaker=None, budget=None))

        async def calls(count: int) -> None:
            for number in range(count):
                peer = Peer(WORLD, *[(2.0, ConnectionResetError)] * (number % 3), "page")
                await resilient.run(peer, may_repeat=True)

        await calls(20)
        gc.collect()
        before = len(gc.get_objects())
        await calls(200)
        gc.collect()
        assert len(gc.get_objects()) - before < 50

    virtual(scenario)
