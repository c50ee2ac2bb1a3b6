"""A simulated event's CPU time: our simulator beside the same callers on asyncio and on trio, both in virtual time.

A hundred callers make ten calls each, under the policy as it ships, to a peer that fails one request in five. All three
get the same laws and the same streams of chance; what differs is the machinery. An event is what the simulator counts
as one: a caller that begins, an attempt that is answered, a wait that is over. The others are divided by that number.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from random import Random
from time import thread_time_ns
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.paired import Beside, Timed, take_turns, try_to_make
from sansio_client.outcome import FAILURE, Outcome
from sansio_client.policy import Policy
from tests.virtual_time import VirtualTimeLoop

OURS = "sansio_client.simulator"
ASYNCIO = "asyncio, on a loop in virtual time"
TRIO = "trio, with MockClock(autojump_threshold=0)"

CALLERS = 100
CALLS = 10
THINK = 0.1  # seconds
KEY = "api"
SEED = 7
POLICY = Policy()

SLACK = 0.05  # by which numbers of attempts may differ: what happens at the same instant may come in another order


@dataclass
class Outcomes:
    """What the simulations have done, to be held against each other."""

    attempts: dict[str, int] = field(default_factory=dict)
    events: int = 0


def measure(*, rounds: int, seed: int) -> Beside:
    """Nanoseconds per event, by machinery."""
    outcomes = Outcomes()
    ways: dict[str, Callable[[], tuple[int, int]]] = {
        OURS: partial(_simulated, outcomes),
        ASYNCIO: _on_asyncio,
        TRIO: _on_trio,
    }
    made, missing = try_to_make((name, partial(_noting, outcomes, name, run)) for name, run in ways.items())
    if outcomes.attempts and max(outcomes.attempts.values()) > min(outcomes.attempts.values()) * (1 + SLACK):
        raise BenchmarkError(f"the simulations are not the same; attempts: {outcomes.attempts}")
    if not outcomes.events:
        return Beside(missing={**dict.fromkeys(made, "there is no simulator to count the events"), **missing})
    slices = {name: partial(_per_event, outcomes, timed) for name, timed in made.items()}
    return Beside(take_turns(slices, rounds=rounds, seed=seed), {}, missing)


def _noting(outcomes: Outcomes, name: str, run: Callable[[], tuple[int, int]]) -> Timed:
    def timed(_: int) -> int:
        outcomes.attempts[name], nanoseconds = run()
        return nanoseconds

    return timed


def _per_event(outcomes: Outcomes, timed: Timed) -> float:
    return timed(1) / outcomes.events


def _server() -> Any:
    from sansio_client.simulator import Exponential, Phase, Server

    # The failures take as long as the answers, or they would be events of the same instant.
    return Server(Exponential(0.05), phases=[Phase(0.0, inf, share=0.2, failure=FAILURE, after=None)])


def _simulated(outcomes: Outcomes) -> tuple[int, int]:
    from sansio_client.simulator import Callers, Fixed, Uniform, World

    world = World(POLICY, seed=SEED, peers={KEY: _server()})
    callers = Callers(world, KEY, number=CALLERS, calls=CALLS, think=Fixed(THINK), begin=Uniform(0.0, 1.0))
    begun_at = thread_time_ns()
    world.run()
    nanoseconds = thread_time_ns() - begun_at
    if callers.tally.calls != CALLERS * CALLS:
        raise BenchmarkError(f"{callers.tally.calls} simulated calls have ended, not {CALLERS * CALLS}")
    outcomes.events = world.events
    return callers.tally.sent, nanoseconds


class _Peer:
    """The simulated server behind a coroutine function."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], Any]) -> None:
        self.attempts = 0
        self._clock = clock
        self._sleep = sleep
        self._server = _server()
        self._random = Random(3 * SEED + 1).random

    async def send(self, _: object) -> Outcome:
        self.attempts += 1
        seconds, outcome = self._server.answer(self._clock(), self._random)
        await self._sleep(seconds)
        answer: Outcome = outcome
        return answer


def _judge(outcome: Any, _: Exception | None) -> Outcome:
    answer: Outcome = outcome
    return answer


async def _caller(resilient: Any, peer: _Peer, begin: float, sleep: Callable[[float], Any]) -> None:
    await sleep(begin)
    for left in range(CALLS, 0, -1):
        await resilient.run(peer.send, key=KEY, may_repeat=True, judge=_judge)
        if left > 1:
            await sleep(THINK)


def _begins() -> list[float]:
    random = Random(3 * SEED).random
    return [random() for _ in range(CALLERS)]


def _on_asyncio() -> tuple[int, int]:
    from adapters.asyncio import Resilient

    async def main() -> tuple[int, int]:
        clock = asyncio.get_running_loop().time
        peer = _Peer(clock, asyncio.sleep)
        resilient = Resilient(POLICY, clock=clock, random=Random(3 * SEED + 2).random)
        begun_at = thread_time_ns()
        async with asyncio.TaskGroup() as callers:
            for begin in _begins():
                callers.create_task(_caller(resilient, peer, begin, asyncio.sleep))
        return peer.attempts, thread_time_ns() - begun_at

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def _on_trio() -> tuple[int, int]:
    import trio
    from trio.testing import MockClock

    from adapters.trio import Resilient

    async def main() -> tuple[int, int]:
        peer = _Peer(trio.current_time, trio.sleep)
        resilient = Resilient(POLICY, random=Random(3 * SEED + 2).random)
        begun_at = thread_time_ns()
        async with trio.open_nursery() as callers:
            for begin in _begins():
                callers.start_soon(_caller, resilient, peer, begin, trio.sleep)
        return peer.attempts, thread_time_ns() - begun_at

    return trio.run(main, clock=MockClock(autojump_threshold=0))
