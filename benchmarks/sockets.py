"""Server CPU per request through sockets: short slices, side by side, compared only within their round.

Every round measures every case once, in an order drawn from the seed. On a shared machine one case's figures move by a
tenth from round to round, but the ratio of two cases in the same round does not, and its median repeats to a percent.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.cases import Case, Keys
from benchmarks.generator import Load, requests_with
from benchmarks.servers import RunningServer
from benchmarks.spread import Ratio, spread

WARM_UP = 0.05  # seconds of load on fresh connections before a slice counts
SETTLE = 0.006  # seconds; the kernel accounts a running process once a tick, 4 ms at 250 Hz


@dataclass(frozen=True)
class Slice:
    """One case under load for a moment."""

    case: str
    connections: int
    round: int
    requests: int
    seconds: float
    server_cpu_ns: int
    generator_cpu_ns: int
    p50_ms: float
    p99_ms: float
    bad: int

    @property
    def cpu_us(self) -> float:
        """Server CPU per request, in microseconds."""
        return self.server_cpu_ns / self.requests / 1000


def plan(cases: Sequence[Case], loads: Sequence[int]) -> list[tuple[Case, int]]:
    """Every (case, connections) of a round."""
    return [(case, load) for load in loads for case in cases if case.every_load or load == loads[0]]


async def measure(
    running: dict[str, RunningServer],
    slices: Sequence[tuple[Case, int]],
    *,
    rounds: int,
    seconds: float,
    seed: int,
    progress: Callable[[str], None],
) -> list[Slice]:
    """Measure `slices` in every round."""
    requests = {keys: requests_with(keys, seed) for keys in Keys}
    order = list(slices)
    shuffle = Random(seed).shuffle
    results: list[Slice] = []
    for number in range(1, rounds + 1):
        shuffle(order)
        for case, connections in order:
            progress(f"round {number}/{rounds}: {case.name}, {connections} connections")
            server = running[case.server]
            results.append(await _slice(server, case, connections, number, seconds, requests[case.keys]))
    return results


async def _slice(
    server: RunningServer, case: Case, connections: int, number: int, seconds: float, requests: Iterator[bytes]
) -> Slice:
    async with Load(server.port, connections, requests.__next__) as load:
        warm_up = await load.run(WARM_UP)
        await asyncio.sleep(SETTLE)
        before = server.cpu_ns()
        phase = await load.run(seconds)
        await asyncio.sleep(SETTLE)
        server_cpu_ns = server.cpu_ns() - before
    ordered = sorted(phase.latencies)
    return Slice(
        case=case.name,
        connections=connections,
        round=number,
        requests=len(ordered),
        seconds=phase.seconds,
        server_cpu_ns=server_cpu_ns,
        generator_cpu_ns=phase.generator_cpu_ns,
        p50_ms=ordered[len(ordered) // 2] * 1000,
        p99_ms=ordered[len(ordered) * 99 // 100] * 1000,
        bad=phase.bad + warm_up.bad,
    )


def ratio(slices: Sequence[Slice], over: str, under: str, connections: int) -> Ratio | None:
    """CPU per request of the case `over`, divided by that of `under` in the same round; None when not measured."""
    numerators = {each.round: each.cpu_us for each in slices if (each.case, each.connections) == (over, connections)}
    denominators = {each.round: each.cpu_us for each in slices if (each.case, each.connections) == (under, connections)}
    ratios = [numerators[number] / denominators[number] for number in sorted(numerators) if number in denominators]
    return spread(ratios) if ratios else None
