"""A call is cancelled at every point where it waits: it ends at once, is not repeated, and leaves nothing behind."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sansio_client.backoff import FullJitter, NoBackoff
from sansio_client.breaker import BreakerSettings
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.errors import CallRejected
from sansio_client.policy import Hedge, Policy
from sansio_client.ratelimit import RateLimit
from tests.adapters.worlds import Peer, World, assert_nothing_leaked, every_async_world

HOPS = range(
    4
)  # rounds of the scheduler after the instant, so that cancellation comes before, with and after the timers
QUARTERS = [quarter / 4 for quarter in range(30)]


def play(world: Callable[[], World], scenario: Callable[[World], Any]) -> None:
    made = world()
    made.play(lambda _: scenario(made))


# One call's whole life: in the queue until 1, in flight until 2, backing off until 3, in flight until 4, waiting for
# the breaker until 6, in flight as its probe until 7.
LIFE = Policy(
    bulkhead=BulkheadSettings(limit=1),
    breaker=BreakerSettings(consecutive_failures=2, open_seconds=2.0, open_jitter=0.0),
    backoff=FullJitter(base_seconds=2.0, multiplier=1.0),
)
LIFE_SCRIPT = [(1.0, ConnectionResetError), (1.0, ConnectionResetError), (1.0, "page")]
BEGAN = [1.0, 3.0, 6.0]
ENDED = [2.0, 4.0, 7.0]


async def live(world: World, end_after: Callable[[Callable[[], Any]], Any], at: float) -> None:
    """Play the life of a call that `end_after` ends; then see that the next call finds everything in order."""
    resilient = world.resilient(LIFE)
    peer = Peer(world, *LIFE_SCRIPT)
    began_at = world.now()
    ended_at = 0.0
    cut = False

    async def other() -> None:
        await world.run(resilient, Peer(world, (1.0, "first")))

    async def call() -> None:
        nonlocal ended_at
        try:
            finished = await world.run(resilient, peer, may_repeat=True)
            assert finished.unwrap() == "page"
        finally:
            ended_at = world.now() - began_at

    async def ended() -> None:
        nonlocal cut
        cut = await end_after(call)

    await world.together(other, ended)
    if cut:
        assert ended_at == at, "it did not end at once"
        begun = [instant for instant in BEGAN if instant < at]
        assert [instant - began_at for instant in peer.began][: len(begun)] == begun
        assert peer.attempts <= len([instant for instant in BEGAN if instant <= at])
        assert len(peer.ended) == peer.attempts
        assert peer.in_vain == 0
    else:
        assert ended_at == ENDED[-1] <= at, "a cancellation was swallowed"
    assert_nothing_leaked(resilient)
    await world.sleep(60.0)
    assert (await world.run(resilient, Peer(world, "page"))).unwrap() == "page"
    assert_nothing_leaked(resilient)


@every_async_world
@pytest.mark.parametrize("hops", HOPS)
def test_a_cancelled_call_ends_at_once_wherever_it_is(world: Callable[[], World], hops: int) -> None:
    async def scenario(world: World, at: float) -> None:
        await live(world, partial(world.cancel_after, at, hops), at)

    for at in QUARTERS:
        play(world, partial(scenario, at=at))


@every_async_world
def test_p28_a_timeout_around_a_call_ends_it_with_the_attempts_made_so_far(world: Callable[[], World]) -> None:
    async def scenario(world: World, at: float) -> None:
        await live(world, partial(world.limit, at), at)

    for at in QUARTERS:
        play(world, partial(scenario, at=at))


@every_async_world
def test_p28_a_timeout_around_the_first_attempt_is_not_swallowed_and_not_retried(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        for policy in (Policy(), Policy(total_timeout=float("inf")), Policy(attempt_timeout=5.0)):
            resilient = world.resilient(policy)
            for _ in range(2):  # by the long way, and by the short one
                peer = Peer(world, (50.0, "late"))
                began_at = world.now()
                assert await world.limit(1.0, partial(world.run, resilient, peer, may_repeat=True))
                assert (world.now() - began_at, peer.attempts, len(peer.ended)) == (1.0, 1, 1)
                assert_nothing_leaked(resilient)
            assert resilient.core.targets["default"].pristine

    play(world, scenario)


@every_async_world
@pytest.mark.parametrize("hops", HOPS)
def test_a_hedged_call_is_cancelled_with_all_its_attempts(world: Callable[[], World], hops: int) -> None:
    """In flight alone until 1, with a hedge until 2, which wins."""

    async def scenario(world: World, at: float) -> None:
        resilient = world.resilient(Policy(hedge=Hedge(after=1.0), bulkhead=BulkheadSettings(limit=2)))
        peer = Peer(world, (5.0, "slow"), (1.0, "quick"))
        began_at = world.now()
        dropped: list[str] = []
        answers: list[str] = []
        ended_at = 0.0

        async def call() -> None:
            nonlocal ended_at
            try:
                finished = await world.run(resilient, peer, may_repeat=True, discard=dropped.append)
                answers.append(finished.unwrap())
            finally:
                ended_at = world.now() - began_at

        if await world.cancel_after(at, hops, call):
            assert ended_at == at <= 2.0
            assert answers == []
            assert dropped in ([], ["quick"])
        else:
            assert ended_at == 2.0 <= at
            assert answers == ["quick"]
            assert dropped == []
        assert len(peer.ended) == peer.attempts
        assert_nothing_leaked(resilient)

    for at in QUARTERS[:10]:
        play(world, partial(scenario, at=at))


@every_async_world
def test_p28_a_timeout_around_a_hedged_call_ends_all_its_attempts(world: Callable[[], World]) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(hedge=Hedge(after=1.0), max_attempts=5))
        peer = Peer(world, (50.0, "late"))
        began_at = world.now()
        assert await world.limit(1.5, partial(world.run, resilient, peer, may_repeat=True))
        assert [at - began_at for at in peer.began] == [0.0, 1.0]
        assert [at - began_at for at in peer.ended] == [1.5, 1.5]
        assert_nothing_leaked(resilient)

    play(world, scenario)


@every_async_world
@pytest.mark.parametrize("hops", HOPS)
def test_no_attempt_is_begun_when_the_one_before_fails_as_the_call_is_cancelled(
    world: Callable[[], World], hops: int
) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(backoff=NoBackoff()))
        await world.run(resilient, Peer(world, "page"))
        peer = Peer(world, (1.0, ConnectionResetError))
        await world.cancel_after(1.0, hops, partial(world.run, resilient, peer, may_repeat=True))
        assert peer.attempts in (1, 2)
        assert peer.in_vain == 0
        assert_nothing_leaked(resilient)

    play(world, scenario)


@every_async_world
def test_attempts_that_take_their_time_to_end_are_awaited_even_by_a_call_that_was_cancelled(
    world: Callable[[], World],
) -> None:
    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(hedge=Hedge(after=1.0)))
        began_at = world.now()
        closed: list[tuple[float, int]] = []

        async def send(_: Any) -> None:
            try:
                await world.sleep(50.0)
            finally:
                with trio.CancelScope(shield=True) if world.name == "trio" else nullcontext():
                    await world.sleep(1.0)
                closed.append((world.now() - began_at, resilient.core.targets["default"].in_flight))

        assert await world.cancel_after(2.0, 0, partial(world.run, resilient, send, may_repeat=True))
        assert closed == [(3.0, 2), (3.0, 2)], "until then they keep their slots"
        assert world.now() - began_at == 3.0
        assert_nothing_leaked(resilient)

    play(world, scenario)


@every_async_world
@pytest.mark.parametrize("hops", HOPS)
def test_a_slot_granted_to_a_cancelled_call_goes_to_the_next(world: Callable[[], World], hops: int) -> None:
    """P29: the cancellation comes when the slot does."""

    async def scenario(world: World) -> None:
        resilient = world.resilient(Policy(bulkhead=BulkheadSettings(limit=1)))
        began_at = world.now()
        last: list[float] = []

        async def holder() -> None:
            await world.run(resilient, Peer(world, (1.0, "first")))

        async def cancelled() -> None:
            await world.cancel_after(1.0, hops, partial(world.run, resilient, Peer(world, (1.0, "second"))))

        async def third() -> None:
            assert (await world.run(resilient, Peer(world, (1.0, "third")))).unwrap() == "third"
            last.append(world.now() - began_at)

        await world.together(holder, cancelled, third)
        assert last == [2.0]
        assert_nothing_leaked(resilient)

    play(world, scenario)


@every_async_world
@pytest.mark.parametrize("kind", ["guard", "attempts"])
@pytest.mark.parametrize("hops", HOPS)
def test_blocks_are_cancelled_like_calls(world: Callable[[], World], hops: int, kind: str) -> None:
    """In the queue until 1, in the block until 2, and for `attempts` waiting until 3 and in the next until 4."""

    async def scenario(world: World, at: float) -> None:
        resilient = world.resilient(LIFE)
        peer = Peer(world, (1.0, ConnectionResetError), (1.0, "page"))
        began_at = world.now()

        async def other() -> None:
            await world.run(resilient, Peer(world, (1.0, "first")))

        async def call() -> None:
            try:
                if kind == "guard":
                    await world.guard(resilient, peer)
                else:
                    await world.attempts(resilient, peer, may_repeat=True)
            except ConnectionResetError:
                assert kind == "guard"

        async def ended() -> None:
            if await world.cancel_after(at, hops, call):
                assert world.now() - began_at == at
            else:
                assert at >= (2.0 if kind == "guard" else 4.0)

        await world.together(other, ended)
        assert_nothing_leaked(resilient)

    for at in QUARTERS[:18]:
        play(world, partial(scenario, at=at))


# A random crowd. Times are quarters of a second, so that many things happen at once.

A_TIME = st.integers(0, 12).map(lambda quarters: quarters / 4)
A_STEP = st.tuples(A_TIME, st.sampled_from([ConnectionResetError, ConnectionRefusedError, KeyError, "page", "page"]))
A_CALLER = st.tuples(
    A_TIME,  # when it comes
    st.lists(A_STEP, min_size=1, max_size=4),
    st.one_of(st.none(), A_TIME),  # when it is cancelled, counted from when it came
    st.integers(0, 3),
    st.sampled_from(["run", "run", "guard", "attempts"]),
    st.booleans(),
)
A_POLICY = st.builds(
    Policy,
    max_attempts=st.integers(1, 4),
    total_timeout=st.sampled_from([0.5, 2.0, 120.0, float("inf")]),
    attempt_timeout=st.sampled_from([0.25, 1.0, float("inf")]),
    backoff=st.sampled_from([NoBackoff(), FullJitter(base_seconds=0.5, multiplier=1.0)]),
    bulkhead=st.sampled_from(
        [
            BulkheadSettings(limit=1, queue_limit=3, queue_timeout=1.0),
            BulkheadSettings(limit=2, order="lifo"),
            BulkheadSettings(),
        ]
    ),
    breaker=st.sampled_from(
        [None, BreakerSettings(consecutive_failures=2, open_seconds=0.5, open_jitter=0.0, probe_life_seconds=1.0)]
    ),
    rate_limit=st.sampled_from([None, None, RateLimit(rate_per_second=4.0)]),
    hedge=st.sampled_from([None, Hedge(after=0.0), Hedge(after=0.5, parallel=3)]),
)


@every_async_world
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policy=A_POLICY, callers=st.lists(A_CALLER, min_size=1, max_size=6))
def test_a_crowd_that_is_cancelled_at_random_leaks_nothing(
    world: Callable[[], World], policy: Policy, callers: list[Any]
) -> None:
    async def scenario(world: World) -> None:
        events: list[Any] = []
        resilient = world.resilient(policy, on_event=events.append)
        values: list[object] = []
        dropped: list[object] = []
        in_vain: list[bool] = []

        async def caller(
            arrives: float, script: Any, cancelled_after: float | None, hops: int, kind: str, may_repeat: bool
        ) -> None:
            await world.sleep(arrives)

            async def send(attempt: Any) -> object:
                in_vain.append(world.is_cancelled() and attempt.number > 1)
                seconds, answer = script[min(attempt.number, len(script)) - 1]
                await world.sleep(seconds)
                if answer != "page":
                    raise answer
                values.append(value := object())
                return value

            async def call() -> None:
                if kind == "run":
                    finished = await world.run(resilient, send, may_repeat=may_repeat, discard=dropped.append)
                    assert finished.attempts <= policy.max_attempts
                    if finished.reason == "ok":
                        values.remove(finished.value)
                elif kind == "guard":
                    await world.guard(resilient, send)
                else:
                    await world.attempts(resilient, send, may_repeat=may_repeat)

            try:
                if cancelled_after is None:
                    await call()
                else:
                    await world.cancel_after(cancelled_after, hops, call)
            except (OSError, KeyError, CallRejected, TimeoutError):
                assert kind != "run"

        await world.together(*(partial(caller, *each) for each in callers))
        assert not any(in_vain)
        assert_nothing_leaked(resilient)
        assert len([event for event in events if event[1] == "start"]) == len(
            [event for event in events if event[1] == "finish"]
        )
        if all(kind == "run" for *_, kind, _ in callers):
            assert set(dropped) <= set(values)

    play(world, scenario)
