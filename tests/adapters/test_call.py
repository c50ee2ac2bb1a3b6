"""`Resilient.call`: what `run` and `unwrap` would do, by the shortest way; on asyncio it has a way of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import pytest

from adapters import threads
from adapters.asyncio import Resilient
from sansio_client.backoff import NoBackoff
from sansio_client.breaker import BreakerSettings
from sansio_client.bulkhead import BulkheadSettings
from sansio_client.errors import CircuitOpen, DeadlineExceeded
from sansio_client.policy import Policy
from tests.adapters.worlds import assert_nothing_leaked
from tests.virtual_time import run_virtual

UNTIMED = Policy(total_timeout=inf, backoff=NoBackoff(), breaker=BreakerSettings(consecutive_failures=4))
KEY = "api.example"

timed_or_not = pytest.mark.parametrize(
    "policy", [UNTIMED, UNTIMED.replace(total_timeout=30.0)], ids=["untimed", "timed"]
)


def failing(times: int) -> tuple[Callable[[Any], Awaitable[str]], list[int]]:
    """A coroutine function that fails so often, and the numbers of the attempts it was called for."""
    numbers: list[int] = []

    async def send(attempt: Any) -> str:
        numbers.append(attempt.number)
        if len(numbers) <= times:
            raise ConnectionResetError(len(numbers))
        return "an answer"

    return send, numbers


@timed_or_not
def test_it_returns_the_value_and_leaves_nothing_behind(policy: Policy) -> None:
    async def main() -> None:
        resilient = Resilient(policy)
        send, numbers = failing(0)
        for _ in range(3):
            assert await resilient.call(send, KEY) == "an answer"
        assert numbers == [1, 1, 1]
        assert_nothing_leaked(resilient)

    run_virtual(main())


@timed_or_not
@pytest.mark.parametrize("warm", [False, True])
def test_it_repeats_what_may_be_repeated_and_raises_what_the_peer_raised_last(policy: Policy, warm: bool) -> None:
    async def main() -> None:
        resilient = Resilient(policy)
        if warm:  # the short way is open from the second call on
            assert await resilient.call(failing(0)[0], KEY) == "an answer"
        send, numbers = failing(2)
        assert await resilient.call(send, KEY, may_repeat=True) == "an answer"
        assert numbers == [1, 2, 3]
        once, numbers = failing(1)
        with pytest.raises(ConnectionResetError) as caught:
            await resilient.call(once, KEY)
        assert caught.value.args == (1,)
        assert numbers == [1]
        assert_nothing_leaked(resilient)

    run_virtual(main())


def test_its_failures_open_the_breaker_and_then_it_refuses() -> None:
    async def main() -> None:
        resilient = Resilient(UNTIMED)
        send, numbers = failing(100)
        for _ in range(4):
            with pytest.raises(ConnectionResetError):
                await resilient.call(send, KEY)
        with pytest.raises(CircuitOpen):
            await resilient.call(send, KEY)
        assert len(numbers) == 4

    run_virtual(main())


def test_it_waits_for_a_slot_like_any_other() -> None:
    async def main() -> None:
        resilient = Resilient(UNTIMED.replace(bulkhead=BulkheadSettings(limit=1)))
        await resilient.call(failing(0)[0], KEY)
        most = under_way = 0

        async def send(_: object) -> None:
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(1)
            under_way -= 1

        await asyncio.gather(*(resilient.call(send, KEY) for _ in range(4)))
        assert most == 1
        assert_nothing_leaked(resilient)

    run_virtual(main())


def test_cancelling_it_gives_its_slot_back_and_is_held_against_nobody() -> None:
    async def main() -> None:
        resilient = Resilient(UNTIMED)
        await resilient.call(failing(0)[0], KEY)
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await resilient.call(lambda _: asyncio.sleep(1e6), KEY)
        target = resilient.core.targets[KEY]
        assert target.breaker is not None
        assert target.breaker.consecutive == 0
        assert_nothing_leaked(resilient)

    run_virtual(main())


def test_it_keeps_the_deadline_of_its_policy() -> None:
    async def main() -> None:
        resilient = Resilient(UNTIMED.replace(total_timeout=5.0), clock=asyncio.get_running_loop().time)
        await resilient.call(failing(0)[0], KEY)
        began_at = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded):
            await resilient.call(lambda _: asyncio.sleep(1e6), KEY)
        assert asyncio.get_running_loop().time() - began_at == 5.0
        assert_nothing_leaked(resilient)

    run_virtual(main())


def test_a_call_inside_one_that_may_be_repeated_is_sent_once() -> None:
    async def main() -> None:
        outer, inner = Resilient(UNTIMED), Resilient(UNTIMED)
        send, numbers = failing(100)
        await outer.call(failing(0)[0], KEY)
        with pytest.raises(ConnectionResetError):
            await outer.call(lambda _: inner.call(send, "inner", may_repeat=True), KEY, may_repeat=True)
        assert numbers == [1, 1, 1], "three attempts, and not nine"

    run_virtual(main())


def test_not_even_what_was_never_sent_is_repeated_inside_one_that_will_be() -> None:
    async def main() -> None:
        outer, inner = Resilient(UNTIMED), Resilient(UNTIMED)
        refused = 0

        async def send(_: object) -> None:
            nonlocal refused
            refused += 1
            raise ConnectionRefusedError

        await inner.call(failing(0)[0], "inner")
        with pytest.raises(ConnectionRefusedError):
            await outer.call(lambda _: inner.call(send, "inner"), KEY, may_repeat=True)
        assert refused == 3

    run_virtual(main())


def test_another_policy_holds_for_the_next_call() -> None:
    async def main() -> None:
        resilient = Resilient(UNTIMED, clock=asyncio.get_running_loop().time)
        await resilient.call(failing(0)[0], KEY)
        resilient.core.reconfigure(UNTIMED.replace(total_timeout=5.0), resilient.clock())
        with pytest.raises(DeadlineExceeded):
            await resilient.call(lambda _: asyncio.sleep(1e6), KEY)

    run_virtual(main())


def test_an_interrupt_passes_through_unchanged() -> None:
    class Interrupt(BaseException):
        pass

    async def main() -> None:
        resilient = Resilient(UNTIMED)
        await resilient.call(failing(0)[0], KEY)

        async def send(_: object) -> None:
            raise Interrupt

        with pytest.raises(Interrupt):
            await resilient.call(send, KEY)
        assert_nothing_leaked(resilient)

    run_virtual(main())


def test_it_is_the_same_under_trio_and_with_threads() -> None:
    import trio

    from adapters.trio import Resilient as TrioResilient

    async def main() -> None:
        send, numbers = failing(2)
        assert await TrioResilient(UNTIMED).call(send, KEY, may_repeat=True) == "an answer"
        assert numbers == [1, 2, 3]

    trio.run(main)
    numbers: list[int] = []

    def send(attempt: Any) -> str:
        numbers.append(attempt.number)
        if len(numbers) < 3:
            raise ConnectionResetError
        return "an answer"

    assert threads.Resilient(UNTIMED).call(send, KEY, may_repeat=True) == "an answer"
    assert numbers == [1, 2, 3]
