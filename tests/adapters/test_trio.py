"""What only trio has: cancel scopes, nurseries and the groups they raise, a clock of its own."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any

import pytest
import trio
import trio.testing

import adapters.trio
from adapters import calling
from adapters.calling import AttemptView, current_attempt
from adapters.trio import Resilient, judge_exception
from sansio_client.backoff import FullJitter, NoBackoff
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.errors import DeadlineExceeded
from sansio_client.outcome import FAILURE, TIMEOUT
from sansio_client.policy import Hedge, Policy
from tests.adapters.worlds import Peer, TrioWorld, assert_nothing_leaked

WORLD = TrioWorld()

both_ways = pytest.mark.parametrize(
    "way", [pytest.param({"deadline": float("inf")}, id="long way"), pytest.param({}, id="short way")]
)


def virtual(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    WORLD.play(lambda _: scenario())


def test_the_table_knows_what_trio_raises() -> None:
    assert judge_exception(None, trio.TooSlowError()) is TIMEOUT
    assert judge_exception(None, trio.BrokenResourceError()) is FAILURE
    assert judge_exception(None, trio.ClosedResourceError()) is calling.UNKNOWN
    assert judge_exception(None, TimeoutError()) is TIMEOUT


@both_ways
def test_a_limit_of_trio_inside_an_attempt_is_a_failure_worth_repeating(way: dict[str, Any]) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(backoff=NoBackoff()))
        attempts = []

        async def send(attempt: AttemptView) -> str:
            attempts.append(attempt.number)
            with trio.fail_after(1.0):
                await trio.sleep(5.0 if attempt.number < 3 else 0.0)
            return "page"

        assert (await resilient.run(send, may_repeat=True, **way)).unwrap() == "page"
        assert (attempts, trio.current_time()) == ([1, 2, 3], 2.0)

    virtual(scenario)


# Groups


async def children_that_fail(_: object = None) -> None:
    """Whose time is over, and which answer that with an error of their own."""

    async def child() -> None:
        try:
            await trio.sleep(50.0)
        finally:
            raise KeyError("closing failed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
        nursery.start_soon(trio.sleep, 50.0)


@both_ways
def test_a_group_of_cancellation_and_errors_is_the_time_being_over(way: dict[str, Any]) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=2.0, breaker=None))
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                (await resilient.run(children_that_fail, may_repeat=True, **way)).unwrap()
        assert trio.current_time() == 4.0
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_what_else_a_block_raises_when_its_time_is_over_is_raised() -> None:
    async def guard(resilient: Any) -> None:
        async with resilient.guard():
            await children_that_fail()

    async def attempts(resilient: Any) -> None:
        async for attempt in resilient.attempts(may_repeat=True):
            with attempt:
                await children_that_fail()

    async def scenario() -> None:
        for use in (guard, attempts):
            resilient = WORLD.resilient(Policy(total_timeout=2.0, breaker=None))
            with pytest.raises(ExceptionGroup) as caught:
                await use(resilient)
            assert [type(error) for error in caught.value.exceptions] == [KeyError]
            assert_nothing_leaked(resilient)

    virtual(scenario)


@both_ways
def test_the_callers_cancellation_passes_with_what_it_is_grouped_with(way: dict[str, Any]) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=20.0))
        for _ in range(2):
            with trio.move_on_after(2.0):
                finished = await resilient.run(children_that_fail, may_repeat=True, **way)
                raise finished.error
            assert_nothing_leaked(resilient)

    with pytest.raises(ExceptionGroup):
        virtual(scenario)


def test_what_is_no_exception_passes_through_a_hedged_call_ungrouped_and_ends_the_others() -> None:
    class Leaving(BaseException):
        pass

    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(hedge=Hedge(after=1.0)))
        peer = Peer(WORLD, (50.0, "late"), (1.0, Leaving))
        with pytest.raises(Leaving):
            await resilient.run(peer, may_repeat=True)
        assert peer.ended == [2.0, 2.0]
        assert_nothing_leaked(resilient)

    virtual(scenario)


# Cancellation


def test_a_call_that_is_cancelled_in_the_step_of_its_grant_passes_the_slot_on() -> None:
    """P29: the holder leaves, which wakes the next, and cancels it before that has run."""

    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(bulkhead=BulkheadSettings(limit=1)))
        peer = Peer(WORLD, "never")
        order: list[str] = []
        scope = trio.CancelScope()

        async def holder() -> None:
            await resilient.run(Peer(WORLD, (1.0, "first")))
            assert resilient.core.targets["default"].in_flight == 1, "it has been handed over"
            scope.cancel()

        async def second() -> None:
            await trio.sleep(0.25)
            with scope:
                await resilient.run(peer)

        async def third() -> None:
            await trio.sleep(0.5)
            order.append((await resilient.run(Peer(WORLD, "third"))).unwrap())

        await WORLD.together(holder, second, third)
        assert scope.cancelled_caught
        assert (peer.attempts, order, trio.current_time()) == (0, ["third"], 1.0)
        assert_nothing_leaked(resilient)

    virtual(scenario)


@both_ways
@pytest.mark.parametrize("hedge", [None, Hedge(after=0.0)])
def test_a_call_that_is_cancelled_by_its_own_attempt_makes_no_other(way: dict[str, Any], hedge: Hedge | None) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(backoff=NoBackoff(), hedge=hedge))
        numbers = []

        async def send(attempt: AttemptView) -> None:
            numbers.append(attempt.number)
            scope.cancel()
            raise ConnectionResetError

        with trio.CancelScope() as scope:
            await resilient.run(send, may_repeat=True, **way)
        assert scope.cancelled_caught
        assert len(numbers) == 1
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_a_call_in_a_scope_that_has_been_cancelled_sends_nothing_by_the_long_way() -> None:
    async def scenario() -> None:
        for hedge in (None, Hedge(after=0.0)):
            resilient = WORLD.resilient(Policy(hedge=hedge))
            peer = Peer(WORLD, "never")
            with trio.CancelScope() as scope:
                scope.cancel()
                await resilient.run(peer, may_repeat=True, deadline=float("inf"))
            assert (scope.cancelled_caught, peer.attempts) == (True, 0)
            assert_nothing_leaked(resilient)

    virtual(scenario)


@pytest.mark.parametrize("hedge", [None, Hedge(after=1.0)])
def test_what_outlives_its_attempt_is_not_inside_it_any_more(hedge: Hedge | None) -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(total_timeout=5.0, backoff=NoBackoff(), hedge=hedge))
        peer = Peer(WORLD, ConnectionResetError)

        async def later() -> None:
            await trio.sleep(10.0)
            assert current_attempt() is None
            await resilient.run(peer, key="later", may_repeat=True)

        async with trio.open_nursery() as nursery:

            async def send(_: object) -> None:
                nursery.start_soon(later)

            await resilient.run(send, may_repeat=True)
        assert peer.attempts == 3

    virtual(scenario)


# Hedges


def test_p38_a_loser_that_answers_all_the_same_is_disposed_of() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(hedge=Hedge(after=1.0)))
        dropped: list[Any] = []

        async def discard(value: Any) -> None:
            dropped.append(value)
            await trio.sleep(0.25)

        async def send(attempt: AttemptView) -> str:
            if attempt.number == 1:
                with trio.CancelScope(shield=True):
                    await trio.sleep(2.0)
                return "stubborn"
            return "winner"

        finished = await resilient.run(send, may_repeat=True, discard=discard)
        assert (finished.unwrap(), dropped) == ("winner", ["stubborn"])
        assert trio.current_time() == 2.25
        assert_nothing_leaked(resilient)
        # The caller is cancelled while it waits for the loser: the winner's value is nobody's either.
        dropped.clear()
        assert await WORLD.cancel_after(1.5, 0, lambda: resilient.run(send, may_repeat=True, discard=discard))
        assert sorted(dropped) == ["stubborn", "winner"]
        assert_nothing_leaked(resilient)

    virtual(scenario)


def test_attempts_of_a_hedged_call_know_what_they_are() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(hedge=Hedge(after=1.0), attempt_timeout=4.0))
        known = []

        async def send(attempt: AttemptView) -> None:
            assert current_attempt() is attempt
            known.append((attempt.number, attempt.deadline - trio.current_time(), attempt.repeats))
            await trio.sleep(50.0 if attempt.number == 1 else 0.0)

        await resilient.run(send, may_repeat=True)
        assert known == [(1, 4.0, True), (2, 4.0, True)]
        assert current_attempt() is None

    virtual(scenario)


class Tasks(trio.abc.Instrument):
    """Counts tasks."""

    def __init__(self) -> None:
        self.count = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


def test_only_a_hedge_is_a_task() -> None:
    tasks = Tasks()

    async def main() -> None:
        resilient = Resilient(Policy(backoff=FullJitter(), bulkhead=BulkheadSettings(limit=1)))
        hedging = Resilient(Policy(hedge=Hedge(after=1.0)))
        before = tasks.count
        peer = Peer(WORLD, (1.0, ConnectionResetError), (1.0, "page"))
        for _ in range(3):
            await resilient.run(peer, may_repeat=True)
        async with resilient.guard():
            pass
        assert tasks.count == before
        await hedging.run(Peer(WORLD, "page"), may_repeat=True)
        assert tasks.count == before + 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[tasks])


def test_a_loser_that_fails_to_close_is_nobodys_business() -> None:
    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(hedge=Hedge(after=1.0)))

        async def send(attempt: AttemptView) -> str:
            if attempt.number == 1:
                await children_that_fail()
            return "winner"

        assert (await resilient.run(send, may_repeat=True)).unwrap() == "winner"
        assert trio.current_time() == 1.0
        assert_nothing_leaked(resilient)

    virtual(scenario)


# Clocks and runs


@both_ways
def test_a_clock_of_ones_own_is_translated(way: dict[str, Any]) -> None:
    async def scenario() -> None:
        resilient = Resilient(
            Policy(total_timeout=2.0, breaker=None), clock=lambda: trio.current_time() + 5000.0, random=lambda: 0.5
        )
        for _ in range(2):
            assert (await resilient.run(Peer(WORLD, (5.0, "late")), **way)).reason == "deadline"
        assert trio.current_time() == 4.0
        peer = Peer(WORLD, ConnectionRefusedError, "page")
        assert (await resilient.run(peer, **way)).unwrap() == "page"
        assert peer.began == [4.0, 4.25]

    virtual(scenario)


def test_one_resilient_serves_one_run_after_the_other() -> None:
    resilient = Resilient(Policy(total_timeout=2.0))

    async def main() -> None:
        assert (await resilient.run(Peer(WORLD, (5.0, "late")))).reason == "deadline"
        assert (await resilient.run(Peer(WORLD, ConnectionRefusedError, "page"))).unwrap() == "page"

    for _ in range(2):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert_nothing_leaked(resilient)


@pytest.mark.parametrize("policy", [Policy(), Policy(total_timeout=inf)])
def test_p47_under_asyncio_it_fails_at_once_and_loses_no_slot(policy: Policy) -> None:
    resilient = Resilient(policy)

    async def fail(_: object) -> None:
        raise ConnectionRefusedError

    async def main() -> None:
        with pytest.raises(RuntimeError, match="must be called from async context"):
            (await resilient.run(fail)).unwrap()

    async def prepare() -> None:
        async def page(_: object) -> str:
            return "page"

        await resilient.run(page)

    asyncio.run(main())
    trio.run(prepare)  # now there is a target, and the short way to it
    asyncio.run(main())
    assert_nothing_leaked(resilient)


# Functions


def test_p8_a_plain_function_is_refused_by_name() -> None:
    def plain() -> None: ...

    for function in (plain, print):
        with pytest.raises(TypeError, match=r"async def.*adapters\.threads"):
            adapters.trio.resilient(may_repeat=True)(function)  # type: ignore[type-var]


def test_a_decorated_function_of_its_own() -> None:
    @adapters.trio.resilient(Policy(backoff=NoBackoff()), may_repeat=True, on=KeyError)
    async def fetch(url: str, *, size: int = 1) -> tuple[str, int]:
        """Fetch it."""
        tries.append(1)
        if len(tries) == 1:
            raise KeyError
        return url, size

    async def main() -> None:
        assert await fetch("here", size=3) == ("here", 3)
        assert await fetch("here", size=4) == ("here", 4)

    tries: list[int] = []
    trio.run(main)
    assert (fetch.__name__, fetch.__doc__, len(tries)) == ("fetch", "Fetch it.", 3)


# Memory


@both_ways
@pytest.mark.parametrize("hedge", [None, Hedge(after=5.0)])
def test_what_failed_is_not_kept_alive_by_its_own_traceback(way: dict[str, Any], hedge: Hedge | None) -> None:
    class Something:
        pass

    async def scenario() -> None:
        resilient = WORLD.resilient(Policy(backoff=NoBackoff(), breaker=None, hedge=hedge))
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
